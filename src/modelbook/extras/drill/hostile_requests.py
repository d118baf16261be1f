"""Guarantees against hostile clients: costly requests, slow headers, foreign sites, markup.

The docstring of a function is the guarantee as the report shows it.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from modelbook.extras.drill.services import (
    WAIT_SECONDS,
    Measurements,
    ServiceCopy,
    require,
    wait_until,
)
from modelbook.serving.access import ApiKeyStore

MAX_HEALTH_SECONDS = 0.1
MAX_MEMORY_MB = 512  # limit of a pod in deploy/kubernetes/base/service.yaml
MAX_CPU_SECONDS = 0.3
HEADER_TIMEOUT_SECONDS = 2
IDLE_CONNECTIONS = 80
HEADER_BYTES = 50_000_000
PAGES = ("/", "/docs", "/redoc")


class HealthPoller:
    """Sends health checks one after the other, and records the longest wait.

    Time for which service or poller waited for a processor is subtracted: other programs used it.
    """

    def __init__(self, copy: ServiceCopy, service_pid: int) -> None:
        self._copy = copy
        self._is_done = threading.Event()
        self._service_threads = Path(f"/proc/{service_pid}/task")
        self.longest_seconds = 0.0

    def _poll(self) -> None:
        poller = Path(f"/proc/self/task/{threading.get_native_id()}")
        while not self._is_done.is_set():
            threads = [poller, *self._service_threads.glob("*")]
            queued = [_read_queued_seconds(thread) for thread in threads]
            start_time = time.perf_counter()
            self._copy.try_get("/health/live")
            seconds = time.perf_counter() - start_time
            for thread, before in zip(threads, queued):
                seconds -= max(0.0, _read_queued_seconds(thread) - before)
            self.longest_seconds = max(self.longest_seconds, seconds)
            time.sleep(0.01)

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Poll until the block ends."""
        thread = threading.Thread(target=self._poll)
        thread.start()
        try:
            yield
        finally:
            self._is_done.set()
            thread.join()


