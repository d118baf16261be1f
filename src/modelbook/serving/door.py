"""The door: everything that comes passes here first. Keys, limits, request ids, one shape for all refusals, the log.

An ASGI application around FastAPI's. Predictions do not go through FastAPI: what it does for a request (routing,
dependencies, encoding) takes longer than reading, answering and journaling a row together.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from modelbook.serving.keys import Key
from modelbook.serving.limits import Rates
from modelbook.serving.refusals import Refusal
from modelbook.serving.service import Service, new_id

LOG = logging.getLogger("modelbook.serving")

OPEN = ("/", "/health/live", "/health/ready", "/docs", "/redoc", "/openapi.json", "/favicon.ico")  # want no key
STATIC = "/static/"
SCOPE = {"/predict": "predict", "/predict/csv": "predict", "/outcomes": "outcomes", "/metrics": "admin"}
LONGEST = 200  # characters of a user's id
NAMED = re.compile(rb"[\w.:-]{1,64}")  # a request id that a caller may choose
FAILED = "something went wrong here, not with the request; the log knows it by the request's id"


class Door:
    """The application that uvicorn runs.

    Parameters
    ----------
    app : ASGI application
        Whatever is not answered here.
    """

    def __init__(self, service: Service, app: Any) -> None:
        self._service, self._app = service, app
        limits = service.settings.limits
        self._rates = Rates(limits.rate) if limits.rate else None
        self._most, self._body = limits.concurrency, limits.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
                return
            await self._app(scope, receive, send)
            return
        service, began, path = self._service, time.perf_counter(), scope["path"]
        answer = _Answer(send, scope)
        service.in_flight += 1
        try:
            await self._serve(scope, receive, answer, path)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Exception:
            LOG.exception("a request failed", extra={"request_id": answer.id, "path": path[:100]})
            await answer.refuse(Refusal(500, FAILED))
        finally:
            service.in_flight -= 1
            seconds = time.perf_counter() - began
            service.metrics.took(path, seconds)
            if answer.status >= 400:
                service.metrics.refused(answer.status)
            if LOG.isEnabledFor(logging.DEBUG):
                LOG.debug("request", extra={"request_id": answer.id, "method": scope["method"], "path": path[:100],
                          "status": answer.status, "milliseconds": round(seconds * 1000, 3)})  # fmt: skip

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer, path: str) -> None:
        headers = dict(scope["headers"])
        answer.id = _request_id(headers)
        if path not in OPEN and not path.startswith(STATIC):
            key = self._admit(scope, headers, path)
            if self._service.in_flight > self._most:
                raise Refusal(503, "too many requests are at work", headers={"retry-after": "1"})
            if self._rates:
                self._rates.take(key.name if key else (scope.get("client") or ("",))[0])
        if path == "/predict" and scope["method"] == "POST" and b"origin" not in headers:
            wanted(headers, "application/json")
            body = await read(receive, headers, self._body, self._service.settings.limits.seconds)
            told = await self._service.predict(body, user_of(headers))
            await answer.json(200, told)
            return
        scope["modelbook.headers"], scope["modelbook.id"] = headers, answer.id
        await self._app(scope, receive, answer.forward)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes], path: str) -> Key | None:
        """The key that lets a request in; None where none is wanted."""
        if scope["method"] == "OPTIONS":  # a browser asks whether it may ask; it sends no key then
            return None
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").partition(b"Bearer ")[2]
        caller = (scope.get("client") or ("",))[0]
        return self._service.admit(given.decode("latin-1") if given else None, caller, SCOPE.get(path))


class _Answer:
    """One answer on its way out: status, and the request's id in its headers."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send, self.id, self.status, self._head = send, "", 0, scope["method"] == "HEAD"

    async def json(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
        headers = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.id.encode()), *((k.encode(), v.encode()) for k, v in (more or {}).items()),
        ]  # fmt: skip
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})

    async def refuse(self, refusal: Refusal) -> None:
        if not self.status:  # else an answer is under way, and all that is left is to end it
            self.id = self.id or new_id()
            told = {**refusal.to_dict(), "request_id": self.id}
            await self.json(refusal.status, orjson.dumps(told), refusal.headers)

    async def forward(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
        await self._send(message)


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    return given.decode() if given and NAMED.fullmatch(given) else new_id()


def user_of(headers: dict[bytes, bytes]) -> str | None:
    """Who is asked about, by the request's header.

    Raises
    ------
    Refusal
        422 for a name without end.
    """
    given = headers.get(b"x-user-id", b"")
    if len(given) > LONGEST:
        raise Refusal(422, f"X-User-Id of {len(given):,} characters", expected=f"at most {LONGEST}")
    return given.decode("latin-1") or None


def wanted(headers: dict[bytes, bytes], *kinds: str) -> str:
    """The content type of a request, one of ``kinds``.

    Raises
    ------
    Refusal
        415 for another one, or for a body that is compressed.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind not in kinds:
        raise Refusal(415, f"the content type {kind[:80]!r}", expected=" or ".join(kinds))
    coding = headers.get(b"content-encoding", b"identity")
    if coding != b"identity":
        raise Refusal(415, f"the content encoding {coding.decode('latin-1')[:80]!r}", expected="a body as it is")
    return kind


async def read(receive: Receive, headers: dict[bytes, bytes], most: int, seconds: float) -> bytes:
    """A request's body.

    Raises
    ------
    Refusal
        413 when it is larger than ``most`` bytes, 408 when it takes longer than ``seconds``.
    """
    told = headers.get(b"content-length", b"")
    if told.isdigit() and int(told) > most:
        raise Refusal(413, f"a body of {int(told):,} bytes", expected=f"at most {most:,}")
    parts, size, more = [], 0, True
    try:
        async with asyncio.timeout(seconds):
            while more and size <= most:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "the body broke off")
                parts.append(message.get("body", b""))
                size, more = size + len(parts[-1]), message.get("more_body", False)
    except TimeoutError:
        raise Refusal(408, f"the body took longer than {seconds:g} seconds") from None
    if size > most:
        raise Refusal(413, f"a body of more than {most:,} bytes", expected=f"at most {most:,}")
    return b"".join(parts)
