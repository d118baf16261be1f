"""The screen of the demo: a line for each step that is done, and what the step under way has just said."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

QUIET = 30  # seconds after which a step under way speaks, where no line can move
NAME = 12  # characters


class Screen:
    """Shows steps; used with ``with``."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._moving = self._console.status("") if self._console.is_terminal else None
        self._spoke = time.monotonic()

    def __enter__(self) -> Screen:
        if self._moving:
            self._moving.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._moving:
            self._moving.stop()

    def tell(self, text: str) -> None:
        """Progress of the step under way."""
        if self._moving:
            self._moving.update(Text(text, no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self._spoke > QUIET:
            self._print("", None, Text(f"… {text}", no_wrap=True, overflow="ellipsis"))

    def say(self, name: str, seconds: float | None, text: str) -> None:
        """A step is done."""
        self._print(name, seconds, Text(text))

    def _print(self, name: str, seconds: float | None, text: Text) -> None:
        self._spoke = time.monotonic()
        took = "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
        row = Table.grid(padding=(0, 2))
        row.add_column(width=NAME, no_wrap=True)
        row.add_column(width=5, justify="right")
        row.add_column(overflow="fold")
        row.add_row(Text(name, style="bold"), took, text)
        self._console.print(row)
        self._console.file.flush()
