"""Ids of the current request, which each line of the log within it has."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar

# Request id and the header ``traceparent`` (W3C Trace Context).
REQUEST_CONTEXT: ContextVar[tuple[str, bytes | None]] = ContextVar("request", default=("", None))
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


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