def _read_queued_seconds(thread: Path) -> float:
    """Seconds for which a thread waited for a processor; 0 where Linux does not report it."""
    try:
        return int((thread / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def poison_requests(copy: ServiceCopy) -> Measurements:
    """Hostile requests are rejected at low cost, and health responds within 100 ms meanwhile."""
    process = psutil.Process(copy.start().pid)
    copy.send("POST", "/predict", json.dumps(copy.read_example()))  # what the first one loads
    statuses = []
    cpu = []
    memory = []
    health = HealthPoller(copy, process.pid)
    with health.polling():
        for path, kind, body in _make_hostile_requests():
            before = sum(process.cpu_times()[:2])
            statuses.append(copy.send("POST", path, body, {"content-type": kind})[0])
            cpu.append(sum(process.cpu_times()[:2]) - before)
            memory.append(process.memory_info().rss / 1e6)
    numbers = {
        "requests": len(statuses),
        "CPU of the costliest, ms": round(max(cpu) * 1000),
        "longest health check, ms": round(health.longest_seconds * 1000),
        "memory, MB": round(max(memory)),
    }
    require(all(400 <= status < 500 for status in statuses), f"statuses {statuses}", **numbers)
    require(max(cpu) <= MAX_CPU_SECONDS, "a request cost more CPU time", **numbers)
    require(max(memory) <= MAX_MEMORY_MB, f"it takes more than {MAX_MEMORY_MB} MB", **numbers)
    is_quick = health.longest_seconds <= MAX_HEALTH_SECONDS
    require(is_quick, "a health check took longer", **numbers)
    return numbers


def _make_hostile_requests() -> list[tuple[str, str, bytes]]:
    json_type, csv_type = "application/json", "text/csv"
    names = b",".join(b'"k%d":1' % i for i in range(60_000))
    return [
        ("/predict", json_type, b"[" + b"{}," * 299_999 + b"{}]"),
        ("/predict", json_type, b"{" + names + b"}"),
        ("/predict", json_type, b"[" * 1_000_000),
        ("/predict", json_type, b'["' + b'\\"' * 499_000),
        ("/outcomes", json_type, b"[" + b"{}," * 299_999 + b"{}]"),
        ("/predict/csv", csv_type, b",".join(b"c%d" % i for i in range(100_000))),
        ("/predict/csv", csv_type, b"\n" * 1_000_000),
        ("/", "application/x-www-form-urlencoded", b"a=1&" * 200_000),
    ]


def flood_headers(copy: ServiceCopy) -> Measurements:
    """A huge header and endless headers are rejected; other clients are still served."""
    process = psutil.Process(copy.start(LIMITS__HEADER_TIMEOUT_SECONDS=HEADER_TIMEOUT_SECONDS).pid)
    memory = process.memory_info().rss
    with _connect(copy) as large:
        sent = _send_header(large, HEADER_BYTES)
        require(b" 431 " in _receive(large), "a huge header is not refused")
    grown = (process.memory_info().rss - memory) / 1e6
    require(sent < HEADER_BYTES, f"it received a header of {HEADER_BYTES:,} bytes")
    require(grown < 64, f"a header took {grown:.0f} MB")
    start_time = time.monotonic()
    with ExitStack() as stack:
        slow = [stack.enter_context(_connect(copy)) for _ in range(IDLE_CONNECTIONS)]
        for connection in slow:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: ")
        require(copy.try_get("/health/live")[0] == 200, "they lock others out")
        responses = [_receive(connection) for connection in slow]
    require(
        all(b" 408 " in response for response in responses), "a half-sent header is not refused"
    )
    return {
        "bytes taken of a header": sent,
        "memory for it, MB": round(grown),
        "half-sent headers": len(slow),
        "seconds until refused": round(time.monotonic() - start_time, 1),
    }


def _connect(copy: ServiceCopy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", copy.port), timeout=WAIT_SECONDS)


def _send_header(connection: socket.socket, size: int) -> int:
    """Send a header until it is rejected; return the bytes that were sent."""
    sent = 0
    chunk = b"y" * 65_536
    with suppress(OSError):
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
        while sent < size:
            connection.sendall(chunk)
            sent += len(chunk)
    return sent


def _receive(connection: socket.socket) -> bytes:
    with suppress(OSError):
        return connection.recv(65_536)
    return b""


def send_foreign_requests(copy: ServiceCopy) -> Measurements:
    """Without keys only this machine is served; after the last key is removed, no client is."""
    process = copy.start(API_KEYS="on")
    journaled_before = len(copy.read_journaled_ids())
    row = json.dumps(copy.read_example())
    json_type = {"content-type": "application/json"}
    form = {"content-type": "multipart/form-data; boundary=b"}
    foreign = (
        (row, {**json_type, "host": "example.com"}),
        (row, {**json_type, "origin": "http://example.com"}),
        (b"--b--\r\n", {**form, "origin": "http://example.com"}),
        (row, {**json_type, "x-forwarded-for": "192.0.2.1"}),
    )
    for body, headers in foreign:
        path = "/predict/csv" if headers["content-type"] == form["content-type"] else "/predict"
        status, _ = copy.send("POST", path, body, headers)
        require(status == 403, f"a request with {list(headers)[-1]} gets status {status}")
    require(copy.send("POST", "/predict", row)[0] == 200, "a program of this machine is refused")
    foreign_rows = len(copy.read_journaled_ids()) - journaled_before - 1
    require(foreign_rows == 0, f"{foreign_rows} foreign requests are in the journal")
    keys = ApiKeyStore(copy.root)
    keys.add_key("drill", ["predict"])
    wait_until(lambda: copy.send("POST", "/predict", row)[0] == 401, "the key is not required")
    keys.remove_key("drill")
    process.terminate()
    process.wait(WAIT_SECONDS)
    copy.start(API_KEYS="on")
    status, _ = copy.send("POST", "/predict", row)
    require(status == 401, f"without its last key the service responds with {status}")
    return {"foreign requests refused": len(foreign), "of them journaled": 0}


def serve_pages(copy: ServiceCopy) -> Measurements:
    """No page runs markup of a table, inline scripts, or scripts of other hosts."""
    copy.start()
    for path in PAGES:
        headers = copy.read_headers(path)
        page = copy.send("GET", path)[1].decode()
        policy = headers["content-security-policy"]
        rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
        scripts = rules.get("script-src", rules["default-src"])
        require(scripts in ("'self'", "'none'"), f"{path} allows scripts of {scripts}")
        require(rules.get("frame-ancestors") == "'none'", f"{path} may be framed")
        require(headers["x-content-type-options"] == "nosniff", f"{path} may be sniffed")
        require(not re.search(r"<script(?![^>]*\ssrc=\"/)", page), f"{path} has an inline script")
    document = json.loads(copy.send("GET", "/openapi.json")[1])
    markup = [text for text in _find_descriptions(document) if "<" in text]
    require(not markup, f"markup in a description: {markup[:1]}")
    return {"pages": len(PAGES), "descriptions": len(list(_find_descriptions(document)))}


def _find_descriptions(part: object) -> Iterator[str]:
    if isinstance(part, dict) and isinstance(part.get("description"), str):
        yield part["description"]
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for value in values:
        yield from _find_descriptions(value)
