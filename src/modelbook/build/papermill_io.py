"""Papermill handler that keeps executed notebooks from overwriting a stage's source."""

from __future__ import annotations

import os
from pathlib import Path

from papermill.iorw import LocalHandler

from modelbook.errors import StageError


class ReadOnlySourceHandler(LocalHandler):
    """Papermill's handler for local files, with the source notebooks of a project read-only.

    ``pyproject.toml`` registers it for each prefix that the path of a source may have.
    """

    def write(self, buf: str, path: str) -> None:
        """Write a notebook.

        Raises
        ------
        StageError
            If ``path`` is a stage's source.
        """
        target = Path(path).resolve()
        if _is_source(target):
            raise StageError(
                f"{path} is a stage's source, which an executed copy would overwrite",
                expected="an output outside of notebooks/",
                next=f"papermill {path} "
                f"{os.path.relpath(target.parents[1] / 'reports')}/{target.stem}-alone.ipynb",
            )
        super().write(buf, path)


handler = ReadOnlySourceHandler()


def _is_source(path: Path) -> bool:
    """Whether a path is a notebook of ``notebooks/``, or of a book's own folder in it."""
    for root in path.parents[1:3]:
        if (root / "pipeline.yaml").is_file() and path.relative_to(root).parts[0] == "notebooks":
            text = (root / "pipeline.yaml").read_text(encoding="utf-8")
            return f"source: notebooks/{path.name}" in text
    return False
