"""Write the index page of all books from the current state of the project."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from modelbook.build import staleness
from modelbook.errors import RunHistoryError, StoreError
from modelbook.pages import index
from modelbook.registry import history as registry_history
from modelbook.registry.history import HistoryEntry
from modelbook.runs import history
from modelbook.runs.record import BuildRun
from modelbook.stage import pipeline_spec, project


def write_index(root: Path, book: str) -> Path:
    """Write ``reports/index.html`` and return its path; ``book`` is any book of the project."""
    upstream = {name: task["upstream"] for name, task in project.read_tasks(root, book).items()}
    return index.write(
        root,
        staleness.list_failures(root),
        pipeline_spec.list_stages(root),
        upstream=upstream,
        runs=_load_runs(root),
        histories=_load_promotions(root),
    )


def _load_promotions(root: Path) -> dict[str, list[HistoryEntry]]:
    histories: dict[str, list[HistoryEntry]] = {}
    with suppress(StoreError):  # the page is written without them; see modelbook doctor
        for entry in registry_history.read_history(root):
            histories.setdefault(entry.model, []).append(entry)
    return histories


def _load_runs(root: Path) -> dict[str, list[BuildRun]]:
    runs = {}
    for folder in sorted(root.glob("reports/*/runs")):
        with suppress(RunHistoryError):  # no run yet
            runs[folder.parent.name] = history.list_runs(root, folder.parent.name)
    return runs
