"""The server: uvicorn with one or several workers, and what it needs before the first request."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from modelbook.errors import ServingError
from modelbook.registry.pointer import CHAMPION
from modelbook.serving import settings
from modelbook.serving.keys import Keys
from modelbook.serving.metrics import SHARED
from modelbook.serving.named import FROM, named

ROOT, BOOK = "MODELBOOK_ROOT", "MODELBOOK_SERVING_BOOK"  # how workers learn what to serve
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
LONGEST = 20  # seconds that requests at work get when the server ends


class Json(logging.Formatter):
    """A line of JSON for each record, with what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(), "event": record.getMessage(),
        }  # fmt: skip
        told |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(told, default=str).decode()


def run(root: Path, book: str, host: str, port: int, workers: int, origin: str = "") -> None:
    """Serve until a signal ends it.

    Parameters
    ----------
    origin : str
        Address of an export that is served in place of what the aliases name.

    Raises
    ------
    ServingError
        When no version bears the alias, when a setting is wrong, or when a host that others can reach has no keys.
    """
    import uvicorn

    given = settings.load(root)
    os.environ |= {FROM: origin} if origin else {}
    _check(root, book, host, given.keys)
    shared = tempfile.mkdtemp(prefix="modelbook-metrics-") if workers > 1 else None
    os.environ |= {ROOT: str(root), BOOK: book} | ({SHARED: shared} if shared else {})
    sys.stderr.write(f"modelbook: {book} at http://{host}:{port} (manual: /docs)\n")
    try:
        uvicorn.run(
            "modelbook.serving.server:worker", factory=True, host=host, port=port, workers=workers, loop="uvloop",
            http="httptools", ws="none", access_log=False, server_header=False, date_header=False,
            log_config=logged(given.log), timeout_graceful_shutdown=LONGEST, proxy_headers=False,
        )  # fmt: skip
    finally:
        if shared:
            shutil.rmtree(shared, ignore_errors=True)


def worker() -> Any:
    """The application, in a worker's process."""
    from modelbook.serving.app import create

    return create(Path(os.environ[ROOT]), os.environ[BOOK])


def champion_there(root: Path, book: str) -> None:
    """Raise ServingError where no version bears the alias ``champion``."""
    if CHAMPION not in named(root, book):
        raise ServingError(
            f"no version of {book!r} bears the alias champion", expected="a version that the gate has promoted",
            next="build the pipeline: modelbook build; where the gate held, see the deploy report",
        )  # fmt: skip


def _check(root: Path, book: str, host: str, keys: str) -> None:
    champion_there(root, book)
    if keys == "on" and not len(Keys(root)) and not _loopback(host):
        raise ServingError(
            f"{host} can be reached by others, and there are no API keys", expected="keys, or a loopback address",
            next="make one: modelbook keys add NAME, or set MODELBOOK_KEYRING; to try things: MODELBOOK_SERVE_KEYS=off",
        )  # fmt: skip


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def logged(level: str) -> dict[str, Any]:
    """The log's configuration: a line of JSON for each record, on standard error."""
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}
    one = {"handlers": ["out"], "level": level.upper(), "propagate": False}
    return {
        "version": 1, "disable_existing_loggers": False, "formatters": {"json": {"()": Json}},
        "handlers": {"out": handler}, "loggers": {"modelbook.serving": one, "uvicorn": one, "uvicorn.error": {}},
    }  # fmt: skip
