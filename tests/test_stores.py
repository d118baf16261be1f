"""A store in PostgreSQL: the same guarantees as in a file, many at once, and a server that goes away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers import PASSWORD, PostgreSQL, object_store, postgresql
from tiny import STAGES, Tiny

from modelbook.config import store as setting
from modelbook.errors import PromotionError, StoreError
from modelbook.journal import Journal
from modelbook.registry import aliases, history, promotion, store, transactions
from modelbook.registry.aliases import DIGEST_TAG, folder_digest

MODEL = "tiny"
MLFLOWS = """
    create table registered_model_aliases (alias varchar, version integer, name varchar, workspace varchar);
    create table model_versions (name varchar, version integer, storage_location varchar, workspace varchar);
    create table model_version_tags (key varchar, value varchar, name varchar, version integer, workspace varchar)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as found:
        yield found


@pytest.fixture
def address(server: PostgreSQL, request: pytest.FixtureRequest) -> str:
    """The URL of an empty database."""
    name = f"test_{abs(hash(request.node.name))}"
    do(server.url(), f"create database {name}")
    return server.url(name)


@pytest.fixture
def root(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose store is in PostgreSQL, with the tables of MLflow that count, and three versions; no alias."""
    (tmp_path / "store.yaml").write_text(f"database: {address}")
    do(address, MLFLOWS)
    for number in (1, 2, 3):
        folder = tmp_path / f"version {number}" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "contract.yaml").write_text(f"title: Tiny {number}")
        do(
            address,
            "insert into model_versions values (%s, %s, %s, 'default')",
            MODEL,
            number,
            folder.parent.as_uri(),
        )
        tag = (DIGEST_TAG, folder_digest(folder), MODEL, number)
        do(address, "insert into model_version_tags values (%s, %s, %s, %s, 'default')", *tag)
    monkeypatch.setattr(promotion, "verify_golden_rows", lambda *_: 30)
    return tmp_path


def do(url: str, text: str, *values: Any) -> None:
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connected:
        connected.execute(text, values or None)


def judge(root: Path, number: int) -> history.HistoryEntry:
    return history.record_decision(
        root, MODEL, "promote", number, "It is better.", {"auc": 0.8}, "c0ffee"
    )


def champions(root: Path, *numbers: int) -> None:
    for number in numbers:
        judge(root, number)
        assert promotion.promote(root, MODEL, number, reason="", override="", commit="c0ffee")


def named(root: Path, model: str = MODEL) -> tuple[int | None, int | None, list[str]]:
    """The champion by the alias, and by the history, and what is wrong with that."""
    found = aliases.read_aliases(root, model).get(aliases.CHAMPION)
    return (
        found.number if found else None,
        history.recorded_champion(history.read_history(root, model)),
        history.find_integrity_errors(root),
    )


# The setting


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("databse: x", "databse = 'x'"),
        (
            "database: mysql://me:hush-hush@db/a",
            r"database = 'mysql://me:\*\*\*@db/a'.*postgresql://",
        ),
        ("artifacts: bucket/folder", "artifacts = 'bucket/folder'.*s3://"),
        ("[1]", r"holds \[1\]"),
        ("a: [", "YAML"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_value(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_text(text)
    with pytest.raises(StoreError, match=told):
        store.tracking_uri(tmp_path)


def test_the_environment_outdoes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/models/mlflow.db"
    (tmp_path / "store.yaml").write_text(
        "database: postgresql://db/one\nartifacts: s3://models/one/"
    )
    assert setting.load_settings(tmp_path).artifacts == "s3://models/one"
    monkeypatch.setenv("MODELBOOK_STORE_DATABASE", "postgres://db/two")
    assert store.tracking_uri(tmp_path) == "postgresql+psycopg://db/two"


# Promotion and history


@pytest.mark.slow
def test_champions_come_and_go_as_in_a_file(root: Path) -> None:
    assert (
        aliases.read_aliases(root, MODEL),
        history.read_history(root),
        history.find_integrity_errors(root),
    ) == ({}, [], [])
    champions(root, 1, 2)
    promotion.set_challenger(root, MODEL, 3, reason="", commit="c")
    assert (
        promotion.roll_back(root, MODEL, reason="too many alarms", commit="c").champion_after == 1
    )
    entries = history.read_history(root, MODEL)
    assert [(e.number, e.action, e.champion_after) for e in entries] == [
        (1, "promote", None), (2, "promote", 1), (3, "promote", 1), (4, "promote", 2), (5, "challenge", 2),
        (6, "roll back", 1),
    ]  # fmt: skip
    assert named(root) == (1, 1, [])
    assert (
        aliases.read_aliases(root, MODEL)["champion"].tags["promoted_because"] == "too many alarms"
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", ["update {} set entry = ''", "delete from {}", "truncate {}"])
def test_the_database_refuses_to_rewrite_the_history(change: str, root: Path, address: str) -> None:
    judge(root, 1)
    with pytest.raises(psycopg.errors.RaiseException, match="history"):
        do(address, change.format("modelbook_history"))


@pytest.mark.slow
def test_a_rewritten_history_is_found(root: Path, address: str) -> None:
    for number in (1, 2, 3):
        judge(root, number)
    do(address, "drop trigger modelbook_history_kept on modelbook_history")
    do(
        address,
        "update modelbook_history set entry = replace(entry, 'better', 'worse') where number = 2",
    )
    do(address, "delete from modelbook_history where number = 3")
    changed, gone = history.find_integrity_errors(root)
    assert re.findall(r"\d+", changed) == ["2"]
    assert re.findall(r"\d+", gone) == ["1", "2"]


@pytest.mark.slow
def test_many_write_at_once_and_no_number_is_missing(root: Path) -> None:
    champions(root, 1)
    threads = [threading.Thread(target=judge, args=(root, 2)) for _ in range(12)]
    told: list[str] = []

    def move(number: int) -> None:
        try:
            history.move_champion(root, MODEL, "promote", number, "", {}, "c", expected_champion=1)
            told.append("moved")
        except PromotionError as error:
            told.append(error.problem.split(" now")[0])

    threads += [threading.Thread(target=move, args=(number,)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    now, known, broken = named(root)
    assert sorted(told) == sorted(["moved", f"the champion of {MODEL} is version {now}"])
    assert (now, broken) == (known, [])
    assert [entry.number for entry in history.read_history(root)] == list(range(1, 16))


@pytest.mark.slow
def test_mlflow_cannot_move_the_alias_in_the_middle_of_a_promotion(
    root: Path, address: str
) -> None:
    champions(root, 1)
    with transactions.write_transaction(root), pytest.raises(psycopg.errors.LockNotAvailable):
        do(address, "set lock_timeout = 100; update registered_model_aliases set version = 3")
    assert named(root) == (1, 1, [])


@pytest.mark.slow
def test_a_store_that_stays_locked_is_told(
    root: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 0.2)
    with closing(psycopg.connect(address.replace("+psycopg", ""))) as holder:
        holder.execute("lock table registered_model_aliases")
        with pytest.raises(StoreError, match="lock timeout") as caught:
            judge(root, 1)
    assert "nothing was changed" in caught.value.next


WALK = """
import json, os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from modelbook.registry import history, promotion

root = Path(sys.argv[1])
promotion.verify_golden_rows = lambda *_: 30

def killed_at(step):
    seen = []
    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def reached(*given):
        seen.append(given)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)
    @sa.event.listens_for(sa.Engine, "commit")
    def ending(*given):
        reached()

