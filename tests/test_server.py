"""The server over real sockets: kills, load, workers, limits, fuzzing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from sklearn.linear_model import LogisticRegression
from small_project import BIN
from version_store import BOOK, JSON, RunningServer, VersionStore, fit_pipeline, run_server

from modelbook.journal.writer import FILE_CHECK_SECONDS
from modelbook.serving import server as server_module

pytestmark = pytest.mark.slow
ROW = {"colour": "11", "size": 80.0, "noise": None, "flag": 1}


@pytest.fixture(scope="module")
def template_store(make_frame, contract, tmp_path_factory) -> VersionStore:
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    version_store.register(
        fit_pipeline(frame, contract, LogisticRegression(C=0.01)), contract, frame
    )
    return version_store


@pytest.fixture
def version_store(template_store: VersionStore, tmp_path: Path) -> VersionStore:
    """Two versions, of which the first is champion."""
    return template_store.copy(tmp_path)


@pytest.fixture(scope="module")
def server(template_store: VersionStore, tmp_path_factory) -> Iterator[RunningServer]:
    """A server for tests that only send requests, with a log file in its folder."""
    with run_server(template_store.copy(tmp_path_factory.mktemp("served")).root) as server:
        yield server


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def journaled_ids(version_store: VersionStore) -> set[str]:
    with closing(sqlite3.connect(version_store.root / "data" / BOOK / "journal.db")) as connection:
        return {row[0] for row in connection.execute("select id from predictions")}


def read_metric(server: RunningServer, series: str) -> float:
    lines = server.request("GET", "/metrics")[1].splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series))


class RequestLoop(threading.Thread):
    """Sends requests over one connection until it is stopped or the server has ended."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self._server, self.is_stopped = server, False
        self.responses: list[dict[str, Any]] = []
        self.failures: list[Any] = []

    def serves(self, number: int) -> bool:
        """Whether the last response is of this version."""
        return bool(self.responses) and self.responses[-1]["model_version"] == number

    def run(self) -> None:
        with closing(self._server.connect()) as connection:
            while not self.is_stopped:
                try:
                    connection.request("POST", "/predict", json.dumps(ROW), JSON)
                    result = connection.getresponse()
                    text = result.read()
                except (OSError, http.client.HTTPException):
                    if not self.is_stopped:
                        self.failures.append("disconnected")
                    return
                if result.status == 200:
                    self.responses.append(json.loads(text))
                else:
                    self.failures.append((result.status, text))


def test_killed_process_loses_no_returned_prediction(version_store):
    returned_ids: set[str] = set()
    while len(returned_ids) < 6000:
        with run_server(version_store.root) as server:
            clients = [RequestLoop(server) for _ in range(8)]
            for client in clients:
                client.start()
            before = len(returned_ids)
            while sum(len(client.responses) for client in clients) < min(2000, 6000 - before):
                time.sleep(0.01)
            os.kill(server.process.pid, signal.SIGKILL)
            for client in clients:
                client.join(30)
        returned_ids |= {response["id"] for client in clients for response in client.responses}
        assert [f for client in clients for f in client.failures if f != "disconnected"] == []
    assert returned_ids - journaled_ids(version_store) == set()


def test_journal_removed_under_load_is_recreated_and_loss_is_counted(version_store):
    (version_store.root / "serving.yaml").write_text("journal: {on_failure: refuse}")
    with run_server(version_store.root) as server:
        clients = [RequestLoop(server) for _ in range(4)]
        for client in clients:
            client.start()
        wait(lambda: all(len(client.responses) > 100 for client in clients))
        # Rows before the last check are not written again; a later write checks the file.
        time.sleep(2 * FILE_CHECK_SECONDS)
        counts = [len(client.responses) for client in clients]
        wait(lambda: all(len(client.responses) > count for client, count in zip(clients, counts)))
        for file in (version_store.root / "data" / BOOK).glob("journal.db*"):
            file.unlink()
        counts = [len(client.responses) for client in clients]
        wait(
            lambda: all(
                len(client.responses) > count + 100 for client, count in zip(clients, counts)
            )
        )
        for client in clients:
            client.is_stopped = True
            client.join(30)
        wait(lambda: read_metric(server, "modelbook_journal_replaced_total") == 1)
        # Each client may have received one response while its count was read.
        later = {
            response["id"]
            for client, count in zip(clients, counts)
            for response in client.responses[count + 1 :]
        }
        assert later <= journaled_ids(version_store)
        orphaned = read_metric(server, "modelbook_journal_orphaned_total")
        total = sum(len(client.responses) for client in clients)
        assert orphaned == total - len(journaled_ids(version_store)) > 400
        assert read_metric(server, "modelbook_journal_lost_total") == 0
    assert "removed or replaced" in (version_store.root / "server.log").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_alias_move_under_load_loses_and_mixes_no_requests(version_store, workers):
    with run_server(version_store.root, workers) as server:
        clients = [RequestLoop(server) for _ in range(6)]
        for client in clients:
            client.start()
        for number in (1, 2, 1, 2):
            version_store.alias("champion", number)
            wait(lambda number=number: all(client.serves(number) for client in clients))
        for client in clients:
            client.is_stopped = True
        for client in clients:
            client.join(30)
        responses = [response for client in clients for response in client.responses]
        assert [f for client in clients for f in client.failures] == []
        by_version = {
            number: {
                response["probabilities"]["1"]
                for response in responses
                if response["model_version"] == number
            }
            for number in (1, 2)
        }
        assert [len(values) for values in by_version.values()] == [1, 1]
        assert by_version[1] != by_version[2]
        assert {client.responses[-1]["model_version"] for client in clients} == {2}
        result = sum(
            float(line.rsplit(" ", 1)[1]) for line in server.request("GET", "/metrics")[1].splitlines()
            if line.startswith('modelbook_predictions_total{variant="champion"}')
        )  # fmt: skip
        assert result == len(responses) == len(journaled_ids(version_store))


