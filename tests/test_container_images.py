"""Container images: locks, labels, excluded files, and a service with only its locked packages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightgbm import LGBMClassifier
from servers import free_port
from sklearn.ensemble import ExtraTreesClassifier
from small_project import BIN, ROOT
from version_store import BOOK, VersionStore, fit_pipeline

from modelbook.contract import Contract
from modelbook.dataset.dvc_tracking import read_data_version
from modelbook.errors import CompileError
from modelbook.scoring import loading
from modelbook.stage import project

LOCK = ROOT / "requirements/serve.txt"
MAX_MEGABYTES = 600  # megabytes
ROW = {"colour": "11", "size": 61.5, "flag": 1}
STACK = (
    "pycaret-core",
    "mlflow",
    "evidently",
    "ploomber",
    "papermill",
    "jupyterlab",
    "nbconvert",
    "pandas",
)
DOCKERFILES = [ROOT / "deploy" / name for name in ("Dockerfile", "stages.Dockerfile")]


def read_pins(path: Path) -> dict[str, str]:
    return dict(
        re.findall(r"^([a-z0-9._-]+)(?:\[[\w, -]+\])?==([^\s;\\]+)", path.read_text(), re.M)
    )


def test_service_lock_has_no_training_packages_and_matches_project_pins():
    service_pins, all_pins = read_pins(LOCK), read_pins(ROOT / "requirements/extras.txt")
    assert {"fastapi", "onnxruntime", "lightgbm", "psycopg"} <= service_pins.keys()
    assert service_pins.keys().isdisjoint(STACK)
    assert {name: all_pins[name] for name in service_pins} == service_pins
    assert LOCK.read_text().count("--hash=sha256:") >= len(service_pins)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_image_has_given_base_no_root_and_hashed_requirements(path):
    result = subprocess.run([BIN / "hadolint", path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    text = path.read_text()
    assert {line.split()[1] for line in re.findall(r"^FROM .*", text, re.M)} == {"${BASE}"}
    assert re.findall(r"^USER (.*)", text, re.M) == ["10001:10001"]
    for line in re.findall(r"pip install.*", text):
        assert "--require-hashes -r" in line or "--no-deps" in line, line


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_image_records_commit_for_builds(path, tmp_path, monkeypatch):
    text = path.read_text()
    assert 'org.opencontainers.image.revision="${COMMIT}"' in text
    assert "ENV MODELBOOK_COMMIT=${COMMIT}" in text
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert project.get_commit(tmp_path) == "none"
    monkeypatch.setenv("MODELBOOK_COMMIT", "c0ffee")
    assert project.get_commit(tmp_path) == "c0ffee"
    table = tmp_path / "members.csv"
    table.write_text("a\n1\n")
    digest = hashlib.md5(table.read_bytes()).hexdigest()
    (tmp_path / "members.csv.dvc").write_text(f"outs: [{{md5: {digest}, path: members.csv}}]")
    assert read_data_version(str(table), tmp_path) == f"dvc md5 {digest}"


def test_image_commit_marks_uncommitted_changes_like_builds(tmp_path, monkeypatch):
    script = (ROOT / "deploy/ci/images.sh").read_text()
    [command] = re.findall(r"commit=\$\((.*?)\)", script)
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text("a = 1\n")
    identity = ["-c", "user.name=anna", "-c", "user.email=anna@example.org"]
    for args in (
        ["init", "-q"],
        ["add", "."],
        [*identity, "commit", "-q", "-m", "A"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *args], check=True)
    for text, end in (("a = 1\n", ""), ("a = 2\n", "+")):
        Path("code.py").write_text(text)
        commit = subprocess.check_output(["sh", "-c", command], text=True).strip()
        assert commit == project.get_commit(tmp_path)
        assert commit[10:] == end


def test_secrets_and_generated_files_are_excluded_from_images():
    inputs = (ROOT / ".dockerignore").read_text().splitlines()
    assert inputs[1] == "*"
    let = {line[1:] for line in inputs if line.startswith("!")}
    assert let.isdisjoint({"models", "data", "reports", ".venv", ".git", "serving.keys.json"})
    copied = {pattern for path in DOCKERFILES for line in re.findall(r"^COPY ((?!--).*)", path.read_text(), re.M)
              for pattern in line.split()[:-1]}  # fmt: skip
    assert copied <= let | {"."}


def test_version_needing_missing_package_is_reported(tmp_path, monkeypatch, frame, contract):
    version_store = VersionStore(tmp_path)
    number = version_store.register(fit_pipeline(frame, contract), contract, frame)
    (version_store.folder(number) / "scorer/scorer.json").unlink()
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    monkeypatch.delitem(sys.modules, "modelbook.scoring.pipeline_scorer", raising=False)
    with pytest.raises(CompileError, match="cloudpickle"):
        loading.load_scorer(version_store.folder(number), contract)


@contextmanager
def run_service(environment: Path, root: Path) -> Iterator[str]:
    port = free_port()
    environ = {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "MODELBOOK_ROOT": str(root)}
    process = subprocess.Popen(
        ["modelbook", "serve", "--port", str(port)], env=environ, stderr=subprocess.PIPE
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            try:
                send_request(f"{address}/health/live")
                break
            except OSError:
                assert process.poll() is None, process.stderr.read().decode()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)


def send_request(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as result:
            return result.status, json.load(result)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def version_store(tmp_path: Path) -> VersionStore:
    """A project's folder as the image sees it."""
    (tmp_path / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    values = {**yaml.safe_load((ROOT / "env.yaml").read_text()), "book": BOOK}
    (tmp_path / "env.yaml").write_text(yaml.safe_dump(values))
    return VersionStore(tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize(
    "estimator", [LGBMClassifier(n_estimators=5, verbose=-1), ExtraTreesClassifier(5)], ids=str
)
def test_version_is_served_with_service_lock_only(
    service_environment, version_store, frame, contract: Contract, estimator
):
    number = version_store.register(fit_pipeline(frame, contract, estimator), contract, frame)
    version_store.alias("champion", number)
    expected_prediction = loading.load_scorer(version_store.folder(number), contract).predict_one(
        {**ROW, "flag": True, "noise": None}
    )
    with run_service(service_environment, version_store.root) as address:
        status, result = send_request(f"{address}/predict", ROW)
        assert send_request(f"{address}/health/ready")[1]["journal"] == "up"
    assert (status, result["model_version"], result["prediction"]) == (
        200,
        number,
        expected_prediction.prediction,
    )
    assert list(result["probabilities"].values()) == pytest.approx(
        expected_prediction.probabilities, abs=1e-12
    )


@pytest.mark.integration
def test_uncompiled_version_is_not_ready_without_pandas(
    service_environment, version_store, frame, contract
):
    number = version_store.register(fit_pipeline(frame, contract), contract, frame)
    (version_store.folder(number) / "scorer/scorer.json").unlink()
    version_store.update_digest(number)
    version_store.alias("champion", number)
    with run_service(service_environment, version_store.root) as address:
        status, result = send_request(f"{address}/health/ready")
    assert status == 503
    assert "pandas" in result["reasons"]["champion"]


@pytest.mark.integration
def test_service_environment_is_small(service_environment):
    size = sum(
        path.stat().st_size
        for path in service_environment.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    assert 100 < size / 1e6 <= MAX_MEGABYTES
