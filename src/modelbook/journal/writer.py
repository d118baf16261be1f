"""Write predictions to the journal in groups; a response waits until its prediction is committed.

One thread commits all predictions that were queued while it wrote the previous group, so requests
share commits. After each commit it compares the open files with those at the journal's path: a
journal that was removed, replaced or unmounted is opened anew and the group written again, before
any response is sent.
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

from modelbook.journal.database import PREDICTIONS_TABLE, FileIdentity, Journal

MAX_GROUP_ROWS = 1000  # predictions in one commit
MAX_QUEUED_GROUPS = 20_000  # longest queue; further predictions are not journaled
GATHER_SECONDS = 0.0005  # seconds to collect a group when requests are concurrent
RETRY_SECONDS = 1.0  # seconds from a failure to the next attempt
EXPIRY_CHECK_SECONDS = 0.1  # seconds between checks for expired waits
FILE_CHECK_SECONDS = 1.0  # seconds between checks of the file while nothing is written
Entry = tuple[list["PredictionRecord"], asyncio.Future]


class PredictionRecord(NamedTuple):
    """One journal row without its book; fields in the order of the table's columns."""

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

    Parameters
    ----------
    on_status_change : callable
        Called with a message when the journal becomes unavailable, available again, or is replaced.
    answers_when_down : bool
        Whether predictions are returned although they could not be written. Otherwise none is
        returned, so none is lost, and those whose time is over are not written either.

    Attributes
    ----------
    written_count : int
        Predictions in the journal.
    lost_count : int
        Returned predictions that are not in the journal.
    replaced_count, unproven_count : int
        How often the journal's file was removed or replaced while it was open, and the predictions
        that had been written to such files.
    """

    def __init__(
        self,
        journal: Journal,
        on_status_change: Callable[[str], None] = lambda text: None,
        answers_when_down: bool = True,
    ) -> None:
        self._journal, self._on_status_change = journal, on_status_change
        self._answers_when_down = answers_when_down
        statement = journal.insert_statement().compile(dialect=journal.engine.dialect)
        self._statement, self._is_positional = str(statement), journal.engine.dialect.positional
        self._row_placeholders = f"({', '.join('?' * len(PREDICTIONS_TABLE.columns))})"
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._deadlines: deque[tuple[float, asyncio.Future]] = deque()
        self._column_names = [column.name for column in PREDICTIONS_TABLE.columns]
        self.written_count = self.lost_count = self.replaced_count = self.unproven_count = 0
        self.is_up, self._retry_at = True, 0.0
        self._connection: Connection | None = None
        self._opened_files: FileIdentity = ()
        self._file_row_count = 0  # predictions written to the opened files
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
            self._count_lost(len(predictions))
            return False
        future = self._loop.create_future()
        pending = self._deadlines
        while pending and pending[0][1].done():
            pending.popleft()
        pending.append((time.monotonic() + self._journal.timeout_seconds, future))
        self._queue.put((predictions, future))
        return await future

    async def stop(self) -> None:
        """Write the queued predictions, and stop."""
        self._expiry_timer.cancel()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, self._journal.timeout_seconds + 1)

    def _count_lost(self, rows: int) -> None:
        if self._answers_when_down:
            self.lost_count += rows

    def _expire_overdue(self) -> None:
        now = time.monotonic()
        while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] < now):
            _, future = self._deadlines.popleft()
            if not future.done():
                future.set_result(False)
        self._expiry_timer = self._loop.call_later(EXPIRY_CHECK_SECONDS, self._expire_overdue)

    def _write_groups(self) -> None:
        is_stopping = has_concurrent_requests = False
        while not is_stopping:
            group = self._collect_group(has_concurrent_requests)
            is_stopping = None in group
            has_concurrent_requests = len(group) > 1
            entries = [entry for entry in group if entry is not None and self._is_wanted(entry)]
            if entries:
                is_written = self._write_group(
                    [prediction for predictions, _ in entries for prediction in predictions]
                )
                self._loop.call_soon_threadsafe(self._resolve, entries, is_written)
        self._close_connection()

    def _collect_group(self, has_concurrent_requests: bool) -> list[Entry | None]:
        """Wait for predictions, and return all that are queued."""
        while True:
            try:
                group = [self._queue.get(timeout=FILE_CHECK_SECONDS)]
                break
            except Empty:
                self._check_idle_file()
        if has_concurrent_requests:  # waiting is cheaper than a commit for each
            time.sleep(GATHER_SECONDS)
        while len(group) < MAX_GROUP_ROWS:
            try:
                group.append(self._queue.get_nowait())
            except Empty:
                break
        return group

    def _is_wanted(self, entry: Entry) -> bool:
        return self._answers_when_down or not entry[1].done()

    def _resolve(self, entries: list[Entry], is_written: bool) -> None:
        for predictions, future in entries:
            if not is_written:
                self._count_lost(len(predictions))
            if not future.done():
                future.set_result(is_written)

    def _write_group(self, predictions: list[PredictionRecord]) -> bool:
        try:
            self._commit(predictions)
            while not self._is_file_in_place():
                self._reopen()
                self._commit(predictions)
        except Exception as error:  # drivers raise many types, and the thread must continue
            self._handle_failure(error)
            return False
        self._file_row_count += len(predictions)
        self.written_count += len(predictions)
        self._report_up()
        return True

    def _commit(self, predictions: list[PredictionRecord]) -> None:
        connection = self._open_connection()
        with connection.begin():
            self._insert_rows(connection, predictions)

    def _open_connection(self) -> Connection:
        if self._connection is None:
            self._journal.create_tables()
            database_file = self._journal.identify_files()[:1]
            self._connection = self._journal.engine.connect()
            self._opened_files = database_file + self._journal.identify_files()[1:]
        return self._connection

    def _is_file_in_place(self) -> bool:
        """Whether the files at the journal's path are those that the connection writes to."""
        files = self._journal.identify_files()
        return files == self._opened_files and None not in files

    def _reopen(self) -> None:
        """Open the journal anew after its file was removed or replaced."""
        self._on_status_change(
            f"the journal's file was removed or replaced: {self._journal.safe_url}; "
            f"{self._file_row_count:,} predictions of this process were written to the former file"
        )
        self.replaced_count += 1
        self.unproven_count += self._file_row_count
        self._close_connection()
        self._open_connection()

    def _check_idle_file(self) -> None:
        """Reopen a removed or replaced journal, or retry one that is down, without a request."""
        try:
            if self._connection is not None and not self._is_file_in_place():
                self._reopen()
            elif not self.is_up:
                self._open_connection()
                self._report_up()
        except Exception as error:  # as in _write_group
            self._handle_failure(error)

    def _report_up(self) -> None:
        if not self.is_up:
            self._on_status_change("the journal is back")
        self.is_up = True

    def _insert_rows(self, connection: Connection, predictions: list[PredictionRecord]) -> None:
        if not self._is_positional:
            book = self._journal.book
            rows = [dict(zip(self._column_names, (book, *row))) for row in predictions]
            connection.exec_driver_sql(self._statement, rows)
            return
        # SQLite's driver releases the GIL at each statement and gets it back late under load, so a
        # group is one statement instead of one for each row.
        for start in range(0, len(predictions), MAX_GROUP_ROWS):
            batch = predictions[start : start + MAX_GROUP_ROWS]
            statement = self._statement.replace(
                self._row_placeholders, ", ".join([self._row_placeholders] * len(batch))
            )
            values = chain.from_iterable((self._journal.book, *row) for row in batch)
            connection.exec_driver_sql(statement, tuple(values))

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
        self._connection, self._file_row_count = None, 0
