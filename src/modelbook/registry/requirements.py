"""What must be installed where a version loads."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

STACK = ("mlflow", "pycaret", "scikit-learn", "lightgbm", "pandas", "numpy", "pydantic", "pyyaml", "cloudpickle")


def requirements(model: Any) -> list[str]:
    """The stack as ``name==version``, and what own steps of a pipeline need besides."""
    stack = [f"{package}=={version(package)}" for package in STACK]
    own = [need for _, step in getattr(model, "steps", []) for need in getattr(step, "needs", ())]
    return list(dict.fromkeys((*stack, *own)))
