"""The workbench: JupyterLab, its kernel and git as this project needs them, and a look at the whole machine."""

from __future__ import annotations

import sys
from pathlib import Path

from modelbook.workbench import book as books
from modelbook.workbench import environment, git, kernel, lab, machine, openmp
from modelbook.workbench.part import Part

__all__ = ["Part", "look", "setup"]


def look(root: Path, book: str | None = None) -> list[Part]:
    """Look at everything that work on a project needs, and on a book of it; nothing is changed."""
    prefix = Path(sys.prefix)
    return [
        environment.python(root), environment.lock(root), kernel.look(prefix), lab.look(prefix),
        machine.store(root), machine.disk(root), machine.ports(), git.look(root), git.notebooks(root),
        books.look(root, book),
    ]  # fmt: skip


def setup(root: Path) -> list[str]:
    """Write kernel, JupyterLab's configuration and this clone's git configuration, and say so, a line each.

    Nothing is written but into this environment and the clone's ``.git/config``. What is right already stays untouched.

    Raises
    ------
    WorkbenchError
        When this Python runs in no environment, or a file that others write too cannot be read.
    """
    environment.require()
    prefix = Path(sys.prefix)
    told = [_told("kernel", kernel.write(prefix)), _told("JupyterLab", lab.write(prefix))]
    if library := openmp.write():
        told.append(_told("OpenMP", library))
    if git.find_clone(root) is None:
        return [*told, "git filter: not a git clone, nothing to configure"]
    return [*told, _told("git filter", git.write(root))]


def _told(name: str, changed: list[Path] | list[str]) -> str:
    return f"{name}: wrote {', '.join(map(str, changed))}" if changed else f"{name}: in place"
