"""Data drift between a batch and the reference, as effect sizes corrected for chance.

The measure is that of ``scoring.drift_measure``, here of tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.dataset.missing_patterns import map_columns_by_missing_mask
from modelbook.scoring import drift_measure
from modelbook.scoring.drift_measure import DriftDistance, EffectiveFractions
from modelbook.scoring.drift_reference import compute_table_effective_fraction

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_KS_ROWS = 20_000  # rows per sample in the Kolmogorov-Smirnov test
DRIFT_COLUMNS = [
    "column",
    "method",
    "score",
    "threshold",
    "chance",
    "ks_p",
    "new",
    "missing_reference",
    "missing_batch",
    "relative_drift",
    "drifted",
    "missing_with",
]


def measure_feature_drift(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    contract: Contract,
    *,
    threshold: float,
    missing_rate_change: float,
) -> pd.DataFrame:
    """Measure the drift of each feature, largest first; see ``measure_drift``."""
    reference_features = contract.select_features(reference)
    batch_features = contract.select_features(batch)
    table = measure_drift(
        reference_features,
        batch_features,
        contract.numeric_features,
        threshold=threshold,
        missing_rate_change=missing_rate_change,
        effective_fractions=compute_effective_fractions(reference, batch, contract),
    )
    missing_with = map_columns_by_missing_mask(reference_features, batch_features)
    return table.assign(missing_with=table["column"].map(missing_with)).sort_values(
        "relative_drift", ascending=False, ignore_index=True
    )


def compute_effective_fractions(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> EffectiveFractions:
    """Return the effective sample size per row, of reference and batch."""
    return EffectiveFractions(
        *(compute_table_effective_fraction(table, contract) for table in (reference, batch))
    )


def measure_drift(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    numeric_columns: list[str],
    *,
    threshold: float,
    missing_rate_change: float,
    effective_fractions: EffectiveFractions,
) -> pd.DataFrame:
    """Measure the drift of each column between two tables.

    Parameters
    ----------
    reference, batch : DataFrame
        Tables with the same columns.
    numeric_columns : list of str
        Numeric columns; the others are categorical.
    threshold : float
        Distance at which a column counts as drifted, if chance does not explain it.
    missing_rate_change : float
        Change of the missing rate at which a column counts as drifted, if chance does not
        explain it.

    Returns
    -------
    DataFrame
        Columns ``column, method, score, threshold, chance, ks_p, new, missing_reference,
        missing_batch, relative_drift, drifted``. ``relative_drift`` is the distance or the change
        of the missing rate, divided by its threshold; the larger of the two. The threshold is at
        least what chance explains, and a column whose value is at least 1 has drifted. ``chance``
        is the largest score that chance explains, ``ks_p`` the p-value of the Kolmogorov-Smirnov
        test (for information only), ``new`` the share of values that do not occur in the reference.
        ``score`` is NaN if either table has fewer than ``MIN_VALUES`` values.
    """
    n_tests = drift_measure.count_tests(reference.shape[1])
    thresholds = {"threshold": threshold, "missing_rate_change": missing_rate_change}
    rows = [
        {"column": name}
        | _measure_column(
            reference[name],
            batch[name],
            name in numeric_columns,
            effective_fractions,
            n_tests,
            **thresholds,
        )
        for name in reference.columns
    ]
    return pd.DataFrame(rows, columns=DRIFT_COLUMNS[:-1]).astype({"drifted": bool})


def _measure_column(
    reference: pd.Series,
    batch: pd.Series,
    is_numeric: bool,
    effective_fractions: EffectiveFractions,
    n_tests: int,
    *,
    threshold: float,
    missing_rate_change: float,
) -> dict[str, Any]:
    """Measure the drift of a column; see ``measure_drift``."""
    distance = measure_distance(reference, batch, is_numeric, effective_fractions, n_tests)
    reference_rate, batch_rate, critical_change = measure_share_change(
        reference.isna(), batch.isna(), effective_fractions, n_tests
    )
    relative_drift = drift_measure.compute_relative_drift(
        distance,
        (reference_rate, batch_rate),
        critical_change,
        threshold=threshold,
        missing_rate_change=missing_rate_change,
    )
    return {
        "method": "deciles" if is_numeric else "categories",
        "score": distance.distance,
        "threshold": threshold,
        "chance": distance.critical_distance,
        "ks_p": _compute_ks_p_value(reference, batch) if is_numeric else np.nan,
        "new": 0.0 if is_numeric else _compute_unseen_share(reference, batch),
        "missing_reference": reference_rate,
        "missing_batch": batch_rate,
        "relative_drift": relative_drift,
        "drifted": relative_drift >= drift_measure.RELATIVE_DRIFT_THRESHOLD,
    }


def measure_distance(
    reference: pd.Series,
    batch: pd.Series,
    is_numeric: bool,
    effective_fractions: EffectiveFractions,
    n_tests: int,
) -> DriftDistance:
    """Compute the Jensen-Shannon distance of the non-missing values and its critical value."""
    reference, batch = (_drop_missing(column, is_numeric) for column in (reference, batch))
    counts = (
        _count_by_quantile(reference, batch) if is_numeric else _count_by_category(reference, batch)
    )
    return drift_measure.measure_count_distance(*counts, effective_fractions, n_tests)


def _drop_missing(values: pd.Series, is_numeric: bool) -> pd.Series:
    return values.astype("float64").dropna() if is_numeric else values.dropna()


def _count_by_quantile(reference: pd.Series, batch: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    boundaries = drift_measure.find_bin_boundaries(reference.to_numpy())
    reference_counts, batch_counts = (
        drift_measure.count_by_bin(boundaries, column.to_numpy()) for column in (reference, batch)
    )
    return reference_counts, batch_counts


def _count_by_category(reference: pd.Series, batch: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    reference_counts, batch_counts = reference.value_counts().align(
        batch.value_counts(), fill_value=0
    )
    return reference_counts.to_numpy(), batch_counts.to_numpy()


def measure_share_change(
    reference: pd.Series, batch: pd.Series, effective_fractions: EffectiveFractions, n_tests: int
) -> tuple[float, float, float]:
    """Return the shares of true rows in reference and batch, and the largest change by chance."""
    shares = float(reference.mean()), float(batch.mean())
    rows = len(reference) * effective_fractions.reference, len(batch) * effective_fractions.batch
    return *shares, drift_measure.compute_critical_rate_change(shares, rows, n_tests)


def _compute_unseen_share(reference: pd.Series, batch: pd.Series) -> float:
    """Return the share of non-missing values that do not occur in the reference."""
    values = batch.dropna()
    return float((~values.isin(reference.dropna().unique())).mean()) if len(values) else 0.0


def _compute_ks_p_value(reference: pd.Series, batch: pd.Series) -> float:
    from scipy.stats import ks_2samp

    columns = [_drop_missing(column, True).to_numpy() for column in (reference, batch)]
    if not all(len(column) for column in columns):
        return float("nan")
    reference_sample, batch_sample = (
        column[:: -(-len(column) // MAX_KS_ROWS)] for column in columns
    )
    return float(ks_2samp(reference_sample, batch_sample, method="asymp").pvalue)


def compute_drifted_importance_share(
    drift_table: pd.DataFrame, importance: dict[str, float]
) -> float:
    """Return the importance-weighted share of drifted columns; negative importance counts as 0."""
    weights = drift_table["column"].map(importance).fillna(0).clip(lower=0)
    return (
        float(weights[drift_table["drifted"]].sum() / weights.sum())
        if weights.sum()
        else float(drift_table["drifted"].mean())
    )
