"""Pairwise association of features, whatever their types."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats.contingency import association

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_FEATURES = 60  # features compared in pairs
MAX_ROWS = 20_000
MIN_REDUNDANT = 0.8  # absolute value from which a feature nearly determines another
MIN_ROWS_PER_VALUE = 30  # with fewer, a number may separate two values by chance


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
    numeric_names = [name for name in features if name in contract.numeric_features]
    categorical_names = [name for name in features if name not in numeric_names]
    numeric, categorical = rows[numeric_names], rows[categorical_names]
    pairs = [
        *_compute_rank_correlations(numeric),
        *_compute_cramers_v(categorical),
        *_compute_correlation_ratios(numeric, categorical),
    ]
    table = pd.DataFrame(pairs, columns=["feature_a", "feature_b", "measure", "value"]).dropna()
    return table.sort_values("value", key=abs, ascending=False, kind="stable", ignore_index=True)


def list_proxies(
    correlations: pd.DataFrame, frame: pd.DataFrame, contract: Contract
) -> list[dict[str, Any]]:
    """List which feature determines which other one, or nearly so, strongest first.

    A category determines a number (correlation ratio). Of two features of one kind, that with fewer
    values does not determine the other. How far a number determines one of two values is measured
    by the rank-biserial correlation, because Spearman's stays below 1 even where a bound of the
    number separates both values (Glass 1966).

    Parameters
    ----------
    correlations : pandas.DataFrame
        Of ``correlate_features`` with the rows ``frame``.

    Returns
    -------
    list of dict
        ``feature``, ``proxy`` (which determines it), ``measure`` and ``value``.
    """
    n_values = frame.nunique()
    rows = []
    for pair in correlations.itertuples():
        for feature, other in ((pair.feature_a, pair.feature_b), (pair.feature_b, pair.feature_a)):
            measure = pair.measure
            value = float(pair.value)
            is_determined = (
                feature in contract.numeric_features
                if measure == "correlation ratio"
                else n_values[feature] <= n_values[other]
            )
            if measure == "Spearman" and n_values[feature] == 2 < n_values[other]:
                measure = "rank-biserial correlation"
                value = _compute_rank_biserial_correlation(frame[feature], frame[other])
            if is_determined and abs(value) >= MIN_REDUNDANT:
                names = {"feature": feature, "proxy": other, "measure": measure}
                rows.append({**names, "value": value})
    return sorted(rows, key=lambda row: -abs(row["value"]))


def _compute_rank_biserial_correlation(binary: pd.Series, number: pd.Series) -> float:
    """Twice the ROC AUC of a number for the larger of two values, minus 1; over complete rows.

    0 where one of the two has too few rows.
    """
    is_complete = binary.notna() & number.notna()
    ranks = number[is_complete].astype(float).rank()
    is_larger = binary[is_complete] == binary.max()
    if min(is_larger.sum(), (~is_larger).sum()) < MIN_ROWS_PER_VALUE:
        return 0.0
    difference = ranks[is_larger].mean() - ranks[~is_larger].mean()
    return float(2 * difference / len(ranks))


def _compute_rank_correlations(numeric: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    matrix = numeric.corr("spearman")
    for first_feature, second_feature in combinations(numeric.columns, 2):
        value = float(matrix.loc[first_feature, second_feature])
        yield first_feature, second_feature, "Spearman", value


def _compute_cramers_v(categorical: pd.DataFrame) -> Iterator[tuple[str, str, str, float]]:
    for first_feature, second_feature in combinations(categorical.columns, 2):
        counts = pd.crosstab(categorical[first_feature], categorical[second_feature])
        value = association(counts.to_numpy()) if min(counts.shape) > 1 else np.nan
        yield first_feature, second_feature, "Cramér's V", float(value)


def _compute_correlation_ratios(
    numeric: pd.DataFrame, categorical: pd.DataFrame
) -> Iterator[tuple[str, str, str, float]]:
    """Correlation ratio of each numeric with each categorical feature, over complete rows."""
    for name in categorical.columns:
        category = categorical[name]
        values = numeric[category.notna()]
        # The transform fills rows whose value is missing, too; they do not count in the variance.
        means = values.groupby(category).transform("mean").where(values.notna())
        ratio = ((means - values.mean()) ** 2).sum() / (
            (values - values.mean()) ** 2
        ).sum().replace(0, np.nan)
        for feature, value in np.sqrt(ratio).items():
            yield str(feature), name, "correlation ratio", float(value)
