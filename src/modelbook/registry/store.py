"""The MLflow store: a database of runs and versions, and their artifacts; see ``location``."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from filelock import FileLock
from sqlalchemy import inspect, text

from modelbook.errors import StoreError
from modelbook.registry import artifact_storage, transactions
from modelbook.registry.location import (
    artifact_uri,
    database_path,
    display_uri,
    has_local_artifacts,
    is_local_database,
    require_store,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


ADVISORY_LOCK_ID = 0x6D6F64656C  # PostgreSQL's advisory lock while a store is created


def ensure_store(root: Path) -> None:
    """Create the store when it does not exist, under a lock against concurrent creation.

    Raises
    ------
    StoreError
        When the schema does not match the installed MLflow, the database is not an MLflow store, or
        it cannot be reached or written.
    """
    if not has_local_artifacts(root):
        artifact_storage.check_write_access(artifact_uri(root))
    with _creation_lock(root):  # locked before the check: another process may be creating the store
        if not check_store(root):
            _configure(root).MlflowClient().search_experiments(max_results=1)


def check_store(root: Path) -> bool:
    """Check that the installed MLflow can read the store; return whether there is one.

    Raises
    ------
    StoreError
        When the schema does not match, or the database is not an MLflow store.
    """
    if is_local_database(root) and not database_path(root).is_file():
        return False
    try:
        revision = _read_revision(root)
    except StoreError as error:
        if not is_local_database(root):
            raise
        raise _not_a_store(root, error.problem.rpartition(": ")[2]) from None
    supported_revisions = _supported_revisions()
    if revision is None:
        return False
    if revision not in supported_revisions:
        raise StoreError(
            (
                f"{display_uri(root)} has the schema revision {revision!r}, which MLflow "
                f"{version('mlflow')} does not know"
            ),
            expected=f"a store of MLflow {version('mlflow')}",
            next=f"install the MLflow version that wrote it, or {_suggest_new_store(root)}",
        )
    if revision in supported_revisions.values():
        raise StoreError(
            f"{display_uri(root)} has the schema revision {revision!r} of an older MLflow",
            expected=f"the schema of MLflow {version('mlflow')}",
            next=(
                "back up the store, then: mlflow db upgrade "
                f"{display_uri(root) if not is_local_database(root) else tracking_uri(root)}"
            ),
        )
    return True


def _read_revision(root: Path) -> str | None:
    """Return the database's schema revision; None for a PostgreSQL database without tables."""
    with transactions.begin_transaction(root) as connection:
        has_revision_table = inspect(connection).has_table("alembic_version")
        if not has_revision_table and not is_local_database(root):
            return None
        revision = (
            connection.execute(text("select version_num from alembic_version")).scalar()
            if has_revision_table
            else None
        )
    if revision is None:
        raise _not_a_store(root, "it has no schema revision")
    return revision


def _not_a_store(root: Path, reason: str) -> StoreError:
    kind = "an SQLite file" if is_local_database(root) else "a PostgreSQL database"
    return StoreError(
        f"{display_uri(root)} is not an MLflow store ({reason})",
        expected=f"{kind} created by MLflow",
        next=_suggest_new_store(root),
    )


@contextmanager
def _creation_lock(root: Path) -> Iterator[None]:
    """Lock the creation of the store against other processes."""
    if is_local_database(root):
        database_path(root).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database_path(root).with_suffix(".lock")):
            yield
        return
    with transactions.begin_transaction(root) as connection:
        connection.execute(text(f"select pg_advisory_xact_lock({ADVISORY_LOCK_ID})"))
        yield


def create_client(root: Path) -> MlflowClient:
    """Create an MLflow client for the project's store."""
    return configure_mlflow(root).MlflowClient()


def configure_mlflow(root: Path) -> ModuleType:
    """Configure the ``mlflow`` module for the project's store, with little output; return it.

    Raises
    ------
    StoreError
        When there is no store yet, or PostgreSQL is unreachable; MLflow itself would create an
        empty store, or retry for many minutes.
    """
    require_store(root)
    return _configure(root)


def _configure(root: Path) -> ModuleType:
    if not is_local_database(root):
        with transactions.begin_transaction(root):
            pass
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)  # see registry.pyfunc_model
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri(root))
    mlflow.set_registry_uri(tracking_uri(root))
    return mlflow


def ensure_experiment(client: MlflowClient, root: Path, name: str) -> str:
    """Return the id of an experiment, and create it on first use.

    Raises
    ------
    StoreError
        When it was created with another artifact location.
    """
    experiment = client.get_experiment_by_name(name)
    if (
        experiment
        and not has_local_artifacts(root)
        and not experiment.artifact_location.startswith(f"{artifact_uri(root)}/")
    ):
        raise StoreError(
            f"the experiment {name!r} stores its files in {experiment.artifact_location}",
            expected=f"a location below {artifact_uri(root)}",
            next=(
                "set that location as artifacts in store.yaml; or migrate the store: docs/stores.md"
            ),
        )
    if experiment:
        return experiment.experiment_id
    return client.create_experiment(name, artifact_location=f"{artifact_uri(root)}/{name}")


def _supported_revisions() -> dict[str, str]:
    """Return the schema revisions of the installed MLflow, each with its predecessor."""
    # Read from the source of the migrations, because importing MLflow takes seconds.
    spec = find_spec("mlflow")
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"  # type: ignore[union-attr, arg-type]
    assignment_pattern = re.compile(r"""^(revision|down_revision) = ["']?(\w+)""", re.M)
    migrations = [
        dict(assignment_pattern.findall(path.read_text(encoding="utf-8")))
        for path in folder.glob("*.py")
    ]
    return {
        migration["revision"]: migration["down_revision"]
        for migration in migrations
        if "revision" in migration
    }


def _suggest_new_store(root: Path) -> str:
    if is_local_database(root):
        return f"move it away and build again: mv {database_path(root)} {database_path(root)}.bak"
    return "set another database in store.yaml"
