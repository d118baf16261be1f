"""Tests of a metric's values in the folds: is a lead noise, and how optimistic is the best?

Folds share train rows, so their values are correlated and ``± sd`` is not an interval. Differences
are tested by the corrected resampled t-test (Nadeau & Bengio 2003, "Inference for the
generalization error", Machine Learning 52). The mean of the choice is corrected by choosing again
without each fold, which then scores the choice: the outer loop of nested cross-validation (Stone
1974, "Cross-validatory choice and assessment of statistical predictions", JRSS B 36; Varma & Simon
2006, "Bias in error estimation when using cross-validation for model selection", BMC Bioinformatics
7). Errors that folds have in common, because they share rows, do not show in it, so the correction
is widened by the factor that Nadeau and Bengio find for a standard error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ALPHA = 0.05  # probability of a leader in noise, over all candidates


def compute_gain_p_value(gains: np.ndarray) -> float:
    """One-sided p-value that the mean of fold-wise gains is above 0; shape (folds,)."""
    from scipy.stats import t

    n_folds = len(gains)
    if n_folds < 2 or not np.isfinite(gains).all():
        return float("nan")
    mean = float(np.mean(gains))
    variance = float(np.var(gains, ddof=1))
    if variance == 0:
        return 0.0 if mean > 0 else 1.0
    statistic = mean / (np.sqrt(variance / n_folds) * _compute_shared_rows_factor(n_folds))
    return float(t.sf(statistic, n_folds - 1))


def _compute_shared_rows_factor(n_folds: int) -> float:
    """Standard error of a mean over folds, as a multiple of that of independent folds.

    The variance is the sum of the ratio of test to train rows, ``1 / (n_folds - 1)``, and ``1 /
    n_folds``.
    """
    return float(np.sqrt(1 + n_folds / (n_folds - 1)))


def choose_best(values: np.ndarray) -> int:
    """Position of the best mean; ``values`` has shape (alternatives, folds)."""
    return int(np.argmax(values.mean(axis=1)))


def estimate_optimism(
    values: np.ndarray, choose: Callable[[np.ndarray], int] = choose_best
) -> float:
    """Optimism of the mean of the chosen alternative; at least 0.

    Parameters
    ----------
    values : ndarray
        Metric of each alternative in each fold, larger is better; shape (alternatives, folds).
    choose : callable
        Takes values, returns the position of the alternative that is chosen.

    Returns
    -------
    float
        NaN with fewer than two folds in which each alternative has a value.
    """
    values = values[:, np.isfinite(values).all(axis=0)]
    n_folds = values.shape[1]
    if n_folds < 2:
        return float("nan")
    nested = [values[choose(np.delete(values, fold, axis=1)), fold] for fold in range(n_folds)]
    optimism = values[choose(values)].mean() - np.mean(nested)
    return max(0.0, float(optimism) * _compute_shared_rows_factor(n_folds))
