"""Data drift between a batch and the reference, as effect sizes corrected for chance.

The effect size is the Jensen-Shannon distance (Lin 1991; Endres & Schindelin 2003; natural
logarithm: 0 for equal, 0.83 for disjoint distributions) of the non-missing values: categories by
value, numbers by decile of the reference. For equal distributions and n and m independent rows,
8 / (1/n + 1/m) times the squared distance is approximately chi-square distributed, with one degree
of freedom less than there are cells (second-order expansion of the divergence). Its expectation is
subtracted, so that distances are comparable across sample sizes, and its quantile is the largest
distance that chance explains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from modelbook.dataset.missing_patterns import find_common_missing

if TYPE_CHECKING:
    from modelbook.contract import Contract

MIN_VALUES = 100  # non-missing values needed in reference and batch
QUANTILE_BINS = 10  # of numeric columns, by quantiles of the reference
MIN_EXPECTED_COUNT = 5  # in the smaller sample; rarer cells are pooled (Cochran 1954)
FAMILY_WISE_ALPHA = 0.01  # false alarm rate per batch, over all columns (Bonferroni)
MAX_KS_ROWS = 20_000  # rows per sample in the Kolmogorov-Smirnov test
DRIFTED_FROM = 1.0  # of ``excess``
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
    "excess",
    "drifted",
    "missing_with",
]


class DriftDistance(NamedTuple):
    """Distance minus its expectation under chance, and its critical value; NaN if not measured."""

    distance: float
    critical_distance: float


NOT_MEASURED = DriftDistance(float("nan"), float("nan"))


class EffectiveRowShares(NamedTuple):
    """Effective sample size per row; below 1 if entities have several, correlated rows."""

    reference: float = 1.0
    batch: float = 1.0


def measure_feature_drift(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    contract: Contract,
    *,
    threshold: float,
    missing_rate_change: float,
) -> pd.DataFrame:
    """Measure the drift of each feature, largest first; see ``measure_drift``."""
    reference_features, batch_features = (
        contract.select_features(reference),
        contract.select_features(batch),
    )
    table = measure_drift(
        reference_features,
        batch_features,
        contract.numeric_features,
        threshold=threshold,
        missing_rate_change=missing_rate_change,
        row_shares=effective_row_shares(reference, batch, contract),
    )
    missing_with = find_common_missing(reference_features, batch_features)
    return table.assign(missing_with=table["column"].map(missing_with)).sort_values(
        "excess", ascending=False, ignore_index=True
    )


def effective_row_shares(
    reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> EffectiveRowShares:
    """Return the effective sample size per row, of reference and batch."""
    return EffectiveRowShares(
        *(_effective_row_share(side, contract) for side in (reference, batch))
    )


def _effective_row_share(rows: pd.DataFrame, contract: Contract) -> float:
    """Kish's (1965) number of entities, as if of one size, per row; unknown ones have one row."""
    if rows.empty or contract.entity not in rows.columns:
        return 1.0
    entities = rows[contract.entity]
    sizes = np.concatenate([entities.value_counts(), np.ones(entities.isna().sum())])
    return float(sizes.sum() / (sizes**2).sum())


def measure_drift(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    numeric_columns: list[str],
    *,
    threshold: float,
    missing_rate_change: float,
    row_shares: EffectiveRowShares,
) -> pd.DataFrame:
    """Measure the drift of each column between two tables.

    Parameters
    ----------
    reference, batch : DataFrame
        Tables with the same columns.
    numeric_columns : list of str
        Numeric columns; the others are categorical.
    threshold : float
        Distance from which a column counts as drifted, if chance does not explain it.
    missing_rate_change : float
        Change of the missing rate from which a column counts as drifted, if chance does not
        explain it.

    Returns
    -------
    DataFrame
        Columns ``column, method, score, threshold, chance, ks_p, new, missing_reference,
        missing_batch, excess, drifted``. ``excess`` is the one scale of drift: how many times its
        threshold the distance or the change of the missing rate is, whichever is more, where the
        threshold is at least what chance explains; a column has drifted from 1 on. ``chance`` is
        the largest score that chance explains, ``ks_p`` the p-value of the Kolmogorov-Smirnov test
        (for information only), ``new`` the share of values that do not occur in the reference.
        ``score`` is NaN if either table has fewer than ``MIN_VALUES`` values.
    """
    rows, test_count = [], 2 * max(1, reference.shape[1])
    for name in reference.columns:
        reference_values, batch_values, is_numeric = (
            reference[name],
            batch[name],
            name in numeric_columns,
        )
        drift_distance = measure_distance(
            reference_values, batch_values, is_numeric, row_shares, test_count
        )
        reference_rate, batch_rate, critical_change = measure_share_change(
            reference_values.isna(), batch_values.isna(), row_shares, test_count
        )
        excess = np.fmax(
            drift_distance.distance / np.fmax(threshold, drift_distance.critical_distance),
            abs(batch_rate - reference_rate) / max(missing_rate_change, critical_change),
        )
        rows.append(
            (
                name,
                "tenths" if is_numeric else "categories",
                *drift_distance[:1],
                threshold,
                *drift_distance[1:],
                _ks_p_value(reference_values, batch_values) if is_numeric else np.nan,
                0.0 if is_numeric else _unseen_share(reference_values, batch_values),
                reference_rate,
                batch_rate,
                excess,
                bool(excess >= DRIFTED_FROM),
            )
        )
    return pd.DataFrame(rows, columns=DRIFT_COLUMNS[:-1]).astype({"drifted": bool})


