"""Progress display of builds, on terminals and in files."""

from __future__ import annotations

import io
import time

from rich.console import Console

from modelbook import config
from modelbook.build import build_progress
from modelbook.build.build_progress import BuildProgress


def make_message(text, n_done=None, total=None, detail=""):
    return {"text": text, "done": n_done, "total": total, "detail": detail}


def render_progress(entries, *, terminal=False, width=60):
    file = io.StringIO()
    with BuildProgress(Console(file=file, force_terminal=terminal, width=width)) as result:
        result.start_stage("compare")
        for message in entries:
            result.show_progress("compare", message)
        time.sleep(0.2 if terminal else 0)
        result.end_stage("compare")
    return file.getvalue()


def test_line_has_stage_time_and_step_without_wrapping():
    output = render_progress([make_message("cross-validating [lr] " + "x" * 100, 1, 3)])
    assert (
        output
        == f"[3/{len(config.STAGES)} compare]   0:00  1 of 3 · cross-validating [lr] {'x' * 100}\n"
    )


def test_nested_steps_are_printed_at_intervals(monkeypatch):
    steps = [make_message("fitting", 1, 3, f"fold {fold} of 5") for fold in range(1, 6)]
    assert render_progress(steps) == ""
    monkeypatch.setattr(build_progress, "DETAIL_SECONDS", -1)
    assert "1 of 3 · fitting · fold 4 of 5\n" in render_progress(steps)


def test_silent_stage_prints_still_running(monkeypatch):
    monkeypatch.setattr(build_progress, "QUIET_SECONDS", -1)
    file = io.StringIO()
    with BuildProgress(Console(file=file)) as result:
        result.start_stage("compare")
        result.show_progress("compare", make_message("fitting", 1, 3, "fold 2 of 5"))
        result.show_still_running("compare")
    assert file.getvalue().endswith("1 of 3 · fitting · fold 2 of 5 (still running)\n")


def test_terminal_shows_live_row_for_each_running_stage():
    output = render_progress(
        [make_message("fitting", 1, 3), make_message("fitting", 1, 3, "fold 2 of 5")],
        terminal=True,
        width=100,
    )
    assert f"[3/{len(config.STAGES)} compare]   0:00  1 of 3 · fitting\n" in output.replace(
        "\r", ""
    )
    assert "━" in output  # the bar
    assert "1 of 3 · fitting · fold 2 of 5" in output
