"""The version of a table that DVC tracks: what its ``.dvc`` file says, and whether the table is still that one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Literal

import yaml

from modelbook.dataset.source import File, find
from modelbook.errors import DataError

NONE = "none"  # no DVC tracks the table
ONCE = "or, for once: MODELBOOK_DATA_VERSION=any"
Asked = Literal["committed", "any"]


def version(table: str, root: Path, asked: Asked = "committed") -> str:
    """The version of a table as DVC names it: ``dvc md5 ...``; ``none`` where DVC does not track it.

    Parameters
    ----------
    asked : {"committed", "any"}
        Whether the table must be the one that git's last commit names.

    Raises
    ------
    DataError
        When the table differs from its ``.dvc`` file, or git does not have this file as it is.
    """
    source = find(table, root)
    if not isinstance(source, File):
        return NONE
    path = source.path
    note = path.with_name(f"{path.name}.dvc")
    if not note.is_file():
        return NONE
    recorded, found = _recorded(note, note.read_text(encoding="utf-8")), _md5(path)
    committed = _in_git(note, recorded)
    if asked == "any":
        return f"dvc md5 {found}" + ("" if found == recorded and committed else ", not committed")
    if found != recorded:
        raise DataError(
            f"{table} is not the version that {note.name} names: its md5 is {found}",
            expected=f"the md5 {recorded}",
            next=f"dvc checkout {note} brings that back; a new version: dvc add {path}, and commit {note.name}; {ONCE}",
        )
    if not committed:
        raise DataError(
            f"the version of {table} is not committed: git does not have {note.name} as it is",
            expected="a version that a commit names, so that it can be had again",
            next=f"git add {note} && git commit; {ONCE}",
        )
    return f"dvc md5 {found}"


def _recorded(note: Path, text: str) -> str:
    """The md5 that a ``.dvc`` file gives a table."""
    try:
        [out] = yaml.safe_load(text)["outs"]
        return str(out["md5"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{note} is no file of DVC", expected="outs with one md5, as dvc add writes it",
            next="put it back from git, or have DVC write it: dvc add",
        ) from None  # fmt: skip


def _in_git(note: Path, recorded: str) -> bool:
    """Whether git's last commit names the same version; outside git, and without it, the note alone counts."""
    git = ["git", "-C", str(note.parent)]
    try:
        if subprocess.run([*git, "rev-parse", "--git-dir"], capture_output=True).returncode:
            return True
        told = subprocess.run([*git, "show", f"HEAD:./{note.name}"], capture_output=True, text=True)
    except OSError:
        return True
    return told.returncode == 0 and _recorded(note, told.stdout) == recorded


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
