"""Pairwise association of features, whatever their types."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats.contingency import association

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_FEATURES = 60  # features compared in pairs
MAX_ROWS = 20_000


def correlate_features(
    frame: pd.DataFrame, contract: Contract, ordered_features: list[str]
) -> pd.DataFrame:
    """Measure the association of each pair of features, strongest first.

    Two numeric features: Spearman's rank correlation, signed. Two categorical features: Cramér's V.
    One of each: the correlation ratio, i.e. the square root of the share of the numeric feature's
    variance between the categories.

    Parameters
    ----------
    ordered_features : list of str
        Features, most important first; the first 60 are compared, on at most 20,000 sampled rows.

    Returns
    -------
    DataFrame
        Columns ``feature_a, feature_b, measure, value``, with ``value`` from -1 to 1. Pairs for
        which the measure is undefined are omitted.
    """
    rows = frame.sample(MAX_ROWS, random_state=0) if len(frame) > MAX_ROWS else frame
    features = ordered_features[:MAX_FEATURES]
    numbers = [name for name in features if name in contract.numeric_features]
    categories = [name for name in features if name not in numbers]
    pairs = [
        *_rank_correlations(rows[numbers]),
        *_compute_cramers_v(rows[categories]),
        *_compute_correlation_ratios(rows[numbers], rows[categories]),
    ]
    table = pd.DataFrame(pairs, columns=["feature_a", "feature_b", "measure", "value"]).dropna()
    return table.sort_values("value", key=abs, ascending=False, kind="stable", ignore_index=True)


def _rank_correlations(numbers: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    matrix = numbers.corr("spearman")
    for first_feature, second_feature in combinations(numbers.columns, 2):
        yield (
            first_feature,
            second_feature,
            "Spearman",
            float(matrix.loc[first_feature, second_feature]),
        )


def _compute_cramers_v(categories: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    for first_feature, second_feature in combinations(categories.columns, 2):
        counts = pd.crosstab(categories[first_feature], categories[second_feature])
        value = association(counts.to_numpy()) if min(counts.shape) > 1 else np.nan
        yield first_feature, second_feature, "Cramér's V", float(value)


def _compute_correlation_ratios(
    numbers: pd.DataFrame, categories: pd.DataFrame
) -> Iterator[tuple[str, str, str, float]]:
    """Correlation ratio of each numeric with each categorical feature, over complete rows."""
    for name in categories.columns:
        category = categories[name]
        labelled_numbers = numbers[category.notna()]
        means = labelled_numbers.groupby(category).transform("mean")
        ratio = ((means - labelled_numbers.mean()) ** 2).sum() / (
            (labelled_numbers - labelled_numbers.mean()) ** 2
        ).sum().replace(0, np.nan)
        for feature, value in np.sqrt(ratio).items():
            yield str(feature), name, "correlation ratio", float(value)
