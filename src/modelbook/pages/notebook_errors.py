"""Find the cell in which an executed notebook stopped, and its error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.pages.executed_notebook import (
    ANSI_PATTERN,
    HIDDEN_TAGS,
    MAX_OUTPUT_CHARS,
    find_error_output,
)

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Cells that the build injected and the source notebook does not have.
_INJECTED_TAGS = HIDDEN_TAGS - {"parameters"}
_MESSAGE_PATTERN = re.compile(r"(.*?)(?:\n +expected: +(.*?))?(?:\n +next: +(.*?))?\s*", re.DOTALL)


@dataclass(frozen=True)
class StopPoint:
    """The cell in which a notebook stopped.

    ``error_name``, ``message`` and ``traceback`` are empty if its kernel died.
    """

    cell_id: str
    cell_number: int  # among the code cells, from 1
    n_cells: int
    heading: str  # the last heading above the cell
    source: str
    error_name: str = ""
    message: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class ErrorMessage:
    """The parts of an error message: what was wrong, what was expected, what to do next."""

    problem: str
    expected: str = ""
    next_step: str = ""


def parse_error_message(message: str) -> ErrorMessage:
    """Split the message of a `ModelbookError`; any other message becomes the ``problem``."""
    match = _MESSAGE_PATTERN.fullmatch(message.strip())
    return (
        ErrorMessage(*(group or "" for group in match.groups())) if match else ErrorMessage(message)
    )


def read_if_valid(path: Path) -> NotebookNode | None:
    """Read a notebook; None if it is missing or invalid."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception:  # missing, empty or truncated: nbformat has no common base class
        return None


def find_stop_point(notebook: NotebookNode, has_kernel_died: bool = False) -> StopPoint | None:
    """Return where the notebook stopped: at an error, or in the cell running as its kernel died."""
    visible_cells = [
        cell for cell in notebook.cells if not _INJECTED_TAGS & set(cell.metadata.get("tags", []))
    ]
    code_cells = [cell for cell in visible_cells if cell.cell_type == "code"]
    stopped_cell = next(filter(find_error_output, code_cells), None)
    # Papermill then marks all cells completed, but not started.
    if stopped_cell is None and has_kernel_died:
        started_cells = [
            cell for cell in code_cells if cell.metadata.get("papermill", {}).get("start_time")
        ]
        stopped_cell = started_cells[-1] if started_cells else None
    if stopped_cell is None:
        return None
    error: dict[str, Any] = find_error_output(stopped_cell) or {}
    number = next(position for position, cell in enumerate(code_cells, 1) if cell is stopped_cell)
    return StopPoint(
        stopped_cell.get("id", ""),
        number,
        len(code_cells),
        _find_heading_above(visible_cells, stopped_cell),
        stopped_cell.source,
        error.get("ename", ""),
        to_plain_text(error.get("evalue", "")),
        _renumber_cells(to_plain_text("\n".join(error.get("traceback", []))), code_cells),
    )


def to_plain_text(text: str) -> str:
    """Remove ANSI colours; of a very long text only the end is returned."""
    text = ANSI_PATTERN.sub("", text)
    if len(text) <= MAX_OUTPUT_CHARS:
        return text
    return f"… {len(text) - MAX_OUTPUT_CHARS:,} characters before\n{text[-MAX_OUTPUT_CHARS:]}"


def _renumber_cells(traceback: str, code_cells: list[Any]) -> str:
    """Number the cells that a traceback names as in a run by hand: without injected ones."""
    numbers = {cell.get("execution_count"): place for place, cell in enumerate(code_cells, 1)}
    return re.sub(
        r"\bIn\[(\d+)\]", lambda match: f"In[{numbers.get(int(match[1]), match[1])}]", traceback
    )


def _find_heading_above(cells: list[Any], target_cell: NotebookNode) -> str:
    """Return the last heading above a cell."""
    cells_above = cells[
        : next(position for position, cell in enumerate(cells) if cell is target_cell)
    ]
    text = "\n".join(cell.source for cell in cells_above if cell.cell_type == "markdown")
    # A comment in code is not a heading.
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE)
    return re.sub(r"[*_`]", "", headings[-1]) if headings else ""
