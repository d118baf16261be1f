"""Start the MLflow UI for the project's store, as ``make mlflow`` does.

Usage: ``python -m modelbook.registry.mlflow_ui [options]``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modelbook.errors import StoreError
from modelbook.registry import mlflow_schema
from modelbook.registry.location import (
    display_uri,
    get_registry_uri,
    get_tracking_uri,
    is_server,
    require_store,
)


def main(arguments: list[str]) -> None:
    """Replace this process with ``mlflow ui``.

    The store's URI is passed in the environment, because other users can see command lines.
    """
    root = Path.cwd()
    try:
        require_store(root)
        mlflow_schema.require_current_schema(root)
    except StoreError as error:
        sys.exit(f"StoreError: {error}")
    if is_server(root):
        sys.stdout.write(f"the store is an MLflow server with its own UI: {display_uri(root)}\n")
        return
    command = [str(Path(sys.executable).with_name("mlflow")), "ui", *arguments]
    uris = {
        "MLFLOW_BACKEND_STORE_URI": get_tracking_uri(root),
        "MLFLOW_REGISTRY_STORE_URI": get_registry_uri(root),
    }
    os.execve(command[0], command, {**os.environ, **uris})


if __name__ == "__main__":
    main(sys.argv[1:])
