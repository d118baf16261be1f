"""Exported versions: addressed by digest, verified, and served without a project."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from servers import object_store
from small_project import BIN
from text_facts import raises_stating
from version_store import BOOK, VersionStore, fit_pipeline

from modelbook.errors import StoreError
from modelbook.registry import exports
from modelbook.serving import served_models

ROW = {"colour": "1", "size": 50, "noise": 1.5, "flag": 0}


@pytest.fixture(scope="module")
def template_store(
    make_frame: Any, contract: Any, tmp_path_factory: pytest.TempPathFactory
) -> VersionStore:
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    for number in (1, 2):
        rows = frame.head(50 * number)
        version_store.register(fit_pipeline(frame, contract), contract, rows, run_id=str(number))
    version_store.alias("champion", 1)
    return version_store


@pytest.fixture
def version_store(template_store: VersionStore, tmp_path: Path) -> VersionStore:
    """A project with two versions; the first is champion."""
    return template_store.copy(tmp_path / "project")


@pytest.fixture
def destination(tmp_path: Path) -> str:
    return (tmp_path / "elsewhere").as_uri()


@pytest.mark.long
def test_service_serves_export_without_a_project(
    version_store: VersionStore, destination: str, tmp_path: Path
) -> None:
    export_uri = exports.export_version(version_store.root, BOOK, f"{destination}/")
    empty_folder = tmp_path / "other"
    result = exports.open_export(empty_folder, export_uri)
    assert (result.name, result.number, result.tags["run_id"]) == (BOOK, 1, "1")
    manifest = (Path(export_uri.removeprefix("file://")) / "version.json").read_bytes()
    assert export_uri == f"{destination}/{hashlib.sha256(manifest).hexdigest()}"
    served_model = served_models.load_model(result, max_rows=1)
    assert (served_model.number, served_model.golden_rows > 0) == (1, True)
    assert result.artifact_folder == empty_folder / "models/cache" / result.tags["digest"]
    assert (
        exports.export_version(version_store.root, BOOK, destination) == export_uri
    )  # again, and nothing is another


@pytest.mark.long
def test_service_with_export_does_not_open_store(
    version_store: VersionStore, destination: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        served_models.EXPORT_VARIABLE,
        exports.export_version(version_store.root, BOOK, destination, 2),
    )
    assert {
        alias: result.number
        for alias, result in served_models.read_aliased_versions(
            tmp_path / "other", BOOK
        ).by_alias.items()
    } == {"champion": 2}


@pytest.mark.parametrize("number", [None, 9])
def test_missing_version_cannot_be_exported(
    number: int | None, version_store: VersionStore, destination: str
) -> None:
    version_store.alias("champion", None)
    with raises_stating(StoreError, BOOK, number or "champion"):
        exports.export_version(version_store.root, BOOK, destination, number)


def test_export_is_opened_by_path_and_uri(
    version_store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "all exports"
    monkeypatch.chdir(tmp_path)
    export_uri = exports.export_version(version_store.root, BOOK, folder.name)
    [export] = folder.iterdir()
    assert export_uri == f"file://{export}"
    for path_or_uri in (export_uri, str(export), f"{folder.name}/{export.name}"):
        result = exports.open_export(tmp_path / "other", path_or_uri)
        assert served_models.load_model(result, max_rows=1).number == 1
    for wrong_location in (folder.name, f"{folder.name}/{'0' * 64}"):
        with raises_stating(StoreError, str(tmp_path / wrong_location)) as exc_info:
            exports.open_export(tmp_path / "other", wrong_location)
        assert "file://" not in str(exc_info.value)


def test_altered_files_are_neither_exported_nor_served(
    version_store: VersionStore, destination: str, tmp_path: Path
) -> None:
    export_uri = exports.export_version(version_store.root, BOOK, destination)
    for folder in (version_store.folder(1), Path(export_uri.removeprefix("file://")) / "parts"):
        (folder / "contract.yaml").write_text("title: Other")
    with raises_stating(StoreError, BOOK, 1):
        exports.export_version(version_store.root, BOOK, destination)
    digest = exports.read_manifest(export_uri)["tags"]["digest"]
    with raises_stating(StoreError, digest[:12]):
        served_models.load_model(exports.open_export(tmp_path / "other", export_uri), max_rows=1)


@pytest.mark.parametrize(
    ("end", "facts"), [("", []), ("/" + "0" * 64, ["no such file"]), ("/9a0c", [])]
)
def test_invalid_export_uri_raises(
    end: str, facts: list[str], destination: str, tmp_path: Path
) -> None:
    with raises_stating(StoreError, destination.removeprefix("file://") + end, *facts):
        exports.open_export(tmp_path, destination + end)


def test_export_with_wrong_digest_raises(
    version_store: VersionStore, destination: str, tmp_path: Path
) -> None:
    folder = Path(
        exports.export_version(version_store.root, BOOK, destination).removeprefix("file://")
    )
    folder.rename(folder.with_name("0" * 64))
    with raises_stating(StoreError, folder.name[:12]) as exc_info:
        exports.open_export(tmp_path, f"{destination}/{'0' * 64}")
    assert "0" * 12 in exc_info.value.expected
    text = "[]"
    renamed = folder.with_name(hashlib.sha256(text.encode()).hexdigest())
    folder.with_name("0" * 64).rename(renamed)
    (renamed / "version.json").write_text(text)
    path = f"{destination.removeprefix('file://')}/{renamed.name}/version.json"
    with raises_stating(StoreError, path):
        exports.open_export(tmp_path, f"{destination}/{renamed.name}")


@pytest.mark.slow
def test_service_starts_from_s3_in_an_empty_folder(
    version_store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store(monkeypatch, "models"):
        export_uri = exports.export_version(version_store.root, BOOK, "s3://models/team", 2)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (tmp_path / "empty").mkdir()
        command = [BIN / "modelbook", "serve", "--from", export_uri, "--port", str(port)]
        with (tmp_path / "log").open("w") as log:
            server = subprocess.Popen(
                command, cwd=tmp_path / "empty", stderr=log, env={**os.environ}
            )
        try:
            for _ in range(300):
                assert server.poll() is None, (tmp_path / "log").read_text()
                try:
                    urllib.request.urlopen(
                        f"http://127.0.0.1:{port}/health/ready", timeout=5
                    ).close()
                    break
                except OSError:
                    time.sleep(0.1)
            requests = urllib.request.Request(
                f"http://127.0.0.1:{port}/predict",
                json.dumps(ROW).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(requests, timeout=30) as result:
                prediction = json.load(result)
        finally:
            server.terminate()
            server.wait(60)
        assert prediction["model_version"] == 2
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
