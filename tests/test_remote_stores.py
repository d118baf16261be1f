"""Shared stores: MLflow server, PostgreSQL, object store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, PERMISSION_DENIED
from servers import PASSWORD, MLflowServer, PostgreSQL, mlflow_server, object_store, postgresql
from small_project import STAGES, SmallProject
from test_server import ROW
from text_facts import missing_facts, raises_stating
from version_store import create_stores_concurrently, put_empty_store, run_server

from modelbook.config import store as setting
from modelbook.contract import Contract
from modelbook.errors import PromotionError, StoreError
from modelbook.extras import backup, erasure
from modelbook.journal import Journal
from modelbook.journal.schema import PREDICTIONS_TABLE
from modelbook.registry import (
    alias_poller,
    aliases,
    connection,
    exports,
    history,
    history_log,
    promotion,
    store,
    versions,
)
from modelbook.registry.aliases import DIGEST_TAG, compute_folder_digest
from modelbook.registry.location import (
    display_uri,
    get_cache_folder,
    get_database_path,
    get_tracking_uri,
)
from modelbook.registry.tracking import StageRun
from modelbook.serving import served_models

BOOK = "tiny"
ADMIN = "a-password-of-the-administrator"


@pytest.fixture(scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    with postgresql() as result:
        yield result


@pytest.fixture(scope="module")
def bucket(module_patch: pytest.MonkeyPatch) -> Iterator[Any]:
    with object_store(module_patch, "models") as result:
        yield result


@pytest.fixture(scope="module")
def server(database: PostgreSQL, bucket: Any) -> Iterator[MLflowServer]:
    """An MLflow server on PostgreSQL and S3."""
    with mlflow_server(database.url(), "s3://models/mlflow") as result:
        yield result


@pytest.fixture
def root(server: MLflowServer, tmp_path: Path) -> Path:
    """A project whose store is the MLflow server."""
    (tmp_path / "store.yaml").write_text(f"tracking_uri: {server.url}")
    return tmp_path


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose store is an MLflow server with a password."""
    (tmp_path / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{tmp_path}/auth.db\nauth_cache_ttl_seconds = 600\n"
        f"admin_username = admin\nadmin_password = {ADMIN}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environ = {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-secret-key",
    }
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
    folder = put_empty_store(tmp_path / "server")
    store_uri = f"sqlite:///{get_database_path(folder)}"
    with mlflow_server(store_uri, (tmp_path / "files").as_uri(), **environ) as result:
        (tmp_path / "store.yaml").write_text(f"tracking_uri: {result.url}")
        yield tmp_path


def add_versions(root: Path, model: str, count: int) -> None:
    """Versions without files, of a model of a test's own."""
    log = history_log.open_log(root, model, create=True)
    assert log is not None
    for number in range(1, count + 1):
        log.client.create_model_version(model, f"s3://models/{number}", tags={DIGEST_TAG: "c0ffee"})


def record_decision(root: Path, number: int, model: str = BOOK) -> history.HistoryEntry:
    return history.record_decision(
        root,
        model,
        "promote",
        number,
        "It is better.",
        {"auc": 0.8},
        "c0ffee",
        expected_champion=aliases.find_alias_versions(store.create_client(root), model).get(
            "champion"
        ),
    )


def move(root: Path, model: str, number: int, before: int | None) -> history.HistoryEntry:
    return history.set_champion(
        root, model, "promote", number, "It is better.", {}, "c", expected_champion=before
    )


def named(root: Path, model: str = BOOK) -> tuple[int | None, int | None, list[str]]:
    """Champion by the alias and by the history, and integrity errors."""
    result = aliases.query_aliases(root, model).get(aliases.CHAMPION)
    return (
        result.number if result else None,
        history.find_recorded_champion(history.read_history(root, model)),
        history.find_integrity_errors(root, model),
    )


