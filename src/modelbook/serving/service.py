"""Prediction service, independent of HTTP: validate, assign a variant, predict and journal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from starlette.types import Receive, Scope

from modelbook.ab.assignment import assign_bucket, routes_to_challenger
from modelbook.errors import JournalError, ModelbookError
from modelbook.journal import Journal, JournalWriter, PredictionRecord
from modelbook.journal.database import (
    ConflictingOutcomeError,
    UnknownPredictionError,
    get_default_url,
)
from modelbook.registry.aliases import CHALLENGER, CHAMPION
from modelbook.scoring import RowPrediction
from modelbook.serving import metrics, settings
from modelbook.serving.access import AccessControl, ApiKeyStore, read_file_state
from modelbook.serving.canary import CanaryMonitor
from modelbook.serving.http_request import LARGE_BODY_BYTES, BodyReader, RequestError
from modelbook.serving.metrics import ServiceMetrics, VerdictMetrics
from modelbook.serving.served_models import ModelManager, ServedModel
from modelbook.serving.telemetry import RequestTracer
from modelbook.tasks.conformal_prediction import ConformalPrediction

LOG = logging.getLogger("modelbook.serving")
POLL_SECONDS = 1.0  # between checks of aliases, settings and keys
DRIFT_SECONDS = 15.0  # between measurements of drift, which delay requests by some milliseconds
CHECKPOINT_SECONDS = 1.0  # between checkpoints of the journal: the longer, the longer requests wait
# GIL switch interval; short, so that parser and journal threads hardly delay the event loop.
THREAD_SWITCH_SECONDS = 0.0005
RETENTION_SECONDS = 3600.0  # between deletions of old journal rows
MIN_ROWS_FOR_THREAD = 100  # rows at which a compiled scorer predicts in a thread
RECENT_ROWS = 2000  # rows used to measure input drift
POOL_BYTES = 8000  # random bytes that are read at once
# Traced methods and the names of their spans.
TRACED_STEPS = {
    "_read_rows": "validate",
    "_predict_variants": "predict",
    "_journal_predictions": "journal",
}
T = TypeVar("T")
Row = dict[str, Any]


class VariantPrediction(NamedTuple):
    """A row's prediction by one variant; that of a shadow is journaled, but not returned."""

    variant: str
    model: ServedModel
    row: Row
    prediction_id: str
    prediction: RowPrediction
    is_returned: bool
    bucket: str | None


