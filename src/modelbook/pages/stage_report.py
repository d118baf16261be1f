"""Render an executed notebook as a static page that opens with its verdict."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import ReportError
from modelbook.pages import executed_notebook, templating
from modelbook.stage.verdict import Verdict

if TYPE_CHECKING:
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode

DISPLAY_PRIORITY = (
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
)


def publish(product: Any, params: Any) -> None:
    """Write the report of a stage that has run: Ploomber's `on_finish` hook.

    Parameters
    ----------
    product : mapping
        ``nb``, the executed notebook, and ``report``, the page to write.
    params : mapping
        The stage's parameters; they supply the book's name if there is no verdict.
    """
    from modelbook.pages import failure_report
    from modelbook.stage import pipeline_spec, project

    stages = pipeline_spec.list_stages(project.find_root())
    source, target = str(product["nb"]), str(product["report"])
    render(source, target, book=str(params.get("book") or ""), stages=stages)
    # A run by hand may have stopped half-way.
    if not executed_notebook.find_error(_read_notebook(Path(source))):
        failure_report.get_last_good_path(Path(target)).unlink(missing_ok=True)


def render(
    notebook_path: str | Path, out_path: str | Path, *, book: str = "", stages: Sequence[str] = ()
) -> Path:
    """Write the report of an executed notebook, atomically.

    Parameters
    ----------
    notebook_path, out_path : path
        The executed notebook, and the report to write.
    book : str
        The book's name, for a notebook without a verdict; by default the name of the report's
        folder.
    stages : sequence of str
        The stages that the report links to; by default all.
    """
    source, target = Path(notebook_path), Path(out_path)
    notebook = _read_notebook(source)
    verdict = executed_notebook.find_receipt(notebook)
    view = _make_header_context(notebook, verdict, target, book)
    cells = executed_notebook.select_report_cells(notebook)
    names = list(stages or config.STAGES)
    body = _link_stages(_render_body(cells.evidence), names)
    target.parent.mkdir(parents=True, exist_ok=True)
    view |= {
        "body": body,
        "contents": executed_notebook.list_headings(body),
        "code": [(heading, _highlight(sources)) for heading, sources in cells.code],
        "onward": _find_following_stage(view["stage"], names),
        "home": "../index.html",
        "notebook": Path(os.path.relpath(source.resolve(), target.resolve().parent)).as_posix(),
        "stages": [(name, f"{config.stage_stem(name)}.html") for name in names],
    }
    templating.write_template(target, "stage_report.html.j2", **view)
    return target


def _read_notebook(path: Path) -> NotebookNode:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat has no base of its own
        raise ReportError(
            f"{path} cannot be read as a notebook: {error}",
            expected="an executed .ipynb",
            next="run the stage again",
        ) from error


def _make_header_context(
    notebook: NotebookNode, receipt: Verdict | None, target: Path, book: str
) -> dict[str, Any]:
    title, question = executed_notebook.read_title_and_question(notebook)
    facts = {**executed_notebook.read_run_times(notebook), **(receipt.facts if receipt else {})}
    stage = receipt.stage if receipt else re.sub(r"^\d\d_", "", target.stem)
    return {
        "title": title or stage.capitalize(),
        "question": question,
        "stage": stage,
        "book": receipt.book if receipt else book or target.parent.name,
        "status": receipt.status if receipt else "no verdict",
        "level": receipt.level if receipt else "bad",
        "verdict": receipt,
        "error": executed_notebook.find_error(notebook),
        "facts": facts,
    }


def _find_following_stage(stage: str, names: Sequence[str]) -> tuple[str, str] | None:
    """Name and file stem of the stage after this one; None after the last."""
    following = names[names.index(stage) + 1 :] if stage in names else []
    return (following[0], config.stage_stem(following[0])) if following else None


def _link_stages(body: str, names: Sequence[str]) -> str:
    """Redirect links to the notebooks of stages to their reports."""
    for stem in map(config.stage_stem, names):
        body = body.replace(f'href="{stem}.ipynb"', f'href="{stem}.html"')
    return body


def _highlight(sources: Sequence[str]) -> str:
    from nbconvert.filters import Highlight2HTML

    highlight = Highlight2HTML(pygments_lexer="ipython3")
    return "".join(highlight(source) for source in sources)


def _render_body(notebook: NotebookNode) -> str:
    html: str = _create_exporter().from_notebook_node(notebook)[0]
    return html


@cache
def _create_exporter() -> HTMLExporter:
    """One exporter for all pages: its templates take longer to compile than a small page."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    from modelbook.pages.sanitizer import sanitize_html

    settings = Config({"NbConvertBase": {"display_data_priority": list(DISPLAY_PRIORITY)}})
    exporter = HTMLExporter(
        config=settings,
        template_name="base",
        template_file=str(templating.TEMPLATE_FOLDER / "notebook_cells.html.j2"),
        anchor_link_text="#",
    )
    exporter.register_filter("clean", sanitize_html)
    return exporter
