"""Copy the project's local store to the configured store; the local one is not changed.

Files are copied first, and existing ones are skipped. Then all tables are copied in one
transaction. So after an interruption the new store is empty or complete, and the same command
continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from modelbook.errors import StoreError
from modelbook.registry import artifact_storage, history_table, transactions
from modelbook.registry.location import (
    artifact_uri,
    database_path,
    display_uri,
    has_local_artifacts,
    is_local_database,
    local_artifact_folder,
)
from modelbook.registry.store import ensure_store

REVISION_TABLE = "alembic_version"
INSERT_BATCH_ROWS = 2000  # rows in one insert
DEFAULT_EXPERIMENT_TABLE = "experiments"  # MLflow creates one, Default, with the store


@dataclass(frozen=True)
class MigrationSummary:
    """Counts of what was copied."""

    versions: int
    runs: int
    entries: int
    files: int

    def __str__(self) -> str:
        return (
            f"{self.versions:,} versions, {self.runs:,} runs, {self.entries:,} entries of "
            f"history, {self.files:,} files"
        )


def migrate_store(root: Path) -> MigrationSummary:
    """Copy the local store in ``models/`` to the configured database and artifact location.

    Raises
    ------
    StoreError
        When no database is configured, there is no local store, the new store is not empty, or its
        schema differs.
    """
    if is_local_database(root):
        raise StoreError(
            "no target database is configured",
            expected="database: postgresql://user@host/name",
            next="set database and artifacts in store.yaml",
        )
    if not database_path(root).is_file():
        raise StoreError(
            f"there is no store to copy: {database_path(root)} does not exist",
            next="no action is needed: builds use the new store",
        )
    ensure_store(root)
    with transactions.local_write_transaction(root) as source_connection:
        history_table.create_tables(
            source_connection
        )  # for a store without a count; rolled back at the end
        source_tables = _reflect_tables(source_connection)
        _require_empty_store(root)
        file_count = (
            0
            if has_local_artifacts(root)
            else artifact_storage.upload_folder(local_artifact_folder(root), artifact_uri(root))
        )
        with transactions.write_transaction(root) as target_connection:
            _require_same_revision(source_connection, target_connection, root)
            history_table.create_tables(target_connection)
            row_counts = _copy_tables(
                source_connection,
                target_connection,
                source_tables,
                (local_artifact_folder(root).as_uri(), artifact_uri(root)),
            )
    return MigrationSummary(
        row_counts.get("model_versions", 0),
        row_counts.get("runs", 0),
        row_counts.get(history_table.ENTRIES_TABLE.name, 0),
        file_count,
    )


def _require_empty_store(root: Path) -> None:
    """Raise StoreError when the new store is not empty."""
    with transactions.read_transaction(root) as connection:
        assert connection is not None
        row_counts = {
            table: _count_rows(connection, table)
            for table in ("runs", "registered_models", history_table.ENTRIES_TABLE.name)
        }
        row_counts[DEFAULT_EXPERIMENT_TABLE] = _count_rows(connection, DEFAULT_EXPERIMENT_TABLE) - 1
    if any(row_count > 0 for row_count in row_counts.values()):
        contents = ", ".join(
            f"{row_count:,} in {table}" for table, row_count in row_counts.items() if row_count > 0
        )
        raise StoreError(
            f"the store {display_uri(root)} is not empty: {contents}",
            expected="an empty store",
            next="set another database; two stores cannot be merged",
        )


def _count_rows(connection: sa.Connection, table: str) -> int:
    if not sa.inspect(connection).has_table(table):
        return 0
    return connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one()


def _require_same_revision(source: sa.Connection, target: sa.Connection, root: Path) -> None:
    query = sa.text(f"select version_num from {REVISION_TABLE}")
    source_revision, target_revision = (
        source.execute(query).scalar(),
        target.execute(query).scalar(),
    )
    if source_revision != target_revision:
        raise StoreError(
            (
                f"{database_path(root)} has the schema revision {source_revision!r}, "
                f"{display_uri(root)} has {target_revision!r}"
            ),
            expected="the same revision",
            next=f"back up the store, then: mlflow db upgrade sqlite:///{database_path(root)}",
        )


def _reflect_tables(connection: sa.Connection) -> dict[str, sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return {name: table for name, table in metadata.tables.items() if name != REVISION_TABLE}


def _copy_tables(
    source_connection: sa.Connection,
    target_connection: sa.Connection,
    source_tables: dict[str, sa.Table],
    artifact_uris: tuple[str, str],
) -> dict[str, int]:
    """Copy all rows, replacing MLflow's initial rows; return the number of rows by table."""
    metadata = sa.MetaData()
    metadata.reflect(target_connection, only=lambda name, _: name in source_tables)
    tables = [
        table for table in metadata.sorted_tables if table.name != history_table.ENTRIES_TABLE.name
    ]  # append-only
    for table in reversed(tables):
        target_connection.execute(table.delete())
    row_counts = {}
    for table in [*tables, history_table.ENTRIES_TABLE]:
        if table.name in source_tables:
            row_counts[table.name] = 0
            for rows in _read_batches(source_connection, source_tables[table.name], artifact_uris):
                target_connection.execute(table.insert(), rows)
                row_counts[table.name] += len(rows)
            _advance_sequence(target_connection, table)
    return row_counts


def _read_batches(
    connection: sa.Connection, table: sa.Table, artifact_uris: tuple[str, str]
) -> Iterator[list[dict[str, Any]]]:
    source_uri, target_uri = artifact_uris
    for batch in connection.execute(sa.select(table)).mappings().partitions(INSERT_BATCH_ROWS):
        yield [
            {
                name: target_uri + value.removeprefix(source_uri)
                if str(value).startswith(f"{source_uri}/")
                else value
                for name, value in row.items()
            }
            for row in batch
        ]


def _advance_sequence(connection: sa.Connection, table: sa.Table) -> None:
    """Advance PostgreSQL's sequences past the copied rows."""
    for column in table.primary_key:
        if isinstance(column.type, sa.Integer):
            query = sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
            sequence, last_value = (
                connection.execute(query).scalar(),
                connection.execute(sa.select(sa.func.max(column))).scalar(),
            )
            if sequence and last_value:
                connection.execute(sa.select(sa.func.setval(sequence, last_value)))
