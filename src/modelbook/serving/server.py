"""Start the uvicorn server: start-up checks and workers."""

from __future__ import annotations

import ipaddress
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from modelbook.errors import ServingError
from modelbook.registry import follower
from modelbook.registry.aliases import CHAMPION
from modelbook.serving import settings, supervisor, telemetry
from modelbook.serving.api_keys import ApiKeyStore
from modelbook.serving.http_protocol import LimitedHttpProtocol
from modelbook.serving.served_models import EXPORT_VARIABLE, find_served_versions

# Environment variables that pass the project and the book to workers.
ROOT_VARIABLE, BOOK_VARIABLE = "MODELBOOK_ROOT", "MODELBOOK_SERVING_BOOK"
SHUTDOWN_SECONDS = 20  # time for open requests to finish at shutdown


def run_server(
    root: Path, book: str, host: str, port: int, workers: int, export_address: str = ""
) -> None:
    """Run the server until it receives a termination signal.

    Parameters
    ----------
    export_address : str
        Address of an export to serve instead of the aliased versions.

    Raises
    ------
    ServingError
        If there is no champion, a setting is invalid, or a non-loopback host has no API keys.
    """
    service_settings = settings.load_settings(root, book)
    os.environ |= {EXPORT_VARIABLE: export_address} if export_address else {}
    os.environ |= {ROOT_VARIABLE: str(root), BOOK_VARIABLE: book}
    config = _configure_uvicorn(host, port, workers, service_settings.log_level)
    with nullcontext() if export_address else follower.following(root, book):
        _check_startup(root, book, host, service_settings)
        sys.stderr.write(f"modelbook: {book} at http://{host}:{port} (API docs: /docs)\n")
        if workers == 1:
            uvicorn.Server(config).run()
        else:
            supervisor.run_workers(config)


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
        timeout_worker_healthcheck=supervisor.HEALTH_CHECK_SECONDS,
        proxy_headers=False,
    )


def create_worker_app() -> Any:
    """Create the application in a worker process."""
    supervisor.end_with_supervisor()
    from modelbook.serving.app import create_app

    root, book = Path(os.environ[ROOT_VARIABLE]), os.environ[BOOK_VARIABLE]
    app: Any = create_app(root, book)
    proxies = settings.load_settings(root, book).trusted_proxies
    return ProxyHeadersMiddleware(app, proxies) if proxies else app


def require_champion(root: Path, book: str) -> None:
    """Raise ServingError if no version has the alias ``champion``."""
    if CHAMPION not in find_served_versions(root, book):
        raise ServingError(
            f"no version of {book!r} has the alias champion",
            expected="a version that the gate has promoted",
            next="build the pipeline: modelbook build; if the gate held, see the deploy report",
        )


def _check_startup(
    root: Path, book: str, host: str, service_settings: settings.ServingSettings
) -> None:
    require_champion(root, book)
    if service_settings.tracing == "on":
        telemetry.require_exporter()
    if service_settings.api_keys == "on" and not len(ApiKeyStore(root)) and not _is_loopback(host):
        raise ServingError(
            f"{host} is reachable from other machines, and there are no API keys",
            expected="API keys, or a loopback address",
            next="create a key: modelbook keys add NAME, or set MODELBOOK_KEYRING; "
            "to serve without keys: MODELBOOK_SERVE_API_KEYS=off",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
