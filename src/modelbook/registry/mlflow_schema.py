"""The schema of a store's database: its revision, and MLflow's own migration of an older one.

MLflow would migrate an older database as soon as it opens it: without a copy, and although an older
MLflow of other users cannot open it afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from modelbook.errors import StoreError
from modelbook.redaction import redact
from modelbook.registry import connection
from modelbook.registry.location import (
    display_uri,
    get_registry_uri,
    get_sqlite_path,
    get_tracking_uri,
)

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

MIGRATIONS_FOLDER = Path("store/db_migrations")  # Alembic scripts in MLflow's package


class SchemaDifference(NamedTuple):
    """A database whose revision is not that of the installed MLflow.

    Attributes
    ----------
    migrations : list of str
        MLflow's migrations from its revision, in order; empty for a newer database.
    """

    revision: str
    installed_revision: str
    migrations: list[str]

    @property
    def is_older(self) -> bool:
        return bool(self.migrations)


def require_current_schema(root: Path) -> None:
    """Check that the store's databases have the schema of the installed MLflow.

    Raises
    ------
    StoreError
        When one has an older or a newer schema, or cannot be read.
    """
    if difference := find_difference(root):
        raise _make_schema_error(root, difference)


def find_difference(root: Path) -> SchemaDifference | None:
    """Return the first database with another schema; None when all have that of this MLflow.

    The database of an MLflow server is that server's.

    Raises
    ------
    StoreError
        When a database cannot be read.
    """
    for uri in list_databases(root):
        with connection.convert_errors(root):
            revision = _read_revision(uri)
        if revision is None:  # no tables yet
            continue
        scripts = _read_migrations()
        head = scripts.get_current_head() or ""
        if revision != head:
            is_known = revision in {script.revision for script in scripts.walk_revisions()}
            missing = [*scripts.iterate_revisions(head, revision)] if is_known else []
            return SchemaDifference(revision, head, [script.doc for script in reversed(missing)])
    return None


def list_databases(root: Path) -> Iterator[str]:
    """Yield the URIs of databases of runs and registry that exist; they may contain passwords."""
    for uri in dict.fromkeys((get_tracking_uri(root), get_registry_uri(root))):
        path = get_sqlite_path(uri)
        if path.is_file() if path else not uri.startswith(("http://", "https://")):
            yield uri


def upgrade_database(root: Path, uri: str) -> None:
    """Migrate the tables of a database to the installed MLflow, by ``mlflow db upgrade``.

    Raises
    ------
    StoreError
        When the migration fails.
    """
    from mlflow import db

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        db.upgrade.main([uri], standalone_mode=False)
    except Exception as error:  # Alembic, SQLAlchemy and MLflow raise many classes
        message = str(getattr(error, "orig", None) or error)
        new_store = f"install the MLflow that wrote it; or {connection.suggest_new_store(root)}"
        raise StoreError(
            f"{redact(uri)} cannot be migrated: {redact(message.splitlines()[0])}",
            expected=f"a store that MLflow {version('mlflow')} can migrate",
            next=connection.suggest_fix(root, message, new_store),
        ) from None


def _read_revision(uri: str) -> str | None:
    from alembic.migration import MigrationContext

    with sa.create_engine(uri, poolclass=NullPool).connect() as database:
        return MigrationContext.configure(database).get_current_revision()


@lru_cache(maxsize=1)
def _read_migrations() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    package = find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    return ScriptDirectory(str(Path(package.origin).parent / MIGRATIONS_FOLDER))


def _make_schema_error(root: Path, difference: SchemaDifference) -> StoreError:
    age = "an older" if difference.is_older else "a newer"
    next_step = (
        "modelbook upgrade shows how it is migrated, modelbook upgrade --yes migrates it"
        if difference.is_older
        else f"install the MLflow that wrote it; or {connection.suggest_new_store(root)}"
    )
    return StoreError(
        f"{display_uri(root)} is a store of {age} MLflow: its schema is {difference.revision}",
        expected=f"schema {difference.installed_revision}, of MLflow {version('mlflow')}",
        next=next_step,
    )
