"""Requests: errors, headers, and bodies within limits.

The cost of a request is limited before it is parsed.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlette.types import Receive

from modelbook.contract import text_layout
from modelbook.formatting import format_count

if TYPE_CHECKING:
    from modelbook.contract import Column
    from modelbook.serving.settings import LimitSettings

Headers = dict[bytes, bytes]
MAX_USER_ID_LENGTH = 200  # characters
# Larger bodies are counted as buffered, and parsed off the event loop; an object of at most this
# size is cheap to validate, with any content.
LARGE_BODY_BYTES = 65_536
# A JSON string. It ends at the body's end if it is not closed, so a search never starts again
# inside of one: the time is linear in the length of any body.
JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
SPARE_TOKENS = 64  # beyond those of valid rows, so that an invalid value gets its message
DELIMITERS = [delimiter.encode() for delimiter in text_layout.DELIMITERS]
MAX_EXTRA_COLUMNS = 100  # columns of an uploaded table that the contract does not name
# Most bytes of a value in JSON; text has no bound.
VALUE_BYTES = {"number": 40, "integer": 40, "boolean": 40, "date": 210}


@dataclass(frozen=True)
class InvalidValue:
    """A value that breaks the contract; ``row`` counts from 0 and is None for a single object."""

    row: int | None
    field: str
    value: str
    expected: str

    def __str__(self) -> str:
        prefix = "" if self.row is None else f"row {self.row}: "
        return f"{prefix}{self.field or 'the row'} = {self.value}: must be {self.expected}"


@dataclass
class RequestError(Exception):
    """A rejected request."""

    status: int
    message: str
    expected: str = ""
    invalid_values: list[InvalidValue] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the error response."""
        body: dict[str, Any] = {"error": self.message}
        if self.expected:
            body["expected"] = self.expected
        if self.invalid_values:
            body["rejected"] = [asdict(invalid) for invalid in self.invalid_values]
        return body


@dataclass(frozen=True)
class BodyLimits:
    """Limits of a valid request, from the contract and the settings.

    Attributes
    ----------
    max_bytes : int
        Bytes of a JSON body, as far as the contract bounds them.
    """

    max_rows: int
    max_fields: int
    max_bytes: int = sys.maxsize

    def check_json(self, body: bytes, is_list: bool) -> None:
        """Refuse a JSON body that cannot be valid, by its brackets and separators.

        Raises
        ------
        RequestError
            413 if it has too many objects, or more values than valid rows have.
        """
        if not is_list and len(body) <= LARGE_BODY_BYTES:
            return
        max_rows = self.max_rows if is_list else 1
        max_tokens = max_rows * (2 * self.max_fields + 2) + SPARE_TOKENS
        has_few_objects = not is_list or body.count(b"{") <= max_rows
        if has_few_objects and (len(body) <= max_tokens or _count_tokens(body) <= max_tokens):
            return
        body = JSON_STRING.sub(b"", body)
        if is_list and (row_count := body.count(b"{")) > max_rows:
            raise RequestError(
                413, f"{row_count:,} rows in one request", expected=f"at most {max_rows:,}"
            )
        replace(self, max_rows=max_rows).check_tokens(body, max_tokens)

    def check_tokens(self, body: bytes, max_tokens: int) -> None:
        """Refuse a JSON body with more brackets and separators than a valid one has.

        Raises
        ------
        RequestError
            413 if it has more.
        """
        if len(body) <= max_tokens or _count_tokens(body) <= max_tokens:
            return
        token_count = _count_tokens(JSON_STRING.sub(b"", body))
        if token_count > max_tokens:
            raise RequestError(
                413,
                f"the body has {token_count:,} names, values and brackets",
                expected=f"at most {format_count(self.max_rows, 'row')} of "
                f"{format_count(self.max_fields, 'field')}",
            )


def _count_tokens(body: bytes) -> int:
    return body.count(b",") + body.count(b":") + body.count(b"{") + body.count(b"[")


def derive_body_limits(columns: dict[str, Column], max_rows: int) -> BodyLimits:
    """Return the limits of requests with rows of these columns."""
    row_bytes = 0
    for name, column in columns.items():
        if column.type == "text" or column.allow_unseen:
            return BodyLimits(max_rows, len(columns))
        value_bytes = max(
            VALUE_BYTES.get(column.type, 210 if column.number_format else 0),
            *(6 * len(text) + 2 for text in column.categories or [""]),
        )
        row_bytes += 6 * len(name) + value_bytes + 6  # a character may be written as \u0000
    # Twice: JSON may be indented.
    return BodyLimits(max_rows, len(columns), 1000 + 2 * max_rows * row_bytes)


