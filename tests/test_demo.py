"""The demo of the whole loop, and the commands of docs/operations.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from small_project import ROOT, SmallProject

from modelbook.contract import Contract
from modelbook.dataset.bundled import load_rand_hie
from modelbook.errors import BuildError, DemoError
from modelbook.extras.demo import checks, live_rows, scenario, traffic
from modelbook.extras.demo.sandbox import CommandResult, Sandbox

STEPS = [
    "build", "serve", "year 4 live", "monitor", "retrain", "service", "challenge", "year 5 live",
    "monitor", "A/B", "fault", "more live", "monitor", "rollback", "service", "same again", "monitor",
]  # fmt: skip


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and screen output of a demo."""
    project = SmallProject(tmp_path_factory.mktemp("demo"))
    result = project.run("modelbook", "demo", COLUMNS="200")
    assert result.returncode == 0, result.stdout + result.stderr
    return project.root / "demo", result.stdout


@pytest.mark.slow
def test_demo_shows_steps_in_order_and_drops_no_request(demo_run: tuple[Path, str]) -> None:
    folder, screen = demo_run
    assert re.findall(r"^(\S.*?)  +(?:\d:\d\d)?  ", screen, re.M) == STEPS
    exit_codes = re.findall(r"^monitor +\d:\d\d +exit (\d+)", screen, re.M)
    assert [code == "20" for code in exit_codes] == [True, False, True, False]
    assert set(re.findall(r"(\d+) failed", screen)) == {"0"}
    *_, reports, result = screen.rstrip().splitlines()
    assert reports.endswith(str(folder / "reports/index.html"))
    served_counts = re.findall(r"([\d,]+) requests served", screen)
    total = sum(int(count.replace(",", "")) for count in served_counts)
    assert result.startswith("shown: ")
    assert f"{total:,} requests" in result


@pytest.mark.slow
def test_demo_history_has_reasons_and_index_agrees(demo_run: tuple[Path, str]) -> None:
    folder, _ = demo_run
    history = json.loads(_typed(folder, "modelbook history --json").stdout)
    assert [entry["user"] for entry in history] == ["demo"] * len(history)
    moves = [entry for entry in history if entry["kind"] == "move"][::-1]
    assert [entry["champion_after"] for entry in moves] == [1, 2, 1, 2]
    assert [" exited with 20: ROC AUC" in entry["reason"] for entry in moves] == [
        False, True, False, True,
    ]  # fmt: skip
    page = (folder / "reports/index.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th scope=\"row\">(\d+)</th>.*?</td><td>(.*?)</td>", page)
    listed = [
        (
            str(history_entry["number"]),
            f"gate: {history_entry['action']}"
            if history_entry["kind"] == "decision"
            else history_entry["action"],
        )
        for history_entry in history
    ]
    assert rows[: len(listed)] == listed
    assert 'href="demo/ab.html"' in page


def commands() -> Iterator[str]:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        yield from block.splitlines()


@pytest.mark.slow
def test_commands_in_operations_docs_run(demo_run: tuple[Path, str]) -> None:
    folder, _ = demo_run
    typed = [command for command in commands() if command.startswith("modelbook")]
    assert len(typed) > 5
    for command in typed:
        result = _typed(folder, command)
        evaluated = (0, 10, 20) if "monitor" in command else (0,)
        assert result.returncode in evaluated, f"{command}\n{result.stdout}{result.stderr}"


def _typed(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MODELBOOK_", "PLOOMBER_"))
    }
    environ = {**environment, "PYTHONPATH": str(folder.parent / "src"), "MODELBOOK_BY": "demo"}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True
    )


def test_corrupted_rows_still_meet_contract() -> None:
    rows = load_rand_hie()
    damaged = live_rows.damage_rows(rows)
    assert not len(Contract.load(ROOT / "contracts/rand-hie.yaml").find_violations(damaged))
    changed_columns = [name for name in rows if not rows[name].equals(damaged[name])]
    assert sorted(changed_columns) == sorted(live_rows.DAMAGED_COLUMNS)
    assert (rows["prev_meddol"] == 0).sum() == (damaged["prev_meddol"] == 9999).sum() > 1000


