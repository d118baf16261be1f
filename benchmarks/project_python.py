"""Run a benchmark in the Python environment of the measured project; standard library only."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def use_project_python() -> None:
    """Re-execute the script with the project's ``.venv``, unless it already runs in it.

    The project is the first argument that is a project folder, else the one of this script.
    A project without ``.venv`` is measured in the current environment.
    """
    arguments = [Path(argument) for argument in sys.argv[1:]]
    root = next((path for path in arguments if (path / "pipeline.yaml").is_file()), ROOT).resolve()
    python = root / ".venv" / "bin" / "python"
    if python.is_file() and Path(sys.prefix).resolve() != (root / ".venv").resolve():
        os.execv(python, [str(python), *sys.argv])
    if find_spec("modelbook") is None:
        sys.exit(
            f"{sys.executable} has no modelbook, and {root} has no .venv: "
            f"create it by make -C {root} .venv/run"
        )
