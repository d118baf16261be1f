"""Figures of the stages, a module each; and what differs by task, a module for each task."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def of(task: str) -> Any:
    """The module of a task's figures; all have the same functions."""
    return import_module(f"{__name__}.{task}")
