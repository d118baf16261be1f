"""Serve a stream worker's metrics and health: ``/metrics``, ``/health/live``, ``/health/ready``."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from modelbook.errors import ServingError
from modelbook.serving.service import PredictionService

REFRESH_SECONDS = 5.0  # between two counts of the waiting rows
OK, UNAVAILABLE, NOT_FOUND = "200 OK", "503 Service Unavailable", "404 Not Found"
TEXT_TYPE, JSON_TYPE = "text/plain; version=0.0.4; charset=utf-8", "application/json"


class StreamMetrics:
    """Adds the entries of a stream to the metrics of the scoring service."""

    def __init__(self, service: PredictionService) -> None:
        self._service = service
        factory = service.metrics.factory
        self._entries = factory.counter(
            "modelbook_stream_entries", "Entries that were scored", "result"
        )
        for result in ("prediction", "error"):  # start at 0, so that rate() sees the first
            self._entries.labels(result)
        self._waiting = factory.gauge(
            "modelbook_stream_waiting",
            "Entries of the stream that no worker of the group has finished",
        )
        self._reads_stream = False

    def count_entry(self, result: dict[str, str]) -> None:
        """Count a scored entry; a rejected one has an ``error``."""
        self._entries.labels("error" if "error" in result else "prediction").inc()

    async def poll_stream(self, client: Any, stream: str, group: str) -> None:
        """Count the waiting entries at a fixed interval, until the task is cancelled."""
        while True:
            try:
                groups = await client.xinfo_groups(stream)
                [info] = [entry for entry in groups if entry["name"] == group.encode()]
                lag = info.get("lag")  # None where Redis has no value
                self._waiting.set(float("nan") if lag is None else lag + info["pending"])
                self._reads_stream = True
            except Exception:  # whatever the client raises: Redis is away, or the group
                self._reads_stream = False
            await asyncio.sleep(REFRESH_SECONDS)

    def describe_readiness(self) -> dict[str, Any]:
        """Return the body for ``GET /health/ready``."""
        readiness = self._service.describe_readiness()
        if not self._reads_stream:
            return readiness | {"status": "not ready", "reasons": ["the stream cannot be read"]}
        return readiness

    def respond(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Respond to a request, as a WSGI application."""
        path = environ["PATH_INFO"]
        status = OK
        content_type = JSON_TYPE
        if path == "/metrics":
            body = self._service.metrics.render()
            content_type = TEXT_TYPE
        elif path == "/health/live":
            body = b'{"status": "live"}'
        elif path == "/health/ready":
            readiness = self.describe_readiness()
            status = OK if readiness["status"] == "ready" else UNAVAILABLE
            body = json.dumps(readiness).encode()
        else:
            body = b'{"error": "not found"}'
            status = NOT_FOUND
        start_response(status, [("Content-Type", content_type)])
        return [body]


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every 15 seconds is routine."""


@contextmanager
def serve_metrics(metrics: StreamMetrics, address: str) -> Iterator[None]:
    """Serve at ``host:port`` in a thread; at an empty address not at all.

    Raises
    ------
    ServingError
        If the address cannot be listened at.
    """
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server = make_server(host, int(port), metrics.respond, handler_class=_QuietHandler)
    except (OSError, ValueError, OverflowError) as error:
        raise ServingError(
            f"stream.metrics_address = {address!r}: {error}",
            expected="a free address such as 127.0.0.1:8001",
            next="correct it in serving.yaml (MODELBOOK_SERVE_STREAM__METRICS_ADDRESS)",
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