class PredictionService:
    """Prediction service of one worker.

    Attributes
    ----------
    settings : ServingSettings
        Current settings; ``traffic`` is reloaded while the service runs.
    """

    def __init__(self, root: Path, book: str) -> None:
        self.root = root
        self.book = book
        self.settings = settings.load_settings(root, book)
        # File states of the settings: at the last poll, and when they were last applied.
        self._file_states: list[tuple[int, ...] | None] = []
        self._applied_states: list[tuple[int, ...] | None] = []
        self.model_manager = ModelManager(root, book, self.settings.limits.max_rows)
        self.api_keys, self.metrics = ApiKeyStore(root), ServiceMetrics(book)
        self._monitor_params = metrics.read_monitor_parameters(root, book)
        self.access = AccessControl(self.settings, self.api_keys)
        journal_settings = self.settings.journal
        self.journal = Journal(
            journal_settings.url or get_default_url(root, book),
            book,
            journal_settings.timeout_seconds,
            sync=journal_settings.sync,
        )
        self.writer = JournalWriter(
            self.journal,
            lambda text: LOG.error("journal", extra={"reason": text}),
            predict_if_unavailable=journal_settings.on_failure == "predict",
        )
        self.bodies = BodyReader(self.settings.limits)
        # One thread, so that large bodies are parsed one at a time.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parser")
        self.canary: CanaryMonitor | None = None
        self.tracer = RequestTracer(book) if self.settings.tracing == "on" else None
        if self.tracer is not None:
            for method, step in TRACED_STEPS.items():
                setattr(self, method, self.tracer.trace_step(step, getattr(self, method)))
        self.in_flight = 0
        self.recent_rows = deque[Row](maxlen=RECENT_ROWS)
        self._redacted_columns = set(journal_settings.redacted_columns)
        self._verdict_metrics = VerdictMetrics(root, book, self.metrics)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Load the models and keep them up to date until the block ends."""
        switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(THREAD_SWITCH_SECONDS)
        try:
            await asyncio.to_thread(self.journal.create_tables)
        except JournalError as error:
            LOG.error("journal", extra={"reason": error.problem})
        self.writer.start()
        await self.model_manager.refresh()
        # Exclude imported objects from garbage collection until the process ends: a full one would
        # delay requests.
        gc.collect()
        gc.freeze()
        self._update_metrics()
        tasks = [
            asyncio.create_task(self._poll_changes()),
            asyncio.create_task(self._maintain_journal()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.writer.stop()
            sys.setswitchinterval(switch_seconds)
            self._parser.shutdown(wait=False, cancel_futures=True)
            if self.tracer is not None:
                await asyncio.to_thread(self.tracer.shutdown)

    @property
    def champion(self) -> ServedModel:
        """The champion in service.

        Raises
        ------
        RequestError
            503 if there is none.
        """
        if self.model_manager.champion is None:
            problems = self.model_manager.problems
            raise RequestError(
                503,
                problems.get(CHAMPION)
                or problems.get("store")
                or f"no version of {self.book!r} has the alias champion",
                expected="a promoted version; it is loaded within seconds",
                headers={"retry-after": "5"},
            )
        return self.model_manager.champion

    @property
    def max_upload_rows(self) -> int:
        """Rows that an upload to the champion may have."""
        return self.settings.limits.limit_upload_rows(self.champion.estimated_max_upload_rows)

    async def read_json_body(self, scope: Scope, receive: Receive) -> bytes:
        """Read a body of at most the bytes that settings and contract allow.

        Raises
        ------
        RequestError
            See ``BodyReader.read``; 503 without a champion.
        """
        contract_limit = self.champion.row_reader.limits.max_bytes
        max_bytes = min(self.settings.limits.max_body_bytes, contract_limit)
        return await self.bodies.read(scope, receive, max_bytes)

    async def parse_in_thread(self, parse: Callable[..., T], *arguments: Any) -> T:
        """Parse a large body in another thread, so that other requests are served meanwhile."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parser, parse, *arguments)

    async def predict(self, body: bytes, user: str | None = None) -> bytes:
        """Predict the rows of a JSON body; returns an object for one object, a list for a list.

        Raises
        ------
        RequestError
            If the body or the service state does not allow a prediction.
        """
        start_time = time.perf_counter()
        champion = self.champion
        rows, is_list = await self._read_rows(champion, body)
        predictions = await self.predict_rows(champion, rows, user, start_time)
        return orjson.dumps(predictions if is_list else predictions[0])

    async def _read_rows(self, champion: ServedModel, body: bytes) -> tuple[list[Row], bool]:
        read_body = champion.row_reader.read_body
        if len(body) > LARGE_BODY_BYTES:
            return await self.parse_in_thread(read_body, body)
        return read_body(body)

    async def predict_rows(
        self,
        champion: ServedModel,
        rows: list[Row],
        user: str | None,
        start_time: float,
        ids: list[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Predict validated rows and journal the predictions.

        Parameters
        ----------
        start_time : float
            ``time.perf_counter()`` when the request's body had been read.
        ids : list of str, optional
            Prediction ids; new ones by default.
        """
        ids = ids or [make_prediction_id() for _ in rows]
        challenger = self.model_manager.challenger
        canary = self._find_canary()
        buckets: Sequence[str | None] = [None] * len(rows)
        variants = [(CHAMPION, champion)] * len(rows)
        if challenger is not None and (canary or self.settings.traffic.mode == "split"):
            buckets = self._assign_buckets(champion, rows, ids, user)
            variants = self._assign_variants(champion, challenger, buckets)
        if canary is not None:
            predictions = await self._predict_canary(canary, champion, variants, rows)
        else:
            predictions = await self._predict_variants(variants, rows)
        returned_predictions = [
            VariantPrediction(*variant, row, prediction_id, prediction, True, bucket)
            for variant, row, prediction_id, prediction, bucket in zip(
                variants, rows, ids, predictions, buckets
            )
        ]
        shadow = challenger if self.settings.traffic.mode == "shadow" else None
        shadow_predictions = await self._predict_shadow(shadow, rows, ids) if shadow else []
        latency_ms = (time.perf_counter() - start_time) * 1000
        row_hashes = await self._journal_predictions(
            returned_predictions + shadow_predictions, latency_ms
        )
        self.recent_rows.extend(rows)
        for name, count in Counter(name for name, _ in variants).items():
            self.metrics.count_predictions(name, count)
        return [
            _make_response_body(
                item.prediction_id,
                item.model.number,
                item.variant,
                item.prediction.prediction,
                item.model.label_probabilities(item.prediction.probabilities),
                item.model.scorer.conformal,
                row_hash,
            )
            for item, row_hash in zip(returned_predictions, row_hashes)
        ]

    def _assign_buckets(
        self, champion: ServedModel, rows: list[Row], ids: list[str], user: str | None
    ) -> list[str]:
        """Assign each row a bucket by user, else by entity, else at random."""
        entity = next(iter(champion.contract.columns_with_role("entity")), "")
        return [
            assign_bucket(user or str(row.get(entity, prediction_id)), self.settings.traffic.salt)
            for row, prediction_id in zip(rows, ids)
        ]

    def _assign_variants(
        self, champion: ServedModel, challenger: ServedModel, buckets: Sequence[str]
    ) -> list[tuple[str, ServedModel]]:
        """Choose the variant that predicts each row."""
        challenger_share = self.settings.traffic.challenger_share
        return [
            (CHALLENGER, challenger)
            if routes_to_challenger(bucket, challenger_share)
            else (CHAMPION, champion)
            for bucket in buckets
        ]

    def _find_canary(self) -> CanaryMonitor | None:
        """Return the monitor of the challenger if it gets traffic as a canary."""
        challenger = self.model_manager.challenger
        if self.settings.traffic.mode != "canary" or challenger is None:
            return None
        if self.canary is None or self.canary.challenger_number != challenger.number:
            self.canary = CanaryMonitor(challenger.number)
        return None if self.canary.stop_reason else self.canary

    async def _predict_canary(
        self,
        canary: CanaryMonitor,
        champion: ServedModel,
        variants: list[tuple[str, ServedModel]],
        rows: list[Row],
    ) -> list[RowPrediction]:
        """Predict rows, and record errors and predictions of both variants.

        The champion predicts rows that the challenger fails to predict; ``variants`` are changed.
        """
        predictions: dict[int, RowPrediction] = {}
        for name in (CHALLENGER, CHAMPION):
            positions = [i for i, variant in enumerate(variants) if variant[0] == name]
            if not positions:
                continue
            subset = [variants[i] for i in positions], [rows[i] for i in positions]
            start_time = time.perf_counter()
            try:
                variant_predictions = await self._predict_variants(*subset)
            except Exception:
                if name == CHAMPION:
                    raise
                LOG.exception("the canary failed", extra={"version": canary.challenger_number})
                canary.record_errors(len(positions))
                for i in positions:
                    variants[i] = (CHAMPION, champion)
                continue
            canary.record_predictions(name, time.perf_counter() - start_time, variant_predictions)
            predictions.update(zip(positions, variant_predictions))
        canary.check(self.settings.traffic)
        return [predictions[i] for i in range(len(rows))]

    async def _predict_variants(
        self, variants: list[tuple[str, ServedModel]], rows: list[Row]
    ) -> list[RowPrediction]:
        if len(rows) == 1 and variants[0][1].scorer.is_compiled:
            return [variants[0][1].scorer.predict_one(rows[0])]
        predictions: dict[int, RowPrediction] = {}
        for model in {id(loaded): loaded for _, loaded in variants}.values():
            positions = [i for i, (_, loaded) in enumerate(variants) if loaded is model]
            model_rows = [rows[i] for i in positions]
            # An uncompiled pipeline, or many rows, would block other requests.
            is_quick = model.scorer.is_compiled and len(model_rows) < MIN_ROWS_FOR_THREAD
            model_predictions = (
                model.scorer.predict_many(model_rows)
                if is_quick
                else await asyncio.to_thread(model.scorer.predict_many, model_rows)
            )
            predictions.update(zip(positions, model_predictions))
        return [predictions[i] for i in range(len(rows))]

    async def _predict_shadow(
        self, challenger: ServedModel, rows: list[Row], ids: list[str]
    ) -> list[VariantPrediction]:
        try:
            predictions = await self._predict_variants([(CHALLENGER, challenger)] * len(rows), rows)
        except Exception as error:  # a shadow failure must not affect the response
            LOG.error(
                "the shadow failed",
                extra={"version": challenger.number, "reason": f"{type(error).__name__}: {error}"},
            )
            return []
        self.metrics.count_predictions("shadow", len(rows))
        return [
            VariantPrediction(CHALLENGER, challenger, row, prediction_id, prediction, False, None)
            for row, prediction_id, prediction in zip(rows, ids, predictions)
        ]

    async def _journal_predictions(
        self, variant_predictions: list[VariantPrediction], latency_ms: float
    ) -> Sequence[str | None]:
        """Journal predictions; return their hashes, None for each while the journal is down."""
        now = time.time()
        predictions = [
            PredictionRecord(
                item.prediction_id,
                item.variant,
                now,
                item.model.number,
                item.is_returned,
                self._serialize_inputs(item.model, item.row),
                _to_json(item.prediction.prediction),
                None
                if item.prediction.probabilities is None
                else _to_json(item.model.label_probabilities(item.prediction.probabilities)),
                latency_ms,
                item.bucket,
            )
            for item in variant_predictions
        ]
        row_hashes = await self.writer.write(predictions) if predictions else []
        if row_hashes is None and self.settings.journal.on_failure == "refuse":
            raise RequestError(
                503,
                "the journal is down",
                expected="a working journal, because journal.on_failure is refuse",
                headers={"retry-after": "2"},
            )
        return [None] * len(predictions) if row_hashes is None else row_hashes

    def _serialize_inputs(self, model: ServedModel, row: Row) -> str:
        if not self._redacted_columns:
            return _to_json(row)
        redacted_features = model.list_features(self._redacted_columns)
        return _to_json(
            {column: value for column, value in row.items() if column not in redacted_features}
        )

    async def find_response(self, prediction_id: str) -> dict[str, Any] | None:
        """Return the response to an earlier prediction, from the journal; None for an unknown id.

        The journal has no intervals and sets: they are derived again while the version is served.
        """
        row = await asyncio.to_thread(self.journal.find_returned_prediction, prediction_id)
        if row is None:
            return None
        manager = self.model_manager
        conformal = next(
            (
                model.scorer.conformal
                for model in (manager.champion, manager.challenger)
                if model is not None and model.number == row["version"]
            ),
            None,
        )
        return _make_response_body(
            prediction_id,
            row["version"],
            row["variant"],
            row["prediction"],
            row["probabilities"],
            conformal,
            row["row_hash"],
        )

    async def record_outcomes(self, body: bytes) -> dict[str, int]:
        """Record actual outcomes by prediction id; returns how many are new and how many repeated.

        Raises
        ------
        RequestError
            404 for an unknown id, 409 for a conflicting outcome, 503 if the journal is down.
        """
        outcomes = await self.parse_in_thread(
            self.champion.outcome_reader.read_body, body, self.settings.limits.max_rows
        )
        try:
            delays = await asyncio.to_thread(self.journal.record_outcomes, outcomes)
        except UnknownPredictionError as error:
            raise RequestError(404, error.problem, expected=error.expected) from None
        except ConflictingOutcomeError as error:
            raise RequestError(409, error.problem, expected=error.expected) from None
        except JournalError:
            raise RequestError(503, "the journal is down", headers={"retry-after": "2"}) from None
        for seconds in delays:
            self.metrics.outcome_delay.observe(seconds)
        return {"recorded": len(delays), "repeated": len(outcomes) - len(delays)}

    def describe_readiness(self) -> dict[str, Any]:
        """Return the body for ``GET /health/ready``.

        ``reasons`` are the problems of the aliases, the store, the API keys and the settings.
        """
        champion, problems = self.model_manager.champion, self.model_manager.problems
        if champion is None:
            return {"status": "not ready", "reasons": problems}
        return {
            "status": "ready",
            "model_version": champion.number,
            "alias_version": self.model_manager.alias_versions[CHAMPION],
            "data_fingerprint": champion.tags.get("fingerprint", ""),
            "loaded_at": champion.loaded_at,
            "golden_rows": champion.golden_rows,
            "journal": "up" if self.writer.is_up else "down",
            "reasons": problems,
        }

    def describe(self) -> dict[str, Any]:
        """Return the metadata for ``GET /model``."""
        challenger, traffic = self.model_manager.challenger, self.settings.traffic
        return {
            **self.champion.describe(),
            "book": self.book,
            "max_upload_rows": self.max_upload_rows,
            "traffic": {
                "mode": traffic.mode,
                "share": traffic.challenger_share if traffic.mode in ("split", "canary") else None,
                "rolled_back": self.canary.stop_reason if self.canary else "",
            },
            "challenger": challenger.describe() if challenger else None,
            "problems": self.model_manager.problems,
            "refused": self.model_manager.problems,  # the name in 1.0.0, until 1.2
        }

    async def _poll_changes(self) -> None:
        measured_at = 0.0
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.model_manager.refresh()
                self._reload_settings()
                await asyncio.to_thread(self._verdict_metrics.refresh, self.model_manager.champion)
                if (
                    time.monotonic() - measured_at > DRIFT_SECONDS
                    and self.recent_rows
                    and self.model_manager.champion
                ):
                    measured_at = time.monotonic()
                    await self._measure_input_drift(self.model_manager.champion)
                self._update_metrics()
            except Exception:  # keep serving with the current state
                LOG.exception("a periodic check failed")

    async def _measure_input_drift(self, champion: ServedModel) -> None:
        """Measure the drift of recent rows; a version without a reference has none."""
        reference = champion.drift_reference
        rows = list(self.recent_rows)
        if reference is None:
            self.metrics.set_input_drift({}, {})
            return
        self.metrics.set_input_drift(
            await metrics.measure_input_drift(reference, rows, self._monitor_params),
            metrics.compute_unseen_shares(reference, rows),
        )

    def _reload_settings(self) -> None:
        """Reload traffic settings and keys; on an error, log it and keep the current ones."""
        for name, reload in (("keys", self.api_keys.refresh), ("settings", self._reload_traffic)):
            try:
                reload()
                self.model_manager.problems.pop(name, None)
            except ModelbookError as error:
                if self.model_manager.problems.get(name) != error.problem:
                    LOG.error("a file was refused", extra={"reason": error.problem})
                self.model_manager.problems[name] = error.problem

    def _reload_traffic(self) -> None:
        files = settings.list_settings_files(self.root, self.book)
        file_states = [read_file_state(path) for path in files]
        if file_states != self._file_states:  # a file may still be written: empty, or a part
            self._file_states = file_states
            return
        if file_states == self._applied_states:
            return
        traffic = settings.load_settings(self.root, self.book).traffic
        self._applied_states = file_states
        if traffic != self.settings.traffic:
            self.settings = self.settings.model_copy(update={"traffic": traffic})
            LOG.info("traffic changed", extra=traffic.model_dump())

    def _update_metrics(self) -> None:
        manager = self.model_manager
        self.metrics.set_versions(
            manager.served_versions, manager.alias_versions, manager.failed_attempts
        )
        self.metrics.canary_rolled_back.set(bool(self.canary and self.canary.stop_reason))
        self.metrics.in_flight.set(self.in_flight)
        self.metrics.journal_waiting_requests.set(self.writer.waiting_requests)
        self.metrics.journal_up.set(self.writer.is_up)
        self.metrics.set_journal_totals(
            lost=self.writer.lost_count,
            replaced=self.writer.replaced_count,
            orphaned=self.writer.orphaned_count,
        )

    async def _maintain_journal(self) -> None:
        """Checkpoint the journal regularly and delete rows past the retention time."""
        retention_days = self.settings.journal.retention_days
        deleted_at = float("-inf")
        while True:
            try:
                await asyncio.to_thread(self.journal.checkpoint)
                if retention_days and time.monotonic() - deleted_at > RETENTION_SECONDS:
                    deleted_at = time.monotonic()
                    deleted_count = await asyncio.to_thread(
                        self.journal.delete_before, time.time() - retention_days * 86_400
                    )
                    LOG.info(
                        "old predictions deleted",
                        extra={"predictions": deleted_count, "older_than_days": retention_days},
                    )
            except JournalError as error:
                LOG.error("journal", extra={"reason": error.problem})
            await asyncio.sleep(CHECKPOINT_SECONDS)


class BufferedRandom:
    """Random bytes of the operating system, read in blocks: each read releases the GIL."""

    def __init__(self) -> None:
        self._pool, self._position = b"", 0

    def read(self, count: int) -> bytes:
        """Return bytes that were not returned before."""
        start = self._position
        end = self._position + count
        if end > len(self._pool):
            self._pool = os.urandom(POOL_BYTES)
            start = 0
            end = count
        self._position = end
        return self._pool[start:end]


_RANDOM = BufferedRandom()


def make_prediction_id() -> str:
    """Return an unguessable id that sorts by time; for use in the event loop's thread."""
    return f"{time.time_ns() // 1_000_000:012x}{_RANDOM.read(10).hex()}"


def _make_response_body(
    prediction_id: str,
    version: int,
    variant: str,
    prediction: Any,
    probabilities: dict[str, float] | None,
    conformal: ConformalPrediction | None,
    row_hash: str | None,
) -> dict[str, Any]:
    body = {
        "id": prediction_id,
        "prediction": prediction,
        "model_version": version,
        "variant": variant,
    }
    if probabilities is not None:
        body["probabilities"] = probabilities
    if conformal is not None:
        scores = None if probabilities is None else list(probabilities.values())
        body |= conformal.make_response_fields(RowPrediction(prediction, scores))
    body["row_hash"] = row_hash
    return body


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
