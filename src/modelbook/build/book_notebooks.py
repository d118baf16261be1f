"""Build a book's own notebooks with Ploomber, such as ``notebooks/birds/02_explore.ipynb``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modelbook.build import ploomber
from modelbook.stage import project

FORCE_OPTIONS = {"--force", "-f"}


def use_book_notebooks(dag: Any, root: Path, book: str) -> None:
    """Replace the sources of a rendered pipeline, and render it again if there are any."""
    notebook_paths = {name: project.get_notebook_path(root, book, name) for name in dag}
    book_paths = {name: path for name, path in notebook_paths.items() if path.parent.name == book}
    if not book_paths:
        return
    for name, path in book_paths.items():
        ploomber.replace_notebook(dag[name], path)
    force = bool(FORCE_OPTIONS & set(sys.argv))
    for name in dag:  # in order: a stage's status follows from those before it
        ploomber.render_again(dag[name], force=force)
