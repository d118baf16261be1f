"""Locks: one build of a project at a time, one retrain of a book. They end with the process that holds them."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from modelbook.errors import BuildError


def of_build(root: Path) -> FileLock:
    """Hold the project for a build.

    Raises
    ------
    BuildError
        When another build holds it.
    """
    return _held(root / "models" / ".build.lock", f"another build is running in {root}", "one build at a time")


def of_retrain(root: Path, book: str) -> FileLock:
    """Hold a book for a retrain.

    Raises
    ------
    BuildError
        When another retrain holds it.
    """
    place = root / "models" / book / ".retrain.lock"
    return _held(place, f"another retrain of {book} is running", "one retrain of a book at a time")


def _held(path: Path, what: str, expected: str) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BuildError(what, expected=expected, next="wait for it to end, or stop it") from None
    return lock
