"""Start the uvicorn server: start-up checks, and workers under a supervisor.

The supervisor replaces dead workers and forgets their metrics; workers end with it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import multiprocess
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.supervisors import Multiprocess

from modelbook.errors import ServingError
from modelbook.processes import is_running
from modelbook.registry import alias_poller
from modelbook.registry.aliases import CHAMPION, make_missing_champion_error
from modelbook.serving import settings, telemetry
from modelbook.serving.access import ApiKeyStore, is_loopback
from modelbook.serving.http_protocol import LimitedHttpProtocol
from modelbook.serving.metrics import MULTIPROCESS_VARIABLE
from modelbook.serving.served_models import EXPORT_VARIABLE, read_aliased_versions

# Environment variables that pass the project and the book to workers.
ROOT_VARIABLE, BOOK_VARIABLE = "MODELBOOK_ROOT", "MODELBOOK_SERVING_BOOK"
SHUTDOWN_SECONDS = 20  # time for open requests to finish at shutdown
LOG = logging.getLogger("modelbook.serving")
HEALTH_CHECK_SECONDS = 120  # a worker that imports on a slow machine does not respond meanwhile
SUPERVISOR_VARIABLE = "MODELBOOK_SUPERVISOR"  # process id of the supervisor, for its workers
SUPERVISOR_CHECK_SECONDS = 0.5
METRICS_FOLDER_PREFIX = "modelbook-metrics-"  # then the supervisor's process id


def run_server(
    root: Path, book: str, host: str, port: int, workers: int, export_uri: str = ""
) -> None:
    """Run the server until it receives a termination signal.

    Parameters
    ----------
    export_uri : str
        URI of an export to serve instead of the aliased versions.

    Raises
    ------
    ServingError
        If there is no champion, a setting is invalid, a non-loopback host has no API keys, or the
        port is in use.
    """
    _check_address(host, port)
    service_settings = settings.load_settings(root, book)
    if export_uri:
        os.environ[EXPORT_VARIABLE] = export_uri
    config = _configure_uvicorn(host, port, workers, service_settings.log_level)
    with nullcontext() if export_uri else alias_poller.run_alias_poller(root, book):
        _check_startup(root, book, host, service_settings)
        os.environ |= {ROOT_VARIABLE: str(root), BOOK_VARIABLE: book}  # for the workers
        sys.stderr.write(f"modelbook: {book} at http://{host}:{port} (API docs: /docs)\n")
        if workers == 1:
            uvicorn.Server(config).run()
        else:
            run_workers(config)


def _configure_uvicorn(host: str, port: int, workers: int, log_level: str) -> uvicorn.Config:
    return uvicorn.Config(
        "modelbook.serving.server:create_worker_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http=LimitedHttpProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        date_header=False,
        log_config=telemetry.build_log_config(log_level),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=HEALTH_CHECK_SECONDS,
        proxy_headers=False,
    )


def create_worker_app() -> Any:
    """Create the application in a worker process."""
    end_with_supervisor()
    from modelbook.serving.app import create_app

    root = Path(os.environ[ROOT_VARIABLE])
    book = os.environ[BOOK_VARIABLE]
    app: Any = create_app(root, book)
    proxies = settings.load_settings(root, book).trusted_proxies
    return ProxyHeadersMiddleware(app, proxies) if proxies else app


def require_champion(root: Path, book: str) -> None:
    """Raise ServingError if no version has the alias ``champion``."""
    if CHAMPION not in read_aliased_versions(root, book).by_alias:
        raise make_missing_champion_error(ServingError, book)


def _check_startup(
    root: Path, book: str, host: str, service_settings: settings.ServingSettings
) -> None:
    require_champion(root, book)
    if service_settings.tracing == "on":
        telemetry.require_exporter()
    if service_settings.api_keys == "on" and not len(ApiKeyStore(root)) and not is_loopback(host):
        raise ServingError(
            f"{host} is reachable from other machines, and there are no API keys",
            expected="API keys, or a loopback address",
            next="create a key: modelbook keys add NAME, or set MODELBOOK_KEYRING; "
            "to serve without keys: MODELBOOK_SERVE_API_KEYS=off",
        )


def _check_address(host: str, port: int) -> None:
    """Raise ServingError for an address that cannot be used, before anything is loaded."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ServingError(
            f"{host}, port {port}, cannot be served at: {reason.lower()}",
            expected="an address of this machine, and a port that is free and allowed",
            next="choose others (--host, --port), or stop the process that uses the port",
        ) from None


class WorkerSupervisor(Multiprocess):
    """uvicorn's supervisor; also logs each death as an error and removes the worker's gauges."""

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers."""
        workers = list(self.processes)
        for worker in workers:  # the supervisor must close this end to detect the end of a worker
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
        if pid.isdigit() and not is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
