"""Versions of installed packages from folder names, for a faster import of PyCaret.

The import makes skbase list the versions of all installed packages, for which it parses the
metadata of each three times: 0.4 s of CPU a process. The name of a ``.dist-info`` folder contains
the package's name and version (PyPA specification "Recording installed projects").
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from skbase.utils.dependencies import _dependencies as skbase_dependencies


@lru_cache
def list_versions(lowercase: bool = False) -> dict[str, str]:
    """Return the version of each installed package, by its name in the folder and normalized.

    ``lowercase`` is ignored: PyCaret looks up ``category_encoders``, skbase normalized names
    (PEP 503). A folder without a version is omitted.
    """
    return dict(_read_folder_names())


def _read_folder_names() -> Iterator[tuple[str, str]]:
    """Names and versions of packages; one that is found twice has the importable version last."""
    for folder in reversed(sys.path):
        for info in (*Path(folder).glob("*.dist-info"), *Path(folder).glob("*.egg-info")):
            name, separator, version = info.stem.partition("-")
            if separator:
                for spelling in (name, re.sub(r"[-_.]+", "-", name).lower()):
                    yield spelling, version.partition("-")[0]


def patch_skbase_version_lookup() -> None:
    """Patch skbase, and thereby PyCaret, to look up versions by the names of folders."""
    skbase_dependencies._get_installed_packages_private = list_versions
