"""Aliases: versions they name, cached reads, and verification of files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from text_facts import raises_stating
from version_store import add_version, put_empty_store

from modelbook.errors import StoreError
from modelbook.registry import aliases, store
from modelbook.registry.aliases import (
    CHAMPION,
    DIGEST_TAG,
    RegisteredVersion,
    compute_folder_digest,
    read_aliases,
)
from modelbook.registry.location import get_database_path, get_local_artifact_folder


@pytest.fixture(scope="module")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two aliased versions."""
    root = put_empty_store(tmp_path_factory.mktemp("aliased"))
    client = store.create_client(root)
    for number, alias in ((1, "champion"), (2, "challenger")):
        folder = get_local_artifact_folder(root) / f"version {number}" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "contract.yaml").write_text(f"title: Tiny {number}")
        add_version(root, "tiny", folder, {})
        client.set_registered_model_alias("tiny", alias, str(number))
    return root


@pytest.fixture
def root(template_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(template_store, tmp_path / "project")
    return tmp_path / "project"


def test_aliases_map_to_versions_with_tags_and_folder(root: Path) -> None:
    result = read_aliases(root, "tiny")
    assert {alias: version.number for alias, version in result.items()} == {
        "champion": 1,
        "challenger": 2,
    }
    assert result[CHAMPION].artifact_folder == root / "models/artifacts/version 1/artifacts"
    assert set(result[CHAMPION].tags) == {DIGEST_TAG}
    result[CHAMPION].verify_files()


def test_missing_store_or_model_has_no_aliases(root: Path, tmp_path: Path) -> None:
    assert read_aliases(root, "unheard-of") == {}
    assert aliases.find_version(root, "tiny", 9) is None
    assert read_aliases(tmp_path / "nowhere", "tiny") == {}


@pytest.mark.parametrize("read", [read_aliases, aliases.list_version_numbers])
def test_corrupt_store_raises(root: Path, read: Callable[[Path, str], Any]) -> None:
    get_database_path(root).write_bytes(b"no database at all" * 100)
    with raises_stating(StoreError, get_database_path(root), "SQLite"):
        read(root, "tiny")


@pytest.mark.long
def test_refused_tag_raises(root: Path) -> None:
    version = read_aliases(root, "tiny")["champion"]
    with raises_stating(StoreError, "999"):
        aliases.set_version_tags(root, replace(version, number=999), {"a": "b"})


def test_aliases_are_cached_until_store_changes(root: Path) -> None:
    assert aliases.read_cached_aliases(root, "tiny") is None
    result = read_aliases(root, "tiny")
    expected_values = aliases.read_cached_aliases(root, "tiny")
    assert expected_values is not None
    assert (expected_values.versions, expected_values.is_current, expected_values.problem) == (
        result,
        True,
        "",
    )
    store.create_client(root).set_registered_model_alias("tiny", "champion", "2")
    expected_values = aliases.read_cached_aliases(root, "tiny")
    assert expected_values is not None
    assert (expected_values.versions[CHAMPION].number, expected_values.is_current) == (1, False)
    assert read_aliases(root, "tiny")[CHAMPION].number == 2


def test_copied_store_uses_its_own_files(root: Path, tmp_path: Path) -> None:
    read_aliases(root, "tiny")
    shutil.copytree(root, tmp_path / "copy")
    root.rename(tmp_path / "hidden")
    for result in (
        read_aliases(tmp_path / "copy", "tiny"),
        aliases.query_aliases(tmp_path / "copy", "tiny"),
    ):
        assert result[CHAMPION].artifact_folder.is_relative_to(tmp_path / "copy")
        result[CHAMPION].verify_files()


def test_moved_and_altered_files_raise_different_errors(root: Path) -> None:
    champion = read_aliases(root, "tiny")[CHAMPION]
    complete = compute_folder_digest(champion.artifact_folder)
    (champion.artifact_folder / "more.txt").write_text("")
    with raises_stating(StoreError, "tiny", 1, "altered") as exc_info:
        champion.verify_files()
    assert complete[:12] in exc_info.value.expected
    (champion.artifact_folder / "more.txt").unlink()
    champion.verify_files()
    (champion.artifact_folder / "contract.yaml").rename(champion.artifact_folder / "contract2.yaml")
    assert compute_folder_digest(champion.artifact_folder) != complete
    shutil.rmtree(champion.artifact_folder)
    with raises_stating(StoreError, "tiny", 1, "missing") as exc_info:
        champion.verify_files()
    assert str(champion.artifact_folder) in exc_info.value.expected


def test_version_without_digest_raises(tmp_path: Path) -> None:
    with raises_stating(StoreError, "tiny", 1):
        RegisteredVersion("tiny", 1, {}, tmp_path).verify_files()


@pytest.mark.long
def test_reading_cached_alias_imports_no_mlflow(root: Path) -> None:
    read_aliases(root, "tiny")
    code = f"import sys; from pathlib import Path; from {aliases.__name__} import read_aliases\n"
    code += f"print(read_aliases(Path({str(root)!r}), 'tiny')['champion'].number, 'mlflow' in sys.modules, 'pandas' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["1", "False", "False"]
