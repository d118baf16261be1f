"""The webhook: a verdict, as JSON, to the address that the environment names.

The address is a secret, for who knows it may write there. So it stands in the environment alone, and only its host is
ever told.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from modelbook.redaction import MASK

NAMED = "MODELBOOK_WEBHOOK"
WAITS = (0.0, 1.0, 4.0)  # seconds before each try
TIMEOUT = 5.0  # seconds to connect, and again to be answered
LOGS = ("httpx", "httpcore")  # they would write the address


def address() -> str:
    """Where verdicts are sent; empty for nowhere."""
    return os.environ.get(NAMED, "").strip()


def send(url: str, body: dict[str, Any], *, waits: Sequence[float] | None = None, timeout: float = TIMEOUT) -> str:
    """Post a body as JSON, again after a while where it was not taken.

    Parameters
    ----------
    waits : sequence of float, optional
        Seconds before each try; ``WAITS``.
    timeout : float
        Seconds to connect, and again to be answered.

    Returns
    -------
    str
        Why it was not taken, in words that do not hold the address; empty where it was.
    """
    import httpx

    host = masked(url)
    if not host:
        return f"{NAMED} is no address of a webhook; expected: https://host/..."
    told, waits = "", WAITS if waits is None else waits
    with _hushed(), httpx.Client(timeout=timeout) as client:
        for wait in waits:
            time.sleep(wait)
            try:
                with client.stream("POST", url, json=body) as answer:  # what it says does not matter, nor how long
                    status = answer.status_code
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                told = f"{host}: {type(error).__name__}"
                continue
            if 200 <= status < 300:
                return ""
            told = f"{host}: status {status}"
            if status < 500 and status not in (408, 425, 429):
                return f"{told}, which another try would not change"
    return f"{told}, after {len(waits)} tries"


def masked(url: str) -> str:
    """An address by its scheme and host alone; empty for what is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host:
        return ""
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}/{MASK}"


@contextmanager
def _hushed() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGS]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
