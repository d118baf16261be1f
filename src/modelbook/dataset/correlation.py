"""Correlation: how far two features say the same, whatever their types."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats.contingency import association

if TYPE_CHECKING:
    from modelbook.contract import Contract

MOST_FEATURES = 60  # that are paired
MOST_ROWS = 20_000


def pairs(frame: pd.DataFrame, contract: Contract, order: list[str], seed: int = 0) -> pd.DataFrame:
    """How far each two features go together, closest first.

    Two numbers: Spearman's rank correlation, with its sign. Two categories: Cramér's V. A number and a category: the
    correlation ratio, the root of the share of the number's variance that lies between the categories.

    Parameters
    ----------
    order : list of str
        Features, the most important first; the first 60 are paired, on a sample of 20,000 rows at most.

    Returns
    -------
    DataFrame
        Columns ``one, other, measure, value``, ``value`` from -1 to 1; pairs of which nothing can be said are left out.
    """
    rows = frame.sample(MOST_ROWS, random_state=seed) if len(frame) > MOST_ROWS else frame
    features = order[:MOST_FEATURES]
    numbers = [name for name in features if name in contract.numeric]
    categories = [name for name in features if name not in numbers]
    found = [*_ranked(rows[numbers]), *_tabled(rows[categories]), *_between(rows[numbers], rows[categories])]
    table = pd.DataFrame(found, columns=["one", "other", "measure", "value"]).dropna()
    return table.sort_values("value", key=abs, ascending=False, kind="stable", ignore_index=True)


def _ranked(numbers: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    matrix = numbers.corr("spearman")
    for one, other in combinations(numbers.columns, 2):
        yield one, other, "Spearman", float(matrix.loc[one, other])


def _tabled(categories: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    for one, other in combinations(categories.columns, 2):
        counts = pd.crosstab(categories[one], categories[other])
        value = association(counts.to_numpy()) if min(counts.shape) > 1 else np.nan
        yield one, other, "Cramér's V", float(value)


def _between(numbers: pd.DataFrame, categories: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    """Correlation ratios of all numbers with each category, over the rows where both are there."""
    for name in categories.columns:
        label = categories[name]
        known = numbers[label.notna()]
        means = known.groupby(label).transform("mean")
        ratio = ((means - known.mean()) ** 2).sum() / ((known - known.mean()) ** 2).sum().replace(0, np.nan)
        for other, value in np.sqrt(ratio).items():
            yield str(other), name, "correlation ratio", float(value)