def test_shutdown_completes_requests_in_progress(version_store):
    with run_server(version_store.root) as server:
        clients = [RequestLoop(server) for _ in range(4)]
        for client in clients:
            client.start()
        wait(lambda: all(len(client.responses) > 50 for client in clients))
        server.process.terminate()
        assert server.process.wait(30) in (0, -signal.SIGTERM)
        for client in clients:
            client.is_stopped = True
            client.join(30)
        assert {
            response["id"] for client in clients for response in client.responses
        } <= journaled_ids(version_store)
        assert [f for client in clients for f in client.failures if f != "disconnected"] == []


def test_incomplete_and_slow_bodies_are_rejected(version_store):
    (version_store.root / "serving.yaml").write_text("limits: {body_timeout_seconds: 3}")
    with run_server(version_store.root) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.sendall(
                b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
            )
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as nonsense:
            nonsense.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
            assert nonsense.recv(100).startswith(b"HTTP/1.1 400")
        assert server.request("POST", "/predict", ROW)[0] == 200
        assert "Traceback" not in (version_store.root / "server.log").read_text()


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/predict", "application/json", b"[" + b"{}," * 299_999 + b"{}]"),
        (
            "/predict",
            "application/json",
            b"{" + b",".join(b'"k%d":1' % i for i in range(60_000)) + b"}",
        ),
        ("/predict/csv", "text/csv", b",".join(b"c%d" % i for i in range(100_000))),
        ("/", "application/x-www-form-urlencoded", b"a=1&" * 200_000),
    ],
    ids=["rows", "fields", "columns", "form"],
)
def test_one_megabyte_request_uses_bounded_resources(server, path, content_type, body):
    process = psutil.Process(server.process.pid)
    before, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
    with closing(server.connect()) as connection:
        connection.request("POST", path, body, {"content-type": content_type})
        assert connection.getresponse().status == 413
    assert sum(process.cpu_times()[:2]) - before < 0.3
    assert process.memory_info().rss - memory < 64e6


def receive_all(connection: socket.socket) -> bytes:
    chunks = []
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65_536):
            chunks.append(chunk)
    return b"".join(chunks)


def test_headers_are_limited_in_size_and_time(version_store):
    (version_store.root / "serving.yaml").write_text(
        "limits: {header_timeout_seconds: 1, max_header_bytes: 20000}"
    )
    address = "127.0.0.1"
    with run_server(version_store.root) as server:
        for header in (b"x: " + b"y" * 30_000, b"x: y\r\n" * 6000, b"x: y\r\n" * 60_000):
            with socket.create_connection((address, server.port), timeout=10) as large:
                with contextlib.suppress(OSError):
                    large.sendall(
                        b"GET /health/live HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n"
                    )
                assert receive_all(large).startswith(b"HTTP/1.1 431")
        with socket.create_connection((address, server.port), timeout=10) as ambiguous:
            ambiguous.sendall(b"GET /model HTTP/1.1\r\nhost: a.org\r\nhost: localhost\r\n\r\n")
            assert receive_all(ambiguous).startswith(b"HTTP/1.1 400")
        slow = [socket.create_connection((address, server.port), timeout=10) for _ in range(20)]
        for connection in slow[:10]:
            with contextlib.suppress(OSError):  # on a busy machine it is refused already
                connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: ")
        for connection in slow:
            assert receive_all(connection).startswith(b"HTTP/1.1 408")
            connection.close()
        with closing(server.connect()) as reused:
            for _ in range(3):  # the limit of time is one of each header, not of the connection
                reused.request("GET", "/health/live")
                assert reused.getresponse().read()
                time.sleep(0.6)
        process = psutil.Process(server.process.pid)
        assert process.memory_info().rss < 400e6


def test_forwarded_address_is_trusted_from_configured_proxies_only(version_store):
    limits = "limits: {requests_per_second: 0.001}\napi_keys: off\n"
    for proxies, last in (("[]", 429), ("[127.0.0.0/8]", 200)):
        (version_store.root / "serving.yaml").write_text(f"{limits}trusted_proxies: {proxies}")
        with run_server(version_store.root) as server, closing(server.connect()) as connection:
            for number in range(3):
                client = {"x-forwarded-for": f"192.0.2.{number}"}
                connection.request("POST", "/predict", json.dumps(ROW), {**JSON, **client})
                response = connection.getresponse()
                response.read()
            assert response.status == last


