"""Logs and traces: JSON lines that name their request, and OpenTelemetry spans of requests."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import orjson

from modelbook.errors import ServingError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from modelbook.serving.http_request import Headers

LOGGER_NAME = "modelbook.serving"
Step = Callable[..., Awaitable[Any]]
# Request id and ``traceparent`` (W3C Trace Context) of the current request.
REQUEST_CONTEXT: ContextVar[tuple[str, bytes | None]] = ContextVar("request", default=("", None))
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
STANDARD_LOG_FIELDS = {
    *vars(logging.makeLogRecord({})),
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class RequestContextFilter(logging.Filter):
    """Adds ``request_id``, and ``trace_id`` of a traced request, to records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; never drops a record."""
        request_id, traceparent = REQUEST_CONTEXT.get()
        if request_id:
            record.request_id = request_id
        if traceparent and (match := TRACEPARENT.fullmatch(traceparent)):
            record.trace_id = match[1].decode()
        return True


class JsonFormatter(logging.Formatter):
    """Formats log records as JSON lines, with the ``extra`` fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "at": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry |= {
            name: value for name, value in vars(record).items() if name not in STANDARD_LOG_FIELDS
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def build_log_config(level: str) -> dict[str, Any]:
    """Return the logging configuration: JSON lines on standard error."""
    handler = {
        "class": "logging.StreamHandler",
        "formatter": "json",
        "filters": ["request"],
        "stream": "ext://sys.stderr",
    }
    logger_config = {"handlers": ["out"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": RequestContextFilter}},
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"out": handler},
        "loggers": {
            LOGGER_NAME: logger_config,
            "opentelemetry": {**logger_config, "level": "WARNING"},
            "uvicorn": logger_config,
            "uvicorn.error": {},
        },
    }


class RequestTracer:
    """Records a span for each request and for each step within it, and exports them by OTLP.

    Address, headers and sampling of the export are those of OpenTelemetry's own variables
    (``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``). A request with a ``traceparent``
    continues the caller's trace.

    Raises
    ------
    ServingError
        If the extra ``tracing`` is not installed.
    """

    def __init__(self, book: str) -> None:
        exporter_class = require_exporter()
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", "modelbook")
        resource = Resource.create({"service.name": name, "modelbook.book": book})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter_class()))
        self._tracer = self._provider.get_tracer(LOGGER_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def start_request(self, method: str, route: str, headers: Headers) -> RequestSpan:
        """Start the span of a request and make it current; ``end`` it with the response."""
        from opentelemetry import context
        from opentelemetry.trace import SpanKind, set_span_in_context

        names = ("traceparent", "tracestate")
        carrier = {name: headers.get(name.encode(), b"").decode("latin-1") for name in names}
        parent = self._propagator.extract(carrier)
        attributes = {"http.request.method": method} | ({"http.route": route} if route else {})
        span = self._tracer.start_span(
            f"{method} {route}".strip(), parent, SpanKind.SERVER, attributes
        )
        return RequestSpan(span, context.attach(set_span_in_context(span, parent)))

    def trace_step(self, name: str, step: Step) -> Step:
        """Return an asynchronous function that is recorded as a step of the current request."""

        async def traced_step(*arguments: Any) -> Any:
            with self._tracer.start_as_current_span(name):
                return await step(*arguments)

        return traced_step

    def shutdown(self) -> None:
        """Export what is left; blocks."""
        self._provider.shutdown()


class RequestSpan:
    """The current span of a request."""

    def __init__(self, span: Span, token: Any) -> None:
        self._span = span
        self._token = token

    @property
    def traceparent(self) -> bytes:
        """The span as a W3C ``traceparent``."""
        span = self._span.get_span_context()
        return b"00-%032x-%016x-%02x" % (span.trace_id, span.span_id, span.trace_flags)

    def end(self, status: int, request_id: str) -> None:
        """End the span with the response's status; the outer span is current again."""
        from opentelemetry import context
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("modelbook.request_id", request_id)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        context.detach(self._token)


def require_exporter() -> Any:
    """Return the class of the exporter.

    Raises
    ------
    ServingError
        If the extra ``tracing`` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ServingError(
            f"tracing is on, and {error.name} is not installed",
            expected="the extra tracing",
            next="install it: make extras, or leave tracing off",
        ) from None
    return OTLPSpanExporter
