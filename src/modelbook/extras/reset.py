"""Remove everything that was generated in a project, registry, journals and history included."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from modelbook.build import locks
from modelbook.formatting import format_count
from modelbook.registry import history
from modelbook.registry.aliases import list_version_numbers
from modelbook.registry.location import get_database_path, is_embedded
from modelbook.registry.store import create_client

# Data first: the folders of a book are recognised by those in models and reports.
GENERATED_FOLDERS = ("data", "models", "reports")


def describe_reset(root: Path) -> list[str]:
    """Return what a reset removes, one line each; empty when there is nothing."""
    lines = []
    store = get_database_path(root)
    if is_embedded(root) and store.is_file() and store.is_relative_to(root / "models"):
        models = create_client(root).search_registered_models()
        for name in sorted(model.name for model in models):
            n_versions = len(list_version_numbers(root, name))
            entry_count = len(history.read_history(root, name))
            lines.append(
                f"{format_count(n_versions, 'version')} of {name}, "
                f"{format_count(entry_count, 'history entry', 'history entries')}"
            )
    for folder in GENERATED_FOLDERS:
        files = [
            path
            for top in list_generated(root, folder)
            for path in (top, *top.rglob("*"))
            if path.is_file()
        ]
        journals = [path for path in files if path.name == "journal.db"]
        lines += [f"the journal {path.relative_to(root)}" for path in journals]
        if files:
            size = sum(path.stat().st_size for path in files) / 1e6
            lines.append(f"{format_count(len(files), 'file')} in {folder} ({size:,.1f} MB)")
    return lines


def reset(root: Path) -> None:
    """Remove what builds, services and commands have generated.

    Raises
    ------
    BuildError
        When a build is running.
    """
    with locks.lock_build(root):
        for folder in GENERATED_FOLDERS:
            for path in list(list_generated(root, folder)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def list_generated(root: Path, folder: str) -> Iterator[Path]:
    """Yield what is in a generated folder, except its README, DVC's files and the user's tables.

    Below ``data``, a folder is generated if ``models`` or ``reports`` has one of the same name, or
    if it has a journal: a service of imported versions has no other folder.
    """
    for path in sorted((root / folder).glob("*")):
        is_built = any((root / place / path.name).is_dir() for place in ("models", "reports"))
        is_book = is_built or (path / "journal.db").is_file()
        is_kept = path.name == "README.md" or path.suffix == ".dvc"
        if not is_kept and (folder != "data" or is_book):
            yield path
