"""Connect to the store, and explain its errors: an MLflow server, PostgreSQL or an SQLite file."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from modelbook.errors import StoreError
from modelbook.redaction import redact
from modelbook.registry.location import (
    display_uri,
    get_database_path,
    get_tracking_uri,
    is_embedded,
    is_server,
)

CONNECT_TIMEOUT_SECONDS = 5  # longest wait for an unreachable or starting PostgreSQL
SQLITE_HEADER = b"SQLite format 3\0"
DATABASE_HINTS = {
    r"password|authentication|role .* does not exist|no pg_hba": (
        "correct user and password: PGPASSWORD, ~/.pgpass, or "
        "MODELBOOK_STORE_TRACKING_URI=postgresql://user:password@..."
    ),
    r"database .* does not exist": "ask the server's owner to create it: createdb NAME",
    r"permission denied|must be owner|read-?only": (
        "ask the store's owner for permission; docs/stores.md lists what is needed"
    ),
    r"\block|busy": "nothing was changed; check who else uses the store, and try again",
    (
        r"refused|timeout|timed out|resolve|translate|closed|terminat|starting up|shutting down"
        r"|unreachable"
    ): (
        "check that the database is running, and the setting tracking_uri; check modelbook "
        "history for changes"
    ),
}
SERVER_HINTS = {
    r"\b401\b|UNAUTHENTICATED|not authenticated|Unauthorized": (
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    ),
    r"\b403\b|PERMISSION_DENIED|Permission denied|Forbidden": (
        "ask the server's owner for the permission to edit (docs/stores.md); nothing was changed"
    ),
    r"error code (404|405|501)|ENDPOINT_NOT_FOUND|Expecting value": (
        "set tracking_uri to an MLflow server with a model registry, version 3.0 or later"
    ),
    r"Max retries|refused|resolve|timed out|unreachable|\b50[234]\b": (
        "check that the MLflow server is running, and the setting tracking_uri; check modelbook "
        "history for changes"
    ),
}


def check_connection(root: Path) -> None:
    """Check that a database can be opened: MLflow itself would retry for many minutes.

    A database that restarts gets a few seconds. An MLflow server is checked by its first request.

    Raises
    ------
    StoreError
        When the database refuses the connection, or the file is not a database.
    """
    if is_embedded(root):
        _check_file(root)
    if is_embedded(root) or is_server(root):
        return
    with convert_errors(root):
        deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS
        is_postgresql = get_tracking_uri(root).startswith("postgresql")
        options = {"connect_timeout": CONNECT_TIMEOUT_SECONDS} if is_postgresql else {}
        engine = sa.create_engine(get_tracking_uri(root), poolclass=NullPool, connect_args=options)
        while True:
            try:
                engine.connect().close()
                return
            except OperationalError as error:
                is_final = re.search(r"password|authentication|does not exist", str(error))
                if is_final or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def suggest_new_store(root: Path) -> str:
    """Return the advice to create a new store."""
    if not is_embedded(root):
        return "set another tracking_uri in store.yaml"
    path = get_database_path(root)
    return f"to begin a new store: mv {path} {path}.old, then build"


def _check_file(root: Path) -> None:
    path = get_database_path(root)
    if not path.is_file():
        return
    with path.open("rb") as file:
        is_sqlite = file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    if not is_sqlite:
        raise StoreError(
            f"{path} is not an MLflow store (it is not an SQLite file)",
            expected="an SQLite file created by MLflow",
            next=suggest_new_store(root),
        )


@contextmanager
def convert_errors(root: Path) -> Iterator[None]:
    """Convert errors of MLflow and of the database to StoreErrors, secrets redacted."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the store {display_uri(root)} needs a library that is not installed: {error}",
            next="make extras (it installs modelbook[postgres])",
        ) from None
    except SQLAlchemyError as error:
        raise _make_store_error(root, str(getattr(error, "orig", None) or error)) from None
    except Exception as error:
        if type(error).__name__ not in ("MlflowException", "RestException"):
            raise  # MLflow's types are named, because its import takes seconds
        code = getattr(error, "error_code", "")
        raise _make_store_error(root, f"{error} ({code})" if code else str(error)) from None


def suggest_fix(root: Path, text: str, default: str) -> str:
    """Return what to do about an error of a server or a database; the default if it is unknown."""
    hints = SERVER_HINTS if is_server(root) else DATABASE_HINTS
    matching_hints = (hint for pattern, hint in hints.items() if re.search(pattern, text, re.I))
    return next(matching_hints, default)


def _make_store_error(root: Path, text: str) -> StoreError:
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    message = redact(lines[0])[:400]
    return StoreError(
        f"the store {display_uri(root)} cannot be used: {message}",
        expected="an MLflow store that this user may read and write",
        next=suggest_fix(root, text, "modelbook doctor"),
    )
