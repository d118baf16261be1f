"""The place of the store: under ``models/``, or where ``store.yaml`` and the environment say."""

from __future__ import annotations

from pathlib import Path

from modelbook.config import store
from modelbook.redaction import redact


def database(root: Path) -> Path:
    """The file that holds runs and versions, where no setting names another database."""
    return root / "models" / "mlflow.db"


def uri(root: Path) -> str:
    """The tracking and registry URI of a project's store; it may hold a password."""
    return store.load(root).database or f"sqlite:///{database(root)}"


def shown(root: Path) -> str:
    """The same for people: a file's path, or a URL without its password."""
    given = store.load(root).database
    return redact(given) if given else str(database(root))


def is_file(root: Path) -> bool:
    """Whether the store's database is the project's own SQLite file."""
    return not store.load(root).database


def folder(root: Path) -> Path:
    """The folder of the files of runs and versions, where no setting names another place."""
    return (root / "models" / "artifacts").absolute()


def artifacts(root: Path) -> str:
    """The URI below which files of runs and versions are."""
    return store.load(root).artifacts or folder(root).as_uri()


def is_local(root: Path) -> bool:
    """Whether files of versions are in a folder of this machine."""
    return artifacts(root).startswith("file:")


def cache(root: Path) -> Path:
    """The folder of files that were fetched from elsewhere, each version's by its digest."""
    named = store.load(root).cache
    return root / named if named else root / "models" / "cache"
