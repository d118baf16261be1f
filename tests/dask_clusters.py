"""A Dask scheduler with workers in separate processes, which tests may kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from command_template import run_module_command
from distributed import Client
from servers import free_port
from small_project import ROOT

from modelbook.build.dependencies import find_preload_modules
from modelbook.errors import EngineError

Result = TypeVar("Result")
STARTUP_TIMEOUT = 300  # seconds, on a machine that is busy with other tests


@dataclass
class Cluster:
    """The scheduler's address, and its workers' processes."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def start_cluster(workers: int = 2) -> Iterator[Cluster]:
    """Start a scheduler and workers without nannies, so that a killed worker is not restarted.

    Workers are forked from the template of builds, which has imported what a comparison needs.
    """
    port = free_port()
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-W", "ignore", "-m", "dask"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    environ["PYCARET_CUSTOM_LOGGING_PATH"] = os.devnull
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environ}
    arguments = ["--host", "127.0.0.1", "--no-dashboard"]
    processes = [subprocess.Popen([*dask, "scheduler", "--port", str(port), *arguments], **options)]
    libraries = find_preload_modules(ROOT / "notebooks/03_compare.ipynb")
    folder = tempfile.TemporaryDirectory(prefix="modelbook-")
    try:
        _wait(port)
        command = run_module_command("dask", Path(folder.name), libraries)
        command += ["worker", address, "--nthreads", "1", "--no-nanny", *arguments]
        processes += [subprocess.Popen(command, **options) for _ in range(workers)]
        if workers:
            with Client(address, timeout=STARTUP_TIMEOUT, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=STARTUP_TIMEOUT)
        yield Cluster(address, processes[1:])
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait(30)
        folder.cleanup()


def retry_startup(run: Callable[[], Result], attempts: int = 3) -> Result:
    """Run a function that starts Ray, again if Ray's startup timed out (30 s) on a busy machine."""
    for _ in range(attempts - 1):
        try:
            return run()
        except EngineError as error:
            if "timed out during startup" not in str(error):
                raise
    return run()


def _wait(port: int) -> None:
    deadline = time.monotonic() + STARTUP_TIMEOUT
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the scheduler did not start")