def workers_of(server: RunningServer) -> list[psutil.Process]:
    """The workers, which were started by multiprocessing, without its resource tracker."""
    return [
        process
        for process in psutil.Process(server.process.pid).children()
        if "spawn_main" in "".join(process.cmdline())
    ]


def test_killed_worker_is_logged_and_its_gauges_are_removed(version_store):
    with run_server(version_store.root, workers=2) as server:
        wait(lambda: read_metric(server, "modelbook_journal_up") == 2)
        workers_of(server)[0].kill()
        log = version_store.root / "server.log"
        wait(lambda: "a worker died" in log.read_text())
        died = next(
            json.loads(line) for line in log.read_text().splitlines() if "worker died" in line
        )
        assert (died["level"], died["exit_code"]) == ("error", -9)
        wait(lambda: read_metric(server, "modelbook_workers") == 2)
        wait(lambda: read_metric(server, "modelbook_journal_up") == 2)


def test_process_metrics_cover_all_workers(version_store):
    with run_server(version_store.root, workers=2) as server:
        wait(
            lambda: read_metric(server, "modelbook_journal_up") == 2
        )  # the other worker may start later
        workers = workers_of(server)

        def is_reported() -> bool:  # both are read at two times: until it no longer grows
            result = read_metric(server, "process_resident_memory_bytes")
            return result == pytest.approx(
                sum(worker.memory_info().rss for worker in workers), rel=0.1
            )

        wait(is_reported)


def test_workers_end_with_killed_supervisor(version_store):
    def folders() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob(f"modelbook-metrics-{server.process.pid}-*"))

    with run_server(version_store.root, workers=2) as server:
        workers = workers_of(server)
        assert len(workers) == 2
        assert len(folders()) == 1
        server.process.kill()
        assert psutil.wait_procs(workers, timeout=30)[1] == []
        server.process.wait(10)
        server_module._remove_orphaned_folders()
        assert folders() == set()


def test_request_log_has_request_id_and_trace_id(version_store):
    (version_store.root / "serving.yaml").write_text("log_level: debug")
    trace = "0af7651916cd43dd8448eb211c80319c"
    ids = {"x-request-id": "mine", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with run_server(version_store.root) as server, closing(server.connect()) as connection:
        connection.request("POST", "/predict", json.dumps(ROW), {**JSON, **ids})
        assert connection.getresponse().headers["x-request-id"] == "mine"
    lines = [
        json.loads(line)
        for line in (version_store.root / "server.log").read_text().splitlines()[1:]
    ]
    [line] = [line for line in lines if line.get("request_id") == "mine"]
    assert (line["trace_id"], line["status"]) == (trace, 200)


def test_server_log_is_json(server):
    assert server.request("POST", "/predict", ROW)[0] == 200
    lines = (server.root / "server.log").read_text().splitlines()[1:]
    assert lines
    assert all(json.loads(line)["event"] for line in lines)


# A JSON schema cannot say that text is a CSV table, nor that all tensors have as many values.
LOOSE_SCHEMAS = """
[[operations]]
include-path-regex = "(infer|csv)$"
checks.positive_data_acceptance.enabled = false
"""


def test_requests_from_openapi_never_cause_server_errors(server, tmp_path):
    address = f"http://127.0.0.1:{server.port}/openapi.json"
    command = [str(BIN / "schemathesis"), "run", address, "--max-examples", "250"]
    command += ["--phases", "examples,coverage,fuzzing", "--no-color"]
    command += ["--generation-database", "none", "--seed", "1"]
    (tmp_path / "schemathesis.toml").write_text(LOOSE_SCHEMAS)
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-9000:]
    assert int(re.search(r"([\d,]+) generated", result.stdout)[1].replace(",", "")) > 900
    assert "Traceback" not in (server.root / "server.log").read_text()


def test_malformed_tables_never_cause_server_errors(server):
    table = b"colour,size,noise,flag\n" + b"11,80,,1\n2,5.5,-1e3,0\n" * 5
    draw = random.Random(5)
    with closing(server.connect()) as connection:
        for _ in range(1500):
            mangled = bytearray(table)
            for _ in range(draw.randint(1, 6)):
                at = draw.randrange(len(mangled))
                how = draw.randrange(4)
                if how == 0:
                    mangled[at] = draw.randrange(256)
                elif how == 1:
                    del mangled[at : at + draw.randint(1, 9)]
                else:
                    mangled[at:at] = draw.choice(
                        [b'"', b",", b"\n", b"\r", b"\x00", "é".encode(), b"1e999", b"NaN", b"=1+1"]
                    )
            connection.request("POST", "/predict/csv", bytes(mangled), {"content-type": "text/csv"})
            result = connection.getresponse()
            assert result.status in (200, 400, 422), (mangled, result.read())
            result.read()
