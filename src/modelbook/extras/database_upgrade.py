"""Migrate a project's databases to this version: journals, histories of monitoring, MLflow store.

Each is migrated as a whole or not at all. A copy of an SQLite file is kept next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from modelbook.build import locks
from modelbook.errors import JournalError, ModelbookError, StoreError
from modelbook.extras.backup import copy_database
from modelbook.journal import Journal, schema
from modelbook.journal.database import get_default_url
from modelbook.journal.schema import FIRST_SCHEMA_WITH_BOOKS, SCHEMA_VERSION
from modelbook.monitoring import history_migration
from modelbook.monitoring.latest_verdict import HISTORY_FILE
from modelbook.registry import mlflow_schema, store
from modelbook.registry.location import SQLITE_PREFIX, display_uri, get_sqlite_path, is_embedded
from modelbook.serving import settings
from modelbook.stage import project

MIGRATION_TIMEOUT_SECONDS = 3600.0  # longest migration of a journal


@dataclass(frozen=True)
class DatabaseMigration:
    """A database of an older schema.

    Attributes
    ----------
    description : str
        Its URI or path, and both schemas.
    changes : list of str
        What changes in its tables.
    apply : callable
        Migrates it; returns the paths of the copies, none of a database on a server.
    """

    description: str
    changes: list[str]
    apply: Callable[[], list[Path]]


def plan_migrations(root: Path) -> tuple[list[DatabaseMigration], list[ModelbookError]]:
    """Return the migrations of a project's databases, and why others cannot be migrated."""
    migrations: list[DatabaseMigration] = []
    problems: list[ModelbookError] = []
    for plan in (_plan_store, _plan_journals, _plan_histories):
        try:
            for migration in plan(root):
                migrations.append(migration)
        except ModelbookError as error:
            problems.append(error)
    return migrations, problems


def _plan_journals(root: Path) -> Iterator[DatabaseMigration]:
    books = {project.read_book(path) for path in root.glob("env*.yaml")}
    books |= {path.parent.name for path in root.glob("data/*/journal.db")}
    books_by_url: dict[str, list[str]] = {}
    for book in sorted(books):
        url = settings.load_settings(root, book).journal.url or get_default_url(root, book)
        path = get_sqlite_path(url)
        if path is None or path.is_file():
            books_by_url.setdefault(url, []).append(book)
    for url, names in books_by_url.items():
        if migration := _plan_journal(url, names):
            yield migration


def _plan_journal(url: str, books: list[str]) -> DatabaseMigration | None:
    journal = Journal(url, books[0], MIGRATION_TIMEOUT_SECONDS)
    version = journal.read_schema_version()
    if version is None or version == SCHEMA_VERSION:
        return None
    if version < FIRST_SCHEMA_WITH_BOOKS and len(books) > 1:
        raise JournalError(
            f"journal {journal.safe_url}: its rows name no book; {' and '.join(books)} share it",
            expected="a journal of one book",
            next="move it away, or set journal.url for one of them in serving.BOOK.yaml",
        )
    description = f"journal {journal.safe_url}: schema {version} to {SCHEMA_VERSION}"
    changes = schema.describe_changes(version)
    return DatabaseMigration(description, changes, partial(_migrate_journal, journal))


def _migrate_journal(journal: Journal) -> list[Path]:
    path = get_sqlite_path(journal.url)
    copies = [_keep_copy(path)] if path else []
    journal.migrate()
    return copies


def _plan_histories(root: Path) -> Iterator[DatabaseMigration]:
    paths = [*root.glob(f"models/*/{HISTORY_FILE}"), *root.glob(f"models/*/*/{HISTORY_FILE}")]
    for path in sorted(paths):
        if changes := history_migration.describe_changes(path):
            description = f"history of monitoring {path}: names of tables, columns and metrics"
            yield DatabaseMigration(description, changes, partial(_migrate_history, path))


def _migrate_history(path: Path) -> list[Path]:
    copy = _keep_copy(path)
    history_migration.migrate(path)
    return [copy]


def _plan_store(root: Path) -> Iterator[DatabaseMigration]:
    difference = mlflow_schema.find_difference(root)
    if difference is None:
        if is_embedded(root):
            store.check_store(root)  # refuses absolute artifact locations
        return
    if not difference.is_older:
        mlflow_schema.require_current_schema(root)
    description = (
        f"store {display_uri(root)}: MLflow's schema {difference.revision} to "
        f"{difference.installed_revision}"
    )
    yield DatabaseMigration(description, difference.migrations, partial(_migrate_store, root))


def _migrate_store(root: Path) -> list[Path]:
    copies = []
    with locks.lock_build(root):
        for uri in mlflow_schema.list_databases(root):
            if path := get_sqlite_path(uri):
                copies.append(_migrate_file(root, path))
            else:
                mlflow_schema.upgrade_database(root, uri)
    return copies


def _migrate_file(root: Path, path: Path) -> Path:
    """Migrate an SQLite file in one transaction: its content is replaced by a migrated copy.

    Returns the path of a copy of the old content.
    """
    written_at = path.stat().st_mtime_ns
    with TemporaryDirectory(prefix="modelbook-upgrade-") as folder:
        upgraded_path = Path(folder) / path.name
        copy_database(path, upgraded_path)
        mlflow_schema.upgrade_database(root, f"{SQLITE_PREFIX}{upgraded_path}")
        copy = _keep_copy(path)
        if path.stat().st_mtime_ns != written_at:
            raise StoreError(
                f"another command has written {path} meanwhile",
                expected="a store that no other process writes to",
                next="nothing was changed; try again when it has ended",
            )
        copy_database(upgraded_path, path)
    return copy


def _keep_copy(path: Path) -> Path:
    """Copy an SQLite file; return the path of the copy next to it."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = path.with_name(f"{path.stem}-before-{time}{path.suffix}")
    copy_database(path, copy)
    return copy