def check_table(body: bytes, max_rows: int, max_columns: int) -> None:
    """Refuse an uploaded table with too many lines or columns before it is parsed.

    Raises
    ------
    RequestError
        413 for too many lines or columns.
    """
    line_count = max(body.count(b"\n"), body.count(b"\r"))
    if line_count > max_rows + 1:
        raise RequestError(
            413,
            f"the table has {line_count:,} lines",
            expected=f"at most {format_count(max_rows, 'row')}; for more: modelbook score",
        )
    header = re.split(rb"[\r\n]", body, maxsplit=1)[0]
    if (column_count := max(map(header.count, DELIMITERS)) + 1) > max_columns:
        raise RequestError(
            413, f"the table has {column_count:,} columns", expected=f"at most {max_columns:,}"
        )


class BodyReader:
    """Reads bodies within limits of size, time, and of bytes that are buffered at once."""

    def __init__(self, limits: LimitSettings) -> None:
        self._timeout_seconds = limits.body_timeout_seconds
        self._max_buffered_bytes = limits.max_buffered_bytes
        self.buffered_bytes = 0

    async def read(self, scope: Any, receive: Receive, max_bytes: int) -> bytes:
        """Read a request's body. ``release`` it when the request is finished.

        Raises
        ------
        RequestError
            413 if it exceeds ``max_bytes``, 408 if it takes too long, 503 if too many large bodies
            are being processed.
        """
        content_length = scope["modelbook.headers"].get(b"content-length", b"")
        if content_length.isdigit() and int(content_length) > max_bytes:
            raise _make_size_error(f"{int(content_length):,}", max_bytes)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                body = await self._receive_body(scope, receive, max_bytes)
        except TimeoutError:
            raise RequestError(
                408, f"the body did not arrive within {self._timeout_seconds:g} seconds"
            ) from None
        scope["modelbook.body_read"] = True
        return body

    async def _receive_body(self, scope: Any, receive: Receive, max_bytes: int) -> bytes:
        chunks = []
        size = 0
        has_more = True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(400, "the connection closed before the body was complete")
            chunks.append(message.get("body", b""))
            size = size + len(chunks[-1])
            has_more = message.get("more_body", False)
            if size > max_bytes:
                raise _make_size_error(f"more than {max_bytes:,}", max_bytes)
            if size > LARGE_BODY_BYTES:
                self._reserve(scope, size)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _reserve(self, scope: Any, size: int) -> None:
        reserved = scope.get("modelbook.body_bytes", 0)
        if self.buffered_bytes - reserved + size > self._max_buffered_bytes:
            raise RequestError(
                503,
                "too many large requests at once",
                expected=f"bodies of {self._max_buffered_bytes:,} bytes together",
                headers={"retry-after": "1"},
            )
        scope["modelbook.body_bytes"] = size
        self.buffered_bytes += size - reserved

    def release(self, scope: Any) -> None:
        """Stop counting a request's body as buffered."""
        self.buffered_bytes -= scope.pop("modelbook.body_bytes", 0)


def _make_size_error(size: str, max_bytes: int) -> RequestError:
    return RequestError(413, f"the body has {size} bytes", expected=f"at most {max_bytes:,} bytes")


def require_content_type(headers: Headers, *kinds: str) -> str:
    """Return the content type of a request, one of ``kinds``.

    Raises
    ------
    RequestError
        415 for any other content type, or for a compressed body.
    """
    content_type = (
        headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    )
    if content_type not in kinds:
        raise RequestError(
            415, f"unsupported content type {content_type[:80]!r}", expected=" or ".join(kinds)
        )
    content_encoding = headers.get(b"content-encoding", b"identity")
    if content_encoding != b"identity":
        raise RequestError(
            415,
            f"unsupported content encoding {content_encoding.decode('latin-1')[:80]!r}",
            expected="an uncompressed body",
        )
    return content_type


def read_user_id(headers: Headers) -> str | None:
    """Return the user id of the request's ``X-User-Id`` header, or None.

    Raises
    ------
    RequestError
        422 if it is too long.
    """
    user_id = headers.get(b"x-user-id", b"")
    if len(user_id) > MAX_USER_ID_LENGTH:
        raise RequestError(
            422,
            f"X-User-Id has {len(user_id):,} characters",
            expected=f"at most {MAX_USER_ID_LENGTH}",
        )
    return user_id.decode("latin-1") or None
