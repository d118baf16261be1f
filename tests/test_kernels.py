"""Kernels that do not start, die, run out of memory or take too long; and stages that run side by side."""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from tiny import Tiny

from modelbook import config
from modelbook.stage import kernels

pytestmark = pytest.mark.slow

# What is put where the first stage opens: the rest of it never runs.
DEATHS = {
    "killed": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "the kernel died: something killed it from outside (SIGKILL), most often the system for want of memory",
    ),
    "crashed": ("import ctypes; ctypes.string_at(0)", "the kernel died: it crashed with SIGSEGV"),
    "ended": ("import os; os._exit(3)", "the kernel died: it ended by itself with code 3"),
    "memory": ("import numpy; numpy.ones(10**15)", "out of memory, "),
    "late": (
        "import time; time.sleep(600)",
        "stage 'ingest' took longer than 30 s and was stopped\n  next: make it do less",
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    made = Tiny(tmp_path_factory.mktemp("kernels"))
    pipeline = made.root / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("ingest: 3600", "ingest: 30"))
    return made


def ingest(tiny, **environ):
    return tiny.build("--partially", "ingest", "--force", **environ)


@pytest.mark.parametrize("how", DEATHS)
def test_what_ended_a_stage_is_told_apart(tiny, how):
    code, said = DEATHS[how]
    with tiny.changed("notebooks/01_ingest.ipynb", '"this = stage.open', f'"{code}\\n",\n    "this = stage.open'):
        told = ingest(tiny)
    assert told.returncode == 1
    assert said in told.stdout
    assert ("not an error in the notebook's code" in told.stdout) == (how not in ("memory", "late"))
    assert told.stdout.count("starting the kernel\n") == 1  # only a kernel that does not start is tried again
    assert "once more" not in told.stdout
    assert "the build failed at: ingest" in told.stderr
    page = (tiny.root / "reports/tiny/01_ingest.html").read_text(encoding="utf-8")
    assert {"memory": "MemoryError"}.get(how, said.splitlines()[0]) in html.unescape(page)
    if how != "late":  # on a busy machine the time is up before
        assert "It stopped in code cell 3 of" in page
        assert code in html.unescape(page)


def kernelspec(folder: Path, failures: int) -> dict[str, str]:
    """An environment in which the kernel `python3` fails to start so many times."""
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


def test_a_kernel_that_does_not_start_is_tried_once_more(tiny, tmp_path):
    told = ingest(tiny, **kernelspec(tmp_path, 1))
    assert told.returncode == 0, told.stdout + told.stderr
    assert "the kernel did not start (it ended with code 7); trying once more" in told.stdout
    assert (tmp_path / "count").read_text() == "2"


def test_and_not_twice(tiny, tmp_path):
    told = ingest(tiny, **kernelspec(tmp_path, 99))
    assert told.returncode == 1
    assert "BuildError: the kernel of stage 'ingest' did not start, twice: it ended with code 7" in told.stdout
    assert "next:     modelbook doctor" in told.stdout
    page = (tiny.root / "reports/tiny/01_ingest.html").read_text(encoding="utf-8")
    assert "Modelbook doctor." in page
    assert "It stopped in" not in page
    assert (tmp_path / "count").read_text() == "2"


def test_what_the_system_killed_for_want_of_memory_is_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "OOM_COUNT", tmp_path / "memory.events")
    assert kernels._killed_for_memory() == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\n")
    assert kernels._killed_for_memory() == 1


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("jobs: 0", "jobs = 0"),
        ("jobs: 2\n  timeout: {ingets: 5}", "timeout names 'ingets'\n  expected: did you mean 'ingest'?"),
        ("jobs: 2\n  timeout: {ingest: soon}", "timeout of ingest = 'soon'\n  expected: seconds, above 0"),
    ],
)
def test_limits_that_make_no_sense(tiny, written, said):
    pipeline = tiny.root / "pipeline.yaml"
    kept = pipeline.read_text()
    head, rest = kept.split("  jobs: 2")
    try:
        pipeline.write_text(head + f"  {written}\n" + rest.split("\n", 2)[2])
        told = tiny.build()
    finally:
        pipeline.write_text(kept)
    assert told.returncode == 1
    assert said in told.stderr
    assert tiny.ran(told) == []


class TestSideBySide:
    @pytest.fixture(scope="class")
    def serial(self, tmp_path_factory):
        """The root of a project whose stages were built one after the other."""
        tiny = Tiny(tmp_path_factory.mktemp("serial"))
        pipeline = tiny.root / "pipeline.yaml"
        pipeline.write_text(pipeline.read_text().replace("jobs: 2", "jobs: 1"))
        told = tiny.build()
        assert told.returncode == 0, told.stdout + told.stderr
        return tiny.root

    def ran(self, root, stage):
        """When a stage began and ended."""
        lines = (root / f"reports/tiny/logs/{config.stem(stage)}.log").read_text().splitlines()
        return json.loads(lines[0])["at"], json.loads(lines[-1])["at"]

    def test_one_at_a_time_when_asked(self, serial):
        assert self.ran(serial, "explore")[1] <= self.ran(serial, "compare")[0]

    def test_stages_that_wait_for_the_same_one_run_at_the_same_time(self, built):
        explore, compare = (self.ran(built.first, stage) for stage in ("explore", "compare"))
        assert explore[0] < compare[1]
        assert compare[0] < explore[1]

    def test_both_ways_give_the_same(self, serial, built):
        for path in sorted((serial / "data/tiny").glob("*.parquet")):
            pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(built.first / "data/tiny" / path.name))
        boards = [pd.read_parquet(root / "models/tiny/leaderboard.parquet") for root in (serial, built.first)]
        pd.testing.assert_frame_equal(*(board.drop(columns="fit_seconds") for board in boards))
        for stage in ("ingest", "explore", "finalize", "deploy", "monitor"):  # compare tells its seconds
            one, other = (
                json.loads((root / f"models/tiny/{stage}.json").read_text()) for root in (serial, built.first)
            )
            assert [one[key] for key in ("word", "sentences", "numbers")] == [
                other[key] for key in ("word", "sentences", "numbers")
            ]
