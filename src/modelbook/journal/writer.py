"""Write predictions to the journal in groups; a response waits until its prediction is committed.

Concurrent requests share a commit: the event loop hands a group of predictions over when it finds
no further request to predict, and the thread that commits the group has the interpreter meanwhile.
Several times a second the thread compares the open files with those at the journal's path: a
journal that was removed, replaced or unmounted is opened again, and predictions committed since the
previous comparison are written again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, islice
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from modelbook.formatting import format_count
from modelbook.journal.database import MAX_IDS_PER_QUERY, FileIdentity, Journal
from modelbook.journal.hash_chain import HashChain
from modelbook.journal.schema import PREDICTIONS_TABLE

MAX_GROUP_REQUESTS = 32  # requests that wait for each other
MAX_COMMIT_GROUPS = 32  # groups that are queued during a commit, and share the next one
MAX_STATEMENT_ROWS = 1000  # predictions in one SQLite statement
MAX_QUEUED_GROUPS = 20_000  # longest queue; further predictions are not journaled
RETRY_SECONDS = 1.0  # seconds from a failure to the next attempt
EXPIRY_CHECK_SECONDS = 0.1  # seconds between checks for expired waits
FILE_CHECK_SECONDS = 0.2  # seconds between comparisons of the open files with the path
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
    predict_if_unavailable : bool
        Whether predictions are returned although they could not be written. Otherwise none is
        returned, so none is lost, and those whose time is over are not written either.

    Attributes
    ----------
    written_count : int
        Predictions that were written.
    lost_count : int
        Returned predictions that are not in the journal.
    replaced_count, orphaned_count : int
        How often the journal's file was removed or replaced while it was open, and the predictions
        that had been written to such files.
    """

    def __init__(
        self,
        journal: Journal,
        on_status_change: Callable[[str], None] = lambda text: None,
        predict_if_unavailable: bool = True,
    ) -> None:
        self._journal = journal
        self._on_status_change = on_status_change
        self._predict_if_unavailable = predict_if_unavailable
        self._row_placeholders = f"({', '.join('?' * len(PREDICTIONS_TABLE.columns))})"
        # Requests of which the event loop has predicted the rows, and how many it had when it last
        # looked for further ones.
        self._group: list[Entry] = []
        self._previous_length = 0
        self._queue: SimpleQueue[list[Entry]] = SimpleQueue()  # an empty group ends the thread
        self._statements = [journal.make_insert_statement(skips) for skips in (False, True)]
        self._deadlines: deque[tuple[float, asyncio.Future]] = deque()
        self._column_names = [column.name for column in PREDICTIONS_TABLE.columns]
        self.written_count = self.lost_count = self.replaced_count = self.orphaned_count = 0
        self.is_up, self._retry_at = True, 0.0
        self._connection: Connection | None = None
        self._opened_files: FileIdentity = ()
        self._file_row_count = 0  # predictions written to the opened files
        # Rows that were written since the files were last found in place, and when that was.
        self._unchecked_rows: list[tuple[Any, ...]] = []
        self._checked_at = 0.0
        self._chain = HashChain()
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

    async def write(self, predictions: list[PredictionRecord]) -> list[str] | None:
        """Write predictions within the journal's timeout; return their hashes.

        None if they were not written in time.
        """
        if (
            not self.is_up and time.monotonic() < self._retry_at
        ) or self._queue.qsize() > MAX_QUEUED_GROUPS:
            self._count_lost(predictions)
            return None
        future = self._loop.create_future()
        pending = self._deadlines
        while pending and pending[0][1].done():
            pending.popleft()
        pending.append((time.monotonic() + self._journal.timeout_seconds, future))
        self._group.append((predictions, future))
        if len(self._group) == 1:
            self._loop.call_soon(self._complete_group)
        return await future

    def _complete_group(self) -> None:
        """Hand the group to the thread, unless the last iteration of the loop added to it."""
        if self._previous_length < len(self._group) < MAX_GROUP_REQUESTS:
            self._previous_length = len(self._group)
            self._loop.call_soon(self._complete_group)
        elif self._group:
            self._queue.put(self._group)
            self._group = []
            self._previous_length = 0

    async def stop(self) -> None:
        """Write the queued predictions, and stop."""
        self._expiry_timer.cancel()
        for group in (self._group, []):
            self._queue.put(group)
        self._group = []
        await asyncio.to_thread(self._thread.join, self._journal.timeout_seconds + 1)

    def _count_lost(self, predictions: list[PredictionRecord]) -> None:
        if self._predict_if_unavailable:
            self.lost_count += sum(prediction.was_returned for prediction in predictions)

    def _expire_overdue(self) -> None:
        now = time.monotonic()
        while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] < now):
            _, future = self._deadlines.popleft()
            if not future.done():
                future.set_result(None)
        self._expiry_timer = self._loop.call_later(EXPIRY_CHECK_SECONDS, self._expire_overdue)

    def _write_groups(self) -> None:
        is_stopping = False
        while not is_stopping:
            groups = self._take_groups()
            is_stopping = [] in groups
            entries = [
                (predictions, future)
                for predictions, future in chain.from_iterable(groups)
                if self._predict_if_unavailable or not future.done()
            ]
            if entries:
                row_hashes = self._write_group(
                    [prediction for predictions, _ in entries for prediction in predictions]
                )
                self._loop.call_soon_threadsafe(self._resolve, entries, row_hashes)
        self._close_connection()

    def _take_groups(self) -> list[list[Entry]]:
        """Wait for a group, and return all that are queued."""
        groups: list[list[Entry]] = []
        while not groups:
            try:
                groups.append(self._queue.get(timeout=FILE_CHECK_SECONDS))
            except Empty:
                self._check_idle_file()
        with suppress(Empty):
            while len(groups) < MAX_COMMIT_GROUPS:
                groups.append(self._queue.get_nowait())
        return groups

    def _resolve(self, entries: list[Entry], row_hashes: list[str] | None) -> None:
        remaining = iter(row_hashes or [])
        for predictions, future in entries:
            if row_hashes is None:
                self._count_lost(predictions)
            result = None if row_hashes is None else list(islice(remaining, len(predictions)))
            if not future.done():
                future.set_result(result)

    def _write_group(self, predictions: list[PredictionRecord]) -> list[str] | None:
        try:
            row_hashes = self._commit(predictions)
            if time.monotonic() - self._checked_at > FILE_CHECK_SECONDS:
                self._check_file()
        except Exception as error:  # drivers raise many types, and the thread must continue
            self._handle_failure(error)
            return None
        self.written_count += len(predictions)
        self._report_up()
        return row_hashes

    def _commit(self, predictions: list[PredictionRecord]) -> list[str]:
        connection = self._open_connection()
        try:
            return self._commit_new(connection, predictions)
        except IntegrityError:  # some are in the journal already: commit what is new
            row_hashes = self._read_row_hashes(connection, predictions)
            new = {(entry.id, entry.variant): entry for entry in predictions}
            new = {key: entry for key, entry in new.items() if key not in row_hashes}
            row_hashes |= zip(new, self._commit_new(connection, list(new.values())))
            return [row_hashes[entry.id, entry.variant] for entry in predictions]

    def _commit_new(self, connection: Connection, predictions: list[PredictionRecord]) -> list[str]:
        book = self._journal.book
        rows = self._chain.link_rows([(book, *prediction) for prediction in predictions])
        self._insert_rows(connection, rows)
        self._chain.append(rows)
        self._unchecked_rows += rows
        self._file_row_count += len(rows)
        return [row[-1] for row in rows]

    def _read_row_hashes(
        self, connection: Connection, predictions: list[PredictionRecord]
    ) -> dict[tuple[str, str], str]:
        columns = PREDICTIONS_TABLE.c
        row_hashes = {}
        ids = list({prediction.id for prediction in predictions})
        with connection.begin():
            for start in range(0, len(ids), MAX_IDS_PER_QUERY):
                query = select(columns.id, columns.variant, columns.row_hash).where(
                    columns.book == self._journal.book,
                    columns.id.in_(ids[start : start + MAX_IDS_PER_QUERY]),
                )
                for prediction_id, variant, row_hash in connection.execute(query):
                    row_hashes[prediction_id, variant] = row_hash
        return row_hashes

    def _open_connection(self) -> Connection:
        if self._connection is None:
            self._journal.create_tables()
            database_file = self._journal.identify_files()[:1]
            self._connection = self._journal.engine.connect()
            if self._journal.is_sqlite:  # a statement is a transaction
                self._connection.execution_options(isolation_level="AUTOCOMMIT")
            self._opened_files = database_file + self._journal.identify_files()[1:]
        return self._connection

    def _check_file(self) -> None:
        """Reopen a removed or replaced journal, and repeat writes that may be missing in it."""
        while True:
            files = self._journal.identify_files()
            if files == self._opened_files and None not in files:
                break
            rows = self._unchecked_rows
            orphaned_count = self._file_row_count - len(rows)
            self._on_status_change(
                f"the journal's file was removed or replaced: {self._journal.safe_url}; "
                "written to the former file by this process: "
                f"{format_count(orphaned_count, 'prediction')}"
            )
            self.replaced_count += 1
            self.orphaned_count += orphaned_count
            self._close_connection()
            connection = self._open_connection()
            self._insert_rows(connection, rows, skips_existing=True)
            self._unchecked_rows = rows
            self._file_row_count = len(rows)
        self._unchecked_rows = []
        self._checked_at = time.monotonic()

    def _check_idle_file(self) -> None:
        """Check the file, or open a journal that is down, without a request."""
        try:
            if self._connection is not None:
                self._check_file()
            elif not self.is_up and time.monotonic() > self._retry_at:
                self._open_connection()
                self._report_up()
        except Exception as error:  # as in _write_group
            self._handle_failure(error)

    def _report_up(self) -> None:
        if not self.is_up:
            self._on_status_change("the journal is back")
        self.is_up = True

    def _insert_rows(
        self, connection: Connection, rows: list[tuple[Any, ...]], *, skips_existing: bool = False
    ) -> None:
        """Insert rows in one transaction.

        Raises
        ------
        IntegrityError
            When the journal has one of them, unless existing ones are skipped.
        """
        statement = self._statements[skips_existing]
        with connection.begin():
            if not self._journal.is_sqlite:
                named_rows = [dict(zip(self._column_names, row)) for row in rows]
                connection.exec_driver_sql(statement, named_rows)
                return
            # SQLite's driver releases the GIL at each statement and gets it back late under load,
            # so a group is one statement instead of one for each row, and one to begin and commit.
            if len(rows) > MAX_STATEMENT_ROWS:
                connection.exec_driver_sql("begin immediate")
            for start in range(0, len(rows), MAX_STATEMENT_ROWS):
                batch = rows[start : start + MAX_STATEMENT_ROWS]
                placeholders = ", ".join([self._row_placeholders] * len(batch))
                connection.exec_driver_sql(
                    statement.replace(self._row_placeholders, placeholders),
                    tuple(chain.from_iterable(batch)),
                )

    def _handle_failure(self, error: Exception) -> None:
        if self.is_up:
            is_database_error = isinstance(error, SQLAlchemyError)
            self._on_status_change(
                "the journal is down: "
                f"{self._journal.wrap_error(error).problem if is_database_error else error}"
            )
        self.is_up = False
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._chain = HashChain()  # the last commit may have succeeded
        self._close_connection()

    def _close_connection(self) -> None:
        try:
            if self._connection is not None:
                self._connection.close()
        except Exception as error:  # the connection is already lost
            self._on_status_change(f"the journal could not be closed: {error}")
        self._connection, self._file_row_count = None, 0
        self._unchecked_rows = []
