"""Progress of a stage: lines that a build follows live, or that a person sees below the cell."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from modelbook.redaction import redact_all

LOG = "MODELBOOK_PROGRESS"  # the file that a build reads along, set by the executor


def tell(text: str, done: int | None = None, total: int | None = None, passing: str = "") -> None:
    """Say what is being done, and how far it is: ``done`` of ``total``; ``passing`` tells of a step within it."""
    log = os.environ.get(LOG)
    if log is not None:
        tell_to(Path(log), text, done, total, passing)
    elif not passing:  # below a cell, each step of each model would be a line for good
        sys.stdout.write(f"{line(text, done, total)}\n")  # JupyterLab paints standard error red
        sys.stdout.flush()


def tell_to(log: Path, text: str, done: int | None = None, total: int | None = None, passing: str = "") -> None:
    """Append a line of progress to a log."""
    entry = {"at": time.time(), "text": text, "done": done, "total": total, "passing": passing}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(redact_all(entry), ensure_ascii=False) + "\n")


def line(text: str, done: int | None, total: int | None, passing: str = "") -> str:
    """``3 of 10 · text · fold 2 of 5``, or just the text."""
    count = f"{done} of {total} · " if done is not None else ""
    return f"{count}{text}{f' · {passing}' if passing else ''}"
