"""The store: SQLite for runs and versions, a folder for artifacts, both under ``models/``."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from filelock import FileLock

from modelbook.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient


def database(root: Path) -> Path:
    """The file that holds runs and versions."""
    return root / "models" / "mlflow.db"


def reading(path: Path, patience: float = 5) -> sqlite3.Connection:
    """An SQLite file opened for reading.

    What a writer that was killed has left half done is rolled back first; only for that the right to write is used.
    """
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=patience)
    try:
        connection.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if "readonly" not in str(error):
            raise
        connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=patience)
    return connection


def artifacts(root: Path) -> Path:
    """The folder that holds what runs and versions consist of."""
    return root / "models" / "artifacts"


def uri(root: Path) -> str:
    """The tracking and registry URI of a project's store."""
    return f"sqlite:///{database(root)}"


def prepare(root: Path) -> None:
    """Create the store, once: two processes that create it together would kill one another.

    Raises
    ------
    StoreError
        When another, newer MLflow wrote it, or the file is no store at all.
    """
    database(root).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database(root).with_suffix(".lock")):  # before the look: a store half made by another process is none
        check_store(root)
        if not database(root).is_file():
            client(root).search_experiments(max_results=1)


def check_store(root: Path) -> None:
    """Refuse a store that the installed MLflow cannot read; says nothing where there is none yet."""
    path = database(root)
    if not path.is_file():
        return
    try:
        with closing(reading(path)) as connection:
            found = connection.execute("select version_num from alembic_version").fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        raise StoreError(
            f"{path} is no MLflow store ({error})", expected="an SQLite file that MLflow made", next=_move_away(path)
        ) from None
    before = _revisions()
    if found not in before:
        raise StoreError(
            f"{path} has the schema revision {found!r}, which MLflow {version('mlflow')} does not know",
            expected=f"a store written by MLflow {version('mlflow')}",
            next=f"install the newer MLflow that wrote it, or {_move_away(path)}",
        )
    if found in before.values():
        raise StoreError(
            f"{path} has the schema revision {found!r} of an older MLflow",
            expected=f"the schema of MLflow {version('mlflow')}",
            next=f"keep a copy, then: mlflow db upgrade {uri(root)}",
        )


def client(root: Path) -> MlflowClient:
    """A client of the project's store."""
    return connected(root).MlflowClient()


def connected(root: Path) -> ModuleType:
    """The ``mlflow`` module, pointed at the project's store and told to keep its chatter out of notebooks."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)  # see registry.served
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri(root))
    mlflow.set_registry_uri(uri(root))
    return mlflow


def experiment(mlflow: MlflowClient, root: Path, name: str) -> str:
    """Id of an experiment, created on first use."""
    known = mlflow.get_experiment_by_name(name)
    if known:
        return known.experiment_id
    return mlflow.create_experiment(name, artifact_location=(artifacts(root) / name).as_uri())


def _revisions() -> dict[str, str]:
    """Each schema revision the installed MLflow knows, with the one before it."""
    # Read from the migrations' source, because importing MLflow takes seconds.
    spec = find_spec("mlflow")
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"  # type: ignore[union-attr, arg-type]
    names = re.compile(r"""^(revision|down_revision) = ["']?(\w+)""", re.M)
    found = [dict(names.findall(path.read_text(encoding="utf-8"))) for path in folder.glob("*.py")]
    return {each["revision"]: each["down_revision"] for each in found if "revision" in each}


def _move_away(path: Path) -> str:
    return f"move it away and build anew: mv {path} {path}.bak"
