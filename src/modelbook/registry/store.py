"""The store: a database for runs and versions, and a place for their files; see ``place``."""

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
from modelbook.registry import connection, files
from modelbook.registry.place import artifacts, database, is_file, is_local, shown, uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


MAKING = 0x6D6F64656C  # the number of the lock that PostgreSQL keeps while a store is made


def prepare(root: Path) -> None:
    """Create the store, once: two processes that create it together would kill one another.

    Raises
    ------
    StoreError
        When another, newer MLflow wrote it, it is no store at all, or it cannot be reached or written.
    """
    if not is_local(root):
        files.probe(artifacts(root))
    with _alone(root):  # before the look: a store half made by another process is none
        if not check_store(root):
            client(root).search_experiments(max_results=1)


def check_store(root: Path) -> bool:
    """Refuse a store that the installed MLflow cannot read; returns whether there is one.

    Raises
    ------
    StoreError
    """
    if is_file(root) and not database(root).is_file():
        return False
    try:
        found = _revision(root)
    except StoreError as error:
        if not is_file(root):
            raise
        raise _none(root, error.what.rpartition(": ")[2]) from None
    before = _revisions()
    if found is None:
        return False
    if found not in before:
        raise StoreError(
            f"{shown(root)} has the schema revision {found!r}, which MLflow {version('mlflow')} does not know",
            expected=f"a store written by MLflow {version('mlflow')}",
            next=f"install the newer MLflow that wrote it, or {_another(root)}",
        )
    if found in before.values():
        raise StoreError(
            f"{shown(root)} has the schema revision {found!r} of an older MLflow",
            expected=f"the schema of MLflow {version('mlflow')}",
            next=f"keep a copy, then: mlflow db upgrade {shown(root) if not is_file(root) else uri(root)}",
        )
    return True


def _revision(root: Path) -> str | None:
    """The schema revision of a database; None of a PostgreSQL database that MLflow has no tables in."""
    with connection.looking(root) as asked:
        found = inspect(asked).has_table("alembic_version")
        if not found and not is_file(root):
            return None
        number = asked.execute(text("select version_num from alembic_version")).scalar() if found else None
    if number is None:
        raise _none(root, "it has no schema revision")
    return number


def _none(root: Path, why: str) -> StoreError:
    kind = "an SQLite file" if is_file(root) else "a PostgreSQL database"
    return StoreError(
        f"{shown(root)} is no MLflow store ({why})", expected=f"{kind} that MLflow made", next=_another(root)
    )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep everybody else from making the store."""
    if is_file(root):
        database(root).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database(root).with_suffix(".lock")):
            yield
        return
    with connection.looking(root) as held:
        held.execute(text(f"select pg_advisory_xact_lock({MAKING})"))
        yield


def client(root: Path) -> MlflowClient:
    """A client of the project's store."""
    return connected(root).MlflowClient()


def connected(root: Path) -> ModuleType:
    """The ``mlflow`` module, pointed at the project's store and told to keep its chatter out of notebooks.

    Raises
    ------
    StoreError
        When a PostgreSQL is not there: MLflow itself would try for many minutes.
    """
    if not is_file(root):
        with connection.looking(root):
            pass
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)  # see registry.served
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri(root))
    mlflow.set_registry_uri(uri(root))
    return mlflow


def experiment(mlflow: MlflowClient, root: Path, name: str) -> str:
    """Id of an experiment, created on first use.

    Raises
    ------
    StoreError
        When it was created while files were kept elsewhere.
    """
    known = mlflow.get_experiment_by_name(name)
    if known and not is_local(root) and not known.artifact_location.startswith(f"{artifacts(root)}/"):
        raise StoreError(
            f"runs of {name!r} keep their files in {known.artifact_location}",
            expected=f"a place below {artifacts(root)}",
            next="name that place in store.yaml; or move the store: docs/stores.md",
        )
    if known:
        return known.experiment_id
    return mlflow.create_experiment(name, artifact_location=f"{artifacts(root)}/{name}")


def _revisions() -> dict[str, str]:
    """Each schema revision the installed MLflow knows, with the one before it."""
    # Read from the migrations' source, because importing MLflow takes seconds.
    spec = find_spec("mlflow")
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"  # type: ignore[union-attr, arg-type]
    names = re.compile(r"""^(revision|down_revision) = ["']?(\w+)""", re.M)
    found = [dict(names.findall(path.read_text(encoding="utf-8"))) for path in folder.glob("*.py")]
    return {each["revision"]: each["down_revision"] for each in found if "revision" in each}


def _another(root: Path) -> str:
    if is_file(root):
        return f"move it away and build anew: mv {database(root)} {database(root)}.bak"
    return "name another database in store.yaml"
