"""The page that leads to every book: how each stands, its pipeline, what stages decided, its last runs and moves."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import ReportError
from modelbook.report import failure, flow, glance, template
from modelbook.report.verdict import Verdict

if TYPE_CHECKING:
    from modelbook.registry.history import Entry
    from modelbook.stage.record import Run

Failed = Mapping[str, Mapping[str, str]]
Runs = Mapping[str, Sequence["Run"]]
Upstream = Mapping[str, Sequence[str]]
Moves = Mapping[str, Sequence["Entry"]]
LAST = 10  # runs that the page lists, and decisions
LONGEST = 80  # characters of what came out of a run: a long reason stands on the run's own page
ENDED = {"ok": ("ended well", "good"), "failed": ("failed", "bad"), "stopped": ("stopped", "watch")}


def write(
    root: str | Path,
    failed: Failed | None = None,
    stages: Sequence[str] = (),
    *,
    upstream: Upstream | None = None,
    runs: Runs | None = None,
    moves: Moves | None = None,
) -> Path:
    """Write `reports/index.html` from the receipts, runs and versions' histories of all books.

    Parameters
    ----------
    root : path
        The project, with ``models/<book>/<stage>.json`` and ``reports/``.
    failed : mapping, optional
        Book to stage to message, for the stages that their last build could not finish.
    stages : sequence of str
        The stages of the project; by default all there are.
    upstream : mapping, optional
        Stage to the stages that it reads; without it there are no arrows, and nothing is older than what it reads.
    runs : mapping, optional
        Book to its runs, the newest first.
    moves : mapping, optional
        Book to what was decided about its versions and how its champion moved, the oldest first.

    Returns
    -------
    pathlib.Path
        The page.
    """
    root, failed, runs, moves, upstream = Path(root), failed or {}, runs or {}, moves or {}, upstream or {}
    books = []
    for name in _names(root, failed, runs):
        rows = _rows(root, name, failed.get(name, {}), stages or [*config.STAGES], upstream)
        past, moved = runs.get(name, ()), moves.get(name, ())
        books.append(_book(name, rows, upstream) | _versions(root, name, rows, past, moved) | _past(root, name, past))
    target = root / "reports" / "index.html"
    template.write(target, template.fill("index.html.j2", books=books, arrow=flow.ARROW))
    return target


def _names(root: Path, failed: Failed, runs: Runs) -> list[str]:
    known = {path.parent.name for stage in config.STAGES for path in root.glob(f"models/*/{stage}.json")}
    return sorted(known | set(failed) | set(runs))


def _book(name: str, rows: Sequence[dict[str, Any]], upstream: Upstream) -> dict[str, Any]:
    return {
        "name": name, "rows": rows, "built": sum(row["kind"] == "built" for row in rows),
        "failed": [row["stage"] for row in rows if row["kind"] == "failed"],
        "picture": flow.picture(name, [_box(row) for row in rows], upstream) if upstream else "",
    }  # fmt: skip


def _versions(
    root: Path, name: str, rows: Sequence[dict[str, Any]], runs: Sequence[Run], entries: Sequence[Entry]
) -> dict[str, Any]:
    """How the champion does, and how it came to its place."""
    receipts = {row["stage"]: row["receipt"] for row in rows if row["receipt"] is not None}
    moved = next((entry for entry in reversed(entries) if entry.kind == "move"), None)
    return {
        "cards": glance.cards(receipts, runs, moved) if receipts else [],
        "card": _existing(root, f"{name}/card-{glance.version(receipts, moved)}.html"),
        "ab": _existing(root, f"{name}/ab.html"),
        "decided": [_entry(entry) for entry in entries[: -LAST - 1 : -1]], "decisions": len(entries),
    }  # fmt: skip


def _entry(entry: Entry) -> dict[str, Any]:
    what = f"gate: {entry.word}" if entry.kind == "decision" else entry.word
    numbers = dict.fromkeys("–" if one is None else str(one) for one in (entry.before, entry.after))
    why = textwrap.shorten(entry.why, LONGEST * 2, placeholder=" …")
    told = {name: getattr(entry, name) for name in ("number", "at", "version", "by")}
    return told | {"what": what, "champion": " → ".join(numbers), "why": why}


def _past(root: Path, name: str, runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "runs": [_run(root, name, run) for run in runs[:LAST]], "kept": len(runs),
        "all_runs": _existing(root, f"{name}/runs/index.html"),
        "compared": _existing(root, f"{name}/runs/{runs[1].number}-{runs[0].number}.html") if len(runs) > 1 else "",
    }  # fmt: skip


def _rows(
    root: Path, name: str, failed: Mapping[str, str], stages: Sequence[str], upstream: Upstream
) -> list[dict[str, Any]]:
    rows = [_row(root, name, stage, failed.get(stage)) for stage in stages]
    _find_older(rows, upstream)
    return rows


def _row(root: Path, book: str, stage: str, message: str | None) -> dict[str, Any]:
    stem = f"{book}/{config.stem(stage)}"
    place = int(config.stem(stage)[:2])
    row: dict[str, Any] = {"stage": stage, "place": place, "kind": "waiting", "link": "", "message": "", "older": ""}
    row["receipt"], problem = _receipt(root / "models" / book / f"{stage}.json")
    if message is not None:
        return row | _failure(root, stem, message)
    if problem:
        return row | {"kind": "unreadable", "message": f"the receipt cannot be read: {problem}"}
    if row["receipt"] is None:
        return row
    return row | {"kind": "built", "verdict": row["receipt"], "link": _existing(root, f"{stem}.html")}


def _failure(root: Path, stem: str, message: str) -> dict[str, str]:
    """A row of a stage that failed: its own link leads to the page of the failure, where one could be written."""
    report = root / "reports" / f"{stem}.html"
    return {
        "kind": "failed",
        "message": next((line.strip() for line in message.splitlines() if line.strip()), "no message"),
        "link": f"{stem}.html" if failure.is_failure(report) else "",
        "notebook": _existing(root, f"{stem}.ipynb"),
        "last_good": _existing(root, f"{stem.partition('/')[0]}/{failure.last_good(report).name}"),
    }


def _receipt(path: Path) -> tuple[Verdict | None, str]:
    """A stage's receipt, if there is one, and why it cannot be read."""
    if not path.is_file():
        return None, ""
    try:
        return Verdict.from_dict(json.loads(path.read_text(encoding="utf-8"))), ""
    except (OSError, ValueError, TypeError, ReportError) as error:
        return None, str(error).splitlines()[0]


