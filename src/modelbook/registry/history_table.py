"""The append-only table of the history: numbered entries with hashes, enforced by triggers."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy import Connection

METADATA = sa.MetaData()
ENTRIES_TABLE = sa.Table(
    "modelbook_history",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text, nullable=False, comment="JSON"),
    sa.Column("hash", sa.Text, nullable=False, comment="of the entry"),
)
COUNT_TABLE = sa.Table(
    "modelbook_history_count", METADATA, sa.Column("written", sa.Integer, nullable=False)
)  # entries ever written
APPEND_ONLY_TRIGGERS = {
    "sqlite": [
        f"""create trigger modelbook_history_{change} before {change} on modelbook_history
        begin select raise(abort, 'the history is append-only'); end"""
        for change in ("update", "delete")
    ],
    "postgresql": [
        """create or replace function modelbook_history_kept() returns trigger language plpgsql as
        $$ begin raise exception 'the history is append-only'; end $$""",
        """create trigger modelbook_history_kept before update or delete or truncate on \
modelbook_history
        for each statement execute function modelbook_history_kept()""",
    ],
}


def create_tables(connection: Connection) -> None:
    """Create the tables and triggers when they do not exist."""
    if _table_exists(connection, COUNT_TABLE):
        return
    is_new = not _table_exists(connection, ENTRIES_TABLE)
    METADATA.create_all(connection)
    for trigger in APPEND_ONLY_TRIGGERS[connection.dialect.name] if is_new else ():
        connection.exec_driver_sql(trigger)
    last_number = connection.execute(
        sa.select(sa.func.max(ENTRIES_TABLE.c.number))
    ).scalar()  # old store
    connection.execute(COUNT_TABLE.insert(), {"written": last_number or 0})


def append_entry(connection: Connection, text: str) -> tuple[int, str]:
    """Append an entry; return its number, counted from 1, and its hash."""
    number = (
        count_written_entries(connection) + 1
    )  # database sequences leave gaps when a writer is killed
    connection.execute(
        ENTRIES_TABLE.insert(), {"number": number, "entry": text, "hash": hash_entry(text)}
    )
    connection.execute(COUNT_TABLE.update(), {"written": number})
    return number, hash_entry(text)


def read_last_hash(connection: Connection) -> str:
    """Return the hash of the last entry; empty when there is none."""
    return (
        connection.execute(
            sa.select(ENTRIES_TABLE.c.hash).order_by(ENTRIES_TABLE.c.number.desc()).limit(1)
        ).scalar()
        or ""
    )


def read_entries(connection: Connection | None) -> list[tuple[int, str, str]]:
    """Return number, text and hash of each entry in order; empty without a store or table."""
    if connection is None or not _table_exists(connection, ENTRIES_TABLE):
        return []
    return [
        tuple(row)
        for row in connection.execute(sa.select(ENTRIES_TABLE).order_by(ENTRIES_TABLE.c.number))
    ]


def count_written_entries(connection: Connection | None) -> int:
    """Return how many entries were ever written, including deleted ones."""
    if connection is None or not _table_exists(connection, COUNT_TABLE):
        return 0
    return connection.execute(sa.select(COUNT_TABLE.c.written)).scalar() or 0


def hash_entry(text: str) -> str:
    """Return the SHA-256 of an entry's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _table_exists(connection: Connection, table: sa.Table) -> bool:
    return sa.inspect(connection).has_table(table.name)
