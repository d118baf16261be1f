"""Transactions in the store's database, SQLite or PostgreSQL: one that reads, or one that writes alone."""

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
from modelbook.registry.place import database, is_file, shown, uri

PATIENCE = 30  # seconds that one writer waits for another
AWAY = 5  # seconds that a PostgreSQL which is not there, or just starts, is waited for
MLFLOWS = "registered_model_aliases"  # a table that a store has
# Who writes locks the aliases, so that nobody moves one meanwhile: not another Modelbook, and not MLflow either.
BEGIN = {
    "sqlite": {"read": "begin", "write": "begin immediate"},
    "postgresql": {
        "read": "set transaction isolation level repeatable read read only",
        "write": f"lock table {MLFLOWS} in share row exclusive mode",
    },
}
MENDS = {
    r"password|authentication|role .* does not exist|no pg_hba": (
        "correct user and password: PGPASSWORD, ~/.pgpass, or MODELBOOK_STORE_DATABASE=postgresql://user:password@..."
    ),
    r"database .* does not exist": "let the server's owner make it: createdb NAME",
    r"permission denied": "let the database's owner grant it; docs/stores.md says what is needed",
    r"\block|busy": "nothing was changed; look who else uses the store, and try again",
    r"refused|timeout|timed out|resolve|translate|closed|terminat|starting up|shutting down|unreachable": (
        "see that PostgreSQL is up and the setting names it; nothing was changed, unless modelbook history says so"
    ),
}


@contextmanager
def reading(root: Path) -> Iterator[sa.Connection | None]:
    """One look at the store: all that is asked within is of the same moment. None where there is no store yet.

    Raises
    ------
    StoreError
        When it cannot be reached or read.
    """
    if is_file(root) and not database(root).is_file():
        yield None
        return
    with looking(root) as connection:
        yield connection if sa.inspect(connection).has_table(MLFLOWS) else None


@contextmanager
def writing(root: Path) -> Iterator[sa.Connection]:
    """One transaction: one writer at a time, others wait; nothing of it stays when the block does not end well.

    Raises
    ------
    StoreError
        When the store cannot be reached or written, or others write for too long.
    """
    with looking(root, "write") as connection:
        yield connection
        connection.commit()


@contextmanager
def own(root: Path) -> Iterator[sa.Connection]:
    """The project's own SQLite file, wherever the store is now; nobody else writes to it meanwhile."""
    with _engine(f"sqlite:///{database(root)}").connect() as connection:
        connection.exec_driver_sql(BEGIN["sqlite"]["write"])
        yield connection


@contextmanager
def looking(root: Path, what: str = "read") -> Iterator[sa.Connection]:
    """A connection in a transaction of its own, to whatever there is; nothing that is done within stays."""
    with _told(root), _connected(root) as connection:
        if connection.dialect.name == "postgresql" and what == "write":
            connection.exec_driver_sql(f"set local lock_timeout = {int(PATIENCE * 1000)}")
        connection.exec_driver_sql(BEGIN[connection.dialect.name][what])
        yield connection


def _connected(root: Path) -> sa.Connection:
    """A connection; a server that is being restarted is waited for a moment."""
    engine, until = _engine(uri(root)), time.monotonic() + AWAY
    while True:
        try:
            return engine.connect()
        except OperationalError as error:
            passing = not is_file(root) and not re.search(r"password|authentication|does not exist", str(error))
            if not passing or time.monotonic() > until:
                raise
            time.sleep(0.2)


@lru_cache
def _engine(address: str) -> sa.Engine:
    # A connection for each use: files cost nothing to open, and a server that was restarted leaves no dead ones.
    if not address.startswith("sqlite:"):
        return sa.create_engine(address, poolclass=NullPool, connect_args={"connect_timeout": AWAY})
    path = Path(address.removeprefix("sqlite:///")).absolute().as_uri()

    def opened() -> sqlite3.Connection:  # without isolation, so that the transaction begins where it is told to
        return sqlite3.connect(f"{path}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None)

    return sa.create_engine("sqlite://", creator=opened, poolclass=NullPool)


@contextmanager
def _told(root: Path) -> Iterator[None]:
    """Errors of the database, as what can be done about them, without secrets."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the store {shown(root)} needs a driver that is not installed: {error}",
            next="make extras (it installs modelbook[postgres])",
        ) from None
    except SQLAlchemyError as error:
        lines = [line for line in str(getattr(error, "orig", None) or error).splitlines() if line.strip()]
        said = redact(lines[0])
        kind = "an SQLite file" if is_file(root) else "a PostgreSQL database"
        raise StoreError(
            f"the store {shown(root)} cannot be used: {said}",
            expected=f"{kind} that MLflow made, free within {PATIENCE} seconds",
            next=next((mend for found, mend in MENDS.items() if re.search(found, said, re.I)), "modelbook doctor"),
        ) from None  # fmt: skip
