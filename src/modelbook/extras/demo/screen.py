"""The screen of the demo: a line per finished step, and the progress of the current step."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

QUIET_SECONDS = 30  # between progress lines, if the output is not a terminal
NAME_WIDTH = 12


class DemoScreen:
    """Prints steps and progress; a context manager."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._printed_at = time.monotonic()

    def __enter__(self) -> DemoScreen:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show_progress(self, text: str) -> None:
        """Show the progress of the current step."""
        if self._status:
            self._status.update(Text(text, no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self._printed_at > QUIET_SECONDS:
            self._print("", None, Text(f"… {text}", no_wrap=True, overflow="ellipsis"))

    def show_step(self, name: str, seconds: float | None, text: str) -> None:
        """Print a finished step."""
        self._print(name, seconds, Text(text))

    def _print(self, name: str, seconds: float | None, text: Text) -> None:
        self._printed_at = time.monotonic()
        duration = "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
        row = Table.grid(padding=(0, 2))
        row.add_column(width=NAME_WIDTH, no_wrap=True)
        row.add_column(width=5, justify="right")
        row.add_column(overflow="fold")
        row.add_row(Text(name, style="bold"), duration, text)
        self._console.print(row)
        self._console.file.flush()
