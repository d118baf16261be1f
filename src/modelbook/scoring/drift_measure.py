"""Drift of counts: the one measure of monitor, of Evidently's report and of the service.

The effect size is the Jensen-Shannon distance (Lin 1991; Endres & Schindelin 2003; natural
logarithm: 0 for equal, 0.83 for disjoint distributions) of the non-missing values: categories by
value, numbers by decile of the reference. For equal distributions and n and m independent rows,
8 / (1/n + 1/m) times the squared distance is approximately chi-square distributed, with one degree
of freedom less than there are cells (second-order expansion of the divergence). Its expectation is
subtracted, so that distances are comparable across sample sizes, and its quantile is the largest
distance that chance explains.

The service imports this module, so it uses NumPy alone; SciPy is imported at the first measurement.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 100  # non-missing values needed in reference and batch
QUANTILE_BINS = 10  # bins of a numeric column, by quantiles of the reference
MIN_EXPECTED_COUNT = 5  # minimum in the smaller sample; rarer cells are pooled (Cochran 1954)
FAMILY_WISE_ALPHA = 0.01  # false alarm rate per batch, over all columns (Bonferroni)
RELATIVE_DRIFT_THRESHOLD = 1.0  # minimum of ``compute_relative_drift`` for drift
MIN_STRATUM_ROWS = 50  # minimum of reference rows in each stratum that is matched
MAX_UNMATCHED_SHARE = 0.02  # maximum share of batch rows in strata that the reference hardly has
Counts = NDArray[np.float64] | NDArray[np.int64]


class DriftDistance(NamedTuple):
    """Distance minus its expectation under chance, and its critical value; NaN if not measured."""

    distance: float
    critical_distance: float


NOT_MEASURED = DriftDistance(float("nan"), float("nan"))


class EffectiveFractions(NamedTuple):
    """Effective sample size per row; below 1 if entities have several, correlated rows."""

    reference: float = 1.0
    batch: float = 1.0


def compute_effective_fraction(entity_sizes: Counts) -> float:
    """Kish's (1965) number of entities, as if of one size, per row, from the rows of each."""
    sizes = np.asarray(entity_sizes, dtype=float)
    return float(sizes.sum() / (sizes**2).sum()) if sizes.size else 1.0


