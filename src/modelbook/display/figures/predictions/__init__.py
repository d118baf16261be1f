"""Figures of predictions against outcomes, by task."""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULES = {  # full names, so that a build can tell which stages depend on which module
    "binary": "modelbook.display.figures.predictions.binary",
    "multiclass": "modelbook.display.figures.predictions.multiclass",
    "regression": "modelbook.display.figures.predictions.regression",
}


def get_figure_module(task: str) -> Any:
    """Return the figure module of a task; all modules have the same functions."""
    return import_module(MODULES[task])
