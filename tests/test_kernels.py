"""Kernel failures (start, death, memory, time), and concurrent stages."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from ploomber_core.exceptions import BaseException as Reported
from small_project import SmallProject
from version_store import put_empty_store

from modelbook import config
from modelbook.build import executor, kernels

pytestmark = pytest.mark.slow

# Code inserted where the first stage opens, and the reported cause.
DEATHS = {
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "crashed": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "ended": ("import os; os._exit(3)", "code 3"),
    "memory": ("import numpy; numpy.ones(10**15)", "out of memory"),
    "late": ("import time; time.sleep(600)", "'ingest' took longer than 2 s"),
}


@pytest.fixture(scope="module")
def small_project(tmp_path_factory):
    return SmallProject(put_empty_store(tmp_path_factory.mktemp("kernels")))


def run_ingest(small_project, **environ):
    return small_project.build("--partially", "ingest", "--force", **environ)


@pytest.mark.parametrize("how", DEATHS)
def test_cause_of_stage_death_is_reported(small_project, how, tmp_path):
    code, fact = DEATHS[how]
    seconds = 2 if how == "late" else 3600
    with (
        small_project.change_file("pipeline.yaml", "ingest: 3600", f"ingest: {seconds}"),
        small_project.change_file(
            "notebooks/01_ingest.ipynb",
            '"context = stage.open',
            f'"{code}\\n",\n    "context = stage.open',
        ),
    ):
        result = run_ingest(small_project, IPYTHONDIR=str(tmp_path))
    assert not [*tmp_path.rglob("history.sqlite")]  # cells are not in the user's history
    assert result.returncode == 1
    assert fact in result.stdout
    assert not [
        other_cause
        for _, other_cause in DEATHS.values()
        if other_cause != fact and other_cause in result.stdout
    ]
    assert (
        result.stdout.count("starting the kernel\n") == 1
    )  # only a kernel that does not start is tried again
    assert re.search(r"failed.*: ingest \(", result.stderr.strip())
    page = (small_project.root / "reports/tiny/01_ingest.html").read_text(encoding="utf-8")
    assert {"memory": "MemoryError"}.get(how, fact) in html.unescape(page)
    if how != "late":  # on a busy machine the time is up before
        assert re.search(r"cell 3 of \d+", page)
        assert code in html.unescape(page)


def kernelspec(folder: Path, failures: int) -> dict[str, str]:
    """An environment in which the kernel `python3` fails to start ``count`` times."""
    spec = folder / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    count = folder / "count"
    script = (
        f"import os, sys, pathlib; count = pathlib.Path({str(count)!r}); "
        f"done = int(count.read_text()) if count.exists() else 0; count.write_text(str(done + 1)); "
        f"done < {failures} and sys.exit(7); "
        "os.execv(sys.executable, [sys.executable, '-m', 'ipykernel_launcher', *sys.argv[1:]])"
    )
    argv = [sys.executable, "-c", script, "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "flaky", "language": "python"}))
    return {"JUPYTER_PATH": str(folder)}


def test_kernel_that_fails_to_start_is_retried_once(small_project, tmp_path):
    result = run_ingest(small_project, **kernelspec(tmp_path, 1))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "code 7" in result.stdout
    assert (tmp_path / "count").read_text() == "2"


def test_kernel_that_fails_twice_ends_build(small_project, tmp_path):
    result = run_ingest(small_project, **kernelspec(tmp_path, 99))
    assert result.returncode == 1
    assert re.search(r"BuildError: .*'ingest'.*code 7", result.stdout)
    assert "modelbook doctor" in result.stdout
    page = (small_project.root / "reports/tiny/01_ingest.html").read_text(encoding="utf-8")
    assert "odelbook doctor" in page
    assert not re.search(r"cell \d+ of \d+", page)
    assert (tmp_path / "count").read_text() == "2"


def test_out_of_memory_kills_are_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "OOM_EVENTS_FILE", tmp_path / "memory.events")
    assert kernels._count_oom_kills() == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n")
    assert kernels._count_oom_kills() == 1


@pytest.mark.parametrize(
    ("limits", "facts"),
    [
        ({"jobs": 0}, "jobs = 0"),
        ({"jobs": 2, "timeout": {"ingets": 5}}, "(?s)'ingets'.*'ingest'"),
        ({"jobs": 2, "timeout": {"ingest": "soon"}}, "ingest = 'soon'"),
    ],
)
def test_invalid_limits_raise(small_project, monkeypatch, limits, facts):
    monkeypatch.chdir(small_project.root)
    with small_project.load_dag() as dag, pytest.raises(Reported, match=facts):
        executor.BuildExecutor(**limits)(dag, show_progress=False)
    assert not (small_project.root / "reports/tiny/logs/02_explore.log").exists()


class TestConcurrentStages:
    @pytest.fixture(scope="class")
    def serial(self, built_project, tmp_path_factory):
        """The root of a project of which two stages that wait for the same one were built one after the other."""
        small_project = SmallProject.copy(
            built_project.first_build, tmp_path_factory.mktemp("serial")
        )
        small_project.remove_stages("finalize", "deploy", "monitor")
        pipeline = small_project.root / "pipeline.yaml"
        pipeline.write_text(pipeline.read_text().replace("jobs: 2", "jobs: 1"))
        for stage in ("explore", "compare"):
            (small_project.root / f"models/tiny/{stage}.json").unlink()
        result = small_project.build()
        assert result.returncode == 0, result.stdout + result.stderr
        assert small_project.list_executed_stages(result) == ["explore", "compare"]
        return small_project.root

    def read_start_and_end(self, root, stage):
        """When a stage began and ended."""
        lines = (
            (root / f"reports/tiny/logs/{config.stage_stem(stage)}.log").read_text().splitlines()
        )
        return json.loads(lines[0])["at"], json.loads(lines[-1])["at"]

    def test_serial_build_runs_one_stage_at_a_time(self, serial):
        assert (
            self.read_start_and_end(serial, "explore")[1]
            <= self.read_start_and_end(serial, "compare")[0]
        )

    def test_independent_stages_run_concurrently(self, built_project):
        explore, compare = (
            self.read_start_and_end(built_project.first_build, stage)
            for stage in ("explore", "compare")
        )
        assert explore[0] < compare[1]
        assert compare[0] < explore[1]

    def test_serial_and_concurrent_builds_give_equal_results(self, serial, built_project):
        parallel = built_project.first_build
        boards = [
            pd.read_parquet(root / "models/tiny/leaderboard.parquet") for root in (serial, parallel)
        ]
        pd.testing.assert_frame_equal(*(board.drop(columns="fit_seconds") for board in boards))
        receipts = [
            json.loads((root / "models/tiny/explore.json").read_text())
            for root in (serial, parallel)
        ]
        for key in ("status", "sentences", "numbers"):
            assert receipts[0][key] == receipts[1][key]
