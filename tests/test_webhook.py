"""Webhook of monitor: payload, retries, errors without the URL."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from modelbook.monitoring import webhook
from modelbook.redaction import redact

SECRET = "/services/T01/not-to-be-seen"
BODY = {"verdict": "watch", "sentences": ["Batch 4 has 100 rows."], "text": "µ"}


class StatusServer:
    """A server that responds with the given statuses in turn, and then always with the last."""

    def __init__(self, statuses: list[int], delay: float) -> None:
        self.statuses, self.delay, self.got = statuses, delay, []
        self.url = ""


@contextmanager
def start_receiver(*statuses: int, delay: float = 0) -> Iterator[StatusServer]:
    receiver = StatusServer(list(statuses), delay)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append((self.path, self.headers["content-type"], json.loads(content)))
            time.sleep(receiver.delay)
            self.send_response(
                receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            )
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}{SECRET}"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def test_verdict_is_posted_once_as_json():
    with start_receiver(200) as receiver:
        assert webhook.post_json(receiver.url, {**BODY, "cost": float("nan")}) == ""
    assert receiver.got == [(SECRET, "application/json", {**BODY, "cost": None})]


def test_post_is_retried_on_temporary_errors(monkeypatch):
    monkeypatch.setattr(webhook, "RETRY_DELAYS", (0, 0.05, 0.05))
    with start_receiver(503, 429, 204) as receiver:
        assert webhook.post_json(receiver.url, BODY) == ""
    assert len(receiver.got) == 3


@pytest.mark.parametrize(
    ("status", "tries", "reason"),
    [(500, 3, r"\b500\b.*\b3\b"), (404, 1, r"\b404\b"), (302, 1, r"\b302\b")],
)  # fmt: skip
def test_rejected_post_is_reported_without_the_url(
    status: int, tries: int, reason: str, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(webhook, "RETRY_DELAYS", (0, 0, 0))
    caplog.set_level(logging.DEBUG)
    with start_receiver(status) as receiver:
        error = webhook.post_json(receiver.url, BODY)
    assert error.startswith(webhook.mask_url(receiver.url))
    assert SECRET not in error
    assert re.search(reason, error)
    assert len(receiver.got) == tries
    assert SECRET not in caplog.text
    assert logging.getLogger("httpx").level == logging.NOTSET


def test_slow_or_unreachable_receiver_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "RETRY_DELAYS", (0, 0))
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.1)
    with start_receiver(200, delay=5) as receiver:
        start_time = time.monotonic()
        result = webhook.post_json(receiver.url, BODY)
        assert time.monotonic() - start_time < 4
    assert re.search(r"ReadTimeout.*\b2\b", result)
    assert re.search(r"ConnectError.*\b2\b", webhook.post_json(receiver.url, BODY))


@pytest.mark.parametrize(
    "url", ["hooks.example.com/abcdef", "ftp://host/abcdef", "https://", "http://[", "http://h:x/"]
)
def test_invalid_url_is_reported_without_showing_it(url: str) -> None:
    result = webhook.post_json(url, BODY)
    assert result.startswith("MODELBOOK_WEBHOOK")
    assert "https://" in result
    assert "abcdef" not in result


def test_url_comes_from_environment_and_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(webhook.URL_VARIABLE, raising=False)
    assert webhook.find_configured_url() == ""
    monkeypatch.setenv(
        webhook.URL_VARIABLE, "https://user:pass@hooks.example.com:8443/abcdef?key=1"
    )
    assert webhook.mask_url(webhook.find_configured_url()) == "https://hooks.example.com:8443/***"
    assert "abcdef" not in redact(f"it is {webhook.find_configured_url()}")
