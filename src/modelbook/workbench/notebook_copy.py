"""Copies of hand-edited notebooks to the pipeline, and their diffs."""

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
class CopyPlan:
    """The files that copying a notebook to the pipeline would write.

    Attributes
    ----------
    book : str or None
        The book whose own notebook is written; None for the shared notebook.
    destination : Path
        The notebook that is written: the shared one, or a book's own.
    previous, new : bytes
        The notebook that is replaced, as committed, and the new one.
    edited_parameters : dict
        Parameters with values that were edited. They are not copied: builds use the env file's.
    shared_to_restore : tuple or None
        The shared notebook and its committed content, to restore it when its edits become those of
        a book's own notebook.
    """

    stage: str
    book: str | None
    destination: Path
    previous: bytes
    new: bytes
    edited_parameters: dict[str, Any] = field(default_factory=dict)
    shared_to_restore: tuple[Path, bytes] | None = None

    @property
    def has_changes(self) -> bool:
        """Whether anything would be written."""
        return not self.destination.is_file() or self.destination.read_bytes() != self.new

    def write(self) -> None:
        """Write the notebook, and restore the shared notebook if its edits were copied from it."""
        _write(self.destination, self.new)
        if self.shared_to_restore:
            _write(*self.shared_to_restore)


def plan_copy(root: Path, notebook: Path, book: str | None) -> CopyPlan:
    """Plan the copy of a notebook to the pipeline, for all books or for one.

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
    destination = root / "notebooks" / book / shared.name if book else shared
    committed = _read_from_git(root, shared)
    previous = _read_from_git(root, destination) or committed or shared.read_bytes()
    new_notebook, edited_parameters = _restore_parameters(edited, json.loads(previous), book)
    pipeline_spec.check_notebook(root, destination, new_notebook, stage)
    text = json.dumps(new_notebook, indent=1, ensure_ascii=False) + "\n"
    is_moved = book is not None and notebook.resolve() == shared.resolve()
    return CopyPlan(
        stage,
        book,
        destination,
        git_filter.strip_outputs(previous),
        git_filter.strip_outputs(text.encode()),
        edited_parameters,
        (shared, committed) if is_moved and committed else None,
    )


def render_diff(plan: CopyPlan, folder: Path) -> str:
    """Return nbdime's diff, cell by cell."""
    paths = [folder / "before.ipynb", folder / "after.ipynb"]
    for path, content in zip(paths, (plan.previous, plan.new), strict=True):
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


def _restore_parameters(
    notebook: Notebook, previous: Notebook, book: str | None
) -> tuple[Notebook, dict[str, Any]]:
    """Return the notebook with the previous parameters cell and metadata, and the edited values.

    A book's own notebook names its book, so that a run by hand opens it.
    """
    result = copy.deepcopy(notebook)
    result["cells"] = [
        cell
        for cell in result["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    result["metadata"] = previous["metadata"]
    [parameters] = _find_parameters_cells(previous)
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