step = 0
while True:
    step += 1
    child = os.fork()
    if child == 0:
        killed_at(step)
        promotion.promote(root, "tiny", 2, reason="", override="", commit="none")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    told = history.recorded_champion(history.read_history(root, "tiny"))
    wrong = history.find_integrity_errors(root)
    print(json.dumps([os.WIFSIGNALED(status), promotion._current_champion(root, "tiny"), told, wrong]))
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_alias_and_history_at_one(root: Path) -> None:
    champions(root, 1)
    judge(root, 2)
    told = subprocess.run(
        [sys.executable, "-c", WALK, str(root)], capture_output=True, text=True, check=True
    ).stdout
    steps = [json.loads(line) for line in told.splitlines()]
    assert len(steps) > 15
    assert all(step == [True, 1, 1, []] for step in steps[:-1])
    assert steps[-1] == [False, 2, 2, []]


# A server that refuses, or is not there


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told", "mend"),
    [
        ((PASSWORD, "another-word"), "password authentication failed", "password"),
        (("owner:", "nobody:"), "password authentication failed", "password"),
        ((f":{PASSWORD}", ""), "no password supplied", "PGPASSWORD"),
        (("/postgres", "/nothing"), 'database "nothing" does not exist', "createdb"),
    ],
)
def test_wrong_credentials_are_told_at_once(
    change: tuple[str, str], told: str, mend: str, server: PostgreSQL, tmp_path: Path
) -> None:
    (tmp_path / "store.yaml").write_text(f"database: {server.url().replace(*change)}")
    for call in (
        store.ensure_store,
        store.configure_mlflow,
        history.read_history,
        lambda root: aliases.read_aliases(root, MODEL),
    ):
        began = time.monotonic()
        with pytest.raises(StoreError, match=told) as caught:
            call(tmp_path)
        assert time.monotonic() - began < 3
        assert mend in caught.value.next
        assert "another-word" not in str(caught.value)
        assert PASSWORD not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_text(
        f"database: postgresql://owner:{PASSWORD}@127.0.0.1:1/postgres"
    )
    began = time.monotonic()
    with pytest.raises(StoreError, match="refused") as caught:
        store.configure_mlflow(tmp_path)
    assert 1 < time.monotonic() - began < 15
    assert "check that PostgreSQL is running" in caught.value.next
    assert "owner:***@" in caught.value.problem


