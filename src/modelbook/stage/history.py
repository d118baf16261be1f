"""Runs of a book: what each build did and found, kept under numbers that count up.

``reports/<book>/runs/<number>/`` holds ``run.json``, which says all that is compared, each stage's receipt as it stood
when the run ended, and its pages. A folder appears whole or not at all, and what it holds is never written again, but
for the page that leads to it all.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelbook import redaction
from modelbook.errors import HistoryError, ReportError
from modelbook.report.verdict import Verdict
from modelbook.stage import archive, built, difference, files, project, record
from modelbook.stage.record import Run

LAST = ".last"  # the highest number ever given
NAMED = re.compile(r"[1-9][0-9]*|last(-[0-9]+)?")  # how a person names a run


def keep(
    root: Path, book: str, began: float, states: Mapping[str, str], *, command: Sequence[str], environment: str,
    ended: str, parameters: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> int:  # fmt: skip
    """Keep a run that has just ended, under the number after the highest there has been.

    Parameters
    ----------
    began : float
        When it began, in seconds since 1970.
    states : mapping
        Stage to ``ran``, ``kept`` (was up to date), ``failed: <first line>`` or ``not run``.
    command : sequence of str
        What was typed, word by word.
    environment : str
        The env file's name.
    ended : str
        ``ok``, ``failed`` or ``stopped``.
    parameters : mapping, optional
        Stage to its effective parameters (``name``, ``value``, ``origin``): for stages that left no receipt now.

    Raises
    ------
    OSError
        When the folder cannot be written; nothing is left of it then.
    """
    folder = archive.folder(root, book)
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    part = folder / f".{os.getpid()}.part"
    part.mkdir()
    try:
        told: dict[str, Any] = {
            "started": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - began, 1), "ended": ended, "command": record.typed(command),
            "environment": environment, "commit": project.commit(root),
        }  # fmt: skip
        told |= _stages(root, book, states, parameters or {}, part)
        files.write(part / "run.json", redaction.redact_all(told))
        archive.take(root, book, states, part)
        number = _place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    (folder / LAST).write_text(f"{number}\n", encoding="utf-8")  # stays when the newest folder is removed
    return number


def runs(root: Path, book: str) -> list[Run]:
    """The runs of a book, newest first; one that cannot be read says so in its ``problem``.

    Raises
    ------
    HistoryError
        When there are none.
    """
    return [_read(root, book, number) for number in _there(root, book)]


def pick(root: Path, book: str, name: str) -> Run:
    """The run of a number, or ``last``, ``last-1`` and so on.

    Raises
    ------
    HistoryError
        When there is no such run, or it cannot be read.
    """
    there = _there(root, book)
    names = {str(number): number for number in there} | {f"last-{back}": number for back, number in enumerate(there)}
    number = names.get("last-0" if name == "last" else name)
    if number is None:
        raise HistoryError(
            f"book {book!r} has no run {name!r}",
            expected=f"one of {_spans(there)}; or last, last-1 and so on back to the first",
            next="list them (modelbook runs), or make another: " + project.command(root, book),
        )
    run = _read(root, book, number)
    if run.problem:
        where = (archive.folder(root, book) / str(number)).relative_to(root)
        raise HistoryError(f"run {number} cannot be read: {run.problem}", next=f"compare others, or remove {where}")
    return run


def compare(root: Path, book: str, a: str, b: str) -> tuple[Run, Run, list[difference.Change]]:
    """Two runs, each named as in ``pick``, and what changed from the first to the second.

    Raises
    ------
    HistoryError
        When one of them is not there, or cannot be read.
    """
    first, second = pick(root, book, a), pick(root, book, b)
    return first, second, difference.between(first, second)


def _there(root: Path, book: str) -> list[int]:
    there = archive.numbers(archive.folder(root, book))
    if not there:
        raise HistoryError(f"book {book!r} has no runs yet", next=f"build it: {project.command(root, book)}")
    return there


def _read(root: Path, book: str, number: int) -> Run:
    return record.read(archive.folder(root, book) / str(number) / "run.json", number)


def _place(part: Path, folder: Path) -> int:
    """Give the finished folder the next number; another build may take that number at the same moment."""
    while True:
        number = max([*archive.numbers(folder), _last(folder)], default=0) + 1
        try:
            part.rename(folder / str(number))
            return number
        except OSError:
            if not (folder / str(number)).exists():
                raise


def _last(folder: Path) -> int:
    try:
        return int((folder / LAST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def _clear(folder: Path) -> None:
    """Remove what killed builds have left."""
    for part in folder.glob(".*.part"):
        process = part.name.split(".")[1]
        if not process.isdecimal() or int(process) == os.getpid() or not _lives(int(process)):
            shutil.rmtree(part, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _stages(
    root: Path, book: str, states: Mapping[str, str], given: Mapping[str, Sequence[Mapping[str, Any]]], part: Path
) -> dict[str, Any]:
    tasks, notes = project.tasks(root, book), built.notes(root, book)
    products = {name: task["product"] for name, task in tasks.items()}
    receipts = {name: _copied(paths.get("receipt"), part / f"{name}.json") for name, paths in products.items()}
    steps = {}
    for name, state in states.items():
        code = {"notebook": record.code(products.get(name, {}).get("nb")), "modules": notes.get(name, {}).get("code")}
        digests = {kind: digest for kind, digest in code.items() if digest}
        steps[name] = record.step(state, receipts.get(name, {}), given.get(name, ()), digests)
    return {**record.data(steps, receipts), "stages": steps}


def _copied(receipt: Path | None, copy: Path) -> dict[str, Any]:
    """Copy a receipt as it is; returns what it says, or nothing when it is absent or damaged."""
    if receipt is None:
        return {}
    try:
        copy.write_bytes(receipt.read_bytes())
        return Verdict.from_dict(files.read(copy)).to_dict()
    except (FileNotFoundError, ValueError, TypeError, ReportError):
        return {}


def _spans(numbers: list[int]) -> str:
    """``1 to 4, 6`` for 6, 4, 3, 2, 1."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)
