"""The index of reports: for each book its status, pipeline, verdicts, runs and promotions."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import ReportError
from modelbook.pages import failure_report, pipeline_diagram, summary_cards, templating
from modelbook.stage.verdict import Verdict

if TYPE_CHECKING:
    from modelbook.registry.history import HistoryEntry
    from modelbook.runs.record import BuildRun

FailuresByBook = Mapping[str, Mapping[str, str]]
RunsByBook = Mapping[str, Sequence["BuildRun"]]
UpstreamByStage = Mapping[str, Sequence[str]]
HistoryByBook = Mapping[str, Sequence["HistoryEntry"]]
MAX_ENTRIES = 10  # limit of listed runs, and of listed decisions
MAX_RESULT_CHARS = 80  # characters of a run's result; the run's page has all of it
RUN_BADGES = {
    "ok": ("succeeded", "good"),
    "failed": ("failed", "bad"),
    "stopped": ("stopped", "watch"),
}


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
    root, failures, runs, histories, upstream = (
        Path(root),
        failures or {},
        runs or {},
        histories or {},
        upstream or {},
    )
    books = []
    for name in _book_names(root, failures, runs):
        rows = _stage_rows(root, name, failures.get(name, {}), stages or [*config.STAGES], upstream)
        book_runs, book_history = runs.get(name, ()), histories.get(name, ())
        books.append(
            _book_context(name, rows, upstream)
            | _version_context(root, name, rows, book_runs, book_history)
            | _run_context(root, name, book_runs)
        )
    target = root / "reports" / "index.html"
    templating.write_page(
        target,
        templating.render_template(
            "index.html.j2", books=books, arrow=pipeline_diagram.ARROW_MARKER
        ),
    )
    return target


def _book_names(root: Path, failures: FailuresByBook, runs: RunsByBook) -> list[str]:
    book_names = {
        path.parent.name for stage in config.STAGES for path in root.glob(f"models/*/{stage}.json")
    }
    return sorted(book_names | set(failures) | set(runs))


def _book_context(
    name: str, rows: Sequence[dict[str, Any]], upstream: UpstreamByStage
) -> dict[str, Any]:
    return {
        "name": name,
        "rows": rows,
        "built": sum(row["kind"] == "built" for row in rows),
        "failed": [row["stage"] for row in rows if row["kind"] == "failed"],
        "picture": pipeline_diagram.draw_pipeline(name, [_stage_box(row) for row in rows], upstream)
        if upstream
        else "",
    }


def _version_context(
    root: Path,
    name: str,
    rows: Sequence[dict[str, Any]],
    runs: Sequence[BuildRun],
    entries: Sequence[HistoryEntry],
) -> dict[str, Any]:
    """Return the champion's summary cards and the history of decisions."""
    receipts = {row["stage"]: row["receipt"] for row in rows if row["receipt"] is not None}
    last_move = next((entry for entry in reversed(entries) if entry.kind == "move"), None)
    return {
        "cards": summary_cards.build_cards(receipts, runs, last_move) if receipts else [],
        "card": _existing_link(
            root, f"{name}/card-{summary_cards.champion_version(receipts, last_move)}.html"
        ),
        "ab": _existing_link(root, f"{name}/ab.html"),
        "decided": [_history_row(entry) for entry in entries[: -MAX_ENTRIES - 1 : -1]],
        "decisions": len(entries),
    }


def _history_row(entry: HistoryEntry) -> dict[str, Any]:
    event = f"gate: {entry.action}" if entry.kind == "decision" else entry.action
    champions = dict.fromkeys(
        "–" if version is None else str(version)
        for version in (entry.champion_before, entry.champion_after)
    )
    reason = textwrap.shorten(entry.reason, MAX_RESULT_CHARS * 2, placeholder=" …")
    fields = {
        "number": entry.number,
        "at": entry.timestamp,
        "version": entry.version,
        "by": entry.user,
    }
    return fields | {"what": event, "champion": " → ".join(champions), "why": reason}


def _run_context(root: Path, name: str, runs: Sequence[BuildRun]) -> dict[str, Any]:
    return {
        "runs": [_run_row(root, name, run) for run in runs[:MAX_ENTRIES]],
        "kept": len(runs),
        "all_runs": _existing_link(root, f"{name}/runs/index.html"),
        "compared": _existing_link(root, f"{name}/runs/{runs[1].number}-{runs[0].number}.html")
        if len(runs) > 1
        else "",
    }


def _stage_rows(
    root: Path,
    name: str,
    failures: Mapping[str, str],
    stages: Sequence[str],
    upstream: UpstreamByStage,
) -> list[dict[str, Any]]:
    rows = [_stage_row(root, name, stage, failures.get(stage)) for stage in stages]
    _mark_outdated(rows, upstream)
    return rows


