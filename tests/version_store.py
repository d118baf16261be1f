"""An embedded store with quickly registered versions, as the service reads it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
from command_template import run_module_command
from fastapi.testclient import TestClient
from filelock import FileLock
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from small_project import ROOT

from modelbook.build.dependencies import STORE_MODULES
from modelbook.contract import Contract
from modelbook.registry import aliases, history_log, store
from modelbook.registry.aliases import DIGEST_TAG
from modelbook.registry.artifact_storage import compute_folder_digest
from modelbook.registry.location import get_database_path, get_local_artifact_folder
from modelbook.scoring.compilation import compile_pipeline
from modelbook.scoring.drift_reference import write_drift_reference
from modelbook.serving.app import create_app

BOOK = "tiny"
THRESHOLD = 0.4
CREATION = """
import sys
from pathlib import Path
from modelbook.registry import store
store.ensure_store(Path(sys.argv[1]))
"""


def fit_pipeline(
    frame: pd.DataFrame, contract: Contract, estimator: Any = None, target: Any = None
) -> Any:
    """Fit a pipeline like that of a version."""
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["size", "noise", "flag"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
    )
    target = frame["happened"] if target is None else target
    estimator = LogisticRegression() if estimator is None else estimator
    return make_pipeline(columns, estimator).fit(contract.select_features(frame), target)


def put_empty_store(root: Path) -> Path:
    """Put an embedded store into a project's folder; it is created once for all runs of the tests."""
    folder = Path(tempfile.gettempdir()) / f"modelbook-tests-{os.getuid()}-{version('mlflow')}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "complete").is_file():
            store.ensure_store(folder)
            (folder / "complete").touch()
    get_database_path(root).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(get_database_path(folder), get_database_path(root))
    return root


def create_stores_concurrently(roots: list[Path], folder: Path) -> None:
    """Create the stores of projects by a process each, forked from the template of builds."""
    (folder / "creation.py").write_text(CREATION)
    command = run_module_command("creation", folder, ["mlflow", *STORE_MODULES])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(folder)])}
    processes = [
        subprocess.Popen([*command, str(root)], env=environ, stderr=subprocess.PIPE, text=True)
        for root in roots
    ]
    results = [(process.communicate()[1][-300:], process.returncode) for process in processes]
    assert results == [("", 0)] * len(roots)


def add_version(root: Path, name: str, artifacts: Path, tags: dict[str, str]) -> int:
    """Register files that lie below the store's folder of artifacts; returns the version's number."""
    log = history_log.open_log(root, name, create=True)
    assert log is not None
    path = artifacts.parent.relative_to(get_local_artifact_folder(root))
    tags = {DIGEST_TAG: compute_folder_digest(artifacts), **tags}
    created = log.client.create_model_version(name, f"modelbook:/{path}", tags=tags)
    return int(created.version)


class VersionStore:
    """A project folder with registered versions and aliases only."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = put_empty_store(root), 0
        aliases.refresh_aliases(root, BOOK)

    def copy(self, root: Path) -> VersionStore:
        """Copy the store to another folder."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        copied = VersionStore.__new__(VersionStore)
        copied.root, copied.count = root, self.count
        return copied

    def register(self, model: Any, contract: Contract, rows: pd.DataFrame, **tags: str) -> int:
        """Register a fitted pipeline as a version; returns its number."""
        self.count += 1
        folder = self.folder(self.count)
        folder.mkdir(parents=True)
        threshold = THRESHOLD if contract.task == "binary" else None
        scorer = compile_pipeline(model, contract, threshold, rows, folder / "scorer")
        (folder / "contract.yaml").write_text(contract.to_yaml())
        write_drift_reference(folder, rows, contract)
        (folder / "metrics.json").write_text(json.dumps({"threshold": threshold}))
        (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
        expected_values = {"scorer": str(scorer), "fingerprint": "f00d", "model": "a model", **tags}
        assert add_version(self.root, BOOK, folder, expected_values) == self.count
        aliases.refresh_aliases(self.root, BOOK)
        return self.count

    def alias(self, alias: str, number: int | None) -> None:
        """Set an alias to a version, or delete it."""
        client = store.create_client(self.root)
        if number is None:
            client.delete_registered_model_alias(BOOK, alias)
        else:
            client.set_registered_model_alias(BOOK, alias, str(number))
        aliases.refresh_aliases(self.root, BOOK)

    def update_digest(self, number: int) -> None:
        """Tag a version with the digest of its files, after they were changed."""
        store.create_client(self.root).set_model_version_tag(
            BOOK, str(number), DIGEST_TAG, compute_folder_digest(self.folder(number))
        )
        aliases.refresh_aliases(self.root, BOOK)

    def folder(self, number: int) -> Path:
        return get_local_artifact_folder(self.root) / f"version-{number}" / "artifacts"


def make_client(
    root: Path, book: str = BOOK, client: tuple[str, int] = ("127.0.0.1", 50_000), **options: Any
) -> TestClient:
    """Create a test client of a service in this process."""
    app = create_app(root, book)
    return TestClient(app, base_url="http://127.0.0.1", client=client, **options)


CODE = "import sys; from pathlib import Path; from modelbook.serving import server;"
CODE += f"server.run_server(Path(sys.argv[1]), {BOOK!r}, '127.0.0.1', int(sys.argv[2]), int(sys.argv[3]))"
JSON = {"content-type": "application/json"}


@dataclass
class RunningServer:
    """A server's process, port and folder, and the seconds until it was ready."""

    process: subprocess.Popen
    port: int
    root: Path
    seconds: float = 0.0

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with closing(self.connect()) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), JSON)
            result = connection.getresponse()
            text = result.read()
            return result.status, json.loads(text) if "json" in result.headers[
                "content-type"
            ] else text.decode()


@contextmanager
def run_server(root: Path, workers: int = 1) -> Iterator[RunningServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(root), str(port), str(workers)], stderr=log
        )
    server, start_time = RunningServer(process, port, root), time.monotonic()
    try:
        deadline = start_time + 90
        while time.monotonic() < deadline:
            assert process.poll() is None, (root / "server.log").read_text()
            with suppress(OSError):
                if server.request("GET", "/health/ready")[0] == 200:
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("the server was not ready in 90 seconds")
        server.seconds = time.monotonic() - start_time
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
