"""A copy of a book's service to break: its processes, its callers and its journal."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from modelbook.journal import Journal
from modelbook.journal.database import default_url
from modelbook.registry.aliases import CHAMPION, read_aliases

START_SECONDS = 120
JSON_HEADERS = {"content-type": "application/json"}
SETTINGS = {"MODELBOOK_SERVE_JOURNAL__ON_FAILURE": "refuse", "MODELBOOK_SERVE_API_KEYS": "off"}
DROPPED_VARIABLES = ("MLFLOW_TRACKING_URI", "MODELBOOK_KEYRING")  # they lead out of the copy


class DrillFailure(Exception):
    """A promise did not hold."""

    def __init__(self, problem: str, numbers: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.problem, self.numbers = problem, numbers or {}


def require(condition: bool, problem: str, **numbers: Any) -> None:
    """Raise DrillFailure unless a condition holds."""
    if not condition:
        raise DrillFailure(problem, {name.replace("_", " "): n for name, n in numbers.items()})


def wait_until(condition: Callable[[], bool], seconds: float, problem: str) -> float:
    """Wait for a condition; return the seconds that it took."""
    started = time.monotonic()
    while not condition():
        require(time.monotonic() - started < seconds, f"{problem} within {seconds:g} s")
        time.sleep(0.05)
    return time.monotonic() - started


class ServiceCopy:
    """Service of a restored copy of a book."""

    def __init__(self, root: Path, book: str, file_count: int) -> None:
        self.root, self.book, self.file_count = root, book, file_count
        self.url = default_url(root, book)
        self.journal_path = Path(self.url.removeprefix("sqlite:///"))
        self._processes: list[subprocess.Popen] = []
        self._callers: list[Caller] = []

    def start(self, workers: int = 1, wait: bool = True) -> subprocess.Popen:
        """Start a service; ``port`` is its port afterwards."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        environment = {k: v for k, v in os.environ.items() if k not in DROPPED_VARIABLES}
        environment |= SETTINGS | {"MODELBOOK_SERVE_JOURNAL__URL": self.url}
        code = (
            "import sys; from pathlib import Path; from modelbook.serving import server; "
            "server.run_server(Path(sys.argv[1]), sys.argv[2], '127.0.0.1', "
            "*map(int, sys.argv[3:]))"
        )
        arguments = [str(self.root), self.book, str(self.port), str(workers)]
        with (self.root / "drill.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments], stderr=log, env=environment
            )
        self._processes.append(process)
        if wait:
            self.wait_ready()
        return process

    def wait_ready(self) -> float:
        """Wait until the service is ready; return the seconds that it took."""
        return wait_until(
            lambda: self.try_ask("/health/ready")[0] == 200, START_SECONDS, "not ready"
        )

    def ask(
        self, method: str, path: str, body: Any = b"", headers: Any = None
    ) -> tuple[int, bytes]:
        """Send a request; returns status and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body or None, headers or JSON_HEADERS)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def try_ask(self, path: str) -> tuple[int, bytes]:
        """Send a GET request; status 0 if nobody answers."""
        try:
            return self.ask("GET", path)
        except (OSError, http.client.HTTPException):
            return 0, b""

    def read_metric(self, name: str) -> float:
        """Return the sum of a metric's series."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        series = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in series)

    def read_example(self) -> dict[str, Any]:
        """Return a legal row."""
        document = json.loads(self.ask("GET", "/openapi.json")[1])
        return document["components"]["schemas"]["Row"]["example"]

    def find_artifacts(self) -> Path:
        """Return the folder of the champion's files, which must be within the copy."""
        folder = read_aliases(self.root, self.book)[CHAMPION].artifact_folder
        require(folder.is_relative_to(self.root), "the champion's files are not in the backup")
        return folder

    def call(self, count: int = 4) -> list[Caller]:
        """Start callers that send one row after the other."""
        body = json.dumps(self.read_example())
        callers = [Caller(self.port, body) for _ in range(count)]
        self._callers += callers
        for caller in callers:
            caller.start()
        return callers

    def journaled_ids(self) -> set[str]:
        """Return the ids in the journal."""
        journal = Journal(self.url, self.book, 60.0)
        journal.create_tables()
        return {row["id"] for row in journal.read_predictions(0)}

    def workers(self, process: subprocess.Popen) -> list[psutil.Process]:
        """Return the workers of a supervisor, without multiprocessing's resource tracker."""
        return [child for child in psutil.Process(process.pid).children() if _is_worker(child)]

    def stop_all(self) -> None:
        """End callers and services."""
        for caller in self._callers:
            caller.is_ending = True
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            process.wait(60)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


class Caller(threading.Thread):
    """Sends a row again and again, until it is told to end or nobody answers."""

    def __init__(self, port: int, body: str) -> None:
        super().__init__(daemon=True)
        self._port, self._body, self.is_ending = port, body, False
        self.receipts: dict[str, str] = {}
        self.statuses: dict[int, int] = {}

    def run(self) -> None:
        """Send rows."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            while not self.is_ending:
                try:
                    connection.request("POST", "/predict", self._body, JSON_HEADERS)
                    answer = connection.getresponse()
                    text = answer.read()
                except (OSError, http.client.HTTPException):
                    return
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                if answer.status == 200:
                    prediction = json.loads(text)
                    self.receipts[prediction["id"]] = prediction["receipt"]


def finish(callers: list[Caller]) -> dict[str, str]:
    """End callers; return the receipts of all their answers, by prediction id."""
    for caller in callers:
        caller.is_ending = True
    for caller in callers:
        caller.join(60)
    return {name: receipt for caller in callers for name, receipt in caller.receipts.items()}


def count_statuses(callers: list[Caller]) -> dict[int, int]:
    """Return the number of answers by status."""
    totals: dict[int, int] = {}
    for caller in callers:
        for status, count in caller.statuses.items():
            totals[status] = totals.get(status, 0) + count
    return totals
