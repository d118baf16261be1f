"""The pages of past runs: one page per run, and the list of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.pages import templating

if TYPE_CHECKING:
    from modelbook.runs.record import BuildRun

STATUS_LEVELS = {"ok": "good", "failed": "bad", "stopped": "watch"}  # a run's status, and its level
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
    other_runs = [
        (other_run, comparison_pages[other_run.number])
        for other_run in runs
        if other_run.number in comparison_pages
    ]
    has_lost_pages = not pages and bool(run.stages_in_state("ran") or run.stages_in_state("kept"))
    parameters = [
        (stage, parameter) for stage, step in run.stages.items() for parameter in step.parameters
    ]
    versions = {
        name: version
        for step in run.stages.values()
        for name, version in step.library_versions.items()
    }
    view = {
        "book": book,
        "run": run,
        "ended": STATUS_LEVELS,
        "sentences": _summary_sentences(run),
        "pages": pages,
        "others": other_runs,
        "lost": has_lost_pages,
        "keep_runs": keep_runs,
        "parameters": parameters,
        "versions": versions,
    }
    templating.write_page(path, templating.render_template("run.html.j2", **view))


def write_run_list(path: Path, book: str, runs: Sequence[BuildRun]) -> None:
    """Write the list of a book's runs, newest first."""
    view = {
        "book": book,
        "runs": runs[:MAX_LISTED_RUNS],
        "count": len(runs),
        "ended": STATUS_LEVELS,
    }
    templating.write_page(path, templating.render_template("run_list.html.j2", **view))


def _summary_sentences(run: BuildRun) -> list[str]:
    """Summarize the run: its result, and what happened to each stage."""
    states = {"ran": "ran", "kept": "were up to date", "failed": "failed", "not run": "did not run"}
    texts = [
        f"{word}: {', '.join(run.stages_in_state(state))}"
        for state, word in states.items()
        if run.stages_in_state(state)
    ]
    headline = ", ".join(run.headline)
    return [
        f"Result: {headline}." if headline else "No stage reached a verdict.",
        f"Stages that {'; '.join(texts)}.",
    ]
