"""Gateway: the outer ASGI application.

It authorizes requests, limits their rate and handles ``POST /predict`` without FastAPI.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from modelbook.serving.access import ApiKey, RateLimiter
from modelbook.serving.html_pages import SWAGGER_SCRIPT_PATH
from modelbook.serving.http_request import Headers, RequestError, read_user_id, require_content_type
from modelbook.serving.inference_protocol import HEALTH_PATHS
from modelbook.serving.metrics import PATH_LABELS
from modelbook.serving.service import PredictionService, make_prediction_id
from modelbook.serving.telemetry import REQUEST_CONTEXT, RequestSpan

LOG = logging.getLogger("modelbook.serving")

# Paths that need no API key.
PUBLIC_PATHS = frozenset((
    "/", "/health/live", "/health/ready", "/docs", SWAGGER_SCRIPT_PATH, "/redoc", "/openapi.json",
    "/favicon.ico", *HEALTH_PATHS,
))  # fmt: skip
STATIC_PREFIX = "/static/"
# Callable under any host name.
PROBE_PATHS = frozenset(("/health/live", "/health/ready", *HEALTH_PATHS))
UNTRACED_PATHS = PROBE_PATHS | {"/metrics"}
REQUIRED_SCOPES = {
    "/predict": "predict",
    "/predict/csv": "predict",
    "/outcomes": "outcomes",
    "/metrics": "admin",
}
INFER_SUFFIX = "/infer"
REQUEST_ID_PATTERN = re.compile(rb"[\w.:-]{1,64}")  # request ids that are accepted from callers
MAX_DISCARDED_BYTES = 10_000_000  # body of a rejected request that is read and discarded
NOSNIFF_HEADER = (b"x-content-type-options", b"nosniff")
INTERNAL_ERROR_MESSAGE = "internal error; the server log has the details under this request id"


class Gateway:
    """ASGI application that uvicorn runs.

    Parameters
    ----------
    app : ASGI application
        Handles every request that the gateway does not handle itself.
    """

    def __init__(self, service: PredictionService, app: Any) -> None:
        self._service = service
        self._app = app
        limits = service.settings.limits
        self._rate_limiter = (
            RateLimiter(limits.requests_per_second) if limits.requests_per_second else None
        )
        self._max_concurrent_requests = limits.max_concurrent_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
                return
            await self._app(scope, receive, send)
            return
        service = self._service
        start_time = time.perf_counter()
        path = scope["path"]
        response = _Response(send, scope)
        service.in_flight += 1
        try:
            await self._handle_request(scope, receive, response, path)
        except RequestError as error:
            await response.send_error(error)
        except Exception:
            LOG.exception(
                "a request failed", extra={"request_id": response.request_id, "path": path[:100]}
            )
            await response.send_error(RequestError(500, INTERNAL_ERROR_MESSAGE))
        finally:
            service.in_flight -= 1
            service.bodies.release(scope)
            seconds = time.perf_counter() - start_time
            service.metrics.observe_request(path, response.status, seconds)
            if response.status >= 400:
                service.metrics.count_error(response.status)
            if response.span is not None:
                response.span.end(response.status, response.request_id)
            if LOG.isEnabledFor(logging.DEBUG):
                LOG.debug(
                    "request",
                    extra={
                        "method": scope["method"],
                        "path": path[:100],
                        "status": response.status,
                        "milliseconds": round(seconds * 1000, 3),
                    },
                )

    async def _handle_request(
        self, scope: Scope, receive: Receive, response: _Response, path: str
    ) -> None:
        scope["modelbook.headers"] = headers = dict(scope["headers"])
        response.request_id = _get_request_id(headers)
        traceparent = headers.get(b"traceparent")
        if self._service.tracer is not None and path not in UNTRACED_PATHS:
            response.span = self._service.tracer.start_request(
                scope["method"], _find_route(path), headers
            )
            traceparent = response.span.traceparent
        REQUEST_CONTEXT.set((response.request_id, traceparent))
        if path not in PROBE_PATHS:
            self._service.access.check_origin(headers)
        is_public = path in PUBLIC_PATHS or path.startswith(STATIC_PREFIX)
        if not is_public or scope["method"] == "POST":  # the form predicts, too
            caller = (scope.get("client") or ("",))[0]
            api_key = None if is_public else self._authorize(scope["method"], path, headers, caller)
            if self._service.in_flight > self._max_concurrent_requests:
                raise RequestError(
                    503, "too many concurrent requests", headers={"retry-after": "1"}
                )
            if self._rate_limiter:
                self._rate_limiter.acquire(api_key.name if api_key else caller)
        if path == "/predict" and scope["method"] == "POST" and b"origin" not in headers:
            require_content_type(headers, "application/json")
            body = await self._service.read_json_body(scope, receive)
            response_body = await self._service.predict(body, read_user_id(headers))
            await response.send_json(200, response_body)
            return
        scope["modelbook.request_id"] = response.request_id
        await self._app(scope, receive, response.forward)

    def _authorize(self, method: str, path: str, headers: Headers, caller: str) -> ApiKey | None:
        """Return the key that authorizes a request; None if no key is required."""
        if method == "OPTIONS":  # CORS preflight: browsers send no key with it
            return None
        key_header = (
            headers.get(b"x-api-key") or headers.get(b"authorization", b"").partition(b"Bearer ")[2]
        )
        required_scope = "predict" if path.endswith(INFER_SUFFIX) else REQUIRED_SCOPES.get(path)
        return self._service.access.authorize(
            key_header.decode("latin-1") if key_header else None, caller, required_scope
        )


class _Response:
    """Response of one request; sends the request id in its headers and records the status."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._scope = scope
        self.request_id, self.status = "", 0
        self.span: RequestSpan | None = None  # None while it is not traced

    async def send_json(
        self, status: int, body: bytes, extra_headers: dict[str, str] | None = None
    ) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id.encode()),
            NOSNIFF_HEADER,
        ]
        if extra_headers:
            headers += [(name.encode(), value.encode()) for name, value in extra_headers.items()]
        if status >= 400:
            headers += self._make_connection_headers()
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        is_head_request = self._scope["method"] == "HEAD"
        await self._send({"type": "http.response.body", "body": b"" if is_head_request else body})

    def _make_connection_headers(self) -> list[tuple[bytes, bytes]]:
        """Return a header that closes the connection after a rejection, unless the body is short.

        A short body is read and discarded: a client that is still sending it would lose the
        response.
        """
        scope = self._scope
        if scope["method"] in ("GET", "HEAD") or "modelbook.body_read" in scope:
            return []
        content_length = scope["modelbook.headers"].get(b"content-length", b"")
        is_short = content_length.isdigit() and int(content_length) <= MAX_DISCARDED_BYTES
        return [] if is_short else [(b"connection", b"close")]

    async def send_error(self, error: RequestError) -> None:
        if not self.status:  # else the response has started already
            self.request_id = self.request_id or make_prediction_id()
            body = {**error.to_dict(), "request_id": self.request_id}
            await self.send_json(error.status, orjson.dumps(body), error.headers)

    async def forward(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (b"x-request-id", self.request_id.encode()),
                NOSNIFF_HEADER,
                *(self._make_connection_headers() if self.status >= 400 else []),
            ]
        await self._send(message)


def _find_route(path: str) -> str:
    """Return the route of a path, for traces; empty for an unknown path."""
    if path.endswith(INFER_SUFFIX):
        return "/v2/models/{name}/infer"
    return path if path in PATH_LABELS or path in PUBLIC_PATHS else ""


def _get_request_id(headers: Headers) -> str:
    request_id = headers.get(b"x-request-id")
    return (
        request_id.decode()
        if request_id and REQUEST_ID_PATTERN.fullmatch(request_id)
        else make_prediction_id()
    )
