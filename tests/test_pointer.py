"""The pointer: what an alias names, read without MLflow, and whether the files are those that were registered."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from facts import refused

from modelbook.errors import StoreError
from modelbook.registry import aliases
from modelbook.registry.aliases import (
    CHAMPION,
    DIGEST_TAG,
    RegisteredVersion,
    folder_digest,
    read_aliases,
)
from modelbook.registry.store import database_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with the tables that are read, and one version."""
    folder = tmp_path / "version 3" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text("title: Tiny")
    database_path(tmp_path).parent.mkdir()
    with closing(sqlite3.connect(database_path(tmp_path))) as connection:
        connection.executescript("""
            create table registered_model_aliases (alias, version, name, workspace);
            create table model_versions (name, version, storage_location, workspace);
            create table model_version_tags (key, value, name, version, workspace);
        """)
        for alias, number in (("champion", 3), ("challenger", 4)):
            connection.execute(
                "insert into registered_model_aliases values (?, ?, 'tiny', 'default')",
                (alias, number),
            )
        place = (tmp_path / "version 3").as_uri()
        for name, number in (("tiny", 3), ("tiny", 4), ("other", 3)):
            connection.execute(
                "insert into model_versions values (?, ?, ?, 'default')", (name, number, place)
            )
        connection.execute(
            "insert into model_version_tags values (?, ?, 'tiny', 3, 'default')",
            (DIGEST_TAG, folder_digest(folder)),
        )
        connection.commit()
    return tmp_path


def test_aliases_name_versions_with_tags_and_folder(root: Path) -> None:
    found = read_aliases(root, "tiny")
    assert set(found) == {"champion", "challenger"}
    assert (found[CHAMPION].number, found["challenger"].number) == (3, 4)
    assert found[CHAMPION].artifact_folder == root / "version 3" / "artifacts"
    assert set(found[CHAMPION].tags) == {DIGEST_TAG}
    found[CHAMPION].verify_files()


def test_no_store_or_no_model_names_nothing(root: Path, tmp_path: Path) -> None:
    assert read_aliases(root, "unheard-of") == {}
    assert read_aliases(tmp_path / "nowhere", "tiny") == {}


def test_a_store_that_cannot_be_read_is_told(root: Path) -> None:
    database_path(root).write_bytes(b"no database at all" * 100)
    with refused(StoreError, "file is not a database"):  # as SQLite says
        read_aliases(root, "tiny")


def test_files_that_were_changed_added_or_renamed_are_refused(root: Path) -> None:
    pointed = read_aliases(root, "tiny")[CHAMPION]
    whole = folder_digest(pointed.artifact_folder)
    (pointed.artifact_folder / "more.txt").write_text("")
    with refused(StoreError, "tiny", 3) as caught:
        pointed.verify_files()
    assert whole[:12] in caught.value.expected
    (pointed.artifact_folder / "more.txt").unlink()
    pointed.verify_files()
    (pointed.artifact_folder / "contract.yaml").rename(pointed.artifact_folder / "contract2.yaml")
    assert folder_digest(pointed.artifact_folder) != whole


def test_a_version_without_a_digest_or_folder_is_refused(tmp_path: Path) -> None:
    with refused(StoreError, "tiny", 1):
        RegisteredVersion("tiny", 1, {}, tmp_path).verify_files()
    with refused(StoreError, "tiny", 1, "c0ffee", tmp_path / "gone"):
        RegisteredVersion("tiny", 1, {DIGEST_TAG: "c0ffee"}, tmp_path / "gone").verify_files()


def test_reading_an_alias_loads_no_mlflow() -> None:
    code = f"import sys; import {aliases.__name__}; print('mlflow' in sys.modules, 'pandas' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]
