"""The service without HTTP: bodies in, bodies out. Reads rows, picks the variant, answers, and journals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from modelbook.errors import JournalError, ModelbookError
from modelbook.journal import Journal, Prediction, Writer
from modelbook.journal.store import OtherOutcomes, UnknownPredictions, default
from modelbook.scoring import Answer
from modelbook.serving import drift, settings
from modelbook.serving.judged import Judged
from modelbook.serving.keeper import Keeper
from modelbook.serving.keys import Key, Keys
from modelbook.serving.loaded import Loaded
from modelbook.serving.metrics import Metrics
from modelbook.serving.refusals import Refusal
from modelbook.serving.traffic import CHALLENGER, CHAMPION, challenged, drawn

LOG = logging.getLogger("modelbook.serving")
TICK = 1.0  # seconds between looks at aliases, settings and keys
SETTLE = 5.0  # seconds between settlings of the journal
RETENTION = 3600.0  # seconds between looks for what is too old
LOOPBACK = ("127.0.0.1", "::1", "testclient")  # the last is what tests are
RECENT = 2000  # rows that drift is measured on
Row = dict[str, Any]
Kept = tuple[str, Loaded, Row, str, Answer, bool, str | None]  # variant, version, row, id, answer, told, lot


class Service:
    """One worker's service.

    Attributes
    ----------
    keeper : Keeper
        The versions in service.
    settings : Settings
        As they stand now; traffic is read again while the service runs.
    """

    def __init__(self, root: Path, book: str) -> None:
        self.root, self.book = root, book
        self.settings = settings.load(root)
        self.keeper = Keeper(root, book, self.settings.limits.rows)
        self.keys, self.metrics = Keys(root), Metrics()
        kept = self.settings.journal
        self.journal = Journal(kept.url or default(root, book), kept.patience)
        self.writer = Writer(self.journal, lambda text: LOG.error("journal", extra={"reason": text}))
        self.in_flight, self.recent = 0, deque[Row](maxlen=RECENT)
        self._redact, self._judged = set(kept.redact), Judged(root, book, self.metrics)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load what the aliases name, and follow them until the block ends."""
        try:
            await asyncio.to_thread(self.journal.create)
        except JournalError as error:
            LOG.error("journal", extra={"reason": error.what})
        self.writer.start()
        await self.keeper.look()
        self._tell()
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._tidy())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.writer.stop()

    @property
    def champion(self) -> Loaded:
        """The version in service.

        Raises
        ------
        Refusal
            503 when there is none.
        """
        if self.keeper.champion is None:
            reason = self.keeper.refused.get(CHAMPION) or self.keeper.refused.get("store")
            what = reason or f"no version of {self.book} bears the alias champion"
            later = {"retry-after": "5"}
            raise Refusal(503, what, expected="a promoted version; it is taken up within seconds", headers=later)
        return self.keeper.champion

    def admit(self, given: str | None, caller: str, scope: str | None) -> Key | None:
        """The key that lets a caller in; None where none is wanted.

        Raises
        ------
        Refusal
            401 without a valid key, 403 for a key without the scope.
        """
        if self.settings.keys == "off" or (not len(self.keys) and caller in LOOPBACK):
            return None
        key = self.keys.find(given) if given else None
        if key is None:
            what = "an unknown or ended API key" if given else "no API key"
            raise Refusal(401, what, expected="the header X-API-Key, or Authorization: Bearer",
                          headers={"www-authenticate": "Bearer"})  # fmt: skip
        if scope and not key.may(scope):
            raise Refusal(403, f"the key {key.name!r} has not the scope {scope}", expected=", ".join(key.scopes))
        return key

    async def predict(self, body: bytes, user: str | None = None) -> bytes:
        """Answer a JSON body: an object for an object, a list for a list.

        Raises
        ------
        Refusal
        """
        began, champion = time.perf_counter(), self.champion
        rows, several = champion.rows.read(body)
        told = await self.answer(champion, rows, user, began)
        return orjson.dumps(told if several else told[0])

    async def answer(
        self, champion: Loaded, rows: list[Row], user: str | None, began: float, ids: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Answer rows that keep the champion's contract, and put the answers into the journal, by new ids or given."""
        ids = ids or [new_id() for _ in rows]
        lots = self._lots(champion, rows, ids, user)
        asked = self._asked(champion, lots)
        answers = await self._answers(asked, rows)
        shadow = self.keeper.challenger if self.settings.traffic.mode == "shadow" else None
        whole = [(name, one, row, identity, answer, True, lot)
                 for (name, one), row, identity, answer, lot in zip(asked, rows, ids, answers, lots)]  # fmt: skip
        if shadow:
            others = await self._shadow(shadow, rows)
            whole += [(CHALLENGER, shadow, row, i, a, False, None) for row, i, a in zip(rows, ids, others)]
        await self._keep(whole, (time.perf_counter() - began) * 1000)
        self.recent.extend(rows)
        for name in (CHAMPION, CHALLENGER):
            if count := sum(variant == name for variant, _ in asked):
                self.metrics.answered(name, count)
        return [_told(*one[:2], *one[3:5]) for one in whole[: len(rows)]]

    def _lots(self, champion: Loaded, rows: list[Row], ids: list[str], user: str | None) -> list[str | None]:
        """What each row draws: by the user, else by its entity, else by chance; nothing where traffic is not split."""
        traffic = self.settings.traffic
        if traffic.mode != "split" or self.keeper.challenger is None:
            return [None] * len(rows)
        entity = next(iter(champion.contract.named("entity")), "")
        return [drawn(user or str(row.get(entity, identity)), traffic.salt) for row, identity in zip(rows, ids)]

    def _asked(self, champion: Loaded, lots: list[str | None]) -> list[tuple[str, Loaded]]:
        """Who answers each row."""
        share, other = self.settings.traffic.share, self.keeper.challenger
        return [
            (CHALLENGER, other) if other and lot and challenged(lot, share) else (CHAMPION, champion) for lot in lots
        ]

    async def _answers(self, asked: list[tuple[str, Loaded]], rows: list[Row]) -> list[Answer]:
        if len(rows) == 1 and asked[0][1].scorer.compiled:
            return [asked[0][1].scorer.one(rows[0])]
        found: dict[int, Answer] = {}
        for one in {id(loaded): loaded for _, loaded in asked}.values():
            places = [i for i, (_, loaded) in enumerate(asked) if loaded is one]
            some = [rows[i] for i in places]
            # The model itself takes so long that others would have to wait for it.
            told = one.scorer.many(some) if one.scorer.compiled else await asyncio.to_thread(one.scorer.many, some)
            found.update(zip(places, told))
        return [found[i] for i in range(len(rows))]

    async def _shadow(self, shadow: Loaded, rows: list[Row]) -> list[Answer]:
        try:
            answers = await self._answers([(CHALLENGER, shadow)] * len(rows), rows)
        except Exception as error:  # nobody waits for it, and nobody must suffer from it
            LOG.error(
                "the shadow failed", extra={"version": shadow.number, "reason": f"{type(error).__name__}: {error}"}
            )
            return []
        self.metrics.answered("shadow", len(rows))
        return answers

    async def _keep(self, whole: list[Kept], milliseconds: float) -> None:
        now = time.time()
        predictions = [
            Prediction(
                identity, name, now, one.number, told, self._inputs(one, row), _text(answer.prediction),
                None if answer.probabilities is None else _text(one.named(answer.probabilities)), milliseconds, lot,
            )
            for name, one, row, identity, answer, told, lot in whole
        ]  # fmt: skip
        kept = not predictions or await self.writer.keep(predictions)
        if not kept and self.settings.journal.when_down == "refuse":
            raise Refusal(503, "the journal is down", expected="a journal: nothing is answered without one",
                          headers={"retry-after": "2"})  # fmt: skip

    def _inputs(self, one: Loaded, row: Row) -> str:
        if not self._redact:
            return _text(row)
        hidden = {part for name in self._redact for part in one.rows.parts.get(name, [name])}
        return _text({k: v for k, v in row.items() if k not in hidden})

    async def outcomes(self, body: bytes) -> dict[str, int]:
        """Record what really happened.

        Raises
        ------
        Refusal
        """
        given = self.champion.outcomes.read(body, self.settings.limits.rows)
        try:
            return await asyncio.to_thread(self.journal.outcomes, given)
        except UnknownPredictions as error:
            raise Refusal(404, error.what, expected=error.expected) from None
        except OtherOutcomes as error:
            raise Refusal(409, error.what, expected=error.expected) from None
        except JournalError:
            raise Refusal(503, "the journal is down", headers={"retry-after": "2"}) from None

    def about(self) -> dict[str, Any]:
        """What ``GET /model`` tells."""
        other, traffic = self.keeper.challenger, self.settings.traffic
        return {
            **self.champion.about(), "book": self.book,
            "traffic": {"mode": traffic.mode, "share": traffic.share if traffic.mode == "split" else None},
            "challenger": other.about() if other else None, "refused": self.keeper.refused,
        }  # fmt: skip

    async def _follow(self) -> None:
        measured = 0.0
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.keeper.look()
                self._refresh()
                await asyncio.to_thread(self._judged.look, self.keeper.champion)
                if time.monotonic() - measured > 5 * TICK and self.recent and self.keeper.champion:
                    measured = time.monotonic()
                    self.metrics.drifted(await drift.measured(self.keeper.champion.reference, list(self.recent)))
                self._tell()
            except Exception:  # the service goes on as it stands
                LOG.exception("a look failed")

    def _refresh(self) -> None:
        """Take up traffic and keys as they stand in their files; what is wrong is told and changes nothing."""
        for name, read in (("keys", self.keys.refresh), ("settings", self._traffic)):
            try:
                read()
                self.keeper.refused.pop(name, None)
            except ModelbookError as error:
                if self.keeper.refused.get(name) != error.what:
                    LOG.error("a file was refused", extra={"reason": error.what})
                self.keeper.refused[name] = error.what

    def _traffic(self) -> None:
        found = settings.load(self.root).traffic
        if found != self.settings.traffic:
            self.settings = self.settings.model_copy(update={"traffic": found})
            LOG.info("traffic changed", extra=found.model_dump())

    def _tell(self) -> None:
        named = {name: getattr(self.keeper, name) for name in (CHAMPION, CHALLENGER)}
        self.metrics.versions({name: one.number if one else 0 for name, one in named.items()})
        self.metrics.in_flight.set(self.in_flight)
        self.metrics.journal_waiting.set(self.writer.waiting)
        self.metrics.journal_up.set(self.writer.up)
        self.metrics.lost(self.writer.lost)

    async def _tidy(self) -> None:
        """Keep the journal in order: settle it now and then, and forget what is too old."""
        days, looked = self.settings.journal.keep_days, float("-inf")
        while True:
            try:
                await asyncio.to_thread(self.journal.settle)
                if days and time.monotonic() - looked > RETENTION:
                    looked = time.monotonic()
                    gone = await asyncio.to_thread(self.journal.forget, time.time() - days * 86_400)
                    LOG.info("forgotten", extra={"predictions": gone, "older_than_days": days})
            except JournalError as error:
                LOG.error("journal", extra={"reason": error.what})
            await asyncio.sleep(SETTLE)


def new_id() -> str:
    """An id that nobody can guess, and that sorts by time."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _told(variant: str, one: Loaded, identity: str, answer: Answer) -> dict[str, Any]:
    told = {"id": identity, "prediction": answer.prediction, "model_version": one.number, "variant": variant}
    if answer.probabilities is not None:
        told["probabilities"] = one.named(answer.probabilities)
    return told


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
