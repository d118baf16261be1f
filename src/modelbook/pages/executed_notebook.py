"""Read an executed notebook: title, question, verdict, report cells, errors and run times."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from html import unescape
from typing import TYPE_CHECKING, Any, NamedTuple

from modelbook.errors import ReportError
from modelbook.pages.interactive_outputs import make_static
from modelbook.source_imports import has_only_imports
from modelbook.stage.verdict import MIME_TYPE, Verdict

if TYPE_CHECKING:
    from nbformat import NotebookNode

HIDDEN_TAGS = {"parameters", "injected-parameters", "papermill-error-cell-tag"}
SHOWN_ELSEWHERE = ("stage.open(", ".write_verdict(")  # calls with results elsewhere on the page
VERDICT_HEADING = "Verdict"  # its section repeats the head of the page
MAX_OUTPUT_CHARS = 20_000  # longer printed text is cut off in a page

ANSI_PATTERN = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def find_receipt(notebook: NotebookNode) -> Verdict | None:
    """Return the last verdict that the notebook displayed."""
    bundles = [
        output["data"][MIME_TYPE]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if MIME_TYPE in output.get("data", {})
    ]
    return Verdict.from_dict(bundles[-1]) if bundles else None


def read_title_and_question(notebook: NotebookNode) -> tuple[str, str]:
    """Return the title, without its number, and the question of the stage."""
    markdown_sources = (
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "markdown" and not _is_hidden(cell)
    )
    first = next(markdown_sources, "")
    title = re.search(r"^# +(.+)$", first, re.MULTILINE)
    question = " ".join(re.findall(r"^> ?(.*)$", first, re.MULTILINE))
    name = re.sub(r"^\d+\s*[·.:–-]\s*", "", title[1]).strip() if title else ""
    return name, re.sub(r"[*_`]", "", question).strip()


class ReportCells(NamedTuple):
    """A notebook's cells as a report shows them: evidence, and its code for the end of the page.

    ``code`` has the sources under each heading, without a heading first.
    """

    evidence: NotebookNode
    code: list[tuple[str, list[str]]]


def select_report_cells(notebook: NotebookNode) -> ReportCells:
    """Divide a notebook into the evidence of a report, and the code at its end.

    Evidence are the sections up to the verdict, which the page's head shows: the words and outputs
    below each heading, and the cell that failed with its code. Whatever else a cell shows before or
    after them is evidence, too.
    """
    report = prepare_cells(notebook)
    cells = report.cells
    code = group_code(cells)
    start = next((i for i, cell in enumerate(cells) if _find_heading(cell)), 0)
    end = next(
        (i for i, cell in enumerate(cells) if _find_heading(cell) == VERDICT_HEADING), len(cells)
    )
    report.cells = [
        *filter(_shows_more, cells[:start]),
        *_drop_idle_cells(cells[start:end]),
        *filter(_shows_more, cells[end:]),
    ]
    return ReportCells(report, code)


def _shows_more(cell: Any) -> bool:
    """Whether a cell shows more than the stage's parameters and its verdict."""
    is_shown_elsewhere = any(call in cell.source for call in SHOWN_ELSEWHERE)
    return bool(cell.get("outputs") and (find_error_output(cell) or not is_shown_elsewhere))


