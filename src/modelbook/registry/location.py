"""Location of the store: under ``models/``, or as ``store.yaml`` and the environment set."""

from __future__ import annotations

from pathlib import Path

from modelbook.config import store
from modelbook.errors import StoreError
from modelbook.redaction import redact


def database_path(root: Path) -> Path:
    """Return the default database, an SQLite file with runs and versions."""
    return root / "models" / "mlflow.db"


def tracking_uri(root: Path) -> str:
    """Return the tracking and registry URI of the store; it may contain a password."""
    return store.load_settings(root).database or f"sqlite:///{database_path(root)}"


def display_uri(root: Path) -> str:
    """Return the store's file path, or its URL without the password, for display."""
    database_url = store.load_settings(root).database
    return redact(database_url) if database_url else str(database_path(root))


def is_local_database(root: Path) -> bool:
    """Return whether the store's database is the project's SQLite file."""
    return not store.load_settings(root).database


def require_store(root: Path) -> None:
    """Check that there is a store to read, because MLflow would create an empty one.

    Raises
    ------
    StoreError
        When the project's SQLite file does not exist.
    """
    if is_local_database(root) and not database_path(root).is_file():
        raise StoreError(
            f"there is no MLflow store yet: {database_path(root)}",
            expected="a project that has been built",
            next="modelbook build",
        )


def local_artifact_folder(root: Path) -> Path:
    """Return the default artifact folder of runs and versions."""
    return (root / "models" / "artifacts").absolute()


def artifact_uri(root: Path) -> str:
    """Return the root URI of the artifacts of runs and versions."""
    return store.load_settings(root).artifacts or local_artifact_folder(root).as_uri()


def has_local_artifacts(root: Path) -> bool:
    """Return whether artifacts are in a local folder."""
    return artifact_uri(root).startswith("file:")


def cache_folder(root: Path) -> Path:
    """Return the folder of downloaded artifacts, in subfolders by digest."""
    configured_folder = store.load_settings(root).cache
    return root / configured_folder if configured_folder else root / "models" / "cache"
