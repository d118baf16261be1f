"""Progress of a stage: lines that a build follows live, or that a person sees below the cell."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

LOG = "MODELBOOK_PROGRESS"  # the file that a build reads along, set by the executor


def tell(text: str, done: int | None = None, total: int | None = None) -> None:
    """Say what is being done, and how far it is: ``done`` of ``total``."""
    log = os.environ.get(LOG)
    if log is None:
        sys.stderr.write(f"{line(text, done, total)}\n")
        return
    tell_to(Path(log), text, done, total)


def tell_to(log: Path, text: str, done: int | None = None, total: int | None = None) -> None:
    """Append a line of progress to a log."""
    entry = {"at": time.time(), "text": text, "done": done, "total": total}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def line(text: str, done: int | None, total: int | None) -> str:
    """``3 of 10 · text``, or just the text."""
    return text if done is None else f"{done} of {total} · {text}"
