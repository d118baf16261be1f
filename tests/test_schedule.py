"""Scheduled loop: cron, GitHub and Airflow run monitor, and retrain on exit code 20."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from small_project import ROOT

POOR = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "SHELL": "/bin/sh"}  # what cron gives
VERDICTS = pytest.mark.parametrize(
    ("code", "ends", "retrained"),
    [(0, 0, False), (10, 0, False), (20, 0, True), (1, 1, False), (2, 1, False)],
)
MONITORED, RETRAINED = "monitor --since 1d", "retrain"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A project's folder, in which modelbook writes down how it was called, and by whom."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = tmp_path / ".venv/bin/modelbook"
    command.write_text(
        '#!/bin/sh\necho "$*" >> called\necho "$MODELBOOK_BY" > by\n'
        'echo "a verdict"\ntest "$1" = monitor && exit "$(cat code)"\nexit "$(cat later 2>/dev/null || echo 0)"\n'
    )
    command.chmod(0o755)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return tmp_path


def calls(book: Path) -> list[str]:
    return (book / "called").read_text().splitlines()


def called(retrained: bool) -> list[str]:
    return [MONITORED, RETRAINED] if retrained else [MONITORED]


@VERDICTS
def test_documented_cron_line_retrains_on_exit_code_20(
    code: int, ends: int, retrained: bool, book: Path
) -> None:
    [line] = re.findall(
        r"^ *(\S+ \S+ \* \* \* .*)$", (ROOT / "docs/operations.md").read_text(), re.M
    )
    minute, hour, *_, command = line.split(" ", 5)
    assert (0 <= int(minute) < 60, 0 <= int(hour) < 24, "%" in command) == (True, True, False)
    (book / "code").write_text(str(code))
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("/srv/book", str(book))], cwd="/", env=POOR
    )
    assert done.returncode == ends
    assert calls(book) == called(retrained)
    assert (book / "by").read_text() == "cron\n"
    assert (book / "loop.log").read_text().startswith("a verdict\n")


def test_loop_defaults_to_one_day_and_fails_with_failed_retrain(book: Path) -> None:
    (book / "code").write_text("20")
    (book / "later").write_text("1")
    done = subprocess.run(
        [book / "deploy/schedule/loop.sh"], env={**POOR, "MODELBOOK_ROOT": str(book)}
    )
    assert (done.returncode, calls(book)) == (1, [MONITORED, RETRAINED])
    nowhere = subprocess.run(
        [book / "deploy/schedule/loop.sh"],
        env={**POOR, "MODELBOOK_ROOT": "/no/where"},
        capture_output=True,
    )
    assert nowhere.returncode == 1


def test_daily_rows_are_scored_when_folders_are_set(book: Path) -> None:
    script, environ = book / "deploy/schedule/score.sh", {**POOR, "MODELBOOK_ROOT": str(book)}
    assert subprocess.run([script], env=environ).returncode == 0
    assert not (book / "called").exists()
    environ |= {"SCORE_IN": "s3://lake/rows", "SCORE_OUT": "s3://lake/scores"}
    assert subprocess.run([script, "2026-11-29"], env=environ).returncode == 0
    [words] = calls(book)
    day = "2026-11-29"
    assert words == (
        f"score s3://lake/rows/{day} s3://lake/scores/{day} --model champion "
        f"--report reports/scored-{day}.json --json"
    )


class TestGitHub:
    text = (ROOT / ".github/workflows/monitor.yml").read_text()
    flow: dict[Any, Any] = yaml.safe_load(text)

    def test_workflow_is_scheduled_exclusive_and_needs_project_root(self) -> None:
        assert self.flow[True].keys() == {
            "schedule",
            "workflow_dispatch",
        }  # YAML makes a truth of on
        assert self.flow["concurrency"] == {"group": "modelbook-loop", "cancel-in-progress": False}
        assert self.flow["permissions"] == {}
        assert self.flow["jobs"]["loop"]["if"] == "${{ vars.MODELBOOK_ROOT != '' }}"

    @VERDICTS
    def test_workflow_step_reports_verdict_and_retrains(
        self, code: int, ends: int, retrained: bool, book: Path
    ) -> None:
        [job] = self.flow["jobs"].values()
        [step] = job["steps"]
        assert (
            "${{" not in step["run"]
        )  # values come by the environment: nobody's text becomes a command
        (book / "code").write_text(str(code))
        environ = {
            **POOR,
            "MODELBOOK_ROOT": str(book),
            "GITHUB_STEP_SUMMARY": str(book / "summary"),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], env=environ
        )
        assert (done.returncode, calls(book)) == (ends, called(retrained))
        assert (book / "summary").read_text().startswith("a verdict\n")


class FakeOperator:
    """Stands in for Airflow's operators, DAGs included: keeps what it was made of, and what comes behind it."""

    def __init__(self, name: str = "", **given: Any) -> None:
        self.name, self.given, self.behind = given.get("task_id", name), given, None
        MADE[self.name] = self

    def __rshift__(self, other: FakeOperator) -> FakeOperator:
        self.behind = other
        return other

    def __enter__(self) -> FakeOperator:
        return self

    def __exit__(self, *_: object) -> None: ...


MADE: dict[str, FakeOperator] = {}


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeOperator]:
    """What the DAG's file makes, where Airflow is not installed: it has an environment of its own."""
    pieces = {
        "airflow.sdk": "DAG", "airflow.providers.standard.operators.bash": "BashOperator",
        "airflow.providers.standard.operators.python": "ShortCircuitOperator",
    }  # fmt: skip
    for path, name in pieces.items():
        words = path.split(".")
        for end in range(1, len(words) + 1):
            monkeypatch.setitem(
                sys.modules, ".".join(words[:end]), ModuleType(".".join(words[:end]))
            )
        setattr(sys.modules[path], name, FakeOperator)
    MADE.clear()
    runpy.run_path(str(ROOT / "deploy/airflow/modelbook_loop.py"))
    return dict(MADE)


@VERDICTS
def test_airflow_dag_retrains_on_exit_code_20(
    code: int, ends: int, retrained: bool, dag: dict[str, FakeOperator], book: Path
) -> None:
    (book / "code").write_text(str(code))

    def run(name: str) -> subprocess.CompletedProcess[str]:
        inputs = dag[name].given
        assert "{{" not in inputs["bash_command"]  # a run's id may be anything
        assert (inputs["cwd"], inputs["append_env"]) == ("{{ var.value.modelbook_root }}", True)
        env = {key: value.replace("{{ run_id }}", "one") for key, value in inputs["env"].items()}
        command = ["bash", "-c", inputs["bash_command"]]
        return subprocess.run(
            command, cwd=book, env={**POOR, **env}, capture_output=True, text=True
        )

    first, requests = run("monitor"), dag["asked_to_retrain"]
    assert first.returncode == ends
    if ends == 0:
        decide: Callable[[str], bool] = requests.given["python_callable"]
        assert decide(first.stdout.splitlines()[-1]) is retrained
    if retrained:
        assert run("retrain").returncode == 0
    assert calls(book) == called(retrained)
    assert (book / "by").read_text() == "Airflow one\n"
    assert requests.given["op_args"] == ["{{ ti.xcom_pull(task_ids='monitor') }}"]
    assert (dag["monitor"].behind, requests.behind) == (requests, dag["retrain"])
    assert dag["modelbook_loop"].given["max_active_runs"] == 1