def group_code(cells: Sequence[Any]) -> list[tuple[str, list[str]]]:
    """Return the sources of code cells under each heading."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for cell in cells:
        if heading := _find_heading(cell):
            groups.append((heading, []))
        elif cell.cell_type == "code":
            groups[-1][1].append(cell.source)
    return [(heading, sources) for heading, sources in groups if sources]


def _find_heading(cell: Any) -> str:
    """The second-level heading of a cell; empty if it has none."""
    heading = re.search(r"^## +(.+)$", cell.source, re.MULTILINE)
    return heading[1].strip() if heading and cell.cell_type == "markdown" else ""


def _drop_idle_cells(cells: list[Any]) -> list[Any]:
    """Drop code without visible output, and the text that only introduces it."""
    remaining: list[Any] = []
    for cell in cells:
        if cell.cell_type == "code" and not cell.get("outputs"):
            if (
                remaining
                and remaining[-1].cell_type == "markdown"
                and not _find_heading(remaining[-1])
            ):
                remaining.pop()
        else:
            remaining.append(cell)
    return remaining


def prepare_cells(notebook: NotebookNode) -> NotebookNode:
    """Return the cells to show: without set-up and title, the verdict as sentences."""
    report = copy.deepcopy(notebook)
    report.cells = [
        cell for cell in _select_cells_until_error(report.cells) if not _is_hidden(cell)
    ]
    _drop_title_and_question(report)
    for cell in report.cells:
        for output in cell.get("outputs", []):
            _clean_output(output)
            if "data" in output:
                output.data = make_static(output.data)
    return report


def list_headings(body: str) -> list[tuple[str, str]]:
    """Return anchor and text of each second-level heading."""
    without_anchors = re.sub(r'<a class="anchor-link".*?</a>', "", body)
    headings = re.findall(r'<h2[^>]*\bid="([^"]*)"[^>]*>(.*?)</h2>', without_anchors, re.DOTALL)
    # unescaped, because the page's template escapes them again
    return [
        (unescape(anchor), unescape(re.sub(r"<[^>]+>", "", text)).strip())
        for anchor, text in headings
    ]


def find_error(notebook: NotebookNode) -> str:
    """Return the error that stopped the notebook, in one line; empty if there was none."""
    output = next(filter(None, map(find_error_output, notebook.cells)), None)
    if output is None:
        return ""
    lines = ANSI_PATTERN.sub("", f"{output.ename}: {output.evalue}").strip().splitlines()
    return lines[0] if lines else output.ename


def find_error_output(cell: NotebookNode) -> NotebookNode | None:
    """Return the output with the error that stopped a cell; None if there was none."""
    outputs = cell.get("outputs", [])
    return next((output for output in outputs if output.output_type == "error"), None)


def read_run_times(notebook: NotebookNode) -> dict[str, Any]:
    """Return the start time and the duration that Papermill recorded."""
    papermill_metadata = notebook.metadata.get("papermill", {})
    names = {"started": "start_time", "seconds": "duration"}
    return {
        name: papermill_metadata[key]
        for name, key in names.items()
        if papermill_metadata.get(key) is not None
    }


def _select_cells_until_error(cells: list[Any]) -> list[Any]:
    """Return the cells up to the one that failed; those after it did not run."""
    for position, cell in enumerate(cells):
        if find_error_output(cell):
            return cells[: position + 1]
    return cells


def _is_hidden(cell: NotebookNode) -> bool:
    if find_error_output(cell):
        return False  # the cell that failed is always shown
    if HIDDEN_TAGS & set(cell.metadata.get("tags", [])):
        return True
    return not cell.source.strip() or (cell.cell_type == "code" and has_only_imports(cell.source))


def _drop_title_and_question(notebook: NotebookNode) -> None:
    """Remove title and question, which the page's header shows already."""
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            lines = [line for line in cell.source.splitlines() if not re.match(r"# |>", line)]
            cell.source = "\n".join(lines).strip()
            if not cell.source:
                del notebook.cells[position]
            return


def _clean_output(output: Any) -> None:
    if output.output_type == "stream":
        output.text = _shorten(ANSI_PATTERN.sub("", output.text))
    elif output.output_type == "error":
        output.traceback = [_shorten(ANSI_PATTERN.sub("", "\n".join(output.traceback)))]
        output.evalue = ANSI_PATTERN.sub("", output.evalue)
    elif MIME_TYPE in output.data:
        from modelbook.display.components import BulletList

        sentences = Verdict.from_dict(output.data[MIME_TYPE]).sentences
        output.data = {"text/html": BulletList(sentences)._repr_html_()}
    elif "text/plain" in output.data:
        output.data["text/plain"] = _shorten(
            ANSI_PATTERN.sub("", _join_text(output.data["text/plain"]))
        )


def _join_text(text: Any) -> str:
    if not isinstance(text, str | list):
        raise ReportError(f"an output's text is {type(text).__name__}", expected="text")
    return text if isinstance(text, str) else "".join(text)


def _shorten(text: str) -> str:
    if len(text) <= MAX_OUTPUT_CHARS:
        return text
    return (
        f"{text[:MAX_OUTPUT_CHARS]}\n… {len(text) - MAX_OUTPUT_CHARS:,} more characters: the "
        "executed notebook has them all."
    )
