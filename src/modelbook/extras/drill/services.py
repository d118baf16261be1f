"""A copy of a book's service to break: its processes, its clients and its journal."""

from __future__ import annotations

import http.client
import json
import os
import shutil
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

from modelbook.ab.assignment import assign_bucket, routes_to_challenger
from modelbook.formatting import format_count
from modelbook.journal import Journal
from modelbook.journal.database import get_default_url
from modelbook.journal.hash_chain import verify_predictions
from modelbook.registry.aliases import CHALLENGER, CHAMPION, read_aliases, refresh_aliases
from modelbook.registry.location import RELATIVE_SCHEME, get_local_artifact_folder
from modelbook.registry.store import create_client
from modelbook.serving.settings import ENV_PREFIX

WAIT_SECONDS = 600.0  # timeout of each step, on a busy machine
N_RESPONSES = 500  # responses before and after something breaks
N_VERIFIED_HASHES = 20
Measurements = dict[str, Any]  # numbers of a check, by name
JSON_HEADERS = {"content-type": "application/json"}
JOURNAL_SECONDS = 60  # a request's timeout for the journal, on a busy machine
SETTINGS = {
    "JOURNAL__ON_FAILURE": "refuse",
    "JOURNAL__TIMEOUT_SECONDS": JOURNAL_SECONDS,
    "API_KEYS": "off",
}
DROPPED_VARIABLES = ("MLFLOW_TRACKING_URI", "MODELBOOK_KEYRING")  # they point outside the copy


