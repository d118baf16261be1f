"""File locks between processes; the operating system releases them when a process ends."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


def acquire_lock(path: Path, error: Exception, timeout_seconds: float = 0) -> FileLock:
    """Acquire the lock of a file, which is created; raise ``error`` if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_seconds)
    except Timeout:
        raise error from None
    return lock