@pytest.mark.slow
def test_a_restart_in_the_middle_leaves_nothing_and_is_waited_for(
    root: Path, server: PostgreSQL
) -> None:
    champions(root, 1)
    before = len(history.read_history(root))

    def interrupted() -> None:
        with transactions.write_transaction(root) as held:
            aliases.set_alias(held, MODEL, 2, {})
            server.stop()
            server.start()
            aliases.set_alias(held, MODEL, 3, {})

    with pytest.raises(StoreError, match=r"terminat|closed"):
        interrupted()
    assert (named(root), len(history.read_history(root))) == ((1, 1, []), before)
    server.stop()
    back = threading.Timer(1, server.start)
    back.start()
    assert judge(root, 2).number == before + 1  # the command waited for the server
    back.join()


# A team: PostgreSQL and an object store


@pytest.mark.slow
def test_two_machines_share_a_store_in_postgresql_and_s3(
    address: str,
    server: PostgreSQL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frame: Any,
    contract: Any,
) -> None:
    from test_registry import BOOK, enter, made

    from modelbook.serving import served_models

    with object_store(monkeypatch, "models") as s3:
        one, other = tmp_path / "one", tmp_path / "other"
        for root in (one, other):
            root.mkdir()
            (root / "store.yaml").write_text(f"database: {address}\nartifacts: s3://models/team")
        Journal(address).create_tables()  # in the same database
        code = "import sys; from pathlib import Path; from modelbook.registry import store;"
        code += "store.ensure_store(Path(sys.argv[1]))"
        making = [
            subprocess.Popen([sys.executable, "-c", code, str(root)]) for root in (one, other)
        ]
        assert [each.wait(120) for each in making] == [0, 0]

        client = store.create_client(one)
        assert client.search_registered_models() == []
        server.stop()
        server.start()
        assert client.search_registered_models() == []  # MLflow comes back as well

        version = enter(one, made(frame, set(range(50)), contract), contract)
        assert (
            promotion.promote(one, BOOK, 1, reason="", override="the first", commit="c") is not None
        )
        ask = promotion._run_golden_check
        gone = "(psycopg.OperationalError) server closed the connection unexpectedly"
        broken = iter([subprocess.CompletedProcess([], 1, "", gone)])
        monkeypatch.setattr(
            promotion, "_run_golden_check", lambda *given: next(broken, None) or ask(*given)
        )
        assert (
            promotion.verify_golden_rows(one, BOOK, 1) > 0
        )  # a restart says nothing of the version
        assert not (one / "models").exists() or not (one / "models" / "mlflow.db").exists()
        answers = served_models.load_champion(other, BOOK)
        assert (answers.number, answers.golden_rows > 0) == (1, True)
        fetched = other / "models" / "cache" / version.tags[DIGEST_TAG]
        assert folder_digest(fetched) == version.tags[DIGEST_TAG]
        assert named(other, BOOK) == (1, 1, [])

        for listed in s3.list_objects_v2(Bucket="models")["Contents"]:
            s3.delete_object(Bucket="models", Key=listed["Key"])
        assert served_models.load_champion(other, BOOK).number == 1  # what was fetched stays
        s3.delete_bucket(Bucket="models")
        with pytest.raises(StoreError, match="NoSuchBucket") as caught:
            enter(one, made(frame, set(range(30)), contract), contract)
        assert "create the bucket" in caught.value.next
        assert aliases.find_version(one, BOOK, 2) is None


