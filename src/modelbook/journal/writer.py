"""Write predictions to the journal in groups; a response waits until its prediction is committed.

One thread commits all predictions that were queued while it wrote the previous group. So requests
share commits, and every returned prediction is in the journal even if the process is killed.
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

from modelbook.journal.database import PREDICTIONS_TABLE, Journal

MAX_GROUP_ROWS = 1000  # predictions in one commit
MAX_QUEUED_GROUPS = 20_000  # longest queue; further predictions are not journaled
GATHER_SECONDS = 0.0005  # seconds to collect a group when requests are concurrent
RETRY_SECONDS = 1.0  # seconds from a failure to the next attempt
EXPIRY_CHECK_SECONDS = 0.1  # seconds between checks for expired waits


class PredictionRecord(NamedTuple):
    """One journal row; fields in the order of the table's columns."""

    id: str
    variant: str
    timestamp: float
    model_version: int
    was_returned: bool
    inputs: str
    prediction: str
    probabilities: str | None
    latency_ms: float
    bucket: str | None = None


class JournalWriter:
    """Writes predictions of one event loop to the journal.

    Attributes
    ----------
    written_count, lost_count : int
        Predictions that were written, and predictions that were not.
    on_status_change : callable
        Called with a message when the journal becomes unavailable or available again.
    """

    def __init__(
        self, journal: Journal, on_status_change: Callable[[str], None] = lambda text: None
    ) -> None:
        self._journal, self._on_status_change = journal, on_status_change
        statement = journal.insert_statement().compile(dialect=journal.engine.dialect)
        self._statement, self._is_positional = str(statement), journal.engine.dialect.positional
        self._row_placeholders = f"({', '.join('?' * len(PREDICTIONS_TABLE.columns))})"
        self._queue: SimpleQueue[tuple[list[PredictionRecord], asyncio.Future] | None] = (
            SimpleQueue()
        )
        self._deadlines: deque[tuple[float, asyncio.Future]] = deque()
        self._column_names = [column.name for column in PREDICTIONS_TABLE.columns]
        self.written_count, self.lost_count, self.is_up, self._retry_at = 0, 0, True, 0.0
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._write_groups, name="journal", daemon=True)

    def start(self) -> None:
        """Start the writer thread; call it inside the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._expiry_timer = self._loop.call_later(EXPIRY_CHECK_SECONDS, self._expire_overdue)

    @property
    def waiting_requests(self) -> int:
        """Number of requests that are waiting for the journal."""
        return sum(not future.done() for _, future in self._deadlines)

    async def write(self, predictions: list[PredictionRecord]) -> bool:
        """Write predictions within the journal's timeout; return whether they were written."""
        if (
            not self.is_up and time.monotonic() < self._retry_at
        ) or self._queue.qsize() > MAX_QUEUED_GROUPS:
            self.lost_count += len(predictions)
            return False
        future = self._loop.create_future()
        pending = self._deadlines
        while pending and pending[0][1].done():
            pending.popleft()
        pending.append((time.monotonic() + self._journal.timeout_seconds, future))
        self._queue.put((predictions, future))
        is_written = await future
        if not is_written:
            self.lost_count += len(predictions)
        return is_written

    async def stop(self) -> None:
        """Write the queued predictions, and stop."""
        self._expiry_timer.cancel()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, self._journal.timeout_seconds + 1)

    def _expire_overdue(self) -> None:
        now = time.monotonic()
        while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] < now):
            _resolve_futures([self._deadlines.popleft()[1]], False)
        self._expiry_timer = self._loop.call_later(EXPIRY_CHECK_SECONDS, self._expire_overdue)

    def _write_groups(self) -> None:
        is_stopping = has_concurrent_requests = False
        while not is_stopping:
            group = [self._queue.get()]
            if has_concurrent_requests:  # waiting is cheaper than a commit for each
                time.sleep(GATHER_SECONDS)
            while len(group) < MAX_GROUP_ROWS:
                try:
                    group.append(self._queue.get_nowait())
                except Empty:
                    break
            is_stopping = None in group
            has_concurrent_requests = len(group) > 1
            entries = [entry for entry in group if entry is not None]
            if entries:
                is_written = self._write_group(
                    [prediction for predictions, _ in entries for prediction in predictions]
                )
                self._loop.call_soon_threadsafe(
                    _resolve_futures, [future for _, future in entries], is_written
                )
        self._close_connection()

    def _write_group(self, predictions: list[PredictionRecord]) -> bool:
        try:
            if self._connection is None:
                self._journal.create_tables()
                self._connection = self._journal.engine.connect()
            with self._connection.begin():
                self._insert_rows(self._connection, predictions)
        except Exception as error:  # drivers raise many types, and the thread must continue
            self._handle_failure(error)
            return False
        if not self.is_up:
            self._on_status_change("the journal is back")
        self.is_up, self.written_count = True, self.written_count + len(predictions)
        return True

    def _insert_rows(self, connection: Connection, predictions: list[PredictionRecord]) -> None:
        if not self._is_positional:
            rows = [dict(zip(self._column_names, prediction)) for prediction in predictions]
            connection.exec_driver_sql(self._statement, rows)
            return
        # SQLite's driver releases the GIL at each statement and gets it back late under load, so a
        # group is one statement instead of one for each row.
        for start in range(0, len(predictions), MAX_GROUP_ROWS):
            batch = predictions[start : start + MAX_GROUP_ROWS]
            statement = self._statement.replace(
                self._row_placeholders, ", ".join([self._row_placeholders] * len(batch))
            )
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(batch)))

    def _handle_failure(self, error: Exception) -> None:
        if self.is_up:
            is_database_error = isinstance(error, SQLAlchemyError)
            self._on_status_change(
                "the journal is down: "
                f"{self._journal.wrap_error(error).problem if is_database_error else error}"
            )
        self.is_up, self._retry_at = False, time.monotonic() + RETRY_SECONDS
        self._close_connection()

    def _close_connection(self) -> None:
        try:
            if self._connection is not None:
                self._connection.close()
        except Exception as error:  # the connection is already lost
            self._on_status_change(f"the journal could not be closed: {error}")
        self._connection = None


def _resolve_futures(futures: list[asyncio.Future], is_written: bool) -> None:
    for future in futures:
        if not future.done():
            future.set_result(is_written)
