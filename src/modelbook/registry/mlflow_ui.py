"""Start the MLflow UI for the project's store, as ``make mlflow`` does.

Usage: ``python -m modelbook.registry.mlflow_ui [options]``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modelbook.errors import StoreError
from modelbook.registry.location import require_store, tracking_uri


def main(arguments: list[str]) -> None:
    """Replace this process with ``mlflow ui``.

    The store's URI is passed in the environment, because other users can see command lines.
    """
    try:
        require_store(Path.cwd())
    except StoreError as error:
        sys.exit(f"StoreError: {error}")
    command = [str(Path(sys.executable).with_name("mlflow")), "ui", *arguments]
    os.execve(
        command[0], command, {**os.environ, "MLFLOW_BACKEND_STORE_URI": tracking_uri(Path.cwd())}
    )


if __name__ == "__main__":
    main(sys.argv[1:])
