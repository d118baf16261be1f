"""The screen of a build: a line for each step, and on a terminal a row for each running stage that moves."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.stage.progress import line

if TYPE_CHECKING:
    from rich.console import Console

QUIET = 15  # seconds without news after which a stage is said to be still running
PASSING = 5  # seconds between lines that tell of steps within steps, where no row can move


class Screen:
    """Shows the progress of running stages.

    Parameters
    ----------
    console : rich.console.Console
        Where to; by default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(file=sys.stdout)
        self._rows: Any = _rows(self._console) if self._console.is_terminal else None
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}
        self._spoke: dict[str, float] = {}
        self._last: dict[str, str] = {}

    def __enter__(self) -> Screen:
        if self._rows:
            self._rows.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._rows:
            self._rows.stop()

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self._began[stage] = self._spoke[stage] = time.monotonic()
        if self._rows:
            self._tasks[stage] = self._rows.add_task(_place(stage), total=None, step="")

    def show(self, stage: str, entry: dict[str, Any]) -> None:
        """Show an entry of a stage's log."""
        step = line(entry["text"], entry["done"], entry["total"], entry["passing"])
        self._last[stage] = step
        if self._rows:
            self._rows.update(self._tasks[stage], step=step, completed=entry["done"] or 0, total=entry["total"])
        if not entry["passing"] or (not self._rows and time.monotonic() - self._spoke[stage] > PASSING):
            self._print(stage, step)

    def pulse(self, stage: str) -> None:
        """Say that a stage is still running where it has said nothing for a while, and no row shows it."""
        if not self._rows and time.monotonic() - self._spoke[stage] > QUIET:
            self._print(stage, f"{self._last.get(stage, '')} (still running)")

    def end(self, stage: str) -> None:
        """A stage is over."""
        if self._rows:
            self._rows.remove_task(self._tasks.pop(stage))

    def _print(self, stage: str, text: str) -> None:
        self._spoke[stage] = time.monotonic()
        minutes, seconds = divmod(int(self._spoke[stage] - self._began[stage]), 60)
        self._console.print(
            f"{_place(stage):<15} {minutes}:{seconds:02d}  {text}", markup=False, highlight=False, soft_wrap=True
        )
        self._console.file.flush()


def _place(stage: str) -> str:
    return f"[{list(config.STAGES).index(stage) + 1}/{len(config.STAGES)} {stage}]"


def _rows(console: Console) -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description:<15}", markup=False)
    step = TextColumn("{task.fields[step]}", markup=False)
    return Progress(
        SpinnerColumn(), text, TimeElapsedColumn(), BarColumn(16), step, console=console, transient=True, expand=False
    )
