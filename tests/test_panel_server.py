"""Server part of the JupyterLab panel: state of stages, builds."""

from __future__ import annotations

import json
import time

import pytest

from modelbook import config
from modelbook.errors import BuildError, ModelbookError
from modelbook.stage import files, progress, project, sandbox
from modelbook.workbench import panel, panel_state

NO_BUILD = {"book": "", "is_running": False, "exit_code": None, "log": ""}


def states(root, name: str = "", build=NO_BUILD) -> dict[str, dict]:
    state = panel_state.collect_state(root, "tiny", name, build)
    return {stage["name"]: stage for stage in state["stages"]}


class TestState:
    def test_state_lists_books_with_outdated_stages(self, small_project):
        (small_project.root / "env.other.yaml").write_text(
            (small_project.root / "env.yaml").read_text().replace("book: tiny", "book: other")
        )
        state = panel_state.collect_state(small_project.root, "tiny", "", NO_BUILD)
        assert [book["name"] for book in state["books"]] == ["tiny", "other"]
        assert state["books"][1]["outdated"] == dict.fromkeys(config.STAGES, "not built yet")
        json.dumps(state)

    def test_state_shows_own_notebook_and_verdict_of_stage(self, small_project):
        custom = small_project.root / "notebooks/tiny/02_explore.ipynb"
        custom.parent.mkdir()
        custom.write_text((small_project.root / "notebooks/02_explore.ipynb").read_text())
        files.write(
            small_project.root / "models/tiny/explore.json", {"status": "clear", "level": "good"}
        )
        explore = states(small_project.root)["explore"]
        assert explore["notebook"] == "notebooks/tiny/02_explore.ipynb"
        assert (explore["status"], explore["level"], explore["report"]) == ("clear", "good", "")

    def test_state_shows_verdicts_of_sandbox(self, small_project):
        view = sandbox.Sandbox(small_project.root, "tiny", "try")
        receipt = view.resolve_path(small_project.root / "models/tiny/compare.json")
        files.write(receipt, {"status": "clear leader", "level": "good"})
        assert panel_state.collect_state(small_project.root, "tiny", "", NO_BUILD)["sandboxes"] == [
            "try"
        ]
        assert states(small_project.root, "try")["compare"]["status"] == "clear leader"
        assert states(small_project.root)["compare"]["status"] == ""

    def test_state_shows_progress_of_running_build(self, small_project):
        log = project.get_progress_log_path(small_project.root, "tiny", "compare")
        log.parent.mkdir(parents=True)
        progress.append_progress(log, "lr", 1, 3, "fold 2 of 2")
        build = {**NO_BUILD, "book": "tiny", "is_running": True}
        result = states(small_project.root, build=build)["compare"]["progress"]
        assert result == {"text": "1 of 3 · lr · fold 2 of 2", "done": 1, "total": 3}
        assert states(small_project.root)["compare"]["progress"] == {}

    def test_unknown_book_raises(self, small_project):
        assert panel_state.resolve_book(small_project.root, "") == "tiny"
        with pytest.raises(ModelbookError, match=r"'birds'\n.*tiny"):
            panel_state.resolve_book(small_project.root, "birds")

    def test_project_without_env_file_raises(self, small_project):
        (small_project.root / "env.yaml").unlink()
        with pytest.raises(ModelbookError, match=r"env\.yaml"):
            panel_state.resolve_book(small_project.root, "")


@pytest.mark.slow
def test_build_can_be_cancelled_and_is_exclusive(small_project):
    build = panel.BuildProcess(small_project.root)
    build.start("tiny")
    with pytest.raises(BuildError, match="tiny is running"):
        build.start("tiny")
    log = small_project.root / "reports/tiny/logs/panel.log"
    deadline = time.monotonic() + 120
    while "starting the kernel" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    build.cancel()
    while build.is_running and time.monotonic() < deadline:
        time.sleep(0.2)
    assert build.describe()["exit_code"] == 1
    assert (
        "stopped"
        in panel_state.collect_state(small_project.root, "tiny", "", build.describe())["build"][
            "tail"
        ]
    )
