"""The pages of past runs: one for each, which leads to all that is kept of it, and the list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.report import template

if TYPE_CHECKING:
    from modelbook.stage.record import Run

ENDED = {"ok": "good", "failed": "bad", "stopped": "watch"}  # how a run ended, and what that is as a level
LISTED = 200  # runs on the list


def write(
    path: Path, book: str, run: Run, runs: Sequence[Run], pages: Mapping[str, str], compared: Mapping[int, str],
    keep_runs: int,
) -> None:  # fmt: skip
    """Write the page of a run.

    Parameters
    ----------
    path : path
        The page, in the run's folder.
    runs : sequence of Run
        All that there are, newest first.
    pages : mapping
        Stage to file name, of the pages that are kept with it.
    compared : mapping
        Another run's number to the file name of the page that holds both against each other.
    keep_runs : int
        How many runs keep their pages.
    """
    others = [(other, compared[other.number]) for other in runs if other.number in compared]
    lost = not pages and bool(run.that("ran") or run.that("kept"))
    parameters = [(stage, told) for stage, step in run.stages.items() for told in step.parameters]
    versions = {name: version for step in run.stages.values() for name, version in step.versions.items()}
    view = {
        "book": book, "run": run, "ended": ENDED, "sentences": _sentences(run), "pages": pages, "others": others,
        "lost": lost, "keep_runs": keep_runs, "parameters": parameters, "versions": versions,
    }  # fmt: skip
    template.write(path, template.fill("run.html.j2", **view))


def write_list(path: Path, book: str, runs: Sequence[Run]) -> None:
    """Write the list of a book's runs, newest first."""
    view = {"book": book, "runs": runs[:LISTED], "count": len(runs), "ended": ENDED}
    template.write(path, template.fill("runs.html.j2", **view))


def _sentences(run: Run) -> list[str]:
    """What the run did, and what came out."""
    states = {"ran": "ran", "kept": "were up to date", "failed": "failed", "not run": "did not run"}
    parts = [f"{word}: {', '.join(run.that(state))}" for state, word in states.items() if run.that(state)]
    came = ", ".join(run.headline)
    return [f"Came out: {came}." if came else "No stage came to a verdict.", f"Stages that {'; '.join(parts)}."]
