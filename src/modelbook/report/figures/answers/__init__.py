"""Figures that differ by task: what a model answers, held against what turned out."""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULES = {  # in full, so that a build sees which stages a change in one of them concerns
    "binary": "modelbook.report.figures.answers.binary",
    "multiclass": "modelbook.report.figures.answers.multiclass",
    "regression": "modelbook.report.figures.answers.regression",
}


def of(task: str) -> Any:
    """The module of a task's figures; all have the same functions."""
    return import_module(MODULES[task])
