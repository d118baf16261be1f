"""Tables of a journal: record outcomes, read windows for monitoring, and delete old rows.

Predictions are written by ``writer.JournalWriter``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from modelbook.errors import JournalError, get_first_line
from modelbook.journal import schema
from modelbook.journal.schema import OUTCOMES_TABLE, PREDICTIONS_TABLE, SCHEMA_VERSION
from modelbook.redaction import redact

JSON_COLUMNS = ("inputs", "prediction", "probabilities", "outcome")
FETCH_ROWS = 2000  # rows fetched at a time
WAL_RESTART_PAGES = 16_384  # pages of the write-ahead log (64 MB) at which it is restarted
CHECKPOINT_WAIT_MS = 50  # longest wait of writers for a restart of the log
SQLITE_SUFFIXES = ("", "-wal")  # the database and its write-ahead log
MAX_IDS_PER_QUERY = 400  # ids in one query: SQLite limits the number of variables


# Device and inode of each file of an SQLite journal; empty for a database server.
FileIdentity = tuple[tuple[int, int] | None, ...]


def get_default_path(root: Path, book: str) -> Path:
    """Return the path of a book's default journal, an SQLite file."""
    return root / "data" / book / "journal.db"


def get_default_url(root: Path, book: str) -> str:
    """Return the URL of a book's default journal."""
    return f"sqlite:///{get_default_path(root, book)}"


