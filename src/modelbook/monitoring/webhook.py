"""Post verdicts as JSON to a webhook.

The URL is a secret, because anyone with the URL can post to it. It is read from the environment
only, and messages show no more than its host.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from modelbook import formatting
from modelbook.formatting import format_count
from modelbook.redaction import MASK

URL_VARIABLE = "MODELBOOK_WEBHOOK"
RETRY_DELAYS = (0.0, 1.0, 4.0)  # seconds before each attempt
TIMEOUT_SECONDS = 5.0  # to connect, and again to receive the response
HTTP_LOGGERS = ("httpx", "httpcore")  # they would log the URL


def find_configured_url() -> str:
    """Return the webhook's URL from the environment; empty if none is set."""
    return os.environ.get(URL_VARIABLE, "").strip()


def post_json(url: str, body: dict[str, Any]) -> str:
    """Post a body as JSON, with retries; numbers that JSON does not know, as NaN, are null.

    Returns the reason of a failure, without the URL; empty on success.
    """
    import httpx

    host = mask_url(url)
    if not host:
        return f"{URL_VARIABLE} is not a webhook URL; expected: https://host/..."
    body = formatting.replace_non_finite_numbers(body)
    problem = ""
    with _silence_http_loggers(), httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        for delay in RETRY_DELAYS:
            time.sleep(delay)
            try:
                with client.stream("POST", url, json=body) as response:  # the body is not read
                    status = response.status_code
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                problem = f"{host}: {type(error).__name__}"
                continue
            if 200 <= status < 300:
                return ""
            problem = f"{host}: status {status}"
            if status < 500 and status not in (408, 425, 429):
                return f"{problem}, not retried"
    return f"{problem}, after {format_count(len(RETRY_DELAYS), 'attempt')}"


def mask_url(url: str) -> str:
    """Return a URL reduced to scheme and host; empty if it is not an HTTP URL."""
    try:
        components = urlsplit(url)
        host, port = components.hostname, components.port
    except ValueError:
        return ""
    if components.scheme not in ("http", "https") or not host:
        return ""
    return f"{components.scheme}://{host}{f':{port}' if port else ''}/{MASK}"


@contextmanager
def _silence_http_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in HTTP_LOGGERS]
    previous_levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, previous_levels, strict=True):
            logger.setLevel(level)
