"""Recorded runs: numbering, listing, selection and comparison."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from functools import partial

import pytest
from command_template import find_command
from small_project import ROOT, STAGES

from modelbook.build import staleness
from modelbook.errors import RunHistoryError
from modelbook.formatting import format_duration, key_number
from modelbook.pages import run_archive
from modelbook.runs import history, record
from modelbook.stage import files
from modelbook.stage.verdict import Verdict

ALL_RAN = dict.fromkeys(STAGES, "ran")
RECORD_RUNS = (
    "import json, sys, time; from pathlib import Path; from modelbook.runs import history\n"
    "for _ in range(int(sys.argv[3])):\n"
    "    history.record_run(Path(sys.argv[1]), 'tiny', time.time(), json.loads(sys.argv[2]), command=['ploomber', 'build'],\n"
    "                 env_file='env.yaml', status='ok')"
)


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    (tmp_path / "env.yaml").write_text(
        (ROOT / "env.yaml").read_text().replace("book: rand-hie ", "book: tiny ")
    )
    write_receipts(tmp_path)
    return tmp_path


def write_receipt(
    root, stage, status="done", numbers=(), parameters=None, origin="default", **details
):
    """Leave a receipt as a stage does."""
    parameter_rows = [
        {"name": n, "value": str(v), "origin": origin, "meaning": ""}
        for n, v in (parameters or {}).items()
    ]
    facts = {
        "run_id": f"run-of-{stage}", "commit": "abc", "fingerprint": details.get("fingerprint", "f" * 64),
        "seconds": 1.5, "parameters": parameter_rows, "versions": {"pandas": "2.1.4"},
    }  # fmt: skip
    numbers = [key_number(*number) for number in numbers]
    verdict = Verdict(
        stage, "tiny", status, "good", ["It is done."], numbers, facts=facts, details=details
    )
    files.write(root / f"models/tiny/{stage}.json", verdict.to_dict())


def metrics_of(roc_auc):
    return {
        "roc_auc": roc_auc,
        "roc_auc_low": roc_auc - 0.02,
        "roc_auc_high": roc_auc + 0.02,
        "brier": 0.1,
    }


def write_receipts(root, roc_auc=0.75, folds=5, **kwargs):
    """Leave the six receipts of a build."""
    write_receipt(
        root,
        "ingest",
        "accepted",
        [("rows", 20190, "count"), ("features", 27, "count")],
        {"seed": 42},
        **kwargs,
    )
    write_receipt(root, "explore", "clear", parameters={"columns_shown": 8})
    write_receipt(
        root, "compare", "clear leader", [("leader's fit time", time.time(), "s")], {"folds": folds}
    )
    metrics = metrics_of(roc_auc)
    write_receipt(
        root, "finalize", "beats baseline", [("ROC AUC", roc_auc)], metrics=metrics, version=3
    )
    write_receipt(root, "deploy", "promote", [("candidate", 3, "version")], candidate=3)
    write_receipt(
        root, "monitor", "healthy", [("columns drifted", 9, "count"), ("share", 0.43, "share")]
    )


def write_run(
    root,
    states=ALL_RAN,
    *,
    outcome="ok",
    command=("ploomber", "build"),
    environment="env.yaml",
    start_time=None,
    **kwargs,
):
    """Record a run; the state of a failed stage is “failed: <message>”."""
    start_time = time.time() if start_time is None else start_time
    pairs = {stage: state.partition(": ") for stage, state in states.items()}
    states = {stage: pair[0] for stage, pair in pairs.items()}
    messages = {stage: pair[2] for stage, pair in pairs.items() if pair[2]}
    notes = staleness.read_build_state(root, "tiny")
    return history.record_run(
        root, "tiny", start_time, states, command=command, env_file=environment, status=outcome, messages=messages,
        module_digests={name: note.get("dependencies_digest", "") for name, note in notes.items()},
        archive_pages=partial(run_archive.archive_pages, root, "tiny", states), **kwargs,
    )  # fmt: skip


def execute(root, stage, code):
    """Leave an executed notebook as a build does: values injected below the parameters cell, then the code."""
    cells = [
        ("folds = 5", ["parameters"]),
        (f"folds = {time.time()}", ["injected-parameters"]),
        (code, []),
    ]
    result = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": [source]}
        for source, tags in cells
    ]
    path = root / f"reports/tiny/{1 + STAGES.index(stage):02d}_{stage}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}, *result]}
        )
    )


def find_changes(root, a="last-1", b="last"):
    """Differences, without equal headline metrics."""
    changes = history.compare_runs(root, "tiny", a, b)[2]
    return {
        (change.kind, change.name): (change.a, change.b)
        for change in changes
        if change.a != change.b
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (float("nan"), "–"), (4.21, "4.2 s"), (45.4, "45 s"), (59.7, "1 min"), (83, "1 min 23 s"),
        (3600, "1 h"), (12_000, "3 h 20 min"), (7 * 90_000, "7 d 7 h"),
    ],
)  # fmt: skip
def test_duration_is_formatted_with_two_units(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


class TestRecordRun:
    def test_run_records_time_command_parameters_and_results(self, project):
        write_run(
            project, command=["/opt/bin/ploomber", "build", "--force"], start_time=time.time() - 90
        )
        [run] = history.list_runs(project, "tiny")
        assert (run.number, run.status, run.command, run.env_file) == (
            1,
            "ok",
            "ploomber build --force",
            "env.yaml",
        )
        assert 90 <= run.seconds < 150
        assert run.started.endswith("+00:00")
        assert (run.fingerprint, run.rows, run.commit) == ("f" * 64, 20190, "none")
        assert run.headline == ["ROC AUC 0.750", "promote", "healthy"]
        step = run.stages["finalize"]
        assert (step.state, step.verdict, step.level, step.seconds) == (
            "ran",
            "beats baseline",
            "good",
            1.5,
        )
        assert (step.run_id, step.version, run.stages["deploy"].version) == (
            "run-of-finalize",
            3,
            3,
        )
        assert run.stages["compare"].parameters == [
            {"name": "folds", "value": "5", "origin": "default"}
        ]

    def test_receipts_are_copied_unchanged(self, project):
        stood = (project / "models/tiny/finalize.json").read_bytes()
        write_run(project)
        write_receipts(project, roc_auc=0.9)
        folder = project / "reports/tiny/runs/1"
        assert {path.name for path in folder.iterdir()} == {
            "run.json",
            *(f"{stage}.json" for stage in STAGES),
        }
        assert (folder / "finalize.json").read_bytes() == stood

    def test_run_numbers_increase(self, project):
        assert [write_run(project) for _ in range(11)] == list(range(1, 12))
        shutil.rmtree(project / "reports/tiny/runs/3")
        assert write_run(project) == 12
        assert [run.number for run in history.list_runs(project, "tiny")][:4] == [12, 11, 10, 9]

    def test_number_of_removed_run_is_not_reused(self, project):
        for _ in range(3):
            write_run(project)
        for number in (2, 3):
            shutil.rmtree(project / f"reports/tiny/runs/{number}")
        assert write_run(project) == 4

    @pytest.mark.parametrize("damage", [None, "", "many\n"])
    def test_missing_counter_is_restored_from_folders(self, project, damage):
        write_run(project)
        count = project / "reports/tiny/runs/.last"
        count.unlink() if damage is None else count.write_text(damage)
        assert write_run(project) == 2

    def test_failed_stage_has_message_and_no_earlier_results(self, project):
        states = {
            "ingest": "kept",
            "compare": "failed: ValueError: no:\n rows",
            "finalize": "not run",
        }
        inputs = {
            "compare": [
                {"name": "families", "value": ["lr", "nb"], "origin": "env file", "meaning": ""}
            ]
        }
        write_run(project, states, outcome="failed", parameters=inputs)
        [run] = history.list_runs(project, "tiny")
        assert (run.stages["compare"].state, run.stages["compare"].message) == (
            "failed",
            "ValueError: no: rows",
        )
        assert run.stages["compare"].parameters == [
            {"name": "families", "value": "lr nb", "origin": "env file"}
        ]
        assert (run.stages["compare"].verdict, run.stages["finalize"].metrics) == ("", {})
        assert run.headline == ["ValueError: no: rows"]

    def test_failed_ingest_has_no_data_fingerprint(self, project):
        write_run(project, {"ingest": "failed: it broke", "explore": "not run"}, outcome="failed")
        [run] = history.list_runs(project, "tiny")
        assert (run.fingerprint, run.rows) == ("", None)

    def test_corrupt_or_missing_receipt_is_skipped(self, project):
        (project / "models/tiny/compare.json").write_text('{"stage": ')
        (project / "models/tiny/explore.json").write_text("[1]")
        (project / "models/tiny/deploy.json").unlink()
        write_run(project)
        [run] = history.list_runs(project, "tiny")
        assert [run.stages[name].verdict for name in ("explore", "compare", "deploy")] == [
            "",
            "",
            "",
        ]
        assert run.stages["monitor"].verdict == "healthy"

    def test_secrets_are_redacted(self, project, monkeypatch):
        monkeypatch.setenv("DB_PASSWORD", "very-secret")
        states = {**ALL_RAN, "monitor": "failed: no access with very-secret"}
        write_run(
            project,
            states,
            command=["ploomber", "build", "--env--table", "postgresql://me:secret@host/db"],
        )
        assert "secret" not in (project / "reports/tiny/runs/1/run.json").read_text()
        [run] = history.list_runs(project, "tiny")
        assert "me:***@host/db" in run.command
        assert run.stages["monitor"].message == "no access with ***"

    @pytest.mark.long
    def test_killed_recording_leaves_no_folder(self, project):
        (project / "models/tiny/monitor.json").unlink()
        os.mkfifo(project / "models/tiny/monitor.json")  # reading it blocks
        running = subprocess.Popen(
            [sys.executable, "-c", RECORD_RUNS, str(project), json.dumps(ALL_RAN), "1"]
        )
        folder = project / "reports/tiny/runs"
        try:
            while not list(folder.glob(".*.part/deploy.json")):
                assert running.poll() is None
                time.sleep(0.02)
        finally:
            running.kill()
            running.wait()
        assert [path.name for path in folder.iterdir()] == [f".{running.pid}.part"]
        with pytest.raises(RunHistoryError, match="no runs yet"):
            history.list_runs(project, "tiny")
        (project / "models/tiny/monitor.json").unlink()
        assert write_run(project) == 1
        assert sorted(path.name for path in folder.iterdir()) == [".last", "1"]

    def test_folder_of_running_process_is_kept(self, project):
        part = project / f"reports/tiny/runs/.{os.getppid()}.part"
        part.mkdir(parents=True)
        write_run(project)
        assert part.is_dir()

    @pytest.mark.long
    def test_concurrent_runs_get_distinct_numbers(self, project):
        command = [
            sys.executable,
            "-c",
            RECORD_RUNS,
            str(project),
            json.dumps({"ingest": "ran"}),
            "40",
        ]
        several = [subprocess.Popen(command) for _ in range(3)]
        assert [running.wait() for running in several] == [0, 0, 0]
        result = history.list_runs(project, "tiny")
        assert [run.number for run in result if not run.read_error] == list(range(120, 0, -1))

    def test_failed_recording_leaves_no_folder(self, project):
        (project / "reports/tiny").mkdir(parents=True)
        (project / "reports/tiny/runs").write_text("a file")
        with pytest.raises(OSError, match="File exists"):
            write_run(project)


class TestFindRun:
    def test_runs_are_selected_by_number_or_last(self, project):
        for _ in range(3):
            write_run(project)
        shutil.rmtree(project / "reports/tiny/runs/2")
        picked = {
            name: history.find_run(project, "tiny", name).number
            for name in ("1", "3", "last", "last-0", "last-1")
        }
        assert picked == {"1": 1, "3": 3, "last": 3, "last-0": 3, "last-1": 1}

    @pytest.mark.parametrize("name", ["2", "9", "last-4", "0", "first"])
    def test_unknown_run_lists_available_runs(self, project, name):
        for _ in range(5):
            write_run(project)
        shutil.rmtree(project / "reports/tiny/runs/2")
        with pytest.raises(
            RunHistoryError, match=f"no run '{name}'\n  expected: one of 1, 3 to 5; or last"
        ):
            history.find_run(project, "tiny", name)

    def test_no_runs_raises_with_build_command(self, project):
        with pytest.raises(
            RunHistoryError,
            match="book 'tiny' has no runs yet\n  next:     build it: ploomber build",
        ):
            history.find_run(project, "tiny", "last")

    @pytest.mark.parametrize(
        ("content", "why"),
        [(None, "No such file"), ("{", "JSONDecodeError"), ("[]", "TypeError"), ('{"started": "x"}', "ValueError"),
         ('{"started": "2026-01-01T00:00:00+00:00", "seconds": 1, "stages": {"ingest": {}}}', "TypeError")],
    )  # fmt: skip
    def test_corrupt_run_raises_and_others_are_read(self, project, content, why):
        for _ in range(3):
            write_run(project)
        path = project / "reports/tiny/runs/2/run.json"
        path.write_text(content) if content else path.unlink()
        newest, corrupt, oldest = history.list_runs(project, "tiny")
        assert (newest.read_error, oldest.read_error) == ("", "")
        assert why in corrupt.read_error
        with pytest.raises(
            RunHistoryError, match=rf"run 2 cannot be read: .*{why}.*\n.*remove reports/tiny/runs/2"
        ):
            history.find_run(project, "tiny", "2")

    def test_record_of_1_0_0_is_read(self, tmp_path):
        stage = {"state": "ran", "word": "approved", "level": "watch"}
        stage["metrics"] = {"roc_auc": 0.75, "flagged": 0.2}
        stage["parameters"] = [{"name": "leak_auc", "value": "0.9", "origin": "pipeline.yaml"}]
        old = {"started": "2026-11-20T01:00:00+00:00", "seconds": 3, "stages": {"finalize": stage}}
        path = tmp_path / "run.json"
        path.write_text(json.dumps(old))
        run = record.read_run(path, 7)
        assert run.read_error == ""
        step = run.stages["finalize"]
        assert step.verdict == "approved"
        assert step.metrics == {"roc_auc": 0.75, "selection_rate": 0.2}
        assert step.level == "warning"
        assert [parameter["name"] for parameter in step.parameters] == ["leak_threshold"]

    def test_record_of_later_version_is_read(self, project):
        write_run(project)
        path = project / "reports/tiny/runs/1/run.json"
        result = json.loads(path.read_text())
        result["stages"]["ingest"]["colour"] = result["weather"] = "new"
        path.write_text(json.dumps(result))
        assert history.find_run(project, "tiny", "1").stages["ingest"].verdict == "accepted"


class TestDiffRuns:
    def test_identical_runs_have_no_differences_and_list_headline(self, project):
        write_run(project)
        write_receipts(project)  # another fit time: times are not compared
        write_run(project)
        [change] = history.compare_runs(project, "tiny", "1", "2")[2]
        assert change.to_dict() == {
            "kind": "metric", "name": "finalize.roc_auc", "a": 0.75, "b": 0.75, "difference": 0,
            "note": "0.730 to 0.770", "unit": "",
        }  # fmt: skip

    def test_diff_lists_causes_and_effects(self, project):
        write_run(project)
        write_receipts(project, roc_auc=0.77, fingerprint="e" * 64)
        write_receipt(
            project,
            "ingest",
            "accepted",
            [("rows", 20200, "count")],
            {"seed": 42},
            fingerprint="e" * 64,
        )
        write_receipt(
            project, "compare", "clear leader", parameters={"folds": 10}, origin="command line"
        )
        write_receipt(project, "deploy", "hold", [("candidate", 4, "version")], candidate=4)
        write_receipt(
            project,
            "monitor",
            "healthy",
            [("columns drifted", 11, "count"), ("share", 0.45, "share")],
        )
        write_run(
            project,
            {**ALL_RAN, "explore": "kept"},
            command=["ploomber", "build", "--env--folds", "10"],
        )
        first, second, changes = history.compare_runs(project, "tiny", "last-1", "last")
        assert (first.number, second.number) == (1, 2)
        assert [(c.kind, c.name, c.a, c.b, c.difference, c.note) for c in changes] == [
            ("run", "command", "ploomber build", "ploomber build --env--folds 10", None, ""),
            ("data", "fingerprint", "f" * 64, "e" * 64, None, ""),
            ("data", "rows", 20190, 20200, 10, ""),
            ("parameter", "compare.folds", "5", "10", None, "default, then command line"),
            ("stage", "explore", "ran", "kept", None, ""),
            ("verdict", "deploy", "promote", "hold", None, ""),
            ("metric", "ingest.features", 27, None, None, ""),
            ("metric", "finalize.roc_auc", 0.75, 0.77, 0.02, "0.730 to 0.770, then 0.750 to 0.790"),
            ("metric", "deploy.candidate", 3, 4, None, ""),
            ("metric", "monitor.columns drifted", 9, 11, 2, ""),
            ("metric", "monitor.share", 0.43, 0.45, 0.02, ""),
        ]

    def test_diff_of_failed_run_shows_changed_parameters_and_reason(self, project):
        write_run(project)
        states = {
            **ALL_RAN,
            "ingest": "kept",
            "compare": "failed: too few rows",
            "finalize": "not run",
        }
        inputs = {"compare": [{"name": "folds", "value": 20, "origin": "env.yaml"}]}
        write_run(project, states, outcome="failed", parameters=inputs)
        result = find_changes(project)
        assert result[("run", "ended")] == ("ok", "failed")
        assert result[("parameter", "compare.folds")] == ("5", "20")
        assert result[("stage", "compare")] == ("ran", "failed")
        assert result[("metric", "finalize.roc_auc")] == (0.75, None)
        assert ("metric", "finalize.brier") not in result  # only the headline metric
        assert not [name for about, name in result if about == "verdict"]
        [why] = [
            change.note
            for change in history.compare_runs(project, "tiny", "1", "2")[2]
            if change.name == "compare"
        ]
        assert why == "too few rows"

    def test_diff_lists_added_and_removed_stages(self, project):
        write_run(project, {**ALL_RAN, "fairness": "ran"})
        write_run(project, {stage: "ran" for stage in STAGES if stage != "explore"})
        assert find_changes(project) == {
            ("stage", "explore"): ("ran", None),
            ("stage", "fairness"): ("ran", None),
        }
        assert find_changes(project, "2", "1") == {
            ("stage", "explore"): (None, "ran"),
            ("stage", "fairness"): (None, "ran"),
        }

    def test_diff_lists_metrics_and_parameters_of_one_run_only(self, project):
        write_run(project)
        write_receipt(
            project, "finalize", "beats baseline", metrics={"roc_auc": None, "recall": 0.6}
        )
        write_receipt(
            project, "explore", "clear", parameters={"columns_shown": 8, "leak_threshold": 0.9}
        )
        write_run(project)
        assert find_changes(project) == {
            ("parameter", "explore.leak_threshold"): (None, "0.9"),
            ("metric", "finalize.roc_auc"): (0.75, None),
            ("metric", "finalize.brier"): (0.1, None),
            ("metric", "finalize.recall"): (None, 0.6),
        }
        assert history.find_run(project, "tiny", "last").headline == ["promote", "healthy"]

    def test_numbers_with_different_units_have_no_difference(self, project):
        write_receipt(project, "monitor", "healthy", [("share", "43%"), ("drift", "none")])
        write_run(project)
        write_receipt(project, "monitor", "healthy", [("share", "45 of 100"), ("drift", "0.2")])
        write_run(project)
        result = {
            change.name: change.difference
            for change in history.compare_runs(project, "tiny", "1", "2")[2]
        }
        assert result["monitor.share"] is result["monitor.drift"] is None

    def test_diff_names_different_env_files(self, project):
        write_run(project)
        write_run(project, environment="env.small.yaml")
        assert find_changes(project) == {("run", "environment"): ("env.yaml", "env.small.yaml")}

    def test_diff_names_commits_and_uncommitted_changes(self, project):
        def git(*args):
            user_options = ("-c", "user.name=a", "-c", "user.email=a@b")
            subprocess.run(
                ["git", *user_options, *args], cwd=project, check=True, capture_output=True
            )

        git("init")
        git("add", "env.yaml")
        git("commit", "-m", "first")
        write_run(project)
        (project / "env.yaml").write_text((project / "env.yaml").read_text() + "# more\n")
        write_run(project)
        a, b, changes = history.compare_runs(project, "tiny", "1", "2")
        assert re.fullmatch("[0-9a-f]{10}", a.commit)
        assert b.commit == a.commit + "+"
        assert [c.note for c in changes if c.kind == "commit"] == ["uncommitted changes in 2"]

    def test_diff_detects_uncommitted_code_changes(self, project):
        for code, modules in (
            ("fit()", "a" * 64),
            ("fit()", "a" * 64),
            ("fit(2)", "a" * 64),
            ("fit(2)", "b" * 64),
        ):
            execute(project, "compare", code)
            files.write(
                project / "models/tiny/built.json", {"compare": {"dependencies_digest": modules}}
            )
            write_run(project)
        result = [find_changes(project, str(number), str(number + 1)) for number in (1, 2, 3)]
        assert [len(changes) for changes in result] == [0, 1, 1]
        assert ("code", "compare: notebook") in result[1]
        assert result[2][("code", "compare: modules")] == ("a" * 10, "b" * 10)

    def test_diff_names_changed_library_versions(self, project):
        write_run(project)
        for path in (project / "models/tiny").glob("*.json"):
            path.write_text(path.read_text().replace("2.1.4", "2.2.0"))
        write_run(project)
        assert find_changes(project) == {("library", "pandas"): ("2.1.4", "2.2.0")}


def modelbook(root, *args, **environ):
    environ = {**os.environ, "COLUMNS": "60", **environ}
    return subprocess.run(
        [find_command("modelbook"), *args], cwd=root, env=environ, capture_output=True, text=True
    )


def on_terminal(root, columns, *args):
    """Output of a command on a terminal, without colours."""
    controller, terminal = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    subprocess.run(
        [find_command("modelbook"), *args], cwd=root, env=environ, stdout=terminal, check=True
    )
    os.close(terminal)
    result = os.read(controller, 100_000).decode()
    os.close(controller)
    return re.sub(r"\x1b\[[0-9;]*m", "", result)


class TestCommands:
    @pytest.mark.long
    def test_runs_command_without_terminal_prints_full_table(self, project):
        write_run(project, start_time=1_700_000_000)
        long = [
            "ploomber",
            "build",
            "--env--families",
            "lr lda qda nb knn dt rf et ada gbc lightgbm mlp",
        ]
        write_run(
            project,
            {**ALL_RAN, "ingest": "kept", "monitor": "failed: no"},
            outcome="failed",
            command=long,
        )
        write_run(project, {"ingest": "ran", "explore": "kept"}, environment="env.small.yaml")
        (project / "reports/tiny/runs/1/run.json").write_text("{")
        result = modelbook(project, "runs")
        header, *rows = result.stdout.splitlines()
        assert (result.returncode, result.stderr) == (0, "")
        assert header.split("  ")[:2] == ["run", "started (UTC)"]
        assert [row.split()[0] for row in rows] == ["3", "2", "1"]
        assert re.search(
            r" ok +ingest +none +ffffffff +explore: clear +ploomber build \(env.small.yaml\)$",
            rows[0],
        )
        assert "failed at monitor  explore compare finalize deploy  " in rows[1]
        assert "'lr lda qda nb knn dt rf et ada gbc lightgbm mlp'" in rows[1]
        assert "ROC AUC 0.750, promote" in rows[1]
        assert "run.json" in rows[2]
        assert rows[0].index("ok") == rows[1].index("failed at")  # columns are aligned

    @pytest.mark.long
    def test_runs_command_prints_utc(self, project):
        write_run(project, start_time=1_700_000_000)
        assert " 2023-11-14 22:13 " in modelbook(project, "runs", TZ="Asia/Tokyo").stdout

    @pytest.mark.long
    def test_runs_command_limits_rows(self, project):
        for _ in range(3):
            write_run(project)
        assert modelbook(project, "runs", "--limit", "2").stdout.endswith(
            "\n2 of 3 runs; all: --limit 3\n"
        )
        result = json.loads(modelbook(project, "runs", "--limit", "2", "--json").stdout)
        assert [run["number"] for run in result] == [3, 2]
        assert modelbook(project, "runs", "--limit", "0").returncode == 2

    @pytest.mark.long
    def test_runs_table_wraps_to_terminal_width(self, project):
        write_run(project, command=["ploomber", "build", "--env--families", "[lr] nb"])
        result = on_terminal(project, 110, "runs")
        assert "─" in result
        assert "…" not in result
        assert max(map(len, result.splitlines())) <= 110
        assert {"promote,", "healthy", "ffffffff", "--env--families", "'[lr]"} <= set(
            result.split()
        )

    @pytest.mark.long
    def test_narrow_terminal_omits_columns_with_a_note(self, project):
        write_run(project)
        result = on_terminal(project, 60, "runs")
        assert "ploomber" not in result
        assert "In a wider window, or with --json: commit, data, command." in " ".join(
            result.split()
        )
        assert "promote," in result

    @pytest.mark.long
    def test_diff_command_compares_last_two_runs(self, project):
        write_run(project)
        write_receipts(project, roc_auc=0.8, folds=10)
        write_run(project)
        result = modelbook(project, "diff")
        assert result.returncode == 0
        rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
        assert ["kind", "name", "run 1", "run 2", "difference", "note"] in rows
        assert ["parameter", "compare.folds", "5", "10", "default"] in rows
        intervals = "0.730 to 0.770, then 0.780 to 0.820"
        assert ["metric", "finalize.roc_auc", "0.7500", "0.8000", "+0.05", intervals] in rows
        assert (
            modelbook(project, "diff", "1").stdout
            == modelbook(project, "diff", "1", "2").stdout
            == result.stdout
        )

    @pytest.mark.long
    def test_diff_command_reports_no_differences(self, project):
        write_run(project)
        assert modelbook(project, "diff", "last", "1").stdout.endswith("\nNothing differs.\n")

    @pytest.mark.long
    def test_diff_command_prints_json(self, project):
        write_run(project)
        write_receipts(project, folds=10)
        write_run(project)
        result = json.loads(modelbook(project, "diff", "--json").stdout)
        assert (result["a"]["number"], result["b"]["number"]) == (1, 2)
        assert result["changes"][0] == {
            "kind": "parameter", "name": "compare.folds", "a": "5", "b": "10", "difference": None, "note": "default", "unit": "",
        }  # fmt: skip

    @pytest.mark.long
    @pytest.mark.parametrize("command", [["runs"], ["diff"], ["runs", "--json"]])
    def test_runs_and_diff_without_runs_exit_with_1(self, project, command):
        result = modelbook(project, *command)
        assert (result.returncode, result.stdout) == (1, "")
        assert (
            result.stderr
            == "RunHistoryError: book 'tiny' has no runs yet\n  next:     build it: ploomber build\n"
        )

    @pytest.mark.long
    def test_diff_with_one_run_exits_with_1(self, project):
        write_run(project)
        result = modelbook(project, "diff")
        assert result.returncode == 1
        assert "no run 'last-1'" in result.stderr
        assert "expected: one of 1;" in result.stderr

    @pytest.mark.long
    @pytest.mark.parametrize("args", [["first"], ["1", "2", "3"], ["1.5"], ["last-"]])
    def test_wrong_usage_exits_with_2(self, project, args):
        write_run(project)
        assert modelbook(project, "diff", *args).returncode == 2

    @pytest.mark.long
    def test_runs_command_selects_book(self, project):
        write_run(project)
        (project / "reports/gone").mkdir()
        shutil.copytree(project / "reports/tiny/runs", project / "reports/gone/runs")
        assert (
            modelbook(project, "runs", "--book", "gone").stdout == modelbook(project, "runs").stdout
        )
        result = modelbook(project, "runs", "--book", "none")
        assert result.returncode == 1
        assert "'none'" in result.stderr
