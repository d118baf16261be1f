"""uvicorn's HTTP protocol with limits on headers: size, time until they are complete, one Host.

uvicorn checks none of them with httptools: a header of any size is held in memory, and a connection
that never completes one stays open.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

LIMITS_STATE = "limits"  # name of the lifespan state that holds the LimitSettings


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP over one connection.

    The limits come from the lifespan state of the application.
    """

    _header_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0  # received since the header of the current request began
    _is_header_complete = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self.app_state[LIMITS_STATE]
        self._max_header_bytes = limits.max_header_bytes
        self._header_timeout_seconds = limits.header_timeout_seconds
        self._start_header_timer()

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)
        if self._is_header_complete:
            # What arrives next is the rest of the body, or the header of another request.
            self._header_bytes = 0
        elif self._header_bytes > self._max_header_bytes:
            self._reject(431, f"the header has more than {self._max_header_bytes:,} bytes")
        elif self._header_timer is None and not self.transport.is_closing():
            self._start_header_timer()

    def on_message_begin(self) -> None:
        self._is_header_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_header_complete = True
        if self._header_timer is not None:
            self._cancel_header_timer()
        if self._header_bytes > self._max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._max_header_bytes:
                self._reject(431, f"the header has {size:,} bytes")
                raise ValueError("the header is too large")  # ends the parser
        if sum(name == b"host" for name, _ in self.headers) > 1:
            self._reject(400, "the request has several hosts")
            raise ValueError("several hosts")  # ends the parser
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():  # else the request was refused already
            super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_header_timer()
        super().connection_lost(exc)

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(
            self._header_timeout_seconds, self._reject, 408, "the header did not arrive in time"
        )

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _reject(self, status: int, reason: str) -> None:
        """Respond and close the connection."""
        self._cancel_header_timer()
        if self.transport.is_closing():
            return
        self.logger.warning("a connection was closed", extra={"status": status, "reason": reason})
        body = b'{"error":"%s"}' % reason.encode()
        head: list[Any] = [
            STATUS_LINE[status],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n\r\n" % len(body),
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()
