"""Copy the cells of a notebook that was edited by hand to the pipeline, after a diff."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.atomic import atomic_write
from modelbook.errors import WorkbenchError
from modelbook.stage import pipeline_spec
from modelbook.workbench import git_filter

Notebook = dict[str, Any]
BOOK_LINE = re.compile(r"^book = \S+", re.M)  # a line of a parameters cell


@dataclass
class NotebookCopy:
    """Cells to be copied to the pipeline.

    Attributes
    ----------
    book : str or None
        The book whose own notebook is written; None for the notebook of all books.
    target : Path
        The notebook that is written: of all books, or of one.
    base, content : bytes
        The notebook that is replaced, as git has it, and the new one.
    edited_parameters : dict
        Values edited in the parameters cell: a build reads them from the env file.
    restored : tuple or None
        The notebook of all books and its content in git, when edits in it move to a book's own.
    """

    stage: str
    book: str | None
    target: Path
    base: bytes
    content: bytes
    edited_parameters: dict[str, Any] = field(default_factory=dict)
    restored: tuple[Path, bytes] | None = None

    @property
    def has_changes(self) -> bool:
        """Whether anything would be written."""
        return not self.target.is_file() or self.target.read_bytes() != self.content

    def write(self) -> None:
        """Write the notebook, and restore the cells of the shared notebook."""
        _write(self.target, self.content)
        if self.restored:
            _write(*self.restored)


def plan_copy(root: Path, notebook: Path, book: str | None) -> NotebookCopy:
    """Plan what copying a notebook to the pipeline would write, for all books or for one.

    A notebook in the folder of a book is for that book.

    Raises
    ------
    WorkbenchError
        If the file is not a notebook of a stage.
    PipelineSpecError
        If its cells do not agree with the stage's task and parameters.
    """
    edited = _read_notebook(notebook)
    stage = _find_stage(edited, notebook)
    shared = root / "notebooks" / f"{config.stage_stem(stage)}.ipynb"
    folder = notebook.resolve().parent
    if book is None and folder.parent == shared.parent.resolve():
        book = folder.name
    target = root / "notebooks" / book / shared.name if book else shared
    committed = _read_from_git(root, shared)
    base = _read_from_git(root, target) or committed or shared.read_bytes()
    original = json.loads(base)
    content, edited_parameters = _clean_cells(edited, original, book)
    pipeline_spec.check_notebook(root, target, content, stage)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    is_moved = book is not None and notebook.resolve() == shared.resolve()
    return NotebookCopy(
        stage,
        book,
        target,
        git_filter.strip_outputs(base),
        git_filter.strip_outputs(text.encode()),
        edited_parameters,
        (shared, committed) if is_moved and committed else None,
    )


def render_diff(plan: NotebookCopy, folder: Path) -> str:
    """Return the difference as git shows it, by cells."""
    paths = [folder / "before.ipynb", folder / "after.ipynb"]
    for path, content in zip(paths, (plan.base, plan.content), strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-P", "-m", "nbdime", "diff", "--no-color", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _read_notebook(path: Path) -> Notebook:
    if not path.is_file():
        raise WorkbenchError(
            f"there is no file {path}",
            expected="a notebook of a stage (.ipynb)",
            next="check the path",
        )
    try:
        notebook: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(notebook, dict) and isinstance(notebook.get("cells"), list):
            return notebook
        problem = "it has no list of cells"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise WorkbenchError(
        f"{path} is not a notebook: {problem}",
        expected="a notebook of a stage (.ipynb)",
        next="check the path, or save the notebook again",
    )


def _find_stage(notebook: Notebook, path: Path) -> str:
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    stages = pipeline_spec.find_opened_stages(sources)
    if len(stages) != 1 or stages[0] not in config.STAGES:
        raise WorkbenchError(
            f"{path} opens {', '.join(map(repr, stages)) or 'no stage'}",
            expected='one stage: context = stage.open("explore", globals())',
        )
    return stages[0]


def _clean_cells(
    notebook: Notebook, original: Notebook, book: str | None
) -> tuple[Notebook, dict[str, Any]]:
    """Return the cells with the original's parameters, and the values that were edited.

    A book's own notebook names its book, so that a run by hand opens it.
    """
    result = copy.deepcopy(notebook)
    result["cells"] = [
        cell
        for cell in result["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    result["metadata"] = original["metadata"]
    [parameters] = _find_parameters_cells(original)
    source = "".join(parameters["source"])
    if book:
        source = BOOK_LINE.sub(f"book = {json.dumps(book)}", source)
    defaults = pipeline_spec.read_assignments(source, {})
    edited_parameters: dict[str, Any] = {}
    for cell in _find_parameters_cells(result):
        values = pipeline_spec.read_assignments("".join(cell["source"]), {})
        edited_parameters |= {
            name: value
            for name, value in values.items()
            if name in defaults and value != defaults[name] and name != "book"
        }
        unknown = values.keys() - defaults.keys() - {pipeline_spec.SANDBOX_VARIABLE}
        if not unknown:  # others are refused by the check, with their names
            cell["source"] = source.splitlines(keepends=True)
    return result, edited_parameters


def _find_parameters_cells(notebook: Notebook) -> list[dict[str, Any]]:
    return [
        cell
        for cell in notebook["cells"]
        if pipeline_spec.PARAMETERS_TAG in cell["metadata"].get("tags", [])
    ]


def _read_from_git(root: Path, path: Path) -> bytes:
    """Return the committed content of a file; empty without one."""
    command = ["git", "-C", str(root), "show", f"HEAD:./{path.relative_to(root).as_posix()}"]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary_path:
        temporary_path.write_bytes(content)
