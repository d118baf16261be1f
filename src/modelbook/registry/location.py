"""Location of the store: under ``models/``, or as ``store.yaml`` and the environment set."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from modelbook.config import store
from modelbook.errors import StoreError
from modelbook.redaction import redact, redact_uri

SQLITE_PREFIX = "sqlite:///"
ALIAS_CACHE_FOLDER = "aliases"  # next to an embedded store, or among the downloads
RELATIVE_SCHEME = "modelbook"  # of artifact locations that are relative to an embedded store


def get_tracking_uri(root: Path) -> str:
    """Return the tracking URI of the store; it may contain a password."""
    configured_uri = store.load_settings(root).tracking_uri
    return f"{SQLITE_PREFIX}{get_database_path(root)}" if is_embedded(root) else configured_uri


def get_registry_uri(root: Path) -> str:
    """Return the URI of the model registry; it may contain a password."""
    return store.load_settings(root).registry_uri or get_tracking_uri(root)


def is_embedded(root: Path) -> bool:
    """Return whether the store is an SQLite file with a folder of artifacts next to it."""
    configured_uri = store.load_settings(root).tracking_uri
    return not configured_uri or configured_uri.startswith("sqlite:")


def is_server(root: Path) -> bool:
    """Return whether the store is an MLflow server."""
    return get_tracking_uri(root).startswith(("http://", "https://"))


def display_uri(root: Path) -> str:
    """Return the store's file path, or its URI without the password, for display."""
    return str(get_database_path(root)) if is_embedded(root) else redact(get_tracking_uri(root))


def get_database_path(root: Path) -> Path:
    """Return the SQLite file of an embedded store."""
    configured_uri = store.load_settings(root).tracking_uri
    if configured_uri.startswith(SQLITE_PREFIX):
        return root / configured_uri.removeprefix(SQLITE_PREFIX)
    return root / "models" / "mlflow.db"


def get_sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for a database or an MLflow server."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite"):
        return None
    database = make_url(uri).database
    return Path(database) if database else None


def has_store(root: Path) -> bool:
    """Return whether there is a store to read; that of a server or a database is not checked."""
    return not is_embedded(root) or get_database_path(root).is_file()


def require_store(root: Path) -> None:
    """Check that there is a store to read, because MLflow would create an empty one.

    Raises
    ------
    StoreError
        When the project's SQLite file does not exist.
    """
    if not has_store(root):
        raise StoreError(
            f"there is no MLflow store yet: {get_database_path(root)}",
            expected="a project that has been built",
            next="modelbook build",
        )


def get_local_artifact_folder(root: Path) -> Path:
    """Return the artifact folder of an embedded store."""
    return (get_database_path(root).parent / "artifacts").absolute()


def get_artifact_uri(root: Path) -> str:
    """Return the root URI of artifacts; empty when the MLflow server decides."""
    configured_uri = store.load_settings(root).artifacts
    if configured_uri or is_server(root):
        return configured_uri
    return f"{RELATIVE_SCHEME}:" if is_embedded(root) else (root / "models/artifacts").as_uri()


def display_artifact_uri(root: Path) -> str:
    """Return where artifacts are stored, for display."""
    if get_artifact_uri(root) == f"{RELATIVE_SCHEME}:":
        return str(get_local_artifact_folder(root))
    return redact_uri(get_artifact_uri(root)) or "the MLflow server's own location"


def has_local_artifacts(root: Path) -> bool:
    """Return whether artifacts are in a local folder."""
    return get_artifact_uri(root).startswith((f"{RELATIVE_SCHEME}:", "file:"))


def get_local_path(root: Path, uri: str) -> Path | None:
    """Return the local path of an artifact's URI, or None when it is elsewhere."""
    parsed_uri = urlparse(uri)
    if parsed_uri.scheme == RELATIVE_SCHEME:
        return get_local_artifact_folder(root) / unquote(parsed_uri.path).lstrip("/")
    return Path(unquote(parsed_uri.path)) if parsed_uri.scheme in ("", "file") else None


def get_cache_folder(root: Path) -> Path:
    """Return the folder of downloaded artifacts, in subfolders by digest."""
    configured_folder = store.load_settings(root).cache
    return root / configured_folder if configured_folder else root / "models" / "cache"


def list_downloads(root: Path) -> list[Path]:
    """Return the folders of downloaded artifacts."""
    return sorted(
        path
        for path in get_cache_folder(root).glob("*")
        if path.is_dir() and path.name != ALIAS_CACHE_FOLDER
    )
