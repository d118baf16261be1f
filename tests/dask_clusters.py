"""A Dask scheduler with workers in separate processes, which tests may kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from distributed import Client
from servers import free_port

from modelbook.errors import EngineError

Result = TypeVar("Result")
LONG = 300  # seconds, for a machine that is busy with other tests


@dataclass
class Cluster:
    """The scheduler's address, and its workers' processes."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def cluster(workers: int = 2) -> Iterator[Cluster]:
    """Scheduler and workers as one would start them by hand, without nannies: who is killed stays dead."""
    port = free_port()
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-W", "ignore", "-m", "dask"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYCARET_CUSTOM_LOGGING_PATH": os.devnull}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environ}
    plain = ["--host", "127.0.0.1", "--no-dashboard"]
    started = [subprocess.Popen([*dask, "scheduler", "--port", str(port), *plain], **quiet)]
    try:
        _wait(port)
        command = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", *plain]
        started += [subprocess.Popen(command, **quiet) for _ in range(workers)]
        if workers:
            with Client(address, timeout=LONG, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=LONG)
        yield Cluster(address, started[1:])
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(30)


def retry_startup(run: Callable[[], Result], attempts: int = 3) -> Result:
    """The result of what starts a Ray, which gives up after half a minute that a busy machine may take."""
    for _ in range(attempts - 1):
        try:
            return run()
        except EngineError as error:
            if "timed out during startup" not in str(error):
                raise
    return run()


def _wait(port: int) -> None:
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the scheduler does not answer")
