"""Confidence sequence: intervals for a mean that are valid at all sample sizes simultaneously.

The asymptotic sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), “Time-uniform
central limit theory and asymptotic confidence sequences”, Annals of Statistics 52(6): Robbins'
normal mixture with a running variance estimate. With any number of evaluations and any stopping
rule, the probability that one of the intervals misses the mean is about ``alpha``. The intervals
are about 1.6 times as wide as those for a single evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def confidence_sequence_halfwidth(
    observations: Any, standard_deviation: Any, *, alpha: float, optimal_observations: float
) -> np.ndarray:
    """Return half the width of the interval; infinite while the deviation is undefined.

    Parameters
    ----------
    observations, standard_deviation : float or ndarray
        Number of observations so far, and the standard deviation of one observation.
    alpha : float
        Probability that any of the intervals misses the mean.
    optimal_observations : float
        Sample size at which the sequence is tightest; fixed before data collection.
    """
    level = -2 * np.log(alpha)
    mixture = (level + np.log(level) + 1) / optimal_observations  # the paper's ρ²
    observations = np.maximum(observations, 1)
    growth = observations * mixture + 1
    halfwidth = standard_deviation * np.sqrt(
        2 * growth / (observations**2 * mixture) * np.log(np.sqrt(growth) / alpha)
    )
    return np.where(np.isfinite(halfwidth), halfwidth, np.inf)
