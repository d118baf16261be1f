"""The index of reports: for each book its status, pipeline, verdicts, runs and promotions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import ReportError, get_first_line
from modelbook.pages import (
    brief,
    failure_report,
    pipeline_diagram,
    run_pages,
    summary_cards,
    templating,
)
from modelbook.stage.verdict import Verdict

if TYPE_CHECKING:
    from modelbook.registry.history import HistoryEntry
    from modelbook.runs.record import BuildRun

FailuresByBook = Mapping[str, Mapping[str, str]]
RunsByBook = Mapping[str, Sequence["BuildRun"]]
UpstreamByStage = Mapping[str, Sequence[str]]
HistoryByBook = Mapping[str, Sequence["HistoryEntry"]]
MAX_ENTRIES = 10  # limit of listed runs, and of listed decisions


def write(
    root: str | Path,
    failures: FailuresByBook | None = None,
    stages: Sequence[str] = (),
    *,
    upstream: UpstreamByStage | None = None,
    runs: RunsByBook | None = None,
    histories: HistoryByBook | None = None,
) -> Path:
    """Write `reports/index.html` from the receipts, runs and histories of all books.

    Parameters
    ----------
    root : path
        The project's root, with ``models/<book>/<stage>.json`` and ``reports/``.
    failures : mapping, optional
        Book to stage to message, for the stages that failed in the last build.
    stages : sequence of str
        The stages of the project; by default all.
    upstream : mapping, optional
        Stage to the stages that it reads. Without it no arrows are drawn and no stage counts as
        outdated.
    runs : mapping, optional
        Book to its runs, newest first.
    histories : mapping, optional
        Book to its decisions and champion moves, oldest first.

    Returns
    -------
    pathlib.Path
        The page.
    """
    root = Path(root)
    failures = failures or {}
    runs = runs or {}
    receipts = (path for stage in config.STAGES for path in root.glob(f"models/*/{stage}.json"))
    books = []
    for name in sorted({path.parent.name for path in receipts} | {*failures, *runs}):
        rows = [
            _describe_stage(root, name, stage, failures.get(name, {}).get(stage))
            for stage in stages or config.STAGES
        ]
        _mark_outdated(rows, upstream or {})
        _mark_blocked(rows, upstream or {})
        history = (histories or {}).get(name, ())
        books.append(_make_book_context(root, name, rows, upstream, runs.get(name, ()), history))
    target = root / "reports" / "index.html"
    templating.write_template(
        target,
        "index.html.j2",
        books=books,
        arrow=pipeline_diagram.ARROW_MARKER,
        existing=partial(_find_existing_link, root),
        max_entries=MAX_ENTRIES,
        status_levels=run_pages.STATUS_LEVELS,
    )
    return target


def _make_book_context(
    root: Path,
    name: str,
    rows: Sequence[dict[str, Any]],
    upstream: UpstreamByStage | None,
    runs: Sequence[BuildRun],
    history: Sequence[HistoryEntry],
) -> dict[str, Any]:
    receipts = {row["stage"]: row["receipt"] for row in rows if row["receipt"] is not None}
    last_move = next((entry for entry in reversed(history) if entry.kind == "move"), None)
    champion = summary_cards.get_champion_version(receipts, last_move)
    diagram = (
        pipeline_diagram.draw_pipeline(name, [_make_stage_box(row) for row in rows], upstream)
        if upstream
        else ""
    )
    contract = brief.read_contract(root, name)
    return {
        "name": name,
        "question": (contract.question or contract.title) if contract else "",
        "brief": brief.write(root, name, receipts, champion),
        "step": brief.summarize_next_step(receipts, champion, contract)
        if "finalize" in receipts
        else None,
        "rows": rows,
        "diagram": diagram,
        "has_receipts": bool(receipts),
        "waiting": [row["stage"] for row in rows if row["waits_for"]],
        "summary": summary_cards.summarize_book(receipts, runs, last_move)
        | {"stages": {row["stage"]: row for row in rows}},
        "card": _find_existing_link(root, f"{name}/card-{champion}.html"),
        "history": history[::-1],
        "runs": runs,
    }


def _describe_stage(root: Path, book: str, stage: str, message: str | None) -> dict[str, Any]:
    """Return a stage's receipt, its state, and the links to its pages."""
    stem = f"{book}/{config.stage_stem(stage)}"
    receipt, problem = _read_receipt(root / "models" / book / f"{stage}.json")
    row = {
        "stage": stage,
        "place": int(config.stage_stem(stage)[:2]),
        "kind": "waiting" if receipt is None else "built",
        "receipt": receipt,
        "link": _find_existing_link(root, f"{stem}.html")
        if receipt is not None or failure_report.is_waiting_page(root / f"reports/{stem}.html")
        else "",
        "outdated_by": "",
        "waits_for": [],
    }
    if message is not None:
        report = root / "reports" / f"{stem}.html"
        return row | {
            "kind": "failed",
            "message": next(filter(None, map(str.strip, message.splitlines())), "no message"),
            "link": f"{stem}.html" if failure_report.is_failure_report(report) else "",
            "notebook": _find_existing_link(root, f"{stem}.ipynb"),
            "last_good": _find_existing_link(
                root, f"{book}/{failure_report.get_last_good_path(report).name}"
            ),
        }
    if problem:
        return row | {"kind": "unreadable", "message": f"the receipt cannot be read: {problem}"}
    return row


