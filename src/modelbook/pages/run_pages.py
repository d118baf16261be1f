"""The pages of past runs: one page per run, and the list of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.pages import templating

if TYPE_CHECKING:
    from modelbook.runs.record import BuildRun

STATUS_LEVELS = {
    "ok": "good",
    "failed": "bad",
    "stopped": "warning",
}  # a run's status, and its level
MAX_LISTED_RUNS = 200


def write_run(
    path: Path,
    book: str,
    run: BuildRun,
    runs: Sequence[BuildRun],
    pages: Mapping[str, str],
    comparison_pages: Mapping[int, str],
    keep_runs: int,
) -> None:
    """Write the page of a run.

    Parameters
    ----------
    path : path
        The page, in the run's folder.
    runs : sequence of BuildRun
        All runs, newest first.
    pages : mapping
        Stage to file name of its archived report.
    comparison_pages : mapping
        Number of another run to the file name of the comparison page.
    keep_runs : int
        Number of runs that keep their pages.
    """
    versions: dict[str, str] = {}
    for stage_run in run.stages.values():
        versions |= stage_run.library_versions
    templating.write_template(
        path,
        "run.html.j2",
        book=book,
        run=run,
        status_levels=STATUS_LEVELS,
        pages=pages,
        compared_runs=[other for other in runs if other.number in comparison_pages],
        comparison_pages=comparison_pages,
        keep_runs=keep_runs,
        versions=versions,
    )


def write_run_list(path: Path, book: str, runs: Sequence[BuildRun]) -> None:
    """Write the list of a book's runs, newest first."""
    templating.write_template(
        path,
        "run_list.html.j2",
        book=book,
        runs=runs[:MAX_LISTED_RUNS],
        count=len(runs),
        status_levels=STATUS_LEVELS,
    )
