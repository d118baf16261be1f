"""The MLflow UI on the project's store, for ``make mlflow``: ``python -m modelbook.registry.ui [options]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modelbook.registry.place import uri


def main(words: list[str]) -> None:
    """Become ``mlflow ui``; the store's address goes by the environment, since others see command lines."""
    command = [str(Path(sys.executable).with_name("mlflow")), "ui", *words]
    os.execve(command[0], command, {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri(Path.cwd())})


if __name__ == "__main__":
    main(sys.argv[1:])
