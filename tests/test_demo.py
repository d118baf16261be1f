"""The whole loop, once around; and the commands of docs/operations.md, typed where it has been."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import ROOT, Tiny

from modelbook.errors import BuildError
from modelbook.extras.demo.sandbox import Sandbox

STEPS = ["build", "serve", "year 4 live", "outcomes", "monitor", "retrain", "service"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a demo, and what stood on its screen."""
    project = Tiny(tmp_path_factory.mktemp("demo"))
    done = project.run("modelbook", "demo", COLUMNS="200")
    assert done.returncode == 0, done.stdout + done.stderr
    return project.root / "demo", done.stdout


@pytest.mark.slow
def test_each_step_is_told_in_its_order_and_no_request_is_dropped(told: tuple[Path, str]) -> None:
    steps = re.findall(r"^(\S.*?)  +(?:\d:\d\d)?  ", told[1], re.M)
    assert steps[: len(STEPS)] == STEPS
    assert steps.count("monitor") == 2
    assert set(re.findall(r"(\d+) failed", told[1])) == {"0"}
    assert re.search(r"^monitor +0:\d\d +(healthy|watch|retrain) ", told[1], re.M)
    assert re.search(
        r"^A/B +0:\d\d +(promote the challenger|keep the champion|continue) ", told[1], re.M
    )


@pytest.mark.slow
def test_the_index_tells_the_same(told: tuple[Path, str]) -> None:
    folder, screen = told
    history = json.loads(_typed(folder, "modelbook history --json").stdout)
    assert [entry["user"] for entry in history] == ["demo"] * len(history)
    page = (folder / "reports/index.html").read_text(encoding="utf-8")
    assert screen.rstrip().endswith(str(folder / "reports/index.html"))
    rows = re.findall(r"<tr><th scope=\"row\">(\d+)</th>.*?</td><td>(.*?)</td>", page)
    listed = [
        (
            str(item["number"]),
            f"gate: {item['action']}" if item["kind"] == "decision" else item["action"],
        )
        for item in history
    ]
    assert rows[: len(listed)] == listed
    assert 'href="demo/ab.html"' in page


def commands() -> Iterator[str]:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        yield from block.splitlines()


@pytest.mark.slow
def test_the_commands_of_operations_run(told: tuple[Path, str]) -> None:
    folder, _ = told
    typed = [command for command in commands() if command.startswith("modelbook")]
    assert len(typed) > 5
    for command in typed:
        if "rollback" in command:  # something to take back
            _typed(folder, 'modelbook promote 2 --override "to take it back"')
        done = _typed(folder, command)
        evaluated = (0, 10, 20) if "monitor" in command else (0,)
        assert done.returncode in evaluated, f"{command}\n{done.stdout}{done.stderr}"


def _typed(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    retained = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MODELBOOK_", "PLOOMBER_"))
    }
    environ = {**retained, "PYTHONPATH": str(folder.parent / "src"), "MODELBOOK_BY": "demo"}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True
    )


def test_a_folder_that_is_no_demo_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="exists and is not a demo"):
        Sandbox(ROOT, tmp_path / "demo", print)
    assert (tmp_path / "demo/thesis.txt").read_text() == "years of work"


def test_a_former_demo_makes_room(tmp_path: Path) -> None:
    Sandbox(ROOT, tmp_path / "demo", print)
    (tmp_path / "demo/old.txt").write_text("")
    place = Sandbox(ROOT, tmp_path / "demo", print)
    assert not (tmp_path / "demo/old.txt").exists()
    assert "book: demo" in (place.root / "env.yaml").read_text()


def test_a_command_that_fails_is_told_with_what_it_said(tmp_path: Path) -> None:
    heard: list[str] = []
    place = Sandbox(ROOT, tmp_path / "demo", heard.append)
    with pytest.raises(
        BuildError, match=r"(?s)modelbook rollback ended with 1: .*no previous champion"
    ):
        place.run_command("rollback")
    assert any("PromotionError" in line for line in heard)
    assert place.run_json("history") == []
