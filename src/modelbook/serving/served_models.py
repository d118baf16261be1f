"""Versions in service: find, load and verify them, and follow the aliases.

A version that does not load is tried again until it does or the alias moves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from modelbook.contract import Contract
from modelbook.errors import ModelbookError, ReproductionError
from modelbook.registry import exports
from modelbook.registry.aliases import (
    CHALLENGER,
    CHAMPION,
    DIGEST_TAG,
    AliasCache,
    RegisteredVersion,
    read_aliases,
    read_cached_aliases,
)
from modelbook.registry.location import is_embedded
from modelbook.scoring import RowPrediction, loading
from modelbook.scoring.compiled_scorer import TOLERANCE
from modelbook.scoring.drift_reference import DriftReference
from modelbook.serving.access import read_file_state
from modelbook.serving.schemas import OutcomeReader, RowReader

EXPORT_VARIABLE = "MODELBOOK_SERVING_FROM"  # passes the export's URI to workers

MAX_ALIAS_AGE_SECONDS = 60.0  # the alias poller checks every few seconds
MAX_READ_AGE_SECONDS = 10.0  # between reads of the aliases while their file does not change
GOLDEN_FILE = "scorer/golden.json"
LOG = logging.getLogger("modelbook.serving")
ALIASES = (CHAMPION, CHALLENGER)
MAX_REQUEST_CPU_MS = 300.0  # maximum for a request of at most 1 MB; see docs/serving.md
# CPU time to read, validate, journal and write a row of an upload, and each of its cells.
UPLOAD_ROW_MS, UPLOAD_CELL_MS = 0.025, 0.0018
MAX_RETRY_SECONDS = 60.0  # longest pause between attempts to load a version; the first is 1 s
VersionKey = tuple[int, str | None]  # number and digest
# Safe to cache: an export's URI contains its digest, so its content never changes.
open_export_cached = lru_cache(exports.open_export)


class AliasedVersions(NamedTuple):
    """The versions to serve: from an export, the cached aliases or the store.

    Attributes
    ----------
    problem : str
        Reason that they may be out of date; empty if they are current.
    path : Path or None
        The file that changes when they do; None if there is no such file.
    """

    by_alias: dict[str, RegisteredVersion]
    problem: str = ""
    path: Path | None = None


def read_aliased_versions(root: Path, book: str) -> AliasedVersions:
    """Return the versions to serve, by alias.

    Raises
    ------
    StoreError
        If the store or the export cannot be read.
    """
    if export_uri := os.environ.get(EXPORT_VARIABLE):
        return AliasedVersions({CHAMPION: open_export_cached(root, export_uri)})
    cached_aliases = read_cached_aliases(root, book)
    if cached_aliases is None:
        return AliasedVersions(read_aliases(root, book))
    problem = _find_registry_problem(root, cached_aliases)
    return AliasedVersions(cached_aliases.versions, problem, cached_aliases.path)


def _find_registry_problem(root: Path, cached_aliases: AliasCache) -> str:
    if cached_aliases.is_current:
        return ""
    if (
        not cached_aliases.problem
        and not is_embedded(root)
        and time.time() - cached_aliases.checked_at > MAX_ALIAS_AGE_SECONDS
    ):
        checked_at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(cached_aliases.checked_at))
        return f"the registry was last read at {checked_at} UTC"
    return cached_aliases.problem


@dataclass(frozen=True)
class ServedModel:
    """A loaded model version.

    Attributes
    ----------
    drift_reference : DriftReference or None
        Counts of the holdout by bin; None for a version that was registered without them.
    golden_rows : int
        Golden rows on which the scorer reproduced the registered model's predictions.
    batch_row_ms : float
        CPU time of a row in a batch, as measured when the version was compiled.
    """

    number: int
    name: str
    contract: Contract
    row_reader: RowReader
    outcome_reader: OutcomeReader
    scorer: Any
    golden_rows: int
    typical_row: dict[str, Any]
    drift_reference: DriftReference | None
    tags: dict[str, str]
    batch_row_ms: float
    loaded_at: float = field(default_factory=time.time)

    @cached_property
    def class_labels(self) -> list[str]:
        """Texts of the classes, in the order of the probabilities; empty for a regression."""
        return [str(label) for label in self.scorer.decision_rule.classes]

    def label_probabilities(self, probabilities: Sequence[float] | None) -> dict[str, float] | None:
        """Return probabilities by class; None for a regression."""
        return None if probabilities is None else dict(zip(self.class_labels, probabilities))

    @cached_property
    def estimated_max_upload_rows(self) -> int:
        """Estimated number of uploaded rows that fit the CPU budget of a request."""
        cell_ms = len(self.contract.input_names) * UPLOAD_CELL_MS
        row_ms = UPLOAD_ROW_MS + cell_ms + self.batch_row_ms
        return max(1, int(MAX_REQUEST_CPU_MS / row_ms))

    def list_features(self, columns: Iterable[str]) -> set[str]:
        """Return the features that are made of columns of the contract."""
        derived = self.row_reader.derived_features
        return {feature for name in columns for feature in derived.get(name, [name])}

    def describe(self) -> dict[str, Any]:
        """Return the metadata for ``GET /model``."""
        parity = self.scorer.parity
        return {
            "model": self.name,
            "model_version": self.number,
            "title": self.contract.title,
            "question": self.contract.question,
            "task": self.contract.task,
            "target": self.contract.label(self.contract.target),
            "threshold": self.scorer.decision_rule.threshold,
            "family": self.tags.get("model", ""),
            "commit": self.tags.get("commit", ""),
            "data_fingerprint": self.tags.get("fingerprint", ""),
            "digest": self.tags.get(DIGEST_TAG, ""),
            "loaded_at": self.loaded_at,
            "golden_rows": self.golden_rows,
            "scorer": {
                "compiled": self.scorer.is_compiled,
                "name": self.scorer.name,
                "parity": str(parity) if parity else None,
                "proof": str(parity) if parity else None,  # the name in 1.0.0, until 1.2
                "reason": None
                if self.scorer.is_compiled
                else self.tags.get("scorer", "").partition(": ")[2],
            },
        }


def load_model(version: RegisteredVersion, max_rows: int = 1) -> ServedModel:
    """Load a version, verify its digest and check its predictions on the golden rows.

    Parameters
    ----------
    max_rows : int
        Rows that a request's body may have.

    Raises
    ------
    StoreError
        If its files differ from the registered ones.
    ReproductionError
        If it does not reproduce the registered model's predictions on the golden rows.
    """
    version.verify_files()
    contract = Contract.load(version.artifact_folder / "contract.yaml")
    golden = json.loads((version.artifact_folder / GOLDEN_FILE).read_text(encoding="utf-8"))
    with version.explain_unpickling():
        scorer = loading.load_scorer(version.artifact_folder, contract)
    largest_difference = max(
        _score_difference(prediction, expected_scores)
        for prediction, expected_scores in zip(
            scorer.predict_many(golden["rows"]), golden["numbers"]
        )
    )
    if not largest_difference <= TOLERANCE:
        raise ReproductionError(
            f"version {version.number} of {version.name} differs by {largest_difference:g} "
            "on its golden rows",
            expected=f"the registered model's predictions within {TOLERANCE:g}",
            next="check whether packages have changed since it was registered",
        )
    row_reader = RowReader(contract, golden["typical"], max_rows)
    outcome_reader = OutcomeReader(contract, scorer.decision_rule)
    return ServedModel(
        version.number,
        version.name,
        contract,
        row_reader,
        outcome_reader,
        scorer,
        len(golden["rows"]),
        golden["typical"],
        DriftReference.load(version.artifact_folder),
        version.tags,
        golden.get("batch_row_ms", 0.0),
    )


def _score_difference(prediction: RowPrediction, expected_scores: list[float]) -> float:
    if prediction.probabilities is None:
        return abs(prediction.prediction - expected_scores[0]) / max(1.0, abs(expected_scores[0]))
    return max(
        abs(score - expected_score)
        for score, expected_score in zip(prediction.probabilities, expected_scores, strict=True)
    )


@dataclass
class AliasState:
    """The version that an alias names, and the failed attempts to load it.

    Attributes
    ----------
    key : VersionKey or None
        None if the alias names no version.
    is_resolved : bool
        Whether nothing is left to do until the alias moves: its version is in service, or it names
        none.
    retry_at : float
        ``time.monotonic()`` of the next attempt.
    """

    key: VersionKey | None = None
    is_resolved: bool = False
    failed_attempts: int = 0
    retry_at: float = 0.0

    @property
    def number(self) -> int:
        """Number of the version; 0 for none."""
        return self.key[0] if self.key else 0

    def schedule_retry(self) -> float:
        """Count a failed attempt, and return the seconds until the next one."""
        pause = min(MAX_RETRY_SECONDS, 2.0**self.failed_attempts)
        self.failed_attempts += 1
        self.retry_at = time.monotonic() + pause
        return pause


class ModelManager:
    """Loads the versions that the aliases name, and keeps them up to date.

    Attributes
    ----------
    problems : dict
        What is wrong, by alias, or by ``store``, ``keys`` and ``settings``; ``GET /model`` lists
        them as ``refused``.
    """

    def __init__(self, root: Path, book: str, max_rows: int) -> None:
        self._root = root
        self._book = book
        self._max_rows = max_rows
        self.champion: ServedModel | None = None
        self.challenger: ServedModel | None = None
        self.problems: dict[str, str] = {}
        self._states = {alias: AliasState() for alias in ALIASES}
        self._models_by_key: dict[VersionKey, ServedModel] = {}
        self._versions = AliasedVersions({})
        self._file_state: tuple[int, ...] | None = None  # of the versions' file when it was read
        self._read_again_at = 0.0  # time.monotonic()

    @property
    def served_versions(self) -> dict[str, int]:
        """By alias, the version in service; 0 for none."""
        return {alias: model.number if model else 0 for alias, model in self._list_models()}

    @property
    def alias_versions(self) -> dict[str, int]:
        """By alias, the version that it names; 0 for none."""
        return {alias: state.number for alias, state in self._states.items()}

    @property
    def failed_attempts(self) -> dict[str, int]:
        """By alias, how often the version that it names failed to load."""
        return {alias: state.failed_attempts for alias, state in self._states.items()}

    async def refresh(self) -> None:
        """Load the versions that the aliases name, if they have moved or a retry is due."""
        try:
            await self._read_versions()
        except ModelbookError as error:
            self._record_registry_problem(error.problem)
            return
        self._record_registry_problem(self._versions.problem)
        former_champion = self.champion
        for alias in ALIASES:
            await self._refresh_alias(alias, self._versions.by_alias.get(alias))
            if alias == CHAMPION and self.champion is not former_champion:
                # Whether the challenger may serve depends on the champion: decide again.
                self._states[CHALLENGER] = AliasState()

    async def _read_versions(self) -> None:
        """Read the versions when their file has changed, and at least every 10 seconds."""
        path = self._versions.path
        file_state = read_file_state(path) if path else None
        is_unchanged = file_state is not None and file_state == self._file_state
        if is_unchanged and time.monotonic() < self._read_again_at:
            return
        self._versions = await asyncio.to_thread(read_aliased_versions, self._root, self._book)
        self._file_state = file_state
        self._read_again_at = time.monotonic() + MAX_READ_AGE_SECONDS

    def _record_registry_problem(self, problem: str) -> None:
        if problem and self.problems.get("store") != problem:
            LOG.error("the registry's aliases may be out of date", extra={"reason": problem})
        if problem:
            self.problems["store"] = problem
        else:
            self.problems.pop("store", None)

    async def _refresh_alias(self, alias: str, version: RegisteredVersion | None) -> None:
        key = (version.number, version.tags.get(DIGEST_TAG)) if version else None
        state = self._states[alias]
        if key != state.key:
            self._states[alias] = state = AliasState(key)
        elif state.is_resolved or time.monotonic() < state.retry_at:
            return
        if version is None:
            self._remove(alias)
            return
        assert key is not None
        start_time = time.monotonic()
        try:
            model = await asyncio.to_thread(self._load_model, key, version)
            self._require_champion_fields(alias, model)
        except Exception as error:  # a broken new version must not replace the one in service
            self._record_load_failure(alias, version.number, state, error)
            return
        self._put_in_service(alias, model, time.monotonic() - start_time)

    def _remove(self, alias: str) -> None:
        self.problems.pop(alias, None)
        self._states[alias].is_resolved = True
        if alias == CHALLENGER:
            self.challenger = None
        elif self.champion:
            self.problems[alias] = "the alias was removed; the last version stays in service"

    def _record_load_failure(
        self, alias: str, number: int, state: AliasState, error: Exception
    ) -> None:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, ModelbookError):
            reason = error.problem
        pause = state.schedule_retry()
        attempts = state.failed_attempts
        self.problems[alias] = f"version {number}: {reason} (failed attempts: {attempts})"
        if alias == CHALLENGER:
            self.challenger = None
        log_fields = {"alias": alias, "version": number, "reason": reason}
        LOG.error(
            "loading a version failed",
            extra={**log_fields, "failed_attempts": attempts, "retry_in_seconds": pause},
        )

    def _put_in_service(self, alias: str, model: ServedModel, seconds: float) -> None:
        self.problems.pop(alias, None)
        self._states[alias] = AliasState(self._states[alias].key, is_resolved=True)
        setattr(self, alias, model)
        log_fields = {
            "alias": alias,
            "version": model.number,
            "scorer": model.tags.get("scorer", model.scorer.name),
        }
        load_result = {"golden_rows": model.golden_rows, "load_seconds": round(seconds, 3)}
        LOG.info("in service", extra={**log_fields, **load_result})
        if not model.scorer.is_compiled:
            LOG.warning("the uncompiled pipeline serves, which is slower", extra=log_fields)
        if model.drift_reference is None:
            LOG.warning(
                "the version has no counts of its holdout, so the drift of requests is not "
                "measured; register a new version",
                extra=log_fields,
            )
        in_service = [model for _, model in self._list_models()]
        self._models_by_key = {
            key: model for key, model in self._models_by_key.items() if model in in_service
        }

    def _list_models(self) -> list[tuple[str, ServedModel | None]]:
        return [(CHAMPION, self.champion), (CHALLENGER, self.challenger)]

    def _load_model(self, key: VersionKey, version: RegisteredVersion) -> ServedModel:
        if key not in self._models_by_key:
            self._models_by_key[key] = load_model(version, self._max_rows)
        return self._models_by_key[key]

    def _require_champion_fields(self, alias: str, model: ServedModel) -> None:
        """Require that a challenger reads no fields that the champion's requests lack."""
        if alias != CHALLENGER or self.champion is None:
            return
        champion_fields = set(self.champion.contract.feature_names)
        extra_fields = sorted(set(model.contract.feature_names) - champion_fields)
        if extra_fields:
            raise ModelbookError(
                f"it reads {', '.join(extra_fields)}, which the champion's requests do not contain"
            )
