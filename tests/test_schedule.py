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

MINIMAL_ENV = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "SHELL": "/bin/sh"}  # as in cron
VERDICTS = pytest.mark.parametrize(
    ("code", "ends", "retrained"),
    [(0, 0, False), (10, 0, False), (20, 0, True), (1, 1, False), (2, 1, False)],
)
MONITOR_ARGS, RETRAIN_ARGS = "monitor --since 1d", "retrain"


@pytest.fixture
def project_root(tmp_path: Path) -> Path:
    """A project in which the command modelbook records its arguments and MODELBOOK_BY."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = tmp_path / ".venv/bin/modelbook"
    command.write_text(
        '#!/bin/sh\necho "$*" >> called\necho "$MODELBOOK_BY" > by\n'
        'echo "a verdict"\ntest "$1" = monitor && exit "$(cat code)"\nexit "$(cat later 2>/dev/null || echo 0)"\n'
    )
    command.chmod(0o755)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return tmp_path


def read_calls(project_root: Path) -> list[str]:
    return (project_root / "called").read_text().splitlines()


def expected_calls(retrained: bool) -> list[str]:
    return [MONITOR_ARGS, RETRAIN_ARGS] if retrained else [MONITOR_ARGS]


@VERDICTS
def test_documented_cron_line_retrains_on_exit_code_20(
    code: int, ends: int, retrained: bool, project_root: Path
) -> None:
    [line] = re.findall(
        r"^ *(\S+ \S+ \* \* \* .*)$", (ROOT / "docs/operations.md").read_text(), re.M
    )
    minute, hour, *_, command = line.split(" ", 5)
    assert (0 <= int(minute) < 60, 0 <= int(hour) < 24, "%" in command) == (True, True, False)
    (project_root / "code").write_text(str(code))
    result = subprocess.run(
        ["/bin/sh", "-c", command.replace("/srv/book", str(project_root))], cwd="/", env=MINIMAL_ENV
    )
    assert result.returncode == ends
    assert read_calls(project_root) == expected_calls(retrained)
    assert (project_root / "by").read_text() == "cron\n"
    assert (project_root / "loop.log").read_text().startswith("a verdict\n")


def test_loop_defaults_to_one_day_and_fails_with_failed_retrain(project_root: Path) -> None:
    (project_root / "code").write_text("20")
    (project_root / "later").write_text("1")
    result = subprocess.run(
        [project_root / "deploy/schedule/loop.sh"],
        env={**MINIMAL_ENV, "MODELBOOK_ROOT": str(project_root)},
    )
    assert (result.returncode, read_calls(project_root)) == (1, [MONITOR_ARGS, RETRAIN_ARGS])
    nowhere = subprocess.run(
        [project_root / "deploy/schedule/loop.sh"],
        env={**MINIMAL_ENV, "MODELBOOK_ROOT": "/no/where"},
        capture_output=True,
    )
    assert nowhere.returncode == 1


def test_daily_rows_are_scored_when_folders_are_set(project_root: Path) -> None:
    script, environ = (
        project_root / "deploy/schedule/score.sh",
        {**MINIMAL_ENV, "MODELBOOK_ROOT": str(project_root)},
    )
    assert subprocess.run([script], env=environ).returncode == 0
    assert not (project_root / "called").exists()
    environ |= {"SCORE_IN": "s3://lake/rows", "SCORE_OUT": "s3://lake/scores"}
    assert subprocess.run([script, "2026-11-29"], env=environ).returncode == 0
    [call] = read_calls(project_root)
    day = "2026-11-29"
    assert call == (
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
        self, code: int, ends: int, retrained: bool, project_root: Path
    ) -> None:
        [job] = self.flow["jobs"].values()
        [step] = job["steps"]
        assert (
            "${{" not in step["run"]
        )  # values are passed by the environment, so that no text is executed
        (project_root / "code").write_text(str(code))
        environ = {
            **MINIMAL_ENV,
            "MODELBOOK_ROOT": str(project_root),
            "GITHUB_STEP_SUMMARY": str(project_root / "summary"),
        }
        result = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], env=environ
        )
        assert (result.returncode, read_calls(project_root)) == (ends, expected_calls(retrained))
        assert (project_root / "summary").read_text().startswith("a verdict\n")


class FakeOperator:
    """Fake for Airflow's operators and DAG, which records arguments and downstream tasks."""

    def __init__(self, name: str = "", **kwargs: Any) -> None:
        self.name, self.kwargs, self.downstream = kwargs.get("task_id", name), kwargs, None
        TASKS[self.name] = self

    def __rshift__(self, other: FakeOperator) -> FakeOperator:
        self.downstream = other
        return other

    def __enter__(self) -> FakeOperator:
        return self

    def __exit__(self, *_: object) -> None: ...


TASKS: dict[str, FakeOperator] = {}


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeOperator]:
    """Objects of the DAG file, executed with fake operators instead of Airflow."""
    operators = {
        "airflow.sdk": "DAG", "airflow.providers.standard.operators.bash": "BashOperator",
        "airflow.providers.standard.operators.python": "ShortCircuitOperator",
    }  # fmt: skip
    for path, name in operators.items():
        package_parts = path.split(".")
        for end in range(1, len(package_parts) + 1):
            monkeypatch.setitem(
                sys.modules,
                ".".join(package_parts[:end]),
                ModuleType(".".join(package_parts[:end])),
            )
        setattr(sys.modules[path], name, FakeOperator)
    TASKS.clear()
    runpy.run_path(str(ROOT / "deploy/airflow/modelbook_loop.py"))
    return dict(TASKS)


@VERDICTS
def test_airflow_dag_retrains_on_exit_code_20(
    code: int, ends: int, retrained: bool, dag: dict[str, FakeOperator], project_root: Path
) -> None:
    (project_root / "code").write_text(str(code))

    def run(name: str) -> subprocess.CompletedProcess[str]:
        inputs = dag[name].kwargs
        assert "{{" not in inputs["bash_command"]  # a run's id may be anything
        assert (inputs["cwd"], inputs["append_env"]) == ("{{ var.value.modelbook_root }}", True)
        env = {key: value.replace("{{ run_id }}", "one") for key, value in inputs["env"].items()}
        command = ["bash", "-c", inputs["bash_command"]]
        return subprocess.run(
            command, cwd=project_root, env={**MINIMAL_ENV, **env}, capture_output=True, text=True
        )

    first, requests = run("monitor"), dag["retrain_recommended"]
    assert first.returncode == ends
    if ends == 0:
        decide: Callable[[str], bool] = requests.kwargs["python_callable"]
        assert decide(first.stdout.splitlines()[-1]) is retrained
    if retrained:
        assert run("retrain").returncode == 0
    assert read_calls(project_root) == expected_calls(retrained)
    assert (project_root / "by").read_text() == "Airflow one\n"
    assert requests.kwargs["op_args"] == ["{{ ti.xcom_pull(task_ids='monitor') }}"]
    assert (dag["monitor"].downstream, requests.downstream) == (requests, dag["retrain"])
    assert dag["modelbook_loop"].kwargs["max_active_runs"] == 1
