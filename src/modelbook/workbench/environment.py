"""Check Python's version and environment, and the installed packages against the lock file."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

from modelbook.errors import WorkbenchError
from modelbook.formatting import format_count
from modelbook.workbench.check_result import CheckResult

LOCK_FILE = "requirements/run.txt"
MAX_SHOWN = 3


def require_environment(prefix: Path = Path(sys.prefix)) -> None:
    """Raise an error unless this Python is in a virtual or conda environment.

    Raises
    ------
    WorkbenchError
        If this Python is not in an environment.
    """
    if not _detect_environment_kind(prefix):
        raise WorkbenchError(
            f"this Python is not in an environment: {prefix}",
            expected="the project's .venv, or a conda environment",
            next="make setup, or: conda env create -f environment.yml",
        )


def read_requires_python() -> str:
    """Return the specifier of the supported versions of Python, such as ``<3.14,>=3.11``."""
    return metadata("modelbook")["Requires-Python"]


def supports_python(python_version: str) -> bool:
    """Return whether Modelbook supports a version of Python."""
    from packaging.specifiers import SpecifierSet

    return python_version in SpecifierSet(read_requires_python())


def check_python(
    root: Path,
    python_version: tuple[int, ...] = sys.version_info[:3],
    prefix: Path = Path(sys.prefix),
) -> CheckResult:
    """Check the Python version and its environment."""
    version_text = ".".join(map(str, python_version))
    if not supports_python(version_text):
        return CheckResult(
            "Python",
            False,
            f"{version_text}; Modelbook needs {read_requires_python()}",
            "make setup PYTHON=/path/to/python",
        )
    kind = _detect_environment_kind(prefix)
    if not kind:
        return CheckResult(
            "Python", False, f"{version_text} is not in an environment: {prefix}", "make setup"
        )
    if kind == "conda":
        return CheckResult("Python", True, f"{version_text} in the conda environment {prefix.name}")
    project_env = root / ".venv"
    if prefix.resolve() == project_env.resolve():
        return CheckResult("Python", True, f"{version_text} in .venv")
    hint = "source .venv/bin/activate" if project_env.is_dir() else ""
    return CheckResult(
        "Python", True, f"{version_text} in {prefix}, which is not the project's .venv", hint
    )


def check_locked_packages(root: Path) -> CheckResult:
    """Check whether the installed packages match the lock file."""
    path = root / LOCK_FILE
    if not path.is_file():
        return CheckResult("lock", True, f"there is no {LOCK_FILE} to compare with")
    locked = _parse_lock_file(path.read_text(encoding="utf-8"))
    mismatches = [
        f"{name} {_get_installed_version(name) or 'missing'} (locked: {pin})"
        for name, pin in locked
        if _is_different(name, pin)
    ]
    if not mismatches:
        count = format_count(len(locked), "package matches", "packages match")
        return CheckResult("lock", True, f"{count} {LOCK_FILE}")
    others = f" and {len(mismatches) - MAX_SHOWN} more" if len(mismatches) > MAX_SHOWN else ""
    command = f"{sys.executable} -m pip install --no-deps --require-hashes -r {LOCK_FILE}"
    return CheckResult("lock", False, f"{', '.join(mismatches[:MAX_SHOWN])}{others}", command)


def _detect_environment_kind(prefix: Path) -> str:
    if (prefix / "conda-meta").is_dir():
        return "conda"
    return "venv" if (prefix / "pyvenv.cfg").is_file() else ""


def _parse_lock_file(text: str) -> list[tuple[str, str]]:
    """Return name and version of each locked package that applies to this machine."""
    from packaging.requirements import Requirement

    lines = re.findall(r"^([A-Za-z0-9][^\\\n]*?)\s*\\?$", text, re.M)
    requirements = [Requirement(line) for line in lines]
    return [
        (requirement.name, next(iter(requirement.specifier)).version)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    ]


def _is_different(name: str, pin: str) -> bool:
    from packaging.version import Version

    installed = _get_installed_version(name)
    return not installed or Version(installed) != Version(pin)


def _get_installed_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
