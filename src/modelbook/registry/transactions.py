"""Transactions in the store's database, SQLite or PostgreSQL: read-only or exclusive."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from modelbook.errors import StoreError
from modelbook.redaction import redact
from modelbook.registry.location import database_path, display_uri, is_local_database, tracking_uri

LOCK_TIMEOUT_SECONDS = 30  # longest wait of a writer for another
CONNECT_TIMEOUT_SECONDS = 5  # longest wait for an unreachable or starting PostgreSQL
ALIASES_TABLE = "registered_model_aliases"  # exists in every store
# A writer locks the aliases, so that neither another Modelbook nor MLflow can move one meanwhile.
BEGIN_STATEMENTS = {
    "sqlite": {"read": "begin", "write": "begin immediate"},
    "postgresql": {
        "read": "set transaction isolation level repeatable read read only",
        "write": f"lock table {ALIASES_TABLE} in share row exclusive mode",
    },
}
ERROR_HINTS = {
    r"password|authentication|role .* does not exist|no pg_hba": (
        "correct user and password: PGPASSWORD, ~/.pgpass, or "
        "MODELBOOK_STORE_DATABASE=postgresql://user:password@..."
    ),
    r"database .* does not exist": "ask the server's owner to create it: createdb NAME",
    r"permission denied": (
        "ask the database's owner for permission; docs/stores.md lists what is needed"
    ),
    r"\block|busy": "nothing was changed; check who else uses the store, and try again",
    (
        r"refused|timeout|timed out|resolve|translate|closed|terminat|starting up|shutting down"
        r"|unreachable"
    ): (
        "check that PostgreSQL is running, and the setting database; check modelbook history "
        "for changes"
    ),
}


@contextmanager
def read_transaction(root: Path) -> Iterator[sa.Connection | None]:
    """Open a consistent read transaction; yields None when there is no store yet.

    Raises
    ------
    StoreError
        When the store cannot be reached or read.
    """
    if is_local_database(root) and not database_path(root).is_file():
        yield None
        return
    with begin_transaction(root) as connection:
        yield connection if sa.inspect(connection).has_table(ALIASES_TABLE) else None


@contextmanager
def write_transaction(root: Path) -> Iterator[sa.Connection]:
    """Open an exclusive write transaction; it is rolled back when the block fails.

    Raises
    ------
    StoreError
        When the store cannot be reached or written, or another writer holds it for too long.
    """
    with begin_transaction(root, "write") as connection:
        yield connection
        connection.commit()


@contextmanager
def local_write_transaction(root: Path) -> Iterator[sa.Connection]:
    """Open an exclusive transaction in the project's SQLite file, whatever store is configured."""
    with _create_engine(f"sqlite:///{database_path(root)}").connect() as connection:
        connection.exec_driver_sql(BEGIN_STATEMENTS["sqlite"]["write"])
        yield connection


@contextmanager
def begin_transaction(root: Path, mode: str = "read") -> Iterator[sa.Connection]:
    """Open a transaction in the store's database; it is rolled back unless committed."""
    with _explain_database_errors(root), _connect(root) as connection:
        if connection.dialect.name == "postgresql" and mode == "write":
            connection.exec_driver_sql(
                f"set local lock_timeout = {int(LOCK_TIMEOUT_SECONDS * 1000)}"
            )
        connection.exec_driver_sql(BEGIN_STATEMENTS[connection.dialect.name][mode])
        yield connection


def _connect(root: Path) -> sa.Connection:
    """Connect to the store's database; retries briefly while a server restarts."""
    engine, deadline = (
        _create_engine(tracking_uri(root)),
        time.monotonic() + CONNECT_TIMEOUT_SECONDS,
    )
    while True:
        try:
            return engine.connect()
        except OperationalError as error:
            is_transient = not is_local_database(root) and not re.search(
                r"password|authentication|does not exist", str(error)
            )
            if not is_transient or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@lru_cache
def _create_engine(url: str) -> sa.Engine:
    # One connection for each use: opening is cheap, and a restarted server leaves no dead ones.
    if not url.startswith("sqlite:"):
        return sa.create_engine(
            url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        )
    file_uri = Path(url.removeprefix("sqlite:///")).absolute().as_uri()

    def open_connection() -> sqlite3.Connection:  # autocommit: transactions begin explicitly
        return sqlite3.connect(
            f"{file_uri}?mode=rw", uri=True, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None
        )

    return sa.create_engine("sqlite://", creator=open_connection, poolclass=NullPool)


@contextmanager
def _explain_database_errors(root: Path) -> Iterator[None]:
    """Convert errors of the database to StoreErrors that say what to do, secrets redacted."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the store {display_uri(root)} needs a driver that is not installed: {error}",
            next="make extras (it installs modelbook[postgres])",
        ) from None
    except SQLAlchemyError as error:
        lines = [
            line for line in str(getattr(error, "orig", None) or error).splitlines() if line.strip()
        ]
        message = redact(lines[0])
        kind = "an SQLite file" if is_local_database(root) else "a PostgreSQL database"
        raise StoreError(
            f"the store {display_uri(root)} cannot be used: {message}",
            expected=f"{kind} created by MLflow, unlocked within {LOCK_TIMEOUT_SECONDS} seconds",
            next=next(
                (
                    hint
                    for pattern, hint in ERROR_HINTS.items()
                    if re.search(pattern, message, re.I)
                ),
                "modelbook doctor",
            ),
        ) from None