def _read_receipt(path: Path) -> tuple[Verdict | None, str]:
    """Return a stage's receipt, if there is one, or why it cannot be read."""
    if not path.is_file():
        return None, ""
    try:
        return Verdict.from_dict(json.loads(path.read_text(encoding="utf-8"))), ""
    except (OSError, ValueError, TypeError, ReportError) as error:
        return None, get_first_line(error)


def _mark_outdated(rows: Sequence[dict[str, Any]], upstream: UpstreamByStage) -> None:
    """Mark each stage that is older than what it reads."""
    rows_by_stage = {row["stage"]: row for row in rows}
    for row in rows:
        for name in upstream.get(row["stage"], ()):
            read_row = rows_by_stage.get(name)
            if read_row and row["kind"] == "built" and not row["outdated_by"]:
                is_newer = _start_time(read_row) > _start_time(row) > ""
                if read_row["outdated_by"] or is_newer:
                    row["outdated_by"] = name


def _mark_blocked(rows: Sequence[dict[str, Any]], upstream: UpstreamByStage) -> None:
    """Name the failed stages that each stage depends on, directly or indirectly."""
    rows_by_stage = {row["stage"]: row for row in rows}
    for row in rows:  # in the order of the pipeline
        failed: list[str] = []
        for name in upstream.get(row["stage"], ()):
            read_row = rows_by_stage.get(name)
            if read_row:
                failed += [name] if read_row["kind"] == "failed" else read_row["waits_for"]
        row["waits_for"] = list(dict.fromkeys(failed))


def _start_time(row: Mapping[str, Any]) -> str:
    return str(row["receipt"].facts.get("started") or "") if row["receipt"] is not None else ""


def _make_stage_box(row: Mapping[str, Any]) -> pipeline_diagram.StageBox:
    status, level = {
        "waiting": ("not built yet", "none"),
        "failed": ("failed", "bad"),
        "unreadable": ("unreadable", "bad"),
        "built": (f"older than {row['outdated_by']}", "none"),
    }[row["kind"]]
    if row["kind"] in ("waiting", "built") and row["waits_for"]:
        status = f"waits for {row['waits_for'][0]}"
    elif row["kind"] == "built" and not row["outdated_by"]:
        status, level = row["receipt"].status, row["receipt"].level
    return pipeline_diagram.StageBox(row["stage"], status, level, row["link"])


def _find_existing_link(root: Path, name: str) -> str:
    """Return the name if its file exists, else an empty link."""
    return name if (root / "reports" / name).is_file() else ""
