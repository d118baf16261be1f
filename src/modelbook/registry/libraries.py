"""Libraries that a version was registered with, and whether the installed ones load its pickles.

A pickle depends on the libraries that wrote it: scikit-learn does not support pickles of another
minor release, and code that is pickled by value is bytecode of one minor release of Python.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

LIBRARIES_TAG = "libraries"  # tag of a version: names and versions as JSON
SIGNIFICANT_PARTS = {"python": 2, "scikit-learn": 2, "numpy": 1, "pandas": 1}  # must be equal
RECORDED = (*SIGNIFICANT_PARTS, "lightgbm")
ABSENT = "none"


def list_libraries() -> dict[str, str]:
    """Return the installed versions that pickles depend on, by name."""
    return {name: _get_installed_version(name) for name in RECORDED}


def find_differences(tags: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the registered and installed versions of libraries that prevent unpickling."""
    registered: dict[str, str] = json.loads(tags.get(LIBRARIES_TAG, "{}"))
    installed = {name: _get_installed_version(name) for name in registered}
    return {
        name: (registered[name], installed[name])
        for name, part_count in SIGNIFICANT_PARTS.items()
        if name in registered
        and registered[name].split(".")[:part_count] != installed[name].split(".")[:part_count]
    }


def describe_differences(differences: Mapping[str, tuple[str, str]]) -> str:
    """Return ``scikit-learn 1.4.2 (here 1.9.1), …``."""
    return ", ".join(
        f"{name} {registered} (here {installed})"
        for name, (registered, installed) in differences.items()
    )


def _get_installed_version(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:  # the service's image has no pandas
        return ABSENT
