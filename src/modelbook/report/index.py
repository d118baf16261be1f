"""The page that lists every book and stage: what was decided, on what, when, and where to read why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.errors import ReportError
from modelbook.report.page import environment
from modelbook.report.page import write as write_whole
from modelbook.report.verdict import Verdict

Failed = Mapping[str, Mapping[str, str]]


def write(root: str | Path, failed: Failed | None = None, stages: Sequence[str] = ()) -> Path:
    """Write `reports/index.html` from the receipts of all books.

    Parameters
    ----------
    root : path
        The project, with ``models/<book>/<stage>.json`` and ``reports/``.
    failed : mapping, optional
        Book to stage to message, for the stages that the last build could not finish.
    stages : sequence of str
        The stages of the project; by default all there are.

    Returns
    -------
    pathlib.Path
        The page.
    """
    root, failed = Path(root), failed or {}
    books = [_book(root, name, failed.get(name, {}), stages or [*config.STAGES]) for name in _names(root, failed)]
    target = root / "reports" / "index.html"
    write_whole(target, environment().get_template("index.html.j2").render(books=books))
    return target


def _names(root: Path, failed: Failed) -> list[str]:
    known = {path.parent.name for stage in config.STAGES for path in root.glob(f"models/*/{stage}.json")}
    return sorted(known | set(failed))


def _book(root: Path, name: str, failed: Mapping[str, str], stages: Sequence[str]) -> dict[str, Any]:
    rows = [_row(root, name, stage, failed.get(stage)) for stage in stages]
    return {"name": name, "rows": rows, "built": sum(row["kind"] == "built" for row in rows)}


def _row(root: Path, book: str, stage: str, message: str | None) -> dict[str, Any]:
    stem = f"{book}/{config.stem(stage)}"
    place = int(config.stem(stage)[:2])
    row: dict[str, Any] = {"stage": stage, "place": place, "kind": "waiting", "link": "", "message": ""}
    if message is not None:
        first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
        return row | {"kind": "failed", "message": first, "link": _existing(root, f"{stem}.ipynb")}
    receipt = root / "models" / book / f"{stage}.json"
    if not receipt.is_file():
        return row
    try:
        verdict = Verdict.from_dict(json.loads(receipt.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ReportError) as error:
        first = str(error).splitlines()[0]
        return row | {"kind": "unreadable", "message": f"the receipt cannot be read: {first}"}
    return row | {"kind": "built", "verdict": verdict, "link": _existing(root, f"{stem}.html")}


def _existing(root: Path, name: str) -> str:
    """A link is written only where there is something to open."""
    return name if (root / "reports" / name).is_file() else ""
