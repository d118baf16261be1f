"""Packages that must be installed where a version is loaded."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from typing import Any

import cloudpickle

from modelbook.stage.reproducibility import find_pycaret_distribution

BASE_PACKAGES = (
    "mlflow", "scikit-learn", "imbalanced-learn", "lightgbm", "pandas", "numpy", "pydantic",
    "pyyaml", "cloudpickle",
)  # fmt: skip  # and PyCaret, under the name of its distribution
PACKAGES_OF_BASE = ("scipy", "joblib")  # installed with scikit-learn
BASE_MODULES = {
    *sys.stdlib_module_names, *BASE_PACKAGES, *PACKAGES_OF_BASE, "modelbook", "pycaret", "sklearn",
    "imblearn", "yaml",
}  # fmt: skip


def pip_requirements(model: Any) -> list[str]:
    """Return the base packages, and those of custom steps and estimators, as ``name==version``."""
    stack = [
        f"{package}=={version(package)}"
        for package in (find_pycaret_distribution(), *BASE_PACKAGES)
    ]
    return list(dict.fromkeys((*stack, *_list_step_requirements(model))))


def _list_step_requirements(model: Any) -> list[str]:
    """Return the requirements of a model's steps, and of its members' steps."""
    steps = [step for _, step in getattr(model, "steps", [])]
    requirements = [name for step in steps for name in getattr(step, "requirements", ())]
    if steps:
        requirements += _find_packages(steps[-1])
    for member in getattr(model, "members", ()):
        requirements += _list_step_requirements(member)
    return requirements


def find_uninstalled_modules(value: Any) -> list[str]:
    """Return the modules that a pickle of a value imports, and that no installed package has.

    A pickle refers to them by name, so that it cannot be loaded where their files are not.
    """
    return sorted(module for module in _find_modules(value) if not _find_packages_of(module))


def _find_modules(value: Any) -> set[str]:
    """Return the modules that a pickle of a value imports, except the base ones."""
    unpickler = _ImportRecorder(io.BytesIO(cloudpickle.dumps(value)))
    unpickler.load()
    return {module.partition(".")[0] for module in unpickler.modules} - BASE_MODULES


def _find_packages(estimator: Any) -> list[str]:
    """Return the packages that an estimator's pickle imports, except the base ones."""
    packages = {
        package for module in _find_modules(estimator) for package in _find_packages_of(module)
    }
    return sorted(f"{package}=={version(package)}" for package in packages)


def _find_packages_of(module: str) -> list[str]:
    """Return the package with a module's name, or else those that have a module of this name."""
    try:
        return [distribution(module).name]
    except PackageNotFoundError:
        return _read_packages_by_module().get(module, [])


@cache
def _read_packages_by_module() -> Mapping[str, list[str]]:
    """Read the metadata of all installed packages, which takes about a second."""
    return packages_distributions()


class _ImportRecorder(pickle.Unpickler):
    """Loads a pickle and records the modules that it imports."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        found_class = super().find_class(module, name)
        if name != "subimport":
            self.modules.add(module)
            return found_class
        return self._record_import  # cloudpickle's import of a module that a class refers to

    def _record_import(self, module: str) -> Any:
        self.modules.add(module)
        return import_module(module)