class DrillFailure(Exception):
    """A guarantee did not hold."""

    def __init__(self, problem: str, numbers: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.numbers = numbers or {}


class DrillSkipped(Exception):
    """Raised with the reason if a guarantee cannot be checked here."""


def require(condition: bool, problem: str, **numbers: Any) -> None:
    """Raise DrillFailure unless a condition holds."""
    if not condition:
        raise DrillFailure(problem, {name.replace("_", " "): n for name, n in numbers.items()})


def wait_until(condition: Callable[[], bool], problem: str) -> float:
    """Wait for a condition; return the seconds that it took."""
    start_time = time.monotonic()
    while not condition():
        elapsed = time.monotonic() - start_time
        require(elapsed < WAIT_SECONDS, f"{problem} within {WAIT_SECONDS:g} s")
        time.sleep(0.05)
    return time.monotonic() - start_time


class ServiceCopy:
    """Service of a restored copy of a book."""

    def __init__(self, root: Path, book: str, file_count: int, project_root: Path) -> None:
        self.root = root
        self.book = book
        self.file_count = file_count
        self.project_root = project_root  # the project that was copied
        self.port = find_free_port()
        self.url = get_default_url(root, book)
        self.journal_path = Path(self.url.removeprefix("sqlite:///"))
        self._processes: list[subprocess.Popen] = []
        self._clients: list[LoadClient] = []

    def start(self, workers: int = 1, wait: bool = True, **settings: Any) -> subprocess.Popen:
        """Start a service; ``settings`` are names of its environment variables without prefix."""
        environ = {k: v for k, v in os.environ.items() if k not in DROPPED_VARIABLES}
        for name, value in (SETTINGS | {"JOURNAL__URL": self.url} | settings).items():
            environ[f"{ENV_PREFIX}{name}"] = str(value)
        code = (
            "import sys; from pathlib import Path; from modelbook.serving import server; "
            "server.run_server(Path(sys.argv[1]), sys.argv[2], '127.0.0.1', "
            "*map(int, sys.argv[3:]))"
        )
        args = [str(self.root), self.book, str(self.port), str(workers)]
        with (self.root / "drill.log").open("a") as log:
            process = subprocess.Popen([sys.executable, "-c", code, *args], stderr=log, env=environ)
        self._processes.append(process)
        if wait:
            self.wait_ready()
        if wait and workers > 1:
            wait_until(
                lambda: self.metric_equals("modelbook_journal_up", workers),
                "not all workers are ready",
            )
        return process

    def wait_ready(self) -> float:
        """Wait until the service is ready; return the seconds that it took."""
        return wait_until(lambda: self.try_get("/health/ready")[0] == 200, "not ready")

    def send(
        self, method: str, path: str, body: Any = b"", headers: Any = None
    ) -> tuple[int, bytes]:
        """Send a request; returns status and body."""
        with closing(_connect(self.port)) as connection:
            connection.request(method, path, body or None, headers or JSON_HEADERS)
            response = connection.getresponse()
            return response.status, response.read()

    def read_headers(self, path: str) -> dict[str, str]:
        """Return the headers of the response to a GET request."""
        with closing(_connect(self.port)) as connection:
            connection.request("GET", path)
            return {name.lower(): value for name, value in connection.getresponse().getheaders()}

    def try_get(self, path: str) -> tuple[int, bytes]:
        """Send a GET request; status 0 without a response."""
        try:
            return self.send("GET", path)
        except (OSError, http.client.HTTPException):
            return 0, b""

    def read_metric(self, name: str) -> float:
        """Return the sum of a metric's series."""
        lines = self.send("GET", "/metrics")[1].decode().splitlines()
        series = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in series)

    def metric_equals(self, name: str, value: float) -> bool:
        """Whether a metric has a value; false while the worker ends."""
        try:
            return self.read_metric(name) == value
        except (OSError, http.client.HTTPException):
            return False

    def read_example(self) -> dict[str, Any]:
        """Return a valid row."""
        document = json.loads(self.send("GET", "/openapi.json")[1])
        return document["components"]["schemas"]["Row"]["example"]

    def find_artifacts(self) -> Path:
        """Return the folder of the champion's files, which must be within the copy."""
        folder = read_aliases(self.root, self.book)[CHAMPION].artifact_folder
        require(folder.is_relative_to(self.root), "the champion's files are not in the backup")
        return folder

    def add_version(self) -> tuple[int, Path]:
        """Register the champion's files once more; returns the version and the folder."""
        champion = read_aliases(self.root, self.book)[CHAMPION]
        folder = self.find_artifacts()
        folder_copy = folder.parent.with_name(f"{folder.parent.name}-again") / folder.name
        shutil.copytree(folder, folder_copy)
        path = folder_copy.parent.relative_to(get_local_artifact_folder(self.root))
        source = f"{RELATIVE_SCHEME}:/{path}"
        client = create_client(self.root)
        new_version = client.create_model_version(self.book, source, tags=champion.tags)
        return int(new_version.version), folder_copy

    def set_alias(self, alias: str, number: int) -> None:
        """Set an alias to a version."""
        create_client(self.root).set_registered_model_alias(self.book, alias, str(number))
        refresh_aliases(self.root, self.book)

    def start_clients(self, count: int = 4) -> list[LoadClient]:
        """Start clients that send one row after the other."""
        body = json.dumps(self.read_example())
        return self._start_clients([LoadClient(self.port, body) for _ in range(count)])

    def start_variant_clients(self, salt: str, challenger_share: float) -> list[LoadClient]:
        """Start a client whose user the challenger serves, and one with another row and user."""
        example = self.read_example()
        schema = json.loads(self.send("GET", "/openapi.json")[1])["components"]["schemas"]["Row"]
        required_fields = {name: example[name] for name in schema.get("required", [])}
        clients = []
        for row, uses_challenger in ((example, True), (required_fields, False)):
            user = next(
                name
                for name in map(str, range(1000))
                if routes_to_challenger(assign_bucket(name, salt), challenger_share)
                is uses_challenger
            )
            clients.append(LoadClient(self.port, json.dumps(row), user))
        return self._start_clients(clients)

    def _start_clients(self, clients: list[LoadClient]) -> list[LoadClient]:
        self._clients += clients
        for client in clients:
            client.start()
        return clients

    def read_journaled_ids(self) -> set[str]:
        """Return the ids in the journal, of both variants."""
        journal = Journal(self.url, self.book, JOURNAL_SECONDS)
        journal.create_tables()
        variants = (CHAMPION, CHALLENGER)
        return {row["id"] for name in variants for row in journal.read_predictions(0, variant=name)}

    def list_workers(self, process: subprocess.Popen) -> list[psutil.Process]:
        """Return the workers of a supervisor, without multiprocessing's resource tracker."""
        return [child for child in psutil.Process(process.pid).children() if _is_worker(child)]

    def stop_all(self) -> None:
        """End clients and services."""
        for client in self._clients:
            client.stop_requested = True
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)


