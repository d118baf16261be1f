"""Progress of a stage: written to a log that the build follows, or printed below the cell."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from modelbook.redaction import redact_all

LOG_VARIABLE = "MODELBOOK_PROGRESS"  # path of the progress log, set by the build
LINE_WIDTH = 100  # width of a printed line, which overwrites the previous step


def log_progress(
    text: str, done: int | None = None, total: int | None = None, detail: str = ""
) -> None:
    """Report a step and its progress, ``done`` of ``total``; ``detail`` is a part of the step."""
    log = os.environ.get(LOG_VARIABLE)
    if log is not None:
        append_progress(Path(log), text, done, total, detail)
    else:  # below a cell, where a step is overwritten by the next; stderr is red in JupyterLab
        line = format_progress(text, done, total, detail).ljust(LINE_WIDTH)
        sys.stdout.write(f"\r{line}" if detail else f"\r{line}\n")
        sys.stdout.flush()


def append_progress(
    log: Path, text: str, done: int | None = None, total: int | None = None, detail: str = ""
) -> None:
    """Append a line of progress to a log."""
    entry = {"at": time.time(), "text": text, "done": done, "total": total, "detail": detail}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(redact_all(entry), ensure_ascii=False) + "\n")


def format_progress(text: str, done: int | None, total: int | None, detail: str = "") -> str:
    """Format progress as ``3 of 10 · text · fold 2 of 5``, or as the text alone."""
    count = f"{done} of {total} · " if done is not None else ""
    return f"{count}{text}{f' · {detail}' if detail else ''}"
