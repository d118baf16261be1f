"""Where a notebook stopped, and with what error: read from the copy that was executed up to there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.report.story import ANSI, HIDDEN, LONGEST

if TYPE_CHECKING:
    from nbformat import NotebookNode

_ADDED = HIDDEN - {"parameters"}  # cells that a build has put in: a person who opens the notebook does not have them
_PARTS = re.compile(r"(.*?)(?:\n +expected: +(.*?))?(?:\n +next: +(.*?))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Stop:
    """The cell that a notebook stopped in. ``name``, ``message`` and ``traceback`` are empty when its kernel died."""

    cell: str  # its id
    number: int  # among the code cells, as a run by hand counts them
    of: int
    heading: str  # that the cell stands under
    source: str
    name: str = ""  # of the error
    message: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Words:
    """An error's message in its parts: what was wrong, what was expected, what to do next."""

    what: str
    expected: str = ""
    next: str = ""


def words(message: str) -> Words:
    """The parts of the message of a `ModelbookError`; any other message is all ``what``."""
    found = _PARTS.fullmatch(message.strip())
    return Words(*(part or "" for part in found.groups())) if found else Words(message)


def opened(path: Path) -> NotebookNode | None:
    """A notebook, or nothing when there is none that can be read."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception:  # absent, empty, half of one: nbformat has no base of its own for these
        return None


def stop(notebook: NotebookNode, died: bool = False) -> Stop | None:
    """Where the notebook stopped: at an error; or, when its kernel ``died``, in the cell that was running."""
    own = [cell for cell in notebook.cells if not _ADDED & set(cell.metadata.get("tags", []))]
    code = [cell for cell in own if cell.cell_type == "code"]
    at = next((cell for cell in code if _error(cell) is not None), None)
    if at is None and died:  # Papermill marks all cells as completed then, but not as started
        at = next((cell for cell in reversed(code) if cell.metadata.get("papermill", {}).get("start_time")), None)
    if at is None:
        return None
    error = _error(at) or {}
    number = next(place for place, cell in enumerate(code, 1) if cell is at)
    return Stop(
        at.get("id", ""), number, len(code), _heading(own, at), at.source,
        error.get("ename", ""), plain(error.get("evalue", "")), plain("\n".join(error.get("traceback", []))),
    )  # fmt: skip


def plain(text: str) -> str:
    """Text without a terminal's colours; of a very long one, its end."""
    text = ANSI.sub("", text)
    return text if len(text) <= LONGEST else f"… {len(text) - LONGEST:,} characters before\n{text[-LONGEST:]}"


def _error(cell: NotebookNode) -> dict[str, Any] | None:
    return next((output for output in cell.get("outputs", []) if output.output_type == "error"), None)


def _heading(cells: list[Any], at: NotebookNode) -> str:
    """The last heading above a cell."""
    above = cells[: next(place for place, cell in enumerate(cells) if cell is at)]
    text = "\n".join(cell.source for cell in above if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # a comment in code is no heading
    found = re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE)
    return re.sub(r"[*_`]", "", found[-1]) if found else ""
