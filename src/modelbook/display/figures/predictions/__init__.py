"""Figures of predictions against outcomes, by task."""

from __future__ import annotations

from typing import Any

from modelbook.display.figures.predictions import binary, multiclass, regression

MODULES = {"binary": binary, "multiclass": multiclass, "regression": regression}


def get_figure_module(task: str) -> Any:
    """Return the figure module of a task; all modules have the same functions."""
    return MODULES[task]
