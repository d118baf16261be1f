"""Progress display of a build: a line per step, and on terminals a live row per running stage."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.stage.progress import format_progress

if TYPE_CHECKING:
    from rich.console import Console

QUIET_SECONDS = 15  # without output before "still running" is shown
DETAIL_SECONDS = 5  # between detail lines, if there are no live rows


class BuildProgress:
    """Shows the progress of running stages."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(file=sys.stdout)
        self._progress: Any = _make_progress(self._console) if self._console.is_terminal else None
        self._tasks: dict[str, Any] = {}
        self._started_at: dict[str, float] = {}
        self._printed_at: dict[str, float] = {}
        self._last_step: dict[str, str] = {}

    def __enter__(self) -> BuildProgress:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def start_stage(self, stage: str) -> None:
        """Show that a stage has started."""
        self._started_at[stage] = self._printed_at[stage] = time.monotonic()
        if self._progress:
            self._tasks[stage] = self._progress.add_task(_format_stage(stage), total=None, step="")

    def show_progress(self, stage: str, log_entry: dict[str, Any]) -> None:
        """Show an entry of a stage's log."""
        step = format_progress(
            log_entry["text"], log_entry["done"], log_entry["total"], log_entry["detail"]
        )
        self._last_step[stage] = step
        if self._progress:
            self._progress.update(
                self._tasks[stage],
                step=step,
                completed=log_entry["done"] or 0,
                total=log_entry["total"],
            )
        if not log_entry["detail"] or (
            not self._progress and time.monotonic() - self._printed_at[stage] > DETAIL_SECONDS
        ):
            self._print(stage, step)

    def show_still_running(self, stage: str) -> None:
        """Show that a silent stage is still running, if there are no live rows."""
        if not self._progress and time.monotonic() - self._printed_at[stage] > QUIET_SECONDS:
            self._print(stage, f"{self._last_step.get(stage, '')} (still running)")

    def end_stage(self, stage: str) -> None:
        """Remove the row of a finished stage."""
        if self._progress:
            self._progress.remove_task(self._tasks.pop(stage))

    def _print(self, stage: str, text: str) -> None:
        self._printed_at[stage] = time.monotonic()
        minutes, seconds = divmod(int(self._printed_at[stage] - self._started_at[stage]), 60)
        self._console.print(
            f"{_format_stage(stage):<15} {minutes}:{seconds:02d}  {text}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        self._console.file.flush()


def _format_stage(stage: str) -> str:
    return f"[{list(config.STAGES).index(stage) + 1}/{len(config.STAGES)} {stage}]"


def _make_progress(console: Console) -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description:<15}", markup=False)
    step = TextColumn("{task.fields[step]}", markup=False)
    return Progress(
        SpinnerColumn(),
        text,
        TimeElapsedColumn(),
        BarColumn(16),
        step,
        console=console,
        transient=True,
        expand=False,
    )
