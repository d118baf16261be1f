"""What must be installed where a version loads."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

STACK = (
    "mlflow", "pycaret", "scikit-learn", "imbalanced-learn", "lightgbm", "pandas", "numpy", "pydantic", "pyyaml",
    "cloudpickle",
)  # fmt: skip


def requirements(model: Any) -> list[str]:
    """The stack as ``name==version``, and what own steps of a pipeline need besides."""
    stack = [f"{package}=={version(package)}" for package in STACK]
    return list(dict.fromkeys((*stack, *_needs(model))))


def _needs(model: Any) -> list[str]:
    """Needs of a model's steps, and of the pipelines that it is made of where it has members."""
    own = [need for _, step in getattr(model, "steps", []) for need in getattr(step, "needs", ())]
    return own + [need for member in getattr(model, "members", ()) for need in _needs(member)]