def measure_distance(
    reference: pd.Series,
    batch: pd.Series,
    is_numeric: bool,
    row_shares: EffectiveRowShares,
    test_count: int,
) -> DriftDistance:
    """Compute the Jensen-Shannon distance of the non-missing values and its critical value."""
    from scipy.stats import chi2

    reference, batch = (_drop_missing(side, is_numeric) for side in (reference, batch))
    if min(len(reference), len(batch)) < MIN_VALUES:
        return NOT_MEASURED
    reference_counts, batch_counts = (
        _count_by_quantile(reference, batch) if is_numeric else _count_by_category(reference, batch)
    )
    reference_counts, batch_counts = _pool_rare_cells(reference_counts, batch_counts)
    divergence = _jensen_shannon_divergence(
        reference_counts / reference_counts.sum(), batch_counts / batch_counts.sum()
    )
    scale = (1 / (len(reference) * row_shares.reference) + 1 / (len(batch) * row_shares.batch)) / 8
    expected_divergence, critical_divergence = (
        scale * (len(reference_counts) - 1),
        scale * chi2.isf(FAMILY_WISE_ALPHA / test_count, max(len(reference_counts) - 1, 1)),
    )
    return DriftDistance(
        float(np.sqrt(max(0.0, divergence - expected_divergence))),
        float(np.sqrt(max(0.0, critical_divergence - expected_divergence))),
    )


def _drop_missing(values: pd.Series, is_numeric: bool) -> pd.Series:
    return values.astype("float64").dropna() if is_numeric else values.dropna()


def _count_by_quantile(reference: pd.Series, batch: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Count values per quantile bin of the reference; repeated quantiles get their own bin."""
    edges, edge_counts = np.unique(
        np.quantile(reference, np.linspace(0, 1, QUANTILE_BINS + 1), method="lower"),
        return_counts=True,
    )
    repeated_edges = edges[edge_counts > 1]
    boundaries = np.union1d(
        edges[1:-1] if len(edges) > 2 else edges,
        np.concatenate([repeated_edges, np.nextafter(repeated_edges, -np.inf)]),
    )
    reference_counts, batch_counts = (
        np.bincount(np.searchsorted(boundaries, side), minlength=len(boundaries) + 1)
        for side in (reference, batch)
    )
    return reference_counts, batch_counts


def _count_by_category(reference: pd.Series, batch: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    reference_counts, batch_counts = reference.value_counts().align(
        batch.value_counts(), fill_value=0
    )
    return reference_counts.to_numpy(), batch_counts.to_numpy()


def _pool_rare_cells(
    reference_counts: np.ndarray, batch_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool rare cells into one."""
    total_counts = reference_counts + batch_counts
    is_rare = (
        total_counts * min(reference_counts.sum(), batch_counts.sum())
        < MIN_EXPECTED_COUNT * total_counts.sum()
    )
    if not is_rare.any():
        return reference_counts, batch_counts
    pooled_reference, pooled_batch = (
        np.append(side[~is_rare], side[is_rare].sum()) for side in (reference_counts, batch_counts)
    )
    is_filled = (pooled_reference + pooled_batch) > 0
    return pooled_reference[is_filled], pooled_batch[is_filled]


def _jensen_shannon_divergence(p: np.ndarray, q: np.ndarray) -> float:
    from scipy.special import rel_entr

    mixture = (p + q) / 2
    return float((rel_entr(p, mixture).sum() + rel_entr(q, mixture).sum()) / 2)


def measure_share_change(
    reference: pd.Series, batch: pd.Series, row_shares: EffectiveRowShares, test_count: int
) -> tuple[float, float, float]:
    """Return the shares of true rows in reference and batch, and the largest change by chance."""
    from scipy.stats import norm

    shares = float(reference.mean()), float(batch.mean())
    if reference.empty or batch.empty:
        return *shares, float("inf")
    rows = len(reference) * row_shares.reference, len(batch) * row_shares.batch
    pooled = np.average(shares, weights=rows)
    variance = pooled * (1 - pooled) * (1 / rows[0] + 1 / rows[1])
    return *shares, float(norm.isf(FAMILY_WISE_ALPHA / test_count / 2) * np.sqrt(variance))


def _unseen_share(reference: pd.Series, batch: pd.Series) -> float:
    """Return the share of non-missing values that do not occur in the reference."""
    values = batch.dropna()
    return float((~values.isin(reference.dropna().unique())).mean()) if len(values) else 0.0


def _ks_p_value(reference: pd.Series, batch: pd.Series) -> float:
    from scipy.stats import ks_2samp

    sides = [_drop_missing(side, True).to_numpy() for side in (reference, batch)]
    if not all(len(side) for side in sides):
        return float("nan")
    reference_sample, batch_sample = (side[:: -(-len(side) // MAX_KS_ROWS)] for side in sides)
    return float(ks_2samp(reference_sample, batch_sample, method="asymp").pvalue)


def drifted_importance_share(drift_table: pd.DataFrame, importance: dict[str, float]) -> float:
    """Return the importance-weighted share of drifted columns; negative importance counts as 0."""
    weights = drift_table["column"].map(importance).fillna(0).clip(lower=0)
    return (
        float(weights[drift_table["drifted"]].sum() / weights.sum())
        if weights.sum()
        else float(drift_table["drifted"].mean())
    )
