"""Bins: assign values to bins of the reference, to compare recent inputs with it."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any


def bin_label(value: Any, edges: list[float] | None) -> str:
    """Return the bin of a number, the name of a category, or ``missing``."""
    if value is None:
        return "missing"
    return str(value) if edges is None else str(bisect_right(edges, value))
