"""Poll the aliases of a book for a service.

``python -m modelbook.registry.alias_poller ROOT BOOK PARENT_PID``, with the id of the service's
process. It is a separate process, because MLflow takes seconds to import and much memory. It caches
the aliases in a file, which the service's workers read, and downloads the files of remote versions,
so that the workers need neither MLflow nor credentials. After the first check it prints
``checked``, for which the service waits if no aliases are cached.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from modelbook.errors import ModelbookError
from modelbook.registry import aliases
from modelbook.registry.location import is_embedded

POLL_SECONDS = 2.0  # between checks of the store


@contextmanager
def run_alias_poller(root: Path, book: str) -> Iterator[None]:
    """Poll the aliases in a process until the block ends.

    Without cached aliases the block begins after the first check, or when the process ends before
    it.
    """
    command = [sys.executable, "-m", __name__, str(root), book, str(os.getpid())]
    waits_for_check = aliases.read_cached_aliases(root, book) is None
    stdout = subprocess.PIPE if waits_for_check else subprocess.DEVNULL
    with subprocess.Popen(command, stdout=stdout) as process:
        try:
            if process.stdout:
                process.stdout.readline()  # it has checked, or ended
            yield
        finally:
            process.terminate()


def refresh_if_stale(root: Path, book: str) -> str:
    """Refresh the cached aliases if they are stale; return the error message, empty on success."""
    cached_aliases = aliases.read_cached_aliases(root, book)
    if cached_aliases and cached_aliases.is_current:
        return ""
    try:
        aliases.refresh_aliases(root, book, download=True)
    except ModelbookError as error:
        aliases.cache_problem(root, book, error.problem)
        return error.problem
    return ""


def main(arguments: list[str]) -> None:
    """Poll until the parent process ends; check only once if it already has.

    Return at once for an embedded store without alembic.
    """
    root = Path(arguments[0])
    book = arguments[1]
    parent_pid = int(arguments[2])
    if is_embedded(root) and find_spec("alembic") is None:
        # As in the image of the service: MLflow opens no SQLite store then. Commands that move an
        # alias update the cache.
        return
    # Ctrl-C also reaches this process; the service shuts down first, and terminates it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if problem := refresh_if_stale(root, book):
        sys.stderr.write(f"modelbook: {problem}\n")
    with suppress(BrokenPipeError):  # the service has ended meanwhile
        os.write(sys.stdout.fileno(), b"checked\n")
    while os.getppid() == parent_pid:
        time.sleep(POLL_SECONDS)
        refresh_if_stale(root, book)


if __name__ == "__main__":
    main(sys.argv[1:])
