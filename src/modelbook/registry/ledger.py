"""The ledger: the table of the history, each text with number and hash, which the database itself lets only grow."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy import Connection

TABLES = sa.MetaData()
ENTRIES = sa.Table(
    "modelbook_history", TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text, nullable=False, comment="JSON"),
    sa.Column("hash", sa.Text, nullable=False, comment="of the entry"),
)  # fmt: skip
COUNT = sa.Table("modelbook_history_count", TABLES, sa.Column("written", sa.Integer, nullable=False))  # of entries ever
GUARDS = {
    "sqlite": [
        f"""create trigger modelbook_history_{change} before {change} on modelbook_history
        begin select raise(abort, 'the history is not rewritten'); end"""
        for change in ("update", "delete")
    ],
    "postgresql": [
        """create or replace function modelbook_history_kept() returns trigger language plpgsql as
        $$ begin raise exception 'the history is not rewritten'; end $$""",
        """create trigger modelbook_history_kept before update or delete or truncate on modelbook_history
        for each statement execute function modelbook_history_kept()""",
    ],
}


def begin(connection: Connection) -> None:
    """Make the tables where there are none."""
    if _has(connection, COUNT):
        return
    new = not _has(connection, ENTRIES)
    TABLES.create_all(connection)
    for guard in GUARDS[connection.dialect.name] if new else ():
        connection.exec_driver_sql(guard)
    last = connection.execute(sa.select(sa.func.max(ENTRIES.c.number))).scalar()  # of an older store
    connection.execute(COUNT.insert(), {"written": last or 0})


def add(connection: Connection, text: str) -> tuple[int, str]:
    """Write a text behind the others; returns its number, from 1, and its hash."""
    number = written(connection) + 1  # counted here: a database's own counter leaves gaps where a writer was killed
    connection.execute(ENTRIES.insert(), {"number": number, "entry": text, "hash": hashed(text)})
    connection.execute(COUNT.update(), {"written": number})
    return number, hashed(text)


def last(connection: Connection) -> str:
    """The hash of the last text; empty where there is none."""
    return connection.execute(sa.select(ENTRIES.c.hash).order_by(ENTRIES.c.number.desc()).limit(1)).scalar() or ""


def rows(connection: Connection | None) -> list[tuple[int, str, str]]:
    """Number, text and hash of each, in order; nothing where there is no store, or no ledger in it."""
    if connection is None or not _has(connection, ENTRIES):
        return []
    return [tuple(row) for row in connection.execute(sa.select(ENTRIES).order_by(ENTRIES.c.number))]


def written(connection: Connection | None) -> int:
    """How many were ever written, whatever is removed."""
    if connection is None or not _has(connection, COUNT):
        return 0
    return connection.execute(sa.select(COUNT.c.written)).scalar() or 0


def hashed(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _has(connection: Connection, table: sa.Table) -> bool:
    return sa.inspect(connection).has_table(table.name)
