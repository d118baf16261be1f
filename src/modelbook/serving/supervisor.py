"""Supervise workers: replace dead ones, forget their metrics, and end with the supervisor."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from prometheus_client import multiprocess
from uvicorn.supervisors import Multiprocess

from modelbook.serving.metrics import MULTIPROCESS_VARIABLE

LOG = logging.getLogger("modelbook.serving")
HEALTH_CHECK_SECONDS = 120  # a worker that imports on a slow machine does not answer meanwhile
SUPERVISOR_VARIABLE = "MODELBOOK_SUPERVISOR"  # process id of the supervisor, for its workers
SUPERVISOR_CHECK_SECONDS = 0.5
METRICS_FOLDER_PREFIX = "modelbook-metrics-"  # then the supervisor's process id


class WorkerSupervisor(Multiprocess):
    """uvicorn's supervisor; also logs each death as an error and removes the worker's gauges."""

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers."""
        workers = list(self.processes)
        for worker in workers:  # while the supervisor holds this end, it does not see a worker end
            worker.child_conn.close()
        super().keep_subprocess_alive()
        for worker in workers:
            if worker not in self.processes:
                self._forget_worker(worker.pid)
                LOG.error(
                    "a worker died and was replaced",
                    extra={"worker": worker.pid, "exit_code": worker.exitcode},
                )

    def restart_all(self) -> None:
        """Replace all workers, one after the other."""
        workers = list(self.processes)
        super().restart_all()
        for worker in workers:
            if worker not in self.processes:
                self._forget_worker(worker.pid)

    @staticmethod
    def _forget_worker(pid: int | None) -> None:
        if pid is not None:
            multiprocess.mark_process_dead(pid)


def run_workers(config: uvicorn.Config) -> None:
    """Run the workers until a signal ends them."""
    _remove_orphaned_folders()
    metrics_folder = tempfile.mkdtemp(prefix=f"{METRICS_FOLDER_PREFIX}{os.getpid()}-")
    os.environ |= {MULTIPROCESS_VARIABLE: metrics_folder, SUPERVISOR_VARIABLE: str(os.getpid())}
    try:
        WorkerSupervisor(config, sockets=[config.bind_socket()]).run()
    finally:
        shutil.rmtree(metrics_folder, ignore_errors=True)


def end_with_supervisor() -> None:
    """In a worker: end it, as a signal would, when the supervisor is gone."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return

    def wait_for_end() -> None:
        while os.getppid() == int(supervisor):
            time.sleep(SUPERVISOR_CHECK_SECONDS)
        LOG.error("the supervisor is gone; the worker ends", extra={"supervisor": supervisor})
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="supervisor", daemon=True).start()


def _remove_orphaned_folders() -> None:
    """Remove the metrics of supervisors that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{METRICS_FOLDER_PREFIX}*"):
        pid = folder.name.removeprefix(METRICS_FOLDER_PREFIX).partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