class Journal:
    """One book's rows of a journal of predictions and outcomes, which several books may share.

    Its tables are created when they do not exist. Rows of other books are neither read nor changed.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of an SQLite file or a PostgreSQL database.
    book : str
        Name of the book.
    timeout_seconds : float
        Seconds to wait for a lock or a connection.
    sync : str
        ``normal``, or ``full`` to have each commit survive a power failure.

    Raises
    ------
    JournalError
        When the database is neither SQLite nor PostgreSQL, or its driver is not installed.
    """

    def __init__(
        self,
        url: str,
        book: str,
        timeout_seconds: float = 1.0,
        sync: Literal["normal", "full"] = "normal",
    ) -> None:
        self.url = url
        self.book = book
        self.timeout_seconds = timeout_seconds
        self._sync = sync
        self._file_paths: list[str] = []
        try:
            self.engine = self._create_engine(sa.make_url(url))
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise JournalError(
                f"journal {redact(url)!r}: {error}",
                expected="sqlite:///file.db or postgresql+psycopg://...",
                next=(
                    "correct the setting journal.url; PostgreSQL needs the extra: pip install "
                    "'modelbook[postgres]'"
                ),
            ) from None

    def _create_engine(self, url: sa.URL) -> sa.Engine:
        backend = url.get_backend_name()
        if backend == "sqlite":
            if url.database and url.database != ":memory:":
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
                self._file_paths = [f"{url.database}{suffix}" for suffix in SQLITE_SUFFIXES]
            # One connection for each use: callers run in several threads, and opening is cheap.
            engine = sa.create_engine(
                url, connect_args={"timeout": self.timeout_seconds}, poolclass=NullPool
            )
            sa.event.listen(engine, "connect", partial(_configure_sqlite, self._sync))
            return engine
        if backend == "postgresql":
            server_options = f"-c statement_timeout={int(self.timeout_seconds * 1000)}"
            if self._sync == "full":  # otherwise as the server is configured
                server_options += " -c synchronous_commit=on"
            connect_seconds = max(2, int(self.timeout_seconds + 0.999))
            return sa.create_engine(
                url,
                pool_pre_ping=True,
                connect_args={"options": server_options, "connect_timeout": connect_seconds},
            )
        raise sa.exc.ArgumentError(f"unsupported database {backend}")

    def create_tables(self) -> None:
        """Create missing tables.

        Raises
        ------
        JournalError
            When the database cannot be reached, or its tables are of another schema.
        """
        try:
            if not schema.has_tables(self.engine):
                schema.create_tables(self.engine)
        except SQLAlchemyError as error:
            if self.read_schema_version() is None:  # another process may just have created them
                raise self.wrap_error(error) from None
        self.require_current_schema()

    def require_current_schema(self) -> None:
        """Raise JournalError if there are tables of another schema version."""
        version = self.read_schema_version()
        if version not in (None, SCHEMA_VERSION):
            raise JournalError(
                f"journal {self.safe_url}: its tables are of schema {version}",
                expected=f"schema {SCHEMA_VERSION}",
                next=(
                    "modelbook upgrade shows how it is migrated, modelbook upgrade --yes migrates "
                    "it and keeps a copy"
                ),
            )

    def read_schema_version(self) -> int | None:
        """Return the tables' schema version, or None without tables.

        Raises
        ------
        JournalError
            When the database cannot be reached, or its tables have a newer or unknown schema.
        """
        with self.explain_errors():
            if not schema.has_tables(self.engine):
                return None
            version = schema.read_schema_version(self.engine)
            columns = schema.read_columns(self.engine)
        if version is not None and version <= SCHEMA_VERSION:
            return version
        names = ", ".join(f"{table}.{name}" for table in columns for name in columns[table])
        raise JournalError(
            f"journal {self.safe_url}: its tables are of "
            + (f"schema {version}" if version else f"no known schema, with the columns {names}"),
            expected=f"schema {SCHEMA_VERSION}, or an older one that modelbook upgrade migrates",
            next=(
                ("install the newer Modelbook that wrote it" if version else "move it away")
                + ", or set another journal.url in serving.yaml"
            ),
        )

    def migrate(self) -> None:
        """Migrate tables of an older schema in one transaction: all rows, or none.

        Raises
        ------
        JournalError
            When the database cannot be reached, or its tables have a newer or unknown schema.
        """
        version = self.read_schema_version()
        if version is None or version == SCHEMA_VERSION:
            return
        with self.explain_errors():
            schema.migrate(self.engine, version, self.book)

    def wrap_error(self, error: Exception) -> JournalError:
        """Convert a database error to a JournalError, with secrets redacted."""
        message = get_first_line(getattr(error, "orig", None) or error)
        return JournalError(
            f"journal {self.safe_url}: {redact(message)}",
            next="check that the database is running, and the setting journal.url",
        )

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Convert database errors to JournalErrors."""
        try:
            yield
        except SQLAlchemyError as error:
            raise self.wrap_error(error) from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is an SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @property
    def safe_url(self) -> str:
        """The URL, with secrets redacted."""
        return redact(self.url)

    def identify_files(self) -> FileIdentity:
        """Return device and inode of the files at an SQLite journal's path, None if one is missing.

        A connection continues to write to a removed file, without an error: compare with an earlier
        result to detect that a file was removed or replaced.
        """
        return tuple(_identify_file(path) for path in self._file_paths)

    def make_insert_statement(self, skips_existing: bool) -> str:
        """Return the statement that inserts a prediction, in the database's dialect."""
        dialect = sqlite if self.is_sqlite else postgresql
        statement = dialect.insert(PREDICTIONS_TABLE)
        if skips_existing:
            statement = statement.on_conflict_do_nothing()
        return str(statement.compile(dialect=self.engine.dialect))

    def record_outcomes(self, outcomes: Mapping[str, Any]) -> list[float]:
        """Record outcomes of predictions by prediction id, all of them or none.

        Outcomes that were recorded before are left as they are.

        Parameters
        ----------
        outcomes : dict
            Outcome by prediction id.

        Returns
        -------
        list of float
            Seconds from the prediction to the outcome, for each newly recorded outcome.

        Raises
        ------
        UnknownPredictionError
            When the journal has no prediction with an id, or has deleted it.
        ConflictingOutcomeError
            When a different outcome was recorded before.
        JournalError
            When the database cannot be reached.
        """
        now = time.time()
        encoded_outcomes = {
            prediction_id: json.dumps(value) for prediction_id, value in outcomes.items()
        }
        try:
            with self.engine.begin() as connection:
                prediction_times = self._read_by_ids(
                    connection, PREDICTIONS_TABLE.c.at, encoded_outcomes
                )
                if unknown_ids := encoded_outcomes.keys() - prediction_times.keys():
                    raise UnknownPredictionError(sorted(unknown_ids))
                recorded_outcomes = self._read_by_ids(
                    connection, OUTCOMES_TABLE.c.outcome, encoded_outcomes
                )
                if conflicting_ids := sorted(
                    prediction_id
                    for prediction_id, value in recorded_outcomes.items()
                    if value != encoded_outcomes[prediction_id]
                ):
                    raise ConflictingOutcomeError(conflicting_ids)
                new_rows: list[dict[str, Any]] = [
                    {"book": self.book, "id": prediction_id, "at": now, "outcome": encoded}
                    for prediction_id, encoded in encoded_outcomes.items()
                    if prediction_id not in recorded_outcomes
                ]
                if new_rows:
                    connection.execute(OUTCOMES_TABLE.insert(), new_rows)
        except sa.exc.IntegrityError:  # another request was faster
            return self.record_outcomes(outcomes)
        except SQLAlchemyError as error:
            raise self.wrap_error(error) from None
        return [now - prediction_times[row["id"]] for row in new_rows]

    def find_returned_prediction(self, prediction_id: str) -> dict[str, Any] | None:
        """Return the journal's row of a prediction that was returned; None for an unknown id.

        Raises
        ------
        JournalError
            When the database cannot be reached.
        """
        query = sa.select(PREDICTIONS_TABLE).where(
            PREDICTIONS_TABLE.c.book == self.book,
            PREDICTIONS_TABLE.c.id == prediction_id,
            PREDICTIONS_TABLE.c.returned,
        )
        with self.explain_errors(), self.engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _parse_json_columns(dict(row))

    def read_predictions(self, since: float, variant: str = "champion") -> list[dict[str, Any]]:
        """Return a variant's predictions since a time, oldest first, with ``outcome`` or None."""
        query = self._select_since(since, PREDICTIONS_TABLE)
        return list(self._stream_rows(query.where(PREDICTIONS_TABLE.c.variant == variant)))

    def read_ab_predictions(
        self, since: float, versions: Collection[int]
    ) -> Iterator[dict[str, Any]]:
        """Stream predictions of versions during a traffic split, oldest first.

        Columns ``at, variant, version, bucket, prediction, probabilities, outcome``.
        """
        columns = [
            PREDICTIONS_TABLE.c[name]
            for name in ("at", "variant", "version", "bucket", "prediction", "probabilities")
        ]
        query = self._select_since(since, *columns)
        return self._stream_rows(
            query.where(
                PREDICTIONS_TABLE.c.version.in_(versions), PREDICTIONS_TABLE.c.bucket.is_not(None)
            )
        )

    def read_predictions_excluding(
        self, since: float, excluded_version: int
    ) -> Iterator[dict[str, Any]]:
        """Stream returned predictions of all versions except one, oldest first."""
        query = self._select_since(since, PREDICTIONS_TABLE)
        return self._stream_rows(
            query.where(
                PREDICTIONS_TABLE.c.returned, PREDICTIONS_TABLE.c.version != excluded_version
            )
        )

    def _select_since(self, since: float, *columns: Any) -> sa.Select:
        """Select columns of the book's predictions, and their outcomes."""
        predictions, outcomes = PREDICTIONS_TABLE.c, OUTCOMES_TABLE.c
        has_same_key = (outcomes.book == predictions.book) & (outcomes.id == predictions.id)
        return (
            sa.select(*columns, outcomes.outcome)
            .join_from(PREDICTIONS_TABLE, OUTCOMES_TABLE, has_same_key, isouter=True)
            .where(predictions.book == self.book, predictions.at >= since)
            # Rows of one request have one time; their order is that of the writer's chain.
            .order_by(predictions.at, predictions.chain, predictions.position)
        )

    def _read_by_ids(
        self, connection: sa.Connection, column: sa.Column, ids: Iterable[str]
    ) -> dict[str, Any]:
        """Return a column's values by id, of the book's rows of the column's table."""
        columns = column.table.c
        id_list = list(ids)
        value_by_id = {}
        for start in range(0, len(id_list), MAX_IDS_PER_QUERY):
            has_id = columns.id.in_(id_list[start : start + MAX_IDS_PER_QUERY])
            query = sa.select(columns.id, column).where(columns.book == self.book, has_id)
            rows = connection.execute(query.distinct())
            value_by_id.update({row[0]: row[1] for row in rows})
        return value_by_id

    def _stream_rows(self, query: sa.Select) -> Iterator[dict[str, Any]]:
        with (
            self.explain_errors(),
            self.engine.connect().execution_options(yield_per=FETCH_ROWS) as connection,
        ):
            for row in connection.execute(query).mappings():
                yield _parse_json_columns(dict(row))

    def checkpoint(self) -> None:
        """Checkpoint the write-ahead log of an SQLite journal while writers continue.

        Under constant load a passive checkpoint never completes, and the log would keep growing. So
        a long log is restarted. A restart blocks writers until the remaining pages are written; a
        second passive checkpoint before it keeps that short. If the journal is busy, the restart is
        left to the next call.
        """
        if not self.is_sqlite:
            return
        checkpoint = "pragma wal_checkpoint(passive)"
        with self.explain_errors(), self.engine.connect() as connection:
            wal_status = connection.exec_driver_sql(checkpoint).one()
            if wal_status.log > WAL_RESTART_PAGES:
                connection.exec_driver_sql(checkpoint)
                connection.exec_driver_sql(f"pragma busy_timeout={CHECKPOINT_WAIT_MS}")
                connection.exec_driver_sql("pragma wal_checkpoint(restart)")

    def delete_before(self, before: float) -> int:
        """Delete predictions before a time with their outcomes; return their number."""
        is_old = (PREDICTIONS_TABLE.c.book == self.book) & (PREDICTIONS_TABLE.c.at < before)
        old_ids = sa.select(PREDICTIONS_TABLE.c.id).where(is_old)
        has_old_id = (OUTCOMES_TABLE.c.book == self.book) & OUTCOMES_TABLE.c.id.in_(old_ids)
        with self.explain_errors(), self.engine.begin() as connection:
            connection.execute(OUTCOMES_TABLE.delete().where(has_old_id))
            return connection.execute(PREDICTIONS_TABLE.delete().where(is_old)).rowcount

    def delete_rows(self, matches: Callable[[Mapping[str, Any]], bool]) -> int:
        """Delete predictions whose inputs match, with their outcomes; return their number.

        SQLite overwrites them in the file, and truncates its write-ahead log. If readers or writers
        block the truncation, deleted rows may remain in the ``-wal`` file until it is overwritten.
        """
        query = sa.select(PREDICTIONS_TABLE.c.id, PREDICTIONS_TABLE.c.inputs).where(
            PREDICTIONS_TABLE.c.book == self.book
        )
        ids = sorted({row["id"] for row in self._stream_rows(query) if matches(row["inputs"])})
        count = 0
        with self.explain_errors():
            with self.engine.begin() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("pragma secure_delete=on")
                for start in range(0, len(ids), MAX_IDS_PER_QUERY):
                    batch = ids[start : start + MAX_IDS_PER_QUERY]
                    for table in (OUTCOMES_TABLE, PREDICTIONS_TABLE):
                        condition = (table.c.book == self.book) & table.c.id.in_(batch)
                        deleted = connection.execute(table.delete().where(condition)).rowcount
                        count += deleted if table is PREDICTIONS_TABLE else 0
            if self.is_sqlite and count:
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
        return count


class UnknownPredictionError(JournalError):
    """The journal has no prediction with these ids."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(
            f"no prediction has the id {_format_ids(ids)}",
            expected="ids of predictions in the journal",
        )


class ConflictingOutcomeError(JournalError):
    """A different outcome was recorded before for these ids."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(
            f"a different outcome is already recorded for {_format_ids(ids)}",
            expected="one outcome for each prediction",
        )


def _identify_file(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:  # missing, or its folder was unmounted
        return None
    return status.st_dev, status.st_ino


def _configure_sqlite(sync: str, connection: Any, _: Any) -> None:
    connection.execute("pragma journal_mode=wal")
    # With normal, a commit survives a killed process, but a power failure may undo the last ones.
    connection.execute(f"pragma synchronous={sync}")
    connection.execute("pragma wal_autocheckpoint=0")  # slow, and requests wait: see checkpoint


def _parse_json_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    parsed = {name: json.loads(row[name]) for name in JSON_COLUMNS if row.get(name)}
    return {**row, **parsed}


def _format_ids(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")