def _stage_row(root: Path, book: str, stage: str, message: str | None) -> dict[str, Any]:
    stem = f"{book}/{config.stage_stem(stage)}"
    position = int(config.stage_stem(stage)[:2])
    row: dict[str, Any] = {
        "stage": stage,
        "place": position,
        "kind": "waiting",
        "link": "",
        "message": "",
        "older": "",
    }
    row["receipt"], problem = _read_receipt(root / "models" / book / f"{stage}.json")
    if message is not None:
        return row | _failure_row(root, stem, message)
    if problem:
        return row | {"kind": "unreadable", "message": f"the receipt cannot be read: {problem}"}
    if row["receipt"] is None:
        return row
    return row | {
        "kind": "built",
        "verdict": row["receipt"],
        "link": _existing_link(root, f"{stem}.html"),
    }


def _failure_row(root: Path, stem: str, message: str) -> dict[str, str]:
    """Return the row of a failed stage, linked to its failure report if there is one."""
    report = root / "reports" / f"{stem}.html"
    return {
        "kind": "failed",
        "message": next(
            (line.strip() for line in message.splitlines() if line.strip()), "no message"
        ),
        "link": f"{stem}.html" if failure_report.is_failure_report(report) else "",
        "notebook": _existing_link(root, f"{stem}.ipynb"),
        "last_good": _existing_link(
            root, f"{stem.partition('/')[0]}/{failure_report.last_good_path(report).name}"
        ),
    }


def _read_receipt(path: Path) -> tuple[Verdict | None, str]:
    """Return a stage's receipt, if there is one, or why it cannot be read."""
    if not path.is_file():
        return None, ""
    try:
        return Verdict.from_dict(json.loads(path.read_text(encoding="utf-8"))), ""
    except (OSError, ValueError, TypeError, ReportError) as error:
        return None, str(error).splitlines()[0]


def _mark_outdated(rows: Sequence[dict[str, Any]], upstream: UpstreamByStage) -> None:
    """Mark each stage that is older than what it reads, or reads a stage that failed."""
    rows_by_stage = {row["stage"]: row for row in rows}
    for row in rows:
        for upstream_row in (
            rows_by_stage[upstream_stage]
            for upstream_stage in upstream.get(row["stage"], ())
            if upstream_stage in rows_by_stage
        ):
            if row["kind"] == "built" and not row["older"]:
                is_outdated = (
                    upstream_row["kind"] == "failed"
                    or upstream_row["older"]
                    or _start_time(upstream_row) > _start_time(row) > ""
                )
                row["older"] = f"older than {upstream_row['stage']}" if is_outdated else ""


def _start_time(row: Mapping[str, Any]) -> str:
    return str(row["receipt"].facts.get("started") or "") if row["receipt"] is not None else ""


def _stage_box(row: Mapping[str, Any]) -> pipeline_diagram.StageBox:
    if row["kind"] == "built" and not row["older"]:
        return pipeline_diagram.StageBox(
            row["stage"], row["verdict"].word, row["verdict"].level, row["link"]
        )
    words = {
        "waiting": ("not built yet", "none"),
        "built": (row["older"], "none"),
        "failed": ("failed", "bad"),
    }
    return pipeline_diagram.StageBox(
        row["stage"], *words.get(row["kind"], ("unreadable", "bad")), row["link"]
    )


def _run_row(root: Path, book: str, run: BuildRun) -> dict[str, Any]:
    """Return the row of a run."""
    view: dict[str, Any] = {"number": run.number, "problem": run.read_error}
    view["link"] = _existing_link(root, f"{book}/runs/{run.number}/index.html")
    if run.read_error:
        return view
    ran, failed_stages = run.stages_in_state("ran"), run.stages_in_state("failed")
    messages = [run.stages[name].message for name in failed_stages if run.stages[name].message]
    word, level = RUN_BADGES.get(run.status, (run.status, "watch"))
    return view | {
        "started": run.started,
        "seconds": run.seconds,
        "level": level,
        "word": f"{word} at {' and '.join(failed_stages)}" if failed_stages else word,
        "ran": f"all {len(ran)}" if len(ran) == len(run.stages) > 4 else " ".join(ran) or "–",
        "came_out": textwrap.shorten(
            ", ".join(messages or run.headline), MAX_RESULT_CHARS, placeholder=" …"
        ),
    }


def _existing_link(root: Path, name: str) -> str:
    """Return the name if its file exists, else an empty link."""
    return name if (root / "reports" / name).is_file() else ""
