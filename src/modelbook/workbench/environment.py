"""Python and the packages that are installed, beside the lock."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelbook.errors import WorkbenchError
from modelbook.workbench.part import Part, counted

PYTHON = (3, 11)
LOCK = "requirements/run.txt"
SHOWN = 3


def require(prefix: Path = Path(sys.prefix)) -> None:
    """Refuse to write into a Python that other programs share.

    Raises
    ------
    WorkbenchError
        When this Python runs in no environment.
    """
    if not _kind(prefix):
        raise WorkbenchError(
            f"this Python runs in no environment: {prefix}",
            expected="the project's .venv, or a conda environment",
            next="make setup, or: conda env create -f environment.yml",
        )


def python(root: Path, found: tuple[int, ...] = sys.version_info[:3], prefix: Path = Path(sys.prefix)) -> Part:
    """Whether the right Python runs, in an environment."""
    told = ".".join(map(str, found))
    if found[:2] != PYTHON:
        return Part("Python", False, f"{told}; Modelbook needs 3.11", "make setup PYTHON=/path/to/python3.11")
    kind = _kind(prefix)
    if not kind:
        return Part("Python", False, f"{told} in no environment: {prefix}", "make setup")
    if kind == "conda":
        return Part("Python", True, f"{told} in the conda environment {prefix.name}")
    ours = root / ".venv"
    if prefix.resolve() == ours.resolve():
        return Part("Python", True, f"{told} in .venv")
    hint = "source .venv/bin/activate" if ours.is_dir() else ""
    return Part("Python", True, f"{told} in {prefix}, which is not the project's .venv", hint)


def lock(root: Path) -> Part:
    """Whether what is installed is what the lock names."""
    path = root / LOCK
    if not path.is_file():
        return Part("lock", True, f"there is no {LOCK} to compare with")
    locked = _locked(path.read_text(encoding="utf-8"))
    wrong = [f"{name} {_installed(name) or 'missing'} (locked: {pin})" for name, pin in locked if _differs(name, pin)]
    if not wrong:
        return Part("lock", True, f"{counted(len(locked), 'package')}, all as locked")
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    mend = f"{sys.executable} -m pip install --require-hashes -r {LOCK}"
    return Part("lock", False, f"{', '.join(wrong[:SHOWN])}{more}", mend)


def _kind(prefix: Path) -> str:
    if (prefix / "conda-meta").is_dir():
        return "conda"
    return "venv" if (prefix / "pyvenv.cfg").is_file() else ""


def _locked(text: str) -> list[tuple[str, str]]:
    """Name and version of each line of a lock that holds on this machine."""
    from packaging.requirements import Requirement

    lines = re.findall(r"^([A-Za-z0-9][^\\\n]*?)\s*\\?$", text, re.M)
    asked = [Requirement(line) for line in lines]
    return [
        (each.name, next(iter(each.specifier)).version)
        for each in asked
        if each.marker is None or each.marker.evaluate()
    ]


def _differs(name: str, pin: str) -> bool:
    from packaging.version import Version

    found = _installed(name)
    return not found or Version(found) != Version(pin)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
