"""Full disks: check before the build, translated errors, and resuming."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from papermill.exceptions import PapermillExecutionError
from small_project import BIN, SmallProject

from modelbook import disk
from modelbook.atomic import atomic_write
from modelbook.build import executor
from modelbook.build.log_follower import explain_failure
from modelbook.errors import DiskError, StageError

# In its own mount namespace: models/ is on a disk of 70 MB, which a program fills when explore begins.
# What the build leaves there is kept for the next one.
FILLED = """set -u
mount -t tmpfs -o size=70m none models
(until [ -s reports/tiny/logs/02_explore.log ]; do sleep 0.1; done; cat /dev/zero > models/filler 2>/dev/null) &
"$1" build --partially explore > full.txt 2>&1; echo "exit $?" >> full.txt
rm models/filler
cp -a models kept
"""
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]
MAY_MOUNT = (
    bool(shutil.which("unshare"))
    and not subprocess.run(
        [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    ).returncode
)


def full(folder: Path) -> Path:
    """A file of the folder that has no room behind it."""
    path = folder / "full"
    path.symlink_to("/dev/full")
    return path


def test_insufficient_disk_space_raises_with_free_space(tmp_path, monkeypatch):
    disk.check_free_space(tmp_path)
    monkeypatch.setattr(disk, "MIN_FREE_BYTES", 2**60)
    with pytest.raises(DiskError, match=rf"{tmp_path} .*[0-9.]+ MB.*\n +expected: .*\d+ MB"):
        disk.check_free_space(tmp_path)


@pytest.mark.slow
def test_a_build_is_refused_before_a_kernel_starts(
    small_project: SmallProject, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(disk, "MIN_FREE_BYTES", 2**60)
    with (
        small_project.load_dag() as dag,
        pytest.raises(DiskError, match=rf"{small_project.root}/\w+/tiny .*MB"),
    ):
        executor.check_build(dag, small_project.root)


def test_full_disk_error_is_translated_for_every_library(tmp_path):
    path = full(tmp_path)
    with (
        pytest.raises(DiskError, match=r"\[Errno 28\] No space left on device\n +next: "),
        disk.translate_disk_full(),
    ):
        path.write_text("something")
    with pytest.raises(DiskError, match="database or disk is full"), disk.translate_disk_full():
        raise StageError("database or disk is full", next="something else")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), StageError("no room"), KeyError("disk")]
)
def test_other_errors_are_not_translated(error):
    with pytest.raises(type(error)) as exc_info, disk.translate_disk_full():
        raise error
    assert exc_info.value is error


def test_full_disk_hint_is_shown_once_in_cell_error():
    cell = PapermillExecutionError(
        5, 4, "write()", "OSError", "[Errno 28] No space left on device", ["..."]
    )
    assert explain_failure(cell, "").endswith(f"  next:     {disk.DISK_FULL_HINT}")
    expected_values = PapermillExecutionError(
        5, 4, "write()", "StoreError", "disk is full\n  next:     something", ["..."]
    )
    assert disk.DISK_FULL_HINT not in explain_failure(expected_values, "")


def test_failed_write_keeps_existing_file_and_leaves_no_partial_file(tmp_path):
    (tmp_path / "file").write_text("whole")

    def write() -> None:
        with disk.translate_disk_full(), atomic_write(tmp_path / "file") as part:
            part.symlink_to("/dev/full")
            part.write_text("half")

    with pytest.raises(DiskError):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "whole"


@pytest.mark.slow
@pytest.mark.skipif(not MAY_MOUNT, reason="this user may not mount a disk of its own")
def test_build_on_full_disk_fails_and_continues_when_space_is_free(small_project: SmallProject):
    (small_project.root / "models").mkdir()
    subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", FILLED, "sh", str(BIN / "ploomber")],
        cwd=small_project.root,
        env=small_project.environ,
        check=True,
    )
    filled = (small_project.root / "full.txt").read_text()
    assert "exit 1" in filled
    assert disk.DISK_FULL_PATTERN.search(filled), filled
    assert disk.DISK_FULL_HINT in filled
    assert "Traceback" not in filled
    (small_project.root / "models").rmdir()
    (small_project.root / "kept").rename(small_project.root / "models")
    continued = small_project.build("--partially", "explore")
    assert continued.returncode == 0, continued.stdout + continued.stderr
    assert small_project.list_executed_stages(continued) == ["explore"]
