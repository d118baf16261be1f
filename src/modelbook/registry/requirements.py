"""Packages that must be installed where a version is loaded."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

BASE_PACKAGES = (
    "mlflow", "pycaret", "scikit-learn", "imbalanced-learn", "lightgbm", "pandas", "numpy",
    "pydantic", "pyyaml", "cloudpickle",
)  # fmt: skip


def pip_requirements(model: Any) -> list[str]:
    """Return the base packages as ``name==version``, and requirements of custom steps."""
    stack = [f"{package}=={version(package)}" for package in BASE_PACKAGES]
    return list(dict.fromkeys((*stack, *_step_requirements(model))))


def _step_requirements(model: Any) -> list[str]:
    """Return the requirements of a model's steps, and of its members' steps."""
    step_needs = [
        need
        for _, step in getattr(model, "steps", [])
        for need in getattr(step, "requirements", ())
    ]
    return step_needs + [
        need for member in getattr(model, "members", ()) for need in _step_requirements(member)
    ]