# The setting


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("databse: x", "databse = 'x'"),
        ("tracking_uri: mlflow.example.org", "tracking_uri = 'mlflow.example.org'.*https://"),
        ("tracking_uri: file:///me/mlruns", "tracking_uri = 'file:///me/mlruns'.*sqlite://"),
        ("artifacts: bucket/folder", "artifacts = 'bucket/folder'.*s3://"),
        ("[1]", r"holds \[1\]"),
        ("a: [", "YAML"),
    ],
)
def test_invalid_store_setting_raises_with_value(text: str, fact: str, tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_text(text)
    with pytest.raises(StoreError, match=fact):
        get_tracking_uri(tmp_path)


def test_environment_overrides_store_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/models/mlflow.db"
    (tmp_path / "store.yaml").write_text(
        "tracking_uri: postgresql://db/one\nartifacts: s3://models/one/"
    )
    assert setting.load_settings(tmp_path).artifacts == "s3://models/one"
    assert get_tracking_uri(tmp_path) == "postgresql+psycopg://db/one"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org/")
    assert get_tracking_uri(tmp_path) == "https://mlflow.example.org"
    monkeypatch.setenv("MODELBOOK_STORE_TRACKING_URI", "sqlite:///elsewhere/mlflow.db")
    assert get_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/elsewhere/mlflow.db"


# An MLflow server


@pytest.mark.slow
def test_run_on_server_prints_nothing_to_stdout(root, capsys):
    store.ensure_store(root)
    client = store.create_client(root)
    run = client.create_run(store.ensure_experiment_id(client, root, "quiet"))
    client.set_terminated(run.info.run_id)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_champion_moves_work_on_server_like_on_file_store(root: Path) -> None:
    assert (aliases.read_aliases(root, "moves"), history.read_history(root, "moves")) == ({}, [])
    add_versions(root, "moves", 3)
    record_decision(root, 1, "moves")
    move(root, "moves", 1, None)
    move(root, "moves", 2, 1)
    history.set_challenger(root, "moves", 3, "", {}, "c")
    with pytest.raises(PromotionError, match=r"moves is version 2 now"):
        move(root, "moves", 3, 1)
    store.create_client(root).set_registered_model_alias("moves", "champion", "3")
    assert "3" in history.describe_alias_mismatch(root, "moves")
    assert history.reconcile(root, "moves", "c") == ""
    entries = history.read_history(root, "moves")
    assert [(e.number, e.action, e.champion_after) for e in entries] == [
        (1, "promote", None), (2, "promote", 1), (3, "promote", 2), (4, "challenge", 2), (5, "external move", 3),
    ]  # fmt: skip
    assert named(root, "moves") == (3, 3, [])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["many", "more", "most"])
def test_concurrent_registrations_get_distinct_numbers(root: Path, model: str) -> None:
    add_versions(root, model, 3)
    move(root, model, 1, None)

    def attempt(write: Callable[..., history.HistoryEntry], *arguments: Any) -> int | str:
        try:
            return write(*arguments).number
        except PromotionError as error:
            return error.problem.split(" now")[0]

    with ThreadPoolExecutor(6) as pool:
        decisions = [pool.submit(attempt, record_decision, root, 2, model) for _ in range(4)]
        promotions = [pool.submit(attempt, move, root, model, number, 1) for number in (2, 3)]
    results = [future.result() for future in [*decisions, *promotions]]
    numbers = sorted(result for result in results if isinstance(result, int))
    champion, last_decision, integrity_errors = named(root, model)
    assert {result for result in results if isinstance(result, str)} == {
        f"the champion of {model} is version {champion}"
    }
    assert sum(isinstance(future.result(), int) for future in promotions) == 1
    assert (champion, integrity_errors) == (last_decision, [])
    assert [e.number for e in history.read_history(root, model)] == [1, *numbers]
    assert numbers == list(range(2, 2 + len(numbers)))


def test_tag_conflict_with_another_client_is_retried() -> None:
    conflict = MlflowException("(psycopg.errors.UniqueViolation) duplicate key", BAD_REQUEST)
    set_value = mock.Mock(side_effect=[conflict, None])
    history_log.repeat_after_conflict(set_value, "tag", "value")
    assert set_value.call_args_list == [mock.call("tag", "value")] * 2
    for errors in ([conflict] * 2, [MlflowException("no", PERMISSION_DENIED)]):
        set_value = mock.Mock(side_effect=errors)
        with pytest.raises(MlflowException):
            history_log.repeat_after_conflict(set_value, "tag", "value")


