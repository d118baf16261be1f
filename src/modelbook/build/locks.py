"""File locks: one build per project and one retrain per book; released when the process ends."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from filelock import BaseFileLock

from modelbook.errors import BuildError
from modelbook.file_lock import acquire_lock


def lock_build(root: Path) -> AbstractContextManager[BaseFileLock]:
    """Acquire the build lock of a project, also used by backup, upgrade, prune, forget and reset.

    Raises
    ------
    BuildError
        If a build or one of these commands is running.
    """
    return _acquire(
        root / "models" / ".build.lock",
        f"a build, or a command that excludes builds, is running in {root}",
        "one at a time: build, retrain, backup, upgrade, prune, forget, reset",
    )


def lock_retrain(root: Path, book: str) -> AbstractContextManager[BaseFileLock]:
    """Acquire the retrain lock of a book.

    Raises
    ------
    BuildError
        If another retrain holds it.
    """
    path = root / "models" / book / ".retrain.lock"
    return _acquire(
        path, f"another retrain of {book} is running", "one retrain of a book at a time"
    )


def _acquire(path: Path, problem: str, expected: str) -> AbstractContextManager[BaseFileLock]:
    next_step = "wait for it to end, or stop it"
    return acquire_lock(path, BuildError(problem, expected=expected, next=next_step))
