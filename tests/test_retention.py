"""modelbook prune: deleted and kept versions and downloads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner
from version_store import BOOK, add_version, put_empty_store

from modelbook.cli import app, lifecycle
from modelbook.extras import retention
from modelbook.registry import aliases, history
from modelbook.registry.location import get_cache_folder, get_local_artifact_folder

DAY = 86_400


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six versions: 1 was champion, 2 is, 4 is the challenger."""
    put_empty_store(tmp_path)
    for number in range(1, 7):
        folder = get_local_artifact_folder(tmp_path) / f"v{number}" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "model.pkl").write_bytes(b"0" * 500_000)
        add_version(tmp_path, BOOK, folder, {})
    for number, before in ((1, None), (2, 1)):
        history.set_champion(
            tmp_path, BOOK, "promote", number, "", {}, "c", expected_champion=before
        )
    history.set_challenger(tmp_path, BOOK, 4, "", {}, "c")
    return tmp_path


@pytest.mark.long
def test_old_versions_are_deleted_unless_needed(root: Path) -> None:
    planned = retention.plan_retention(root, BOOK, keep=1, min_age_days=0, keep_comparisons=5)
    assert planned.versions == [3, 5]
    assert planned.kept_for == {1: "former champion", 2: "champion", 4: "challenger"}
    assert planned.size_mb == pytest.approx(1)
    retention.apply_retention(root, BOOK, planned, "c0ffee")
    assert aliases.list_version_numbers(root, BOOK) == [1, 2, 4, 6]
    files = {path.parent.name for path in get_local_artifact_folder(root).glob("*/artifacts")}
    assert files == {"v1", "v2", "v4", "v6"}
    entry = history.read_history(root, BOOK)[-1]
    assert (entry.action, entry.evidence) == ("prune", {"versions": [3, 5]})
    assert history.find_integrity_errors(root, BOOK) == []
    assert aliases.read_aliases(root, BOOK)["champion"].number == 2
    assert (
        retention.plan_retention(root, BOOK, keep=1, min_age_days=0, keep_comparisons=5).versions
        == []
    )


@pytest.mark.long
def test_young_versions_are_kept(root: Path) -> None:
    assert (
        retention.plan_retention(root, BOOK, keep=0, min_age_days=1, keep_comparisons=5).versions
        == []
    )
    assert retention.plan_retention(
        root, BOOK, keep=0, min_age_days=0, keep_comparisons=5
    ).versions == [3, 5, 6]


@pytest.mark.long
def test_version_promoted_during_prune_is_kept(root: Path) -> None:
    planned = retention.plan_retention(root, BOOK, keep=0, min_age_days=0, keep_comparisons=5)
    history.set_champion(root, BOOK, "promote", 5, "", {}, "c", expected_champion=2)
    retention.apply_retention(root, BOOK, planned, "c0ffee")
    assert aliases.list_version_numbers(root, BOOK) == [1, 2, 4, 5]


def test_old_downloads_are_deleted_and_cached_aliases_stay(root: Path) -> None:
    for name, age in (("old", 100), ("new", 1), ("aliases", 100)):
        folder = get_cache_folder(root) / name
        folder.mkdir(parents=True)
        os.utime(folder, (folder.stat().st_mtime - age * DAY,) * 2)
    planned = retention.plan_retention(root, BOOK, keep=20, min_age_days=90, keep_comparisons=5)
    assert [Path(folder).name for folder in planned.cached_folders] == ["old"]
    retention.apply_retention(root, BOOK, planned, "c")
    assert sorted(path.name for path in get_cache_folder(root).iterdir()) == ["aliases", "new"]


@pytest.mark.long
def test_prune_lists_first_and_deletes_after_confirmation(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "find_book", lambda book: (root, BOOK))
    runner, args = CliRunner(), ["prune", "--keep", "1", "--older-than", "0"]
    result = runner.invoke(app, args)
    assert "version 3" in result.output
    assert "version 1 of tiny stays: former champion" in result.output
    assert result.exit_code == 1  # no terminal, and not --yes
    assert len(aliases.list_version_numbers(root, BOOK)) == 6
    result = runner.invoke(app, [*args, "--json"])
    assert (json.loads(result.stdout)["versions"], result.exit_code) == ([3, 5], 0)
    assert len(aliases.list_version_numbers(root, BOOK)) == 6
    assert runner.invoke(app, [*args, "--yes"]).exit_code == 0
    assert aliases.list_version_numbers(root, BOOK) == [1, 2, 4, 6]
    assert "nothing" in runner.invoke(app, args).output
    assert runner.invoke(app, ["prune", "--keep", "-1"]).exit_code == 2
