"""Count values with a fixed order of ties: pandas sorts counts unstably, by the processor's kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def count_values(values: pd.Series) -> pd.Series:
    """Rows of each value, most frequent first; ties in the order of their first row."""
    return values.value_counts(sort=False).sort_values(ascending=False, kind="stable")
