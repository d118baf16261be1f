"""Data version of a table tracked by DVC: read its ``.dvc`` file and verify the table."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Literal

import yaml

from modelbook.dataset.source import FileSource, resolve_source
from modelbook.errors import DataError
from modelbook.yaml_reading import load_yaml

UNTRACKED = "none"  # the table has no .dvc file of its own
OVERRIDE_HINT = "or, to skip this check once: MODELBOOK_DATA_VERSION=any"
VersionRequirement = Literal["committed", "any"]


def read_data_version(table: str, root: Path, requirement: VersionRequirement = "committed") -> str:
    """Return ``dvc md5 HASH`` of a table; ``none`` unless it is a file that has a ``.dvc`` file.

    A version that is not committed, where that is allowed, ends with ``, not committed``.

    Parameters
    ----------
    requirement : {"committed", "any"}
        Whether the table must be the version named by git's last commit.

    Raises
    ------
    DataError
        If the ``.dvc`` file is not valid; if a committed version is required, also if the table's
        MD5 differs from that in the ``.dvc`` file, or that from the one in git's last commit.
    """
    source = resolve_source(table, root)
    if not isinstance(source, FileSource):
        return UNTRACKED
    path = source.path
    dvc_file = path.with_name(f"{path.name}.dvc")
    if not dvc_file.is_file():
        return UNTRACKED
    recorded_md5 = _parse_recorded_md5(dvc_file.read_bytes())
    if recorded_md5 is None:
        raise DataError(
            f"{dvc_file} is not a valid .dvc file",
            expected="outs with one md5, as dvc add writes it",
            next="restore it from git, or write it again: dvc add",
        )
    actual_md5 = _hash_file(path)
    is_committed = _is_committed(dvc_file, recorded_md5)
    if requirement == "any":
        return f"dvc md5 {actual_md5}" + (
            "" if actual_md5 == recorded_md5 and is_committed else ", not committed"
        )
    if actual_md5 != recorded_md5:
        raise DataError(
            f"{table} does not match {dvc_file.name}: its MD5 is {actual_md5}",
            expected=f"MD5 {recorded_md5}",
            next=f"to restore it: dvc checkout {dvc_file}; for a new version: dvc add {path}, and "
            f"commit {dvc_file.name}; {OVERRIDE_HINT}",
        )
    if not is_committed:
        raise DataError(
            f"the version of {table} is not committed: the MD5 in {dvc_file.name} is not that of "
            "git's last commit",
            expected="a committed version, so that it can be reproduced",
            next=f"git add {dvc_file} && git commit; {OVERRIDE_HINT}",
        )
    return f"dvc md5 {actual_md5}"


def _parse_recorded_md5(text: bytes) -> str | None:
    """Return the MD5 that a ``.dvc`` file records for its table; None if the file is not valid."""
    try:
        [out] = load_yaml(text)["outs"]
        return str(out["md5"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def _is_committed(dvc_file: Path, recorded_md5: str) -> bool:
    """Whether git's last commit names the same version; True without git or a repository."""
    git = ["git", "-C", str(dvc_file.parent)]
    try:
        if subprocess.run([*git, "rev-parse", "--git-dir"], capture_output=True).returncode:
            return True
        result = subprocess.run([*git, "show", f"HEAD:./{dvc_file.name}"], capture_output=True)
    except OSError:
        return True
    return result.returncode == 0 and _parse_recorded_md5(result.stdout) == recorded_md5


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
