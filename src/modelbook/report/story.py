"""What an executed notebook tells: its opening, its verdict, its evidence, and where it stopped."""

from __future__ import annotations

import ast
import copy
import re
from html import unescape
from typing import TYPE_CHECKING, Any

from modelbook.errors import ReportError
from modelbook.report.verdict import MIME, Verdict

if TYPE_CHECKING:
    from nbformat import NotebookNode

HIDDEN = {"parameters", "injected-parameters", "papermill-error-cell-tag"}
LONGEST = 20_000  # characters of printed text that a page still shows

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def verdict(notebook: NotebookNode) -> Verdict | None:
    """The last verdict that the notebook displayed."""
    bundles = [output["data"][MIME] for output in _outputs(notebook) if MIME in output.get("data", {})]
    return Verdict.from_dict(bundles[-1]) if bundles else None


def opening(notebook: NotebookNode) -> tuple[str, str]:
    """The title, without its number, and the question that the stage answers."""
    words = (cell.source for cell in notebook.cells if cell.cell_type == "markdown" and not _is_hidden(cell))
    first = next(words, "")
    title = re.search(r"^# +(.+)$", first, re.MULTILINE)
    question = " ".join(re.findall(r"^> ?(.*)$", first, re.MULTILINE))
    name = re.sub(r"^\d+\s*[·.:–-]\s*", "", title[1]).strip() if title else ""
    return name, re.sub(r"[*_`]", "", question).strip()


def evidence(notebook: NotebookNode) -> NotebookNode:
    """The cells that the page shows: no set-up, no second title, the verdict as its sentences."""
    shown = copy.deepcopy(notebook)
    shown.cells = [cell for cell in _until_failure(shown.cells) if not _is_hidden(cell)]
    _drop_opening(shown)
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            _tidy(output)
    return shown


def contents(body: str) -> list[tuple[str, str]]:
    """Anchor and text of each second-level heading."""
    found = re.findall(r'<h2[^>]*\bid="([^"]*)"[^>]*>(.*?)</h2>', body, re.DOTALL)
    # unescaped, because the page's template escapes them again
    return [(unescape(anchor), unescape(re.sub(r"<[^>]+>", "", text)).strip()) for anchor, text in found]


def failure(notebook: NotebookNode) -> str:
    """The error that stopped the notebook, in one line; empty when nothing did."""
    for output in _outputs(notebook):
        if output.output_type == "error":
            lines = ANSI.sub("", f"{output.ename}: {output.evalue}").strip().splitlines()
            return lines[0] if lines else output.ename
    return ""


def ran(notebook: NotebookNode) -> dict[str, Any]:
    """When the notebook started and how long it took, as Papermill noted it."""
    noted = notebook.metadata.get("papermill", {})
    names = {"started": "start_time", "seconds": "duration"}
    return {name: noted[key] for name, key in names.items() if noted.get(key) is not None}


def _outputs(notebook: NotebookNode) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _until_failure(cells: list[Any]) -> list[Any]:
    """What stands after the cell that failed did not run: it is no evidence."""
    for place, cell in enumerate(cells):
        if _has_failed(cell):
            return cells[: place + 1]
    return cells


def _has_failed(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _is_hidden(cell: NotebookNode) -> bool:
    if _has_failed(cell):
        return False  # what stopped the stage is always shown
    if HIDDEN & set(cell.metadata.get("tags", [])):
        return True
    return not cell.source.strip() or (cell.cell_type == "code" and _only_imports(cell.source))


def _only_imports(source: str) -> bool:
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a magic, or what stopped the stage
        return False
    return all(isinstance(statement, ast.Import | ast.ImportFrom) for statement in statements)


def _drop_opening(notebook: NotebookNode) -> None:
    """The page's head says title and question already."""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            lines = [line for line in cell.source.splitlines() if not re.match(r"# |>", line)]
            cell.source = "\n".join(lines).strip()
            if not cell.source:
                del notebook.cells[place]
            return


def _tidy(output: Any) -> None:
    if output.output_type == "stream":
        output.text = _shortened(ANSI.sub("", output.text))
    elif output.output_type == "error":
        output.traceback = [_shortened(ANSI.sub("", "\n".join(output.traceback)))]
        output.evalue = ANSI.sub("", output.evalue)
    elif MIME in output.data:
        from modelbook.report.display import Findings

        sentences = Verdict.from_dict(output.data[MIME]).sentences
        output.data = {"text/html": Findings(sentences)._repr_html_()}
    elif "text/plain" in output.data:
        output.data["text/plain"] = _shortened(ANSI.sub("", _joined(output.data["text/plain"])))


def _joined(text: Any) -> str:
    if not isinstance(text, str | list):
        raise ReportError(f"an output's text is {type(text).__name__}", expected="text")
    return text if isinstance(text, str) else "".join(text)


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} more characters: the executed notebook has them all."
