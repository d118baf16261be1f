"""The index of all books, written from what the project holds now."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from modelbook.errors import HistoryError, StoreError
from modelbook.registry import history as moves
from modelbook.registry.history import Entry
from modelbook.report import index
from modelbook.stage import built, history, project, wiring
from modelbook.stage.record import Run


def write(root: Path, book: str) -> Path:
    """Write ``reports/index.html``; returns it. ``book`` is any book of the project."""
    upstream = {name: task["upstream"] for name, task in project.tasks(root, book).items()}
    return index.write(
        root, built.failures(root), wiring.stages(root), upstream=upstream, runs=_runs(root), moves=_moves(root)
    )


def _moves(root: Path) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    with suppress(StoreError):  # a page without them is better than none; modelbook doctor tells
        for entry in moves.read(root):
            found.setdefault(entry.model, []).append(entry)
    return found


def _runs(root: Path) -> dict[str, list[Run]]:
    found = {}
    for folder in sorted(root.glob("reports/*/runs")):
        with suppress(HistoryError):  # no run yet
            found[folder.parent.name] = history.runs(root, folder.parent.name)
    return found
