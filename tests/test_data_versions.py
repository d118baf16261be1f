"""Data versions with DVC, and the walkthrough of docs/data-versions.md."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from servers import object_store
from small_project import ROOT, SmallProject
from version_store import put_empty_store

from modelbook import dataset
from modelbook.errors import DataError

TABLE = "data/t.csv"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a committed table and its DVC file."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "anna")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "anna@example.org")
    (tmp_path / "data").mkdir()
    write(tmp_path, "a,b\n1,2\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "data/t.csv.dvc")
    git(root, "commit", "-qm", "a version")


def write(root: Path, text: str) -> str:
    """A table as DVC has it; returns its md5."""
    (root / TABLE).write_text(text)
    result = hashlib.md5(text.encode()).hexdigest()
    outs = [{"md5": result, "size": len(text), "hash": "md5", "path": "t.csv"}]
    (root / f"{TABLE}.dvc").write_text(yaml.safe_dump({"outs": outs}))
    return result


def test_tracked_table_has_dvc_version(project: Path) -> None:
    assert (
        dataset.read_data_version(TABLE, project)
        == f"dvc md5 {hashlib.md5((project / TABLE).read_bytes()).hexdigest()}"
    )


def test_untracked_table_has_no_version(project: Path) -> None:
    (project / f"{TABLE}.dvc").unlink()
    assert (
        dataset.read_data_version(TABLE, project)
        == dataset.read_data_version("rand-hie", project)
        == "none"
    )


def change_table(root: Path) -> str:
    (root / TABLE).write_text("a,b\n3,4\n")
    return r"data/t\.csv .*t\.csv\.dvc.*\b[0-9a-f]{32}\b"


def not_committed(root: Path) -> str:
    write(root, "a,b\n3,4\n")
    return r"data/t\.csv .*t\.csv\.dvc.*git"


def never_committed(root: Path) -> str:
    shutil.rmtree(root / ".git")
    git(root, "init", "-q")
    return r"data/t\.csv .*t\.csv\.dvc.*git"


def invalid_commit(root: Path) -> str:
    valid_text = (root / f"{TABLE}.dvc").read_text()
    (root / f"{TABLE}.dvc").write_text("outs: [")
    commit(root)
    (root / f"{TABLE}.dvc").write_text(valid_text)
    return r"data/t\.csv .*t\.csv\.dvc.*git"


@pytest.mark.parametrize("change", [change_table, not_committed, never_committed, invalid_commit])
def test_uncommitted_table_raises_unless_allowed(
    change: Callable[[Path], str], project: Path
) -> None:
    message = change(project)
    with pytest.raises(DataError, match=message) as exc_info:
        dataset.read_data_version(TABLE, project)
    assert "MODELBOOK_DATA_VERSION=any" in exc_info.value.next
    digest = hashlib.md5((project / TABLE).read_bytes()).hexdigest()
    assert dataset.read_data_version(TABLE, project, "any") == f"dvc md5 {digest}, not committed"


def test_committed_new_version_is_used(project: Path) -> None:
    result = write(project, "a,b\n3,4\n")
    commit(project)
    assert dataset.read_data_version(TABLE, project) == f"dvc md5 {result}"


def test_version_outside_git_is_read_from_dvc_file(project: Path) -> None:
    shutil.rmtree(project / ".git")
    assert dataset.read_data_version(TABLE, project).startswith("dvc md5 ")
    with pytest.raises(DataError, match=change_table(project)):
        dataset.read_data_version(TABLE, project)


@pytest.mark.parametrize(
    "content", [b"outs: [", b"outs: []", b"outs:\n- path: t.csv", b"hello", b"outs: \xff"]
)
def test_invalid_dvc_file_raises(content: bytes, project: Path) -> None:
    (project / f"{TABLE}.dvc").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.csv\.dvc"):
        dataset.read_data_version(TABLE, project)


@pytest.mark.slow
def test_pushed_and_pulled_version_reproduces_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs each command of the page in order, with a remote in S3."""
    page = (ROOT / "docs/data-versions.md").read_text(encoding="utf-8")
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()
    ]
    small_project = SmallProject(put_empty_store(tmp_path))
    small_project.remove_stages("explore", "monitor")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "anna")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "anna@example.org")
    for folder in ("data", "models"):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(ROOT / folder / "README.md", tmp_path / folder)
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a clone"]):
        git(tmp_path, *args)
    with object_store(monkeypatch, "team-data"):
        result = {}
        for line in lines:
            environ = {**small_project.environ, "DVC_NO_ANALYTICS": "1"}
            process = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True
            )
            assert process.returncode == 0, (
                f"{line}\n{process.stdout[-1500:]}{process.stderr[-1500:]}"
            )
            result[line] = process.stdout
    version = f"dvc md5 {hashlib.md5((tmp_path / 'data/members.parquet').read_bytes()).hexdigest()}"
    for stage in ("ingest", "finalize"):
        assert small_project.read_receipt(stage)["details"]["data_version"] == version
    assert version in (tmp_path / "reports/tiny/01_ingest.html").read_text()
    assert not re.search(r"^data ", result["modelbook diff"], re.M)
    differences = re.findall(
        r"^metric +finalize\.\w+ .*? (0|[+-]\S+)(?= |$)", result["modelbook diff"], re.M
    )
    assert differences == ["0", "0"], result["modelbook diff"]
    assert "1 → 2" in result["modelbook history"]
