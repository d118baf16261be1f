"""File locks between processes; the operating system releases them when a process ends."""

from __future__ import annotations

from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout


def acquire_lock(path: Path, error: Exception, timeout_seconds: float = 0) -> AcquireReturnProxy:
    """Acquire the lock of a file, which is created; it is released when the context ends.

    Raises
    ------
    error
        If another process holds it for longer than the timeout.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(path).acquire(timeout=timeout_seconds)
    except Timeout:
        raise error from None
