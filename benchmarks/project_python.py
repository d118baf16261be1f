"""Run a benchmark with the Python environment of the project that it measures; standard library only."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def use_project_python() -> None:
    """Start the script anew with the project's own ``.venv``, unless this is it.

    The project is the first argument that is one, else the one of the script. Without an environment
    of its own, it is measured with this one.
    """
    arguments = [Path(argument) for argument in sys.argv[1:]]
    root = next((path for path in arguments if (path / "pipeline.yaml").is_file()), ROOT).resolve()
    python = root / ".venv" / "bin" / "python"
    if python.is_file() and Path(sys.prefix).resolve() != (root / ".venv").resolve():
        os.execv(python, [str(python), *sys.argv])
    if find_spec("modelbook") is None:
        sys.exit(
            f"{sys.executable} has no modelbook, and {root} has no .venv; make one: make -C {root} .venv/run"
        )