@pytest.fixture
def local(tmp_path: Path, frame: Any, contract: Any) -> Path:
    """A project with a store of its own: one version, which is champion."""
    from test_registry import BOOK, enter, made

    store.ensure_store(tmp_path)
    enter(tmp_path, made(frame, set(range(50)), contract), contract)
    promotion.promote(tmp_path, BOOK, 1, reason="", override="the first", commit="c")
    return tmp_path


@pytest.mark.slow
def test_a_local_store_is_brought_to_postgresql_and_s3_and_goes_on_there(
    address: str, local: Path, monkeypatch: pytest.MonkeyPatch, frame: Any, contract: Any
) -> None:
    from test_registry import BOOK, enter, made

    from modelbook.registry import artifact_storage, migration
    from modelbook.serving import served_models

    told, entries = store.database_path(local).read_bytes(), history.read_history(local)
    before = store.create_client(local).search_runs(["1"])
    with object_store(monkeypatch, "models"):
        (local / "store.yaml").write_text(f"database: {address}\nartifacts: s3://models/team")

        def broken(*_: Any) -> None:
            raise RuntimeError("killed")

        whole = migration._advance_sequence
        monkeypatch.setattr(migration, "_advance_sequence", broken)
        with pytest.raises(RuntimeError):
            migration.migrate_store(local)
        monkeypatch.setattr(migration, "_advance_sequence", whole)
        assert history.read_history(local) == []  # all or nothing
        moved = migration.migrate_store(local)
        assert (moved.versions, moved.runs, moved.entries) == (1, 1, 1)
        assert moved.files > 10
        assert (
            artifact_storage.upload_folder(
                store.database_path(local).parent / "artifacts", "s3://models/team"
            )
            == moved.files
        )
        assert store.database_path(local).read_bytes() == told
        assert history.read_history(local) == entries
        assert named(local, BOOK) == (1, 1, [])
        [run] = store.create_client(local).search_runs(["1"])
        assert run.data.to_dictionary() == before[0].data.to_dictionary()
        assert run.info.start_time == before[0].info.start_time
        assert run.info.artifact_uri.startswith("s3://models/team/tiny/")
        shutil.rmtree(store.database_path(local).parent)
        assert served_models.load_champion(local, BOOK).number == 1
        assert enter(local, made(frame, set(range(30)), contract), contract).number == 2
        assert store.create_client(local).create_experiment("another") == "2"
        assert judge(local, 2).number == 2
        with pytest.raises(StoreError, match="store"):
            migration.migrate_store(local)
        store.database_path(local).write_bytes(told)
        with pytest.raises(StoreError, match=r"\b1 in registered_models, 2 in modelbook_history"):
            migration.migrate_store(local)


def test_a_store_is_brought_only_where_the_setting_names_a_database(tmp_path: Path) -> None:
    from modelbook.registry import migration

    with pytest.raises(StoreError, match="no target database") as caught:
        migration.migrate_store(tmp_path)
    assert "store.yaml" in caught.value.next


@pytest.mark.slow
def test_a_book_is_built_and_watched_on_a_shared_store(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Tiny(tmp_path)
    with object_store(monkeypatch, "models") as s3:
        (tmp_path / "store.yaml").write_text(f"database: {address}\nartifacts: s3://models/team\n")
        told = tiny.build()
        assert told.returncode == 0, told.stdout + told.stderr
        assert tiny.ran(told) == STAGES
        assert not (tmp_path / "models/mlflow.db").exists()
        assert not (tmp_path / "models/artifacts").exists()
        assert s3.list_objects_v2(Bucket="models")["KeyCount"] > 10
        assert named(tmp_path, "tiny") == (1, 1, [])
        again = tiny.build()
        assert (again.returncode, tiny.ran(again)) == (0, [])
        assert tiny.run("modelbook", "doctor").stdout.count("owner:***@127.0.0.1") == 1
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "store.yaml"]
    assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []
