"""Executed copies never land on a source: Papermill asks this handler before it writes a local notebook."""

from __future__ import annotations

import os
from pathlib import Path

from papermill.iorw import LocalHandler

from modelbook.errors import StageError


class Copies(LocalHandler):
    """Papermill's handler of local files, but for the notebooks of a project: those are only read.

    `pyproject.toml` registers it for the ways in which a path to them may begin.
    """

    def write(self, buf: str, path: str) -> None:
        """Write a notebook.

        Raises
        ------
        StageError
            When ``path`` is a stage's source.
        """
        target = Path(path).resolve()
        if _is_source(target):
            raise StageError(
                f"{path} is a stage's source, and an executed copy would take its place",
                expected="an output outside of notebooks/",
                next=f"papermill {path} {os.path.relpath(target.parents[1] / 'reports')}/{target.stem}-alone.ipynb",
            )
        super().write(buf, path)


handler = Copies()


def _is_source(path: Path) -> bool:
    pipeline = path.parent.parent / "pipeline.yaml"
    return pipeline.is_file() and f"source: {path.parent.name}/{path.name}" in pipeline.read_text(encoding="utf-8")
