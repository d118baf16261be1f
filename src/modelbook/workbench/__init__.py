"""The workbench: set-up of JupyterLab, kernel and git, and checks of the whole environment."""

from __future__ import annotations

import sys
from pathlib import Path

from modelbook.workbench import (
    book_check,
    environment,
    git_filter,
    kernelspec,
    lab_config,
    machine,
    openmp,
)
from modelbook.workbench.check_result import CheckResult

__all__ = ["CheckResult", "run_checks", "setup"]


def run_checks(root: Path, book: str | None = None) -> list[CheckResult]:
    """Check the environment, the project and a book, without changing anything."""
    prefix = Path(sys.prefix)
    return [
        environment.check_python(root),
        environment.check_locked_packages(root),
        kernelspec.check_kernelspec(prefix),
        lab_config.check_config(prefix),
        machine.check_mlflow_store(root),
        machine.check_disk(root),
        machine.check_ports(),
        git_filter.check_filter(root),
        git_filter.check_notebooks(root),
        book_check.check_book(root, book),
        book_check.check_versions(root, book),
    ]


def setup(root: Path) -> list[str]:
    """Write the kernelspec, JupyterLab's configuration and the clone's git configuration.

    Only this environment and the clone's ``.git/config`` are written to; returns a line per part.

    Raises
    ------
    WorkbenchError
        If this Python is not in an environment, or a shared configuration file cannot be read.
    """
    environment.require_environment()
    prefix = Path(sys.prefix)
    lines = [
        _describe_change("kernel", kernelspec.write_kernelspec(prefix)),
        _describe_change("JupyterLab", lab_config.write_config(prefix)),
    ]
    if written_files := openmp.install_library():
        lines.append(_describe_change("OpenMP", written_files))
    if git_filter.find_clone(root) is None:
        return [*lines, "git filter: not a git clone, nothing to configure"]
    return [*lines, _describe_change("git filter", git_filter.write_configuration(root))]


def _describe_change(name: str, changed_items: list[Path] | list[str]) -> str:
    return (
        f"{name}: wrote {', '.join(map(str, changed_items))}"
        if changed_items
        else f"{name}: in place"
    )
