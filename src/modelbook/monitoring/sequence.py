"""A confidence sequence: intervals for a mean, one for each look, that hold all together.

The asymptotic one of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), “Time-uniform central limit theory and
asymptotic confidence sequences”, Annals of Statistics 52(6): Robbins' normal mixture with the variance estimated
as data come. However often one looks, and whenever one stops, the chance that any of the intervals misses
the mean is about ``alpha``. The price is their width: some 1.6 times that of intervals
for one look.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def reach(count: Any, spread: Any, *, alpha: float, tightest: float) -> np.ndarray:
    """Half the width of the interval after ``count`` observations; infinite before there is a spread.

    Parameters
    ----------
    count, spread : float or ndarray
        Observations so far, and the standard deviation of one.
    alpha : float
        Chance that any of the intervals misses the mean.
    tightest : float
        The count at which the sequence is tightest; chosen before there are data (the paper's appendix on it).
    """
    level = -2 * np.log(alpha)
    mixture = (level + np.log(level) + 1) / tightest  # the paper's ρ²
    count = np.maximum(count, 1)
    grown = count * mixture + 1
    half = spread * np.sqrt(2 * grown / (count**2 * mixture) * np.log(np.sqrt(grown) / alpha))
    return np.where(np.isfinite(half), half, np.inf)
