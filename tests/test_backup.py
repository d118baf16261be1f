"""Backup, restore, make clean and reset."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_project import ROOT
from text_facts import raises_stating
from version_store import BOOK, VersionStore, fit_pipeline

from modelbook.build import locks
from modelbook.errors import BuildError, StoreError
from modelbook.extras import backup, reset
from modelbook.journal import Journal
from modelbook.journal.database import get_default_url
from modelbook.registry import aliases, history
from modelbook.serving import served_models


@pytest.fixture(scope="module")
def template_store(
    make_frame: Any, contract: Any, tmp_path_factory: pytest.TempPathFactory
) -> VersionStore:
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    version_store.register(fit_pipeline(frame, contract), contract, frame)
    history.set_champion(
        version_store.root, BOOK, "promote", 1, "", {}, "c", expected_champion=None
    )
    Journal(get_default_url(version_store.root, BOOK), BOOK).create_tables()
    for name in ("env.yaml", "contracts/tiny.yaml", "data/people.csv", "models/tiny/built.json",
                 "models/tiny/monitor.db", "reports/tiny/index.html", "reports/tiny/runs/1/run.json",
                 "data/tiny/train.parquet", "models/cache/a/b"):  # fmt: skip
        (version_store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (version_store.root / name).write_text("" if name.endswith(".db") else name)
    return version_store


@pytest.fixture
def root(template_store: VersionStore, tmp_path: Path) -> Path:
    return template_store.copy(tmp_path / "project").root


@pytest.mark.long
def test_restored_backup_serves_without_original(root: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(root / "data/tiny/journal.db")) as connection, connection:
        connection.execute("insert into outcomes values ('tiny', 'a', 1.0, '1')")
        connection.commit()
        result = backup.back_up(root, str(tmp_path / "all backups"))  # while the journal is open
    assert Path(result.address).parent == tmp_path / "all backups"
    root.rename(tmp_path / "hidden")
    restored = tmp_path / "restored"
    assert backup.restore(restored, result.address).files == result.files
    assert served_models.load_model(aliases.require_champion(restored, BOOK)).number == 1
    assert [entry.champion_after for entry in history.read_history(restored, BOOK)] == [1]
    assert history.find_integrity_errors(restored) == []
    with closing(sqlite3.connect(restored / "data/tiny/journal.db")) as journal:
        assert journal.execute("select count(*) from outcomes").fetchone() == (1,)
    assert (restored / "contracts/tiny.yaml").is_file()
    assert not (restored / "models/cache").exists()


def test_altered_backup_or_existing_target_is_refused(root: Path, tmp_path: Path) -> None:
    result = backup.back_up(root, str(tmp_path / "backups"))
    (root / "env.yaml").write_text("another")
    with raises_stating(StoreError, "env.yaml"):
        backup.restore(root, result.address)
    assert (root / "env.yaml").read_text() == "another"
    (Path(result.address) / "files/env.yaml").write_text("altered")
    with raises_stating(StoreError, "env.yaml"):
        backup.restore(tmp_path / "restored", result.address)
    assert list((tmp_path / "restored").iterdir()) == []
    with raises_stating(StoreError, "backup.json", "no such file"):
        backup.restore(tmp_path / "restored", str(tmp_path / "nowhere"))


def test_project_below_a_folder_named_by_hand_is_backed_up(
    template_store: VersionStore, tmp_path: Path
) -> None:
    root = template_store.copy(tmp_path / "by-hand" / "project").root
    runs_by_hand = root / "models/tiny/by-hand/finalize.json"
    runs_by_hand.parent.mkdir()
    runs_by_hand.write_text("{}")
    result = backup.back_up(root, str(tmp_path / "backups"))
    names = json.loads((Path(result.address) / "backup.json").read_text())["files"]
    assert {"env.yaml", "models/mlflow.db"} <= names.keys()
    assert "models/tiny/by-hand/finalize.json" not in names


def test_running_build_is_neither_backed_up_nor_reset(root: Path, tmp_path: Path) -> None:
    with locks.lock_build(root):
        with raises_stating(BuildError, root):
            backup.back_up(root, str(tmp_path / "backups"))
        with raises_stating(BuildError, root):
            reset.reset(root)
    assert not (tmp_path / "backups").exists()


def test_make_clean_keeps_registry_journal_and_history(root: Path) -> None:
    shutil.copy(ROOT / "Makefile", root)
    subprocess.run(["make", "clean"], cwd=root, check=True, capture_output=True)
    assert aliases.query_aliases(root, BOOK)["champion"].number == 1
    remaining_files = {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
    }
    assert {"data/tiny/journal.db", "data/people.csv", "models/tiny/monitor.db",
            "reports/tiny/runs/1/run.json", "models/mlflow.db"} <= remaining_files  # fmt: skip
    removed_files = {
        "data/tiny/train.parquet",
        "models/tiny/built.json",
        "models/cache/a/b",
        "reports/tiny/index.html",
    }
    assert removed_files & remaining_files == set()


def test_reset_lists_what_it_removes_and_keeps_tables_and_contracts(root: Path) -> None:
    journal = root / "data/imported/journal.db"  # of a book that was never built here
    journal.parent.mkdir()
    journal.touch()
    result = "\n".join(reset.describe_reset(root))
    facts = ("1 version of tiny, 1 history entry", "data/tiny/journal.db", "data/imported/")
    for fact in facts:
        assert fact in result
    reset.reset(root)
    remaining_files = {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
    }
    assert remaining_files == {"contracts/tiny.yaml", "data/people.csv", "env.yaml"}
    assert reset.describe_reset(root) == []


def test_reset_does_not_list_versions_of_a_store_outside_models(root: Path) -> None:
    (root / "models/mlflow.db").rename(root / "mlflow.db")
    (root / "store.yaml").write_text("tracking_uri: sqlite:///mlflow.db\n")
    assert not any("tiny" in line and "version" in line for line in reset.describe_reset(root))
    reset.reset(root)
    assert (root / "mlflow.db").is_file()
