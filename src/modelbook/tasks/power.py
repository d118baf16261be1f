"""Power: the effect that the rows of a 95% interval could detect, by a normal approximation."""

from __future__ import annotations

from statistics import NormalDist

ALPHA, POWER = 0.05, 0.8  # significance level of the intervals; power that a comparison should have
NORMAL = NormalDist()


def critical_value(n_intervals: int = 1) -> float:
    """Half-width in standard errors of intervals of which ``n_intervals`` together miss in 5%."""
    return NORMAL.inv_cdf(1 - ALPHA / 2 / n_intervals)


CRITICAL = critical_value()


def standard_error(low: float, high: float) -> float:
    """The standard error of a 95% interval."""
    return (high - low) / 2 / CRITICAL


def compute_detectable_difference(error: float, n_intervals: int = 1) -> float:
    """The true difference that an interval of this standard error shows with ``POWER``."""
    return (critical_value(n_intervals) + NORMAL.inv_cdf(POWER)) * error