@pytest.mark.slow
def test_missing_write_permission_is_reported_and_changes_nothing(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.server import get_app_client

    add_versions(closed, BOOK, 2)
    move(closed, BOOK, 1, None)
    store.ensure_experiment_id(store.create_client(closed), closed, BOOK)
    reader = ("reader", "a-password-of-the-reader")
    get_app_client("basic-auth", tracking_uri=get_tracking_uri(closed)).create_user(*reader)
    for user, password, status, remedy in (
        ("admin", "another-password", "401", "MLFLOW_TRACKING_PASSWORD"),
        (*reader, "403", "permission"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", user)
            patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            for write in (
                lambda: move(closed, BOOK, 2, 1),
                lambda: StageRun(closed, BOOK, "compare", {}),
            ):
                with pytest.raises(StoreError) as exc_info:
                    write()
                assert status in exc_info.value.problem
                assert remedy in exc_info.value.next
                assert password not in str(exc_info.value)
    assert named(closed) == (1, 1, [])
    assert len(history.read_history(closed, BOOK)) == 1


@pytest.mark.slow
def test_server_without_model_registry_raises(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        [command[0], "-u", *command[1:]], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split("port ")[1].split()[0]
        (tmp_path / "store.yaml").write_text(f"tracking_uri: http://127.0.0.1:{port}")
        with pytest.raises(StoreError) as exc_info:
            store.ensure_store(tmp_path)
        assert "model registry" in exc_info.value.next
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_version_on_server_is_registered_served_and_followed(
    root: Path, server: MLflowServer, tmp_path: Path, frame: Any, contract: Any
) -> None:
    from test_registry import enter, version_parts

    version = enter(root, version_parts(frame, set(range(50)), contract), contract)
    enter(root, version_parts(frame, set(range(30)), contract), contract)
    assert promotion.promote(root, BOOK, 1, reason="", override="the first", commit="c")
    assert not (root / "models/mlflow.db").exists()
    machine = tmp_path / "other"
    machine.mkdir()
    shutil.copy(root / "store.yaml", machine)
    assert alias_poller.refresh_if_stale(machine, BOOK) == ""
    served_version = served_models.read_aliased_versions(machine, BOOK).by_alias["champion"]
    assert served_version.artifact_folder == machine / "models/cache" / version.tags[DIGEST_TAG]
    assert compute_folder_digest(served_version.artifact_folder) == version.tags[DIGEST_TAG]

    def wait_for_version(number: int) -> None:
        deadline = time.monotonic() + 30
        while running_server.request("POST", "/predict", ROW)[1]["model_version"] != number:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    with run_server(machine) as running_server:
        assert running_server.request("POST", "/predict", ROW)[1]["model_version"] == 1
        store.create_client(root).set_registered_model_alias(BOOK, "champion", "2")
        wait_for_version(2)
        server.stop()
        deadline = time.monotonic() + 60
        while not served_models.read_aliased_versions(machine, BOOK).problem:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert running_server.request("POST", "/predict", ROW)[0] == 200
        server.start()
        while served_models.read_aliased_versions(machine, BOOK).problem:
            assert time.monotonic() < deadline + 60
            time.sleep(0.5)


@pytest.mark.slow
def test_pipeline_runs_on_mlflow_server(root: Path, server: MLflowServer) -> None:
    small_project = SmallProject(root)
    small_project.set_parameters(book="loop")
    small_project.remove_stages("explore")  # it leaves nothing in a store
    result = small_project.build()
    assert result.returncode == 0, result.stdout + result.stderr
    assert small_project.list_executed_stages(result) == [
        stage for stage in STAGES if stage != "explore"
    ]
    assert not (root / "models/mlflow.db").exists()
    assert not (root / "models/artifacts").exists()
    assert not (root / "mlruns").exists()
    champion, recorded, problems = named(root, "loop")
    assert (champion is not None, champion, problems) == (True, recorded, [])
    second_build = small_project.build()
    assert (second_build.returncode, small_project.list_executed_stages(second_build)) == (0, [])


# A database


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        ((PASSWORD, "another-word"), "password authentication failed", "password"),
        ((f":{PASSWORD}", ""), "no password supplied", "PGPASSWORD"),
        (("/postgres", "/nothing"), 'database "nothing" does not exist', "createdb"),
    ],
)
def test_wrong_credentials_raise_at_once(
    change: tuple[str, str], message: str, remedy: str, database: PostgreSQL, tmp_path: Path
) -> None:
    (tmp_path / "store.yaml").write_text(f"tracking_uri: {database.url().replace(*change)}")
    for call in (
        store.ensure_store,
        history.read_history,
        lambda root: aliases.read_aliases(root, BOOK),
    ):
        with pytest.raises(StoreError, match=message) as exc_info:
            call(tmp_path)
        assert remedy in exc_info.value.next
        assert "another-word" not in str(exc_info.value)
        assert PASSWORD not in str(exc_info.value)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["postgresql", "http"])
def test_unreachable_server_raises_in_seconds(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_SECONDS", 1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    (tmp_path / "store.yaml").write_text(
        f"tracking_uri: {scheme}://owner:{PASSWORD}@127.0.0.1:1/postgres"
    )
    start_time = time.monotonic()
    with pytest.raises(StoreError, match="refused") as exc_info:
        store.ensure_store(tmp_path)
    assert time.monotonic() - start_time < 30
    assert "tracking_uri" in exc_info.value.next
    assert "owner:***@" in exc_info.value.problem
    assert PASSWORD not in str(exc_info.value)


@pytest.mark.slow
def test_two_machines_share_store_in_postgresql_and_s3(
    database: PostgreSQL, bucket: Any, tmp_path: Path, frame: Any, contract: Any
) -> None:
    import psycopg
    from test_registry import enter, version_parts

    with closing(psycopg.connect(database.url().replace("+psycopg", ""), autocommit=True)) as owner:
        owner.execute("create database shared")
    tracking_uri = database.url("shared")
    first_machine, second_machine = tmp_path / "one", tmp_path / "other"
    for root in (first_machine, second_machine):
        root.mkdir()
        (root / "store.yaml").write_text(
            f"tracking_uri: {tracking_uri}\nartifacts: s3://models/team"
        )
    Journal(tracking_uri, BOOK).create_tables()  # in the same database
    create_stores_concurrently([first_machine, second_machine], tmp_path)
    version = enter(first_machine, version_parts(frame, set(range(50)), contract), contract)
    assert promotion.promote(first_machine, BOOK, 1, reason="", override="the first", commit="c")
    assert served_models.load_model(aliases.require_champion(second_machine, BOOK)).number == 1
    cache_folder = second_machine / "models" / "cache" / version.tags[DIGEST_TAG]
    assert compute_folder_digest(cache_folder) == version.tags[DIGEST_TAG]
    assert named(second_machine) == (1, 1, [])
    database.stop()
    restart = threading.Timer(1, database.start)
    restart.start()
    assert record_decision(second_machine, 1).number == 2  # the command waited for the database
    restart.join()
    stored_objects = bucket.list_objects_v2(Bucket="models", Prefix="team")["Contents"]
    for process_or_object in stored_objects:
        bucket.delete_object(Bucket="models", Key=process_or_object["Key"])
    assert (
        served_models.load_model(aliases.require_champion(second_machine, BOOK)).number == 1
    )  # cached files remain
    (first_machine / "store.yaml").write_text(
        f"tracking_uri: {tracking_uri}\nartifacts: s3://nowhere/team"
    )
    with pytest.raises(StoreError, match="NoSuchBucket") as exc_info:
        store.ensure_store(first_machine)
    assert "create the bucket" in exc_info.value.next


@pytest.mark.slow
def test_entity_is_erased_in_postgresql_and_object_store(
    root: Path,
    database: PostgreSQL,
    contract: Contract,
    make_frame: Callable[..., pd.DataFrame],
    tmp_path: Path,
) -> None:
    from test_registry import enter, version_parts

    frame = make_frame(entities=40)
    version = enter(root, version_parts(frame, set(range(10)), contract), contract)
    journal = Journal(database.url(), BOOK)
    journal.create_tables()
    row = {"book": BOOK, "variant": "champion", "at": 1.0, "version": 1, "returned": True,
           "prediction": "1", "milliseconds": 1.0}  # fmt: skip
    rows = [
        row | {"id": f"of {entity} {index}", "inputs": json.dumps({"who": entity})}
        for index, entity in enumerate((7, 7, 8))
    ]
    with journal.engine.begin() as connection:
        connection.execute(PREDICTIONS_TABLE.insert(), rows)
    journal.record_outcomes({"of 7 0": 1})
    export_uri = exports.export_version(
        root, BOOK, "s3://models/exports", version.number, with_rows=True
    )
    result = erasure.forget_entity(root, BOOK, contract, journal, "7", "c0ffee")
    assert result.version_rows.keys() >= {version.number}
    assert (result.journal_rows, result.exports, result.unread) == (2, [export_uri], {})
    assert [row["inputs"]["who"] for row in journal.read_predictions(0)] == [8]
    shutil.rmtree(get_cache_folder(root), ignore_errors=True)
    erased = versions.get_version(root, BOOK, version.number)  # with the digest of its new files
    assert 7 not in set(erased.reference["who"])
    assert len(erased.reference) == 27
    with raises_stating(StoreError, export_uri):
        exports.read_manifest(export_uri)
    omitted = backup.back_up(root, str(tmp_path / "backups")).notes
    assert missing_facts(" ".join(omitted), display_uri(root)) == []