def find_bin_boundaries(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the boundaries of the quantile bins; repeated quantiles get their own bin."""
    if not values.size:
        return np.empty(0)
    edges, edge_counts = np.unique(
        np.quantile(values, np.linspace(0, 1, QUANTILE_BINS + 1), method="lower"),
        return_counts=True,
    )
    repeated_edges = edges[edge_counts > 1]
    return np.union1d(
        edges[1:-1] if len(edges) > 2 else edges,
        np.concatenate([repeated_edges, np.nextafter(repeated_edges, -np.inf)]),
    )


def count_by_bin(boundaries: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the values in each bin."""
    return np.bincount(np.searchsorted(boundaries, values), minlength=len(boundaries) + 1)


def count_tests(n_columns: int) -> int:
    """The number of tests of a batch: a distance and a missing rate for each column."""
    return 2 * max(1, n_columns)


def measure_count_distance(
    reference_counts: Counts,
    batch_counts: Counts,
    effective_fractions: EffectiveFractions,
    n_tests: float,
) -> DriftDistance:
    """Compute the Jensen-Shannon distance of counts by bin, and its critical value."""
    from scipy.special import chdtri

    n_reference, n_batch = reference_counts.sum(), batch_counts.sum()
    if min(n_reference, n_batch) < MIN_VALUES:
        return NOT_MEASURED
    reference_counts, batch_counts = _pool_rare_bins(reference_counts, batch_counts)
    divergence = _compute_jensen_shannon_divergence(
        reference_counts / reference_counts.sum(), batch_counts / batch_counts.sum()
    )
    scale = (
        1 / (n_reference * effective_fractions.reference)
        + 1 / (n_batch * effective_fractions.batch)
    ) / 8
    freedom = len(reference_counts) - 1
    expected_divergence = scale * freedom
    critical_divergence = scale * chdtri(max(freedom, 1), FAMILY_WISE_ALPHA / n_tests)
    return DriftDistance(
        float(np.sqrt(max(0.0, divergence - expected_divergence))),
        float(np.sqrt(max(0.0, critical_divergence - expected_divergence))),
    )


def _pool_rare_bins(reference_counts: Counts, batch_counts: Counts) -> tuple[Counts, Counts]:
    """Pool rare bins into one."""
    total_counts = reference_counts + batch_counts
    is_rare = (
        total_counts * min(reference_counts.sum(), batch_counts.sum())
        < MIN_EXPECTED_COUNT * total_counts.sum()
    )
    if not is_rare.any():
        return reference_counts, batch_counts
    pooled_reference, pooled_batch = (
        np.append(counts[~is_rare], counts[is_rare].sum())
        for counts in (reference_counts, batch_counts)
    )
    is_filled = (pooled_reference + pooled_batch) > 0
    return pooled_reference[is_filled], pooled_batch[is_filled]


def _compute_jensen_shannon_divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    from scipy.special import rel_entr

    mixture = (p + q) / 2
    return float((rel_entr(p, mixture).sum() + rel_entr(q, mixture).sum()) / 2)


def compute_critical_rate_change(
    shares: tuple[float, float], effective_rows: tuple[float, float], n_tests: float
) -> float:
    """Return the largest change of a share of rows that chance explains."""
    from scipy.special import ndtri

    if not all(effective_rows):
        return float("inf")
    pooled = np.average(shares, weights=effective_rows)
    variance = pooled * (1 - pooled) * (1 / effective_rows[0] + 1 / effective_rows[1])
    return float(-ndtri(FAMILY_WISE_ALPHA / n_tests / 2) * np.sqrt(variance))


def compute_relative_drift(
    distance: DriftDistance,
    missing_rates: tuple[float, float],
    critical_change: float,
    *,
    threshold: float,
    missing_rate_change: float,
) -> float:
    """Return the drift in multiples of its threshold; a column has drifted from 1 on.

    It is the larger of the distance and the change of the missing rate, each divided by its
    threshold or, if that is larger, by what chance explains.
    """
    return float(
        np.fmax(
            distance.distance / np.fmax(threshold, distance.critical_distance),
            abs(missing_rates[1] - missing_rates[0]) / max(missing_rate_change, critical_change),
        )
    )


def has_same_distribution(
    distance: DriftDistance, n_values: tuple[int, int], threshold: float
) -> bool:
    """Whether values have neither drifted nor become constant; False if not measured.

    ``n_values`` are the numbers of distinct values in reference and batch.
    """
    became_constant = n_values[1] < min(2, n_values[0])
    is_close = distance.distance < np.fmax(threshold, distance.critical_distance)
    return bool(is_close) and not became_constant


def is_expected_mix_change(
    shares: tuple[float, float], latest_share: float, critical_change: float, minimum: float
) -> bool:
    """Whether the share of rows that miss some columns changed significantly, as expected.

    Expected are fewer such rows than in the reference, or as many as in its latest period.
    """
    before, now = shares
    is_expected = now < before or abs(now - latest_share) < minimum
    return is_expected and abs(now - before) >= max(minimum, critical_change)


def count_rows_to_match(
    available: NDArray[np.int64], required: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return how many reference rows of each stratum give the batch's mix; None if impossible.

    Parameters
    ----------
    available, required : ndarray
        Rows of each stratum in reference and batch.
    """
    is_rare = available < MIN_STRATUM_ROWS
    if required[is_rare].sum() > MAX_UNMATCHED_SHARE * required.sum():
        return None
    shares = np.where(is_rare, 0, required) / max(1, required[~is_rare].sum())
    is_required = shares > 0
    if not is_required.any():
        return None
    scale = (available[is_required] / shares[is_required]).min()
    return np.minimum(available, np.rint(scale * shares)).astype(np.int64)
