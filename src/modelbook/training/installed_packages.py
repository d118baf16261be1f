"""Versions of installed packages for PyCaret, whose import requests those of all.

skbase parses the metadata of each package three times for that, 0.4 s of CPU a process. The name of
the metadata's folder has both, see "Recording installed projects" of the PyPA specifications.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from packaging.utils import canonicalize_name
from skbase.utils.dependencies import _dependencies as skbase_dependencies


@lru_cache
def list_versions(lowercase: bool = False) -> dict[str, str]:
    """Return the version of each installed package by its normalised name (``scikit-learn``)."""
    return dict(_read_folder_names())


def _read_folder_names() -> Iterator[tuple[str, str]]:
    """Names and versions of packages; one that is found twice has the importable version last."""
    for folder in reversed(sys.path):
        for info in (*Path(folder).glob("*.dist-info"), *Path(folder).glob("*.egg-info")):
            name, separator, version = info.stem.partition("-")
            if separator:
                yield canonicalize_name(name), version.partition("-")[0]


def use_folder_names() -> None:
    """Make skbase, and thereby PyCaret, look up versions by the names of folders."""
    skbase_dependencies._get_installed_packages_private = list_versions
