"""The writer: predictions go to the journal in groups, and an answer waits until its own is there.

One thread takes whatever has gathered while it wrote the group before, and commits it at once. So a commit is shared by
all that came meanwhile, and what was answered is in the journal even if the process is killed right after.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import chain
from queue import Empty, SimpleQueue
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from modelbook.journal.store import PREDICTIONS, Journal

GROUP = 1000  # predictions of one commit
CAPACITY = 20_000  # predictions that may wait; more are not taken
MOMENT = 0.0005  # seconds that a group gathers while several ask at once
AGAIN = 1.0  # seconds after a failure until the journal is tried again
EVERY = 0.1  # seconds between looks at what has waited too long


class Prediction(NamedTuple):
    """One prediction as it is written; in the order of the table's columns."""

    id: str
    variant: str
    at: float
    version: int
    answered: bool
    inputs: str
    prediction: str
    probabilities: str | None
    milliseconds: float
    lot: str | None = None


class Writer:
    """Writes predictions from one event loop.

    Attributes
    ----------
    written, lost : int
        Predictions that are in the journal, and that were not taken or failed.
    tell : callable
        Called with a message when the journal goes down or comes back.
    """

    def __init__(self, journal: Journal, tell: Callable[[str], None] = lambda text: None) -> None:
        self._journal, self._tell = journal, tell
        statement = journal.insert().compile(dialect=journal.engine.dialect)
        self._statement, self._positional = str(statement), journal.engine.dialect.positional
        self._marks = f"({', '.join('?' * len(PREDICTIONS.columns))})"
        self._queue: SimpleQueue[tuple[list[Prediction], asyncio.Future] | None] = SimpleQueue()
        self._pending: deque[tuple[float, asyncio.Future]] = deque()
        self._names = [column.name for column in PREDICTIONS.columns]
        self.written, self.lost, self.up, self._retry = 0, 0, True, 0.0
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to write; called within the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._watch = self._loop.call_later(EVERY, self._expire)

    @property
    def waiting(self) -> int:
        """Requests that wait for the journal now."""
        return sum(not future.done() for _, future in self._pending)

    async def keep(self, predictions: list[Prediction]) -> bool:
        """Write predictions; returns whether they are in the journal. Waits no longer than the journal's patience."""
        if (not self.up and time.monotonic() < self._retry) or self._queue.qsize() > CAPACITY:
            self.lost += len(predictions)
            return False
        future = self._loop.create_future()
        pending = self._pending
        while pending and pending[0][1].done():
            pending.popleft()
        pending.append((time.monotonic() + self._journal.patience, future))
        self._queue.put((predictions, future))
        kept = await future
        if not kept:
            self.lost += len(predictions)
        return kept

    async def stop(self) -> None:
        """Write what has gathered, and end."""
        self._watch.cancel()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, self._journal.patience + 1)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._pending and (self._pending[0][1].done() or self._pending[0][0] < now):
            _settle([self._pending.popleft()[1]], False)
        self._watch = self._loop.call_later(EVERY, self._expire)

    def _run(self) -> None:
        ending = several = False
        while not ending:
            group = [self._queue.get()]
            if several:  # others are about to come, and a commit for each would cost more than the moment
                time.sleep(MOMENT)
            while len(group) < GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except Empty:
                    break
            ending = None in group
            several = len(group) > 1
            taken = [one for one in group if one is not None]
            if taken:
                done = self._write([prediction for predictions, _ in taken for prediction in predictions])
                self._loop.call_soon_threadsafe(_settle, [future for _, future in taken], done)
        self._close()

    def _write(self, predictions: list[Prediction]) -> bool:
        try:
            if self._connection is None:
                self._journal.create()
                self._connection = self._journal.engine.connect()
            with self._connection.begin():
                self._insert(self._connection, predictions)
        except Exception as error:  # a driver may fail in any way, and the thread must live on
            self._failed(error)
            return False
        if not self.up:
            self._tell("the journal is back")
        self.up, self.written = True, self.written + len(predictions)
        return True

    def _insert(self, connection: Connection, predictions: list[Prediction]) -> None:
        if not self._positional:
            rows = [dict(zip(self._names, one)) for one in predictions]
            connection.exec_driver_sql(self._statement, rows)
            return
        # SQLite's driver gives the interpreter away at each statement, and gets it back late while requests are
        # answered. So a group is one statement and not one for each row.
        for start in range(0, len(predictions), GROUP):
            part = predictions[start : start + GROUP]
            statement = self._statement.replace(self._marks, ", ".join([self._marks] * len(part)))
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))

    def _failed(self, error: Exception) -> None:
        if self.up:
            known = isinstance(error, SQLAlchemyError)
            self._tell(f"the journal is down: {self._journal.failed(error).what if known else error}")
        self.up, self._retry = False, time.monotonic() + AGAIN
        self._close()

    def _close(self) -> None:
        try:
            if self._connection is not None:
                self._connection.close()
        except Exception as error:  # it is gone already
            self._tell(f"closing the journal: {error}")
        self._connection = None


def _settle(futures: list[asyncio.Future], done: bool) -> None:
    for future in futures:
        if not future.done():
            future.set_result(done)