def _find_older(rows: Sequence[dict[str, Any]], upstream: Upstream) -> None:
    """Mark each stage that was built before what it reads, or that waits for a stage which failed."""
    known = {row["stage"]: row for row in rows}
    for row in rows:
        for above in (known[up] for up in upstream.get(row["stage"], ()) if up in known):
            if row["kind"] == "built" and not row["older"]:
                stale = above["kind"] == "failed" or above["older"] or _began(above) > _began(row) > ""
                row["older"] = f"older than {above['stage']}" if stale else ""


def _began(row: Mapping[str, Any]) -> str:
    return str(row["receipt"].facts.get("started") or "") if row["receipt"] is not None else ""


def _box(row: Mapping[str, Any]) -> flow.Box:
    if row["kind"] == "built" and not row["older"]:
        return flow.Box(row["stage"], row["verdict"].word, row["verdict"].level, row["link"])
    words = {"waiting": ("not built yet", "none"), "built": (row["older"], "none"), "failed": ("failed", "bad")}
    return flow.Box(row["stage"], *words.get(row["kind"], ("unreadable", "bad")), row["link"])


def _run(root: Path, book: str, run: Run) -> dict[str, Any]:
    """What the page tells of a run."""
    told: dict[str, Any] = {"number": run.number, "problem": run.problem}
    told["link"] = _existing(root, f"{book}/runs/{run.number}/index.html")
    if run.problem:
        return told
    ran, at = run.that("ran"), run.that("failed")
    why = [run.stages[name].message for name in at if run.stages[name].message]
    word, level = ENDED.get(run.ended, (run.ended, "watch"))
    return told | {
        "started": run.started, "seconds": run.seconds, "level": level,
        "word": f"{word} at {' and '.join(at)}" if at else word,
        "ran": f"all {len(ran)}" if len(ran) == len(run.stages) > 4 else " ".join(ran) or "–",
        "came_out": textwrap.shorten(", ".join(why or run.headline), LONGEST, placeholder=" …"),
    }  # fmt: skip


def _existing(root: Path, name: str) -> str:
    """A link is written only where there is something to open."""
    return name if (root / "reports" / name).is_file() else ""
