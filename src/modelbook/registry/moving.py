"""Moving: the project's own store is copied to where the setting says, and stays as it was.

Files go first, those that are there already are passed over; then the tables, in one transaction. So whatever is
interrupted when, the new store is empty or whole, and the same command goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from modelbook.errors import StoreError
from modelbook.registry import connection, files, ledger
from modelbook.registry.place import artifacts, database, folder, is_file, is_local, shown
from modelbook.registry.store import prepare

REVISION = "alembic_version"
MANY = 2000  # rows of one insert
FIRST = "experiments"  # MLflow makes one, Default, with the store


@dataclass(frozen=True)
class Moved:
    """What was copied."""

    versions: int
    runs: int
    entries: int
    files: int

    def __str__(self) -> str:
        return (
            f"{self.versions:,} versions, {self.runs:,} runs, {self.entries:,} entries of history, {self.files:,} files"
        )


def bring(root: Path) -> Moved:
    """Copy the store below ``models/`` to where the setting says.

    Raises
    ------
    StoreError
        When the setting names no database, there is nothing to bring, the new store is not empty, or it is of another
        MLflow.
    """
    if is_file(root):
        raise StoreError(
            "the setting names no database to bring the store to", expected="database: postgresql://user@host/name",
            next="write it to store.yaml, and where the files shall be: artifacts",
        )  # fmt: skip
    if not database(root).is_file():
        raise StoreError(
            f"there is no store to bring: no {database(root)}", next="nothing need be done: builds use the new one"
        )
    prepare(root)
    with connection.own(root) as here:
        ledger.begin(here)  # an older store does not count its entries yet; nothing of this stays there
        source = _tables(here)
        _empty(root)
        count = 0 if is_local(root) else files.put(folder(root), artifacts(root))
        with connection.writing(root) as there:
            _agree(here, there, root)
            ledger.begin(there)
            rows = _copy(here, there, source, (folder(root).as_uri(), artifacts(root)))
    return Moved(rows.get("model_versions", 0), rows.get("runs", 0), rows.get(ledger.ENTRIES.name, 0), count)


def _empty(root: Path) -> None:
    """Raise where the new store holds something."""
    with connection.reading(root) as there:
        assert there is not None
        made = {name: _count(there, name) for name in ("runs", "registered_models", ledger.ENTRIES.name)}
        made[FIRST] = _count(there, FIRST) - 1
    if any(number > 0 for number in made.values()):
        told = ", ".join(f"{number:,} in {name}" for name, number in made.items() if number > 0)
        raise StoreError(
            f"the store {shown(root)} is not empty: {told}", expected="one that nobody has used",
            next="name another database; two stores cannot be made one",
        )  # fmt: skip


def _count(connection: sa.Connection, table: str) -> int:
    if not sa.inspect(connection).has_table(table):
        return 0
    return connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one()


def _agree(here: sa.Connection, there: sa.Connection, root: Path) -> None:
    asked = sa.text(f"select version_num from {REVISION}")
    one, other = here.execute(asked).scalar(), there.execute(asked).scalar()
    if one != other:
        raise StoreError(
            f"{database(root)} has the schema revision {one!r}, {shown(root)} has {other!r}", expected="the same",
            next=f"keep a copy, then: mlflow db upgrade sqlite:///{database(root)}",
        )  # fmt: skip


def _tables(connection: sa.Connection) -> dict[str, sa.Table]:
    found = sa.MetaData()
    found.reflect(connection)
    return {name: table for name, table in found.tables.items() if name != REVISION}


def _copy(
    here: sa.Connection, there: sa.Connection, source: dict[str, sa.Table], places: tuple[str, str]
) -> dict[str, int]:
    """Copy all rows; returns how many, by table. What MLflow made with the new store makes room."""
    found = sa.MetaData()
    found.reflect(there, only=lambda name, _: name in source)
    order = [table for table in found.sorted_tables if table.name != ledger.ENTRIES.name]  # that one only grows
    for table in reversed(order):
        there.execute(table.delete())
    copied = {}
    for table in [*order, ledger.ENTRIES]:
        if table.name in source:
            copied[table.name] = 0
            for rows in _rows(here, source[table.name], places):
                there.execute(table.insert(), rows)
                copied[table.name] += len(rows)
            _count_on(there, table)
    return copied


def _rows(here: sa.Connection, table: sa.Table, places: tuple[str, str]) -> Iterator[list[dict[str, Any]]]:
    before, now = places
    for part in here.execute(sa.select(table)).mappings().partitions(MANY):
        yield [
            {
                name: now + value.removeprefix(before) if str(value).startswith(f"{before}/") else value
                for name, value in row.items()
            }
            for row in part
        ]


def _count_on(there: sa.Connection, table: sa.Table) -> None:
    """Let PostgreSQL's own numbering go on behind the rows that were copied."""
    for column in table.primary_key:
        if isinstance(column.type, sa.Integer):
            asked = sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
            sequence, last = there.execute(asked).scalar(), there.execute(sa.select(sa.func.max(column))).scalar()
            if sequence and last:
                there.execute(sa.select(sa.func.setval(sequence, last)))