MOVE = {"kind": "move", "action": "promote", "version": 2, "reason": "because"}


@pytest.mark.parametrize(
    "check",
    [
        lambda: checks.check_exit_code("monitor", 10, (20,), "watch"),
        lambda: checks.check_no_failures(1, "retrain"),
        lambda: checks.check_journal((9, 5), 10, 5),
        lambda: checks.check_journal((10, 4), 10, 5),
        lambda: checks.check_moves([], [("promote", 2, "")]),
        lambda: checks.check_moves([MOVE], [("promote", 1, "because")]),
        lambda: checks.check_moves([MOVE], [("roll back", 2, "because")]),
        lambda: checks.check_moves([MOVE], [("promote", 2, "monitor")]),
    ],
)
def test_failed_check_ends_demo(check: Callable[[], None]) -> None:
    with pytest.raises(DemoError):
        check()


def test_met_checks_pass() -> None:
    checks.check_exit_code("monitor", 20, (20,), "retrain")
    checks.check_no_failures(0, "retrain")
    checks.check_journal((10, 5), 10, 5)
    checks.check_moves([{"kind": "decision"}, MOVE], [("promote", 2, "be")])


def test_demo_ends_when_monitor_does_not_recommend_retrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result: list[str] = []
    verdict = json.dumps({"status": "watch", "sentences": ["Batch 4: 3 columns have drifted."]})
    sandbox = Sandbox(ROOT, tmp_path / "demo", print)
    monkeypatch.setattr(sandbox, "run_command", lambda *_, **__: CommandResult(10, verdict))
    monkeypatch.setattr(sandbox, "read_receipt", lambda _: {"sentences": ["built"]})
    monkeypatch.setattr(sandbox, "run_service", lambda: nullcontext("http://127.0.0.1:9"))
    monkeypatch.setattr(scenario, "get_served_versions", lambda _: (1, None))
    monkeypatch.setattr(
        traffic, "request_predictions", lambda _, rows, __: traffic.Responses([{}] * len(rows), 1)
    )
    monkeypatch.setattr(traffic, "post_outcomes", lambda _, __, outcomes: len(outcomes))
    with pytest.raises(DemoError, match=r"(?s)exited with 10: .*drifted.*exit code 20"):
        scenario.Scenario(sandbox, lambda name, *_: result.append(name)).run()
    assert result == ["build", "serve", "year 4 live"]


def test_folder_that_is_not_a_demo_is_kept(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="exists and is not a demo"):
        Sandbox(ROOT, tmp_path / "demo", print)
    assert (tmp_path / "demo/thesis.txt").read_text() == "years of work"
    with pytest.raises(BuildError, match="exists and is not a demo"):
        Sandbox(ROOT, tmp_path / "demo/thesis.txt", print)


def test_earlier_demo_is_replaced(tmp_path: Path) -> None:
    Sandbox(ROOT, tmp_path / "demo", print)
    (tmp_path / "demo/old.txt").write_text("")
    sandbox = Sandbox(ROOT, tmp_path / "demo", print)
    assert not (tmp_path / "demo/old.txt").exists()
    assert "book: demo" in (sandbox.root / "env.yaml").read_text()


@pytest.mark.long
def test_failed_command_is_reported_with_its_output(tmp_path: Path) -> None:
    lines: list[str] = []
    sandbox = Sandbox(ROOT, tmp_path / "demo", lines.append)
    with pytest.raises(
        BuildError, match=r"(?s)modelbook rollback ended with 1: .*no previous champion"
    ):
        sandbox.run_command("rollback")
    assert any("PromotionError" in line for line in lines)
    assert sandbox.run_json("history") == []
