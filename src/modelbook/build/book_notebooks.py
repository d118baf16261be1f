"""Let Ploomber build the notebooks of a book's own, such as ``notebooks/birds/02_explore.ipynb``.

Every private attribute of Ploomber's sources and products that this needs is used here only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modelbook.stage import project

FORCE_OPTIONS = {"--force", "-f"}


def use_book_notebooks(dag: Any, root: Path, book: str) -> None:
    """Replace the sources of a rendered pipeline, and render it again if there are any."""
    own = {name: project.notebook_path(root, book, name) for name in dag}
    replaced = {name: path for name, path in own.items() if path.parent.name == book}
    if not replaced:
        return
    for name, path in replaced.items():
        source = dag[name].source
        source._path = path
        source._read_nb_str_unrendered(force=True)
    force = bool(FORCE_OPTIONS & set(sys.argv))
    for name in dag:  # in order: a stage's status follows from those before it
        for product in dag[name].product.products:
            product._reset_cached_outdated_status()
        dag[name].render(force=force)
