"""Figures that differ by task: what is seen of the target before any model."""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULES = {  # in full, so that a build sees which stages a change in one of them concerns
    "binary": "modelbook.report.figures.target.binary",
    "multiclass": "modelbook.report.figures.target.multiclass",
    "regression": "modelbook.report.figures.target.regression",
}


def of(task: str) -> Any:
    """The module of a task's figures; all have the same functions."""
    return import_module(MODULES[task])
