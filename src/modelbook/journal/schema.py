"""The journal's tables, their schema version, and the migrations from older schemas.

The schema version is detected from the columns. The recorded number is used only to recognise a
journal of a newer Modelbook: a migration that changes no column would not be detected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sa

METADATA = sa.MetaData()
PREDICTIONS_TABLE = sa.Table(
    "predictions",
    METADATA,
    sa.Column("book", sa.String(128), primary_key=True, comment="whose service predicted"),
    sa.Column("id", sa.String(64), primary_key=True, comment="id of the response"),
    sa.Column("variant", sa.String(16), primary_key=True, comment="champion or challenger"),
    sa.Column("at", sa.Float, nullable=False, index=True, comment="seconds since 1970"),
    sa.Column("version", sa.Integer, nullable=False, comment="model version"),
    sa.Column("returned", sa.Boolean, nullable=False, comment="to the client; false in shadow"),
    sa.Column("inputs", sa.Text, nullable=False, comment="JSON; redacted columns are left out"),
    sa.Column("prediction", sa.Text, nullable=False, comment="JSON"),
    sa.Column("probabilities", sa.Text, comment="JSON; none for a regression"),
    sa.Column(
        "milliseconds",
        sa.Float,
        nullable=False,
        comment="from the request's last byte to its predictions",
    ),
    sa.Column(
        "bucket",
        sa.String(16),
        comment="bucket that assigns the variant, by user; null without a split",
    ),
    sa.Column("chain", sa.String(16), comment="id of the hash chain, one for each writer"),
    sa.Column("position", sa.Integer, comment="position in the chain, from 0"),
    sa.Column(
        "previous_hash", sa.String(20), comment="hash of the previous row; empty for the first"
    ),
    sa.Column("row_hash", sa.String(20), comment="hash of this row and the hash before"),
)
OUTCOMES_TABLE = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("book", sa.String(128), primary_key=True, comment="book of the prediction"),
    sa.Column("id", sa.String(64), primary_key=True, comment="id of the prediction"),
    sa.Column("at", sa.Float, nullable=False, index=True, comment="seconds since 1970"),
    sa.Column("outcome", sa.Text, nullable=False, comment="JSON"),
)
ROW_TABLES = (PREDICTIONS_TABLE, OUTCOMES_TABLE)
SCHEMA_TABLE = sa.Table(
    "journal_schema",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)


class Migration(NamedTuple):
    """What the next schema changes.

    Attributes
    ----------
    added : dict of str to tuple of str
        New columns by table. Existing rows get the name of the book as ``book``, else null.
    renamed : dict of str to dict
        By table, the new names by the old ones.
    """

    added: Mapping[str, tuple[str, ...]] = {}
    renamed: Mapping[str, Mapping[str, str]] = {}


MIGRATIONS = (  # in order: the first migrates schema 1 to schema 2
    Migration(added={"predictions": ("book",), "outcomes": ("book",)}),
    Migration(added={"predictions": ("chain", "position", "previous_receipt", "receipt")}),
    Migration(renamed={"predictions": {"lot": "bucket"}}),
    Migration(renamed={"predictions": {"answered": "returned"}}),
    Migration(
        renamed={"predictions": {"previous_receipt": "previous_hash", "receipt": "row_hash"}}
    ),
)
SCHEMA_VERSION = 1 + len(MIGRATIONS)
FIRST_SCHEMA_WITH_BOOKS = 2


def has_tables(engine: sa.Engine) -> bool:
    """Return whether the database has the tables of a journal, of whatever schema."""
    return bool(read_columns(engine))


def create_tables(engine: sa.Engine) -> None:
    """Create the tables that do not exist, and record their schema version."""
    with _begin(engine) as connection:
        METADATA.create_all(connection)
        _record_version(connection)


def read_columns(engine: sa.Engine) -> dict[str, list[str]]:
    """Return the names of the columns of each table of rows that exists."""
    inspector = sa.inspect(engine)
    present = inspector.get_table_names()
    return {
        table.name: [column["name"] for column in inspector.get_columns(table.name)]
        for table in ROW_TABLES
        if table.name in present
    }


def read_schema_version(engine: sa.Engine) -> int | None:
    """Return a journal's schema version; None when its columns are of no known schema.

    A version beyond ``SCHEMA_VERSION`` is that of a newer Modelbook.
    """
    recorded_version = None
    if sa.inspect(engine).has_table(SCHEMA_TABLE.name):
        with engine.connect() as connection:
            recorded_version = connection.scalar(sa.select(sa.func.max(SCHEMA_TABLE.c.version)))
    if recorded_version is not None and recorded_version > SCHEMA_VERSION:
        return recorded_version
    columns = {name: set(names) for name, names in read_columns(engine).items()}
    for version in range(SCHEMA_VERSION, 0, -1):
        old_columns = map_columns(version)
        if columns == {name: {*filter(None, old_columns[name].values())} for name in old_columns}:
            return version
    return None


def map_columns(version: int) -> dict[str, dict[str, str | None]]:
    """For each table, map each column to its column in schema ``version``; None if it had none."""
    old_columns: dict[str, dict[str, str | None]] = {
        table.name: {column.name: column.name for column in table.columns} for table in ROW_TABLES
    }
    for migration in reversed(MIGRATIONS[version - 1 :]):
        for table, names in migration.renamed.items():
            old_names = {new: old for old, new in names.items()}
            old_columns[table] = {
                column: old_names.get(name or "", name)
                for column, name in old_columns[table].items()
            }
        for table, added_columns in migration.added.items():
            old_columns[table] = {
                column: None if name in added_columns else name
                for column, name in old_columns[table].items()
            }
    return old_columns


def describe_changes(version: int) -> list[str]:
    """Describe what has changed since a schema: a line for each new or renamed column."""
    return [
        f"+ {table}.{column}" if name is None else f"{table}.{name} -> {table}.{column}"
        for table, columns in map_columns(version).items()
        for column, name in columns.items()
        if name != column
    ]


def migrate(engine: sa.Engine, version: int, book: str) -> None:
    """Migrate a journal from an older schema in one transaction: all of its rows, or nothing.

    Parameters
    ----------
    book : str
        Book of the rows that name none, which are those of schema 1.
    """
    with _begin(engine) as connection:
        for table in ROW_TABLES:
            _copy_rows(connection, table, map_columns(version)[table.name], book)
        SCHEMA_TABLE.create(connection, checkfirst=True)
        _record_version(connection)


def _copy_rows(
    connection: sa.Connection, table: sa.Table, old_columns: Mapping[str, str | None], book: str
) -> None:
    """Create a table again, and copy its rows from the old columns."""
    old_table = f"{table.name}_before_migration"
    connection.exec_driver_sql(f"alter table {table.name} rename to {old_table}")
    source = sa.Table(old_table, sa.MetaData(), autoload_with=connection)
    for index in source.indexes:  # their names are needed again
        index.drop(connection)
    table.create(connection)
    values = {
        column: source.c[name]
        if name
        else sa.literal(book)
        if column == "book"
        else sa.cast(sa.null(), table.c[column].type)
        for column, name in old_columns.items()
    }
    connection.execute(table.insert().from_select([*values], sa.select(*values.values())))
    source.drop(connection)


def _record_version(connection: sa.Connection) -> None:
    connection.execute(SCHEMA_TABLE.delete())
    connection.execute(SCHEMA_TABLE.insert().values(version=SCHEMA_VERSION))


@contextmanager
def _begin(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction that includes DDL, and commit it."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":  # sqlite3 begins transactions only before DML
            driver_connection = connection.connection.driver_connection
            assert driver_connection is not None
            driver_connection.isolation_level = None
            connection.exec_driver_sql("begin immediate")
        yield connection
        connection.commit()
