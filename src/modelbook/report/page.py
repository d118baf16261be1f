"""An executed notebook becomes a page that opens with its verdict, runs nothing and loads nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import config
from modelbook.errors import ReportError
from modelbook.report import story, template
from modelbook.report.verdict import Verdict

if TYPE_CHECKING:
    from nbformat import NotebookNode

UNREACHED = "This stage did not reach its verdict."
MEND = "Read the last cell below, mend what it names, and run the stage again."
KINDS = (
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/markdown",
    "text/latex",
    "text/plain",
)


def publish(product: Any, params: Any) -> None:
    """Write the page of a stage that has run: Ploomber's `on_finish` hook.

    Parameters
    ----------
    product : mapping
        ``nb``, the executed notebook, and ``report``, the page to write.
    params : mapping
        The stage's parameters; the book's name is taken from them when there is no verdict to say it.
    """
    from modelbook.report import failure
    from modelbook.stage import project, wiring

    stages = wiring.stages(project.find_root())
    source, target = str(product["nb"]), str(product["report"])
    render(source, target, book=str(params.get("book") or ""), stages=stages)
    if not story.failure(_read(Path(source))):  # by hand it may be the page of a notebook that stopped half-way
        failure.mended(Path(target))


def render(
    notebook_path: str | Path,
    out_path: str | Path,
    *,
    book: str = "",
    home: str = "../index.html",
    stages: Sequence[str] = (),
) -> Path:
    """Write the page of one executed notebook, whole or not at all.

    Parameters
    ----------
    notebook_path, out_path : path
        The executed notebook, and the page to write.
    book : str
        The book's name, for a notebook without a verdict; by default the name of the page's folder.
    home : str
        Where the index is, seen from the page.
    stages : sequence of str
        The stages that the page links to; by default all there are.
    """
    source, target = Path(notebook_path), Path(out_path)
    notebook = _read(source)
    verdict = story.verdict(notebook)
    view = _head(notebook, verdict, target, book)
    body = _body(story.evidence(notebook))
    target.parent.mkdir(parents=True, exist_ok=True)
    view |= {
        "body": body,
        "contents": story.contents(body),
        "home": home,
        "notebook": Path(os.path.relpath(source.resolve(), target.resolve().parent)).as_posix(),
        "stages": [(name, config.stem(name)) for name in stages or config.STAGES],
    }
    template.write(target, template.fill("stage.html.j2", **view))
    return target


def _read(path: Path) -> NotebookNode:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat has no base of its own
        raise ReportError(
            f"{path} cannot be read as a notebook: {error}",
            expected="an executed .ipynb",
            next="run the stage again",
        ) from error


def _head(notebook: NotebookNode, verdict: Verdict | None, target: Path, book: str) -> dict[str, Any]:
    title, question = story.opening(notebook)
    facts = {**story.ran(notebook), **(verdict.facts if verdict else {})}
    stage = verdict.stage if verdict else re.sub(r"^\d\d_", "", target.stem)
    error = story.failure(notebook)
    return {
        "title": title or stage.capitalize(),
        "question": question,
        "stage": stage,
        "book": verdict.book if verdict else book or target.parent.name,
        "word": verdict.word if verdict else "no verdict",
        "level": verdict.level if verdict else "bad",
        "sentences": verdict.sentences if verdict else [UNREACHED, *([error] if error else [])],
        "numbers": verdict.numbers if verdict else [],
        "next": verdict.next if verdict else MEND,
        "facts": facts,
    }


def _body(notebook: NotebookNode) -> str:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    from modelbook.report.clean import clean

    settings = Config({"NbConvertBase": {"display_data_priority": list(KINDS)}})
    exporter = HTMLExporter(
        config=settings,
        template_name="base",
        template_file=str(template.FOLDER / "body.html.j2"),
        anchor_link_text="",
    )
    exporter.register_filter("clean", clean)
    html: str = exporter.from_notebook_node(notebook)[0]
    return html
