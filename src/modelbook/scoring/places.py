"""Places: where a value stands among those of the reference, so that recent inputs can be held against it."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any


def place(value: Any, edges: list[float] | None) -> str:
    """Between which edges a number stands, or a category's own name; a gap stands apart."""
    if value is None:
        return "missing"
    return str(value) if edges is None else str(bisect_right(edges, value))