def find_free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


class LoadClient(threading.Thread):
    """Sends a row repeatedly, until it is stopped or the service has ended."""

    def __init__(self, port: int, body: str, user: str = "") -> None:
        super().__init__(daemon=True)
        self._headers = JSON_HEADERS | ({"x-user-id": user} if user else {})
        self._port = port
        self._body = body
        self.stop_requested = False
        self.row_hashes: dict[str, str] = {}
        self.version = 0  # version of the last response
        self.statuses: dict[int, int] = {}

    def run(self) -> None:
        """Send rows."""
        with closing(_connect(self._port)) as connection:
            while not self.stop_requested:
                try:
                    connection.request("POST", "/predict", self._body, self._headers)
                    response = connection.getresponse()
                    text = response.read()
                except (OSError, http.client.HTTPException):
                    return
                self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
                if response.status == 200:
                    prediction = json.loads(text)
                    self.row_hashes[prediction["id"]] = prediction["row_hash"]
                    self.version = prediction["model_version"]


def stop_clients(clients: list[LoadClient]) -> dict[str, str]:
    """End clients; return the hashes of all their predictions, by prediction id."""
    for client in clients:
        client.stop_requested = True
    for client in clients:
        client.join(WAIT_SECONDS)
    return {name: row_hash for client in clients for name, row_hash in client.row_hashes.items()}


def require_served(clients: list[LoadClient]) -> dict[str, str]:
    """End clients, and require that no request was refused; return the hashes by prediction id."""
    row_hashes = stop_clients(clients)
    refused = count_rejections(clients)["refused"]
    require(refused == 0, f"{refused} requests were refused")
    return row_hashes


def count_statuses(clients: list[LoadClient]) -> dict[int, int]:
    """Return the number of responses by status."""
    totals: dict[int, int] = {}
    for client in clients:
        for status, count in client.statuses.items():
            totals[status] = totals.get(status, 0) + count
    return totals


def wait_for_responses(clients: list[LoadClient], count: int = N_RESPONSES) -> None:
    """Wait for ``count`` more responses."""
    target = sum(len(client.row_hashes) for client in clients) + count

    def has_responses() -> bool:
        return sum(len(client.row_hashes) for client in clients) >= target

    wait_until(has_responses, f"{count} responses did not come")


def require_journaled(copy: ServiceCopy, row_hashes: dict[str, str]) -> Measurements:
    """Require that the journal holds all predictions, and verify the hashes of the last ones."""
    missing = row_hashes.keys() - copy.read_journaled_ids()
    numbers = {"responses": len(row_hashes), "missing in the journal": len(missing)}
    require(
        not missing, f"missing in the journal: {format_count(len(missing), 'returned prediction')}"
    )
    last = dict(list(row_hashes.items())[-N_VERIFIED_HASHES:])
    results = verify_predictions(Journal(copy.url, copy.book, JOURNAL_SECONDS), last)
    problems = [result.problem for result in results if not result.is_verified]
    require(not problems, f"a hash is not verified: {problems[:1]}")
    return numbers | {"hashes verified": len(results)}


def count_rejections(clients: list[LoadClient]) -> Measurements:
    """Return the number of requests that were refused: all with a status other than 200."""
    statuses = count_statuses(clients)
    return {"refused": sum(count for status, count in statuses.items() if status != 200)}
