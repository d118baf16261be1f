"""Count values with a stable order of ties; in pandas the order depends on the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def count_values(values: pd.Series) -> pd.Series:
    """Count the rows of each value, most frequent first; ties in order of first appearance."""
    return values.value_counts(sort=False).sort_values(ascending=False, kind="stable")
