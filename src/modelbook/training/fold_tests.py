"""Tests of fold scores: is a lead more than noise, and how optimistic is the best of several?

Folds share train rows, so their scores are correlated and ``± sd`` is no interval. Differences are
tested by the corrected resampled t-test (Nadeau & Bengio 2003, "Inference for the generalization
error", Machine Learning 52), and the best mean is corrected for the choice of the best
(Tibshirani & Tibshirani 2009, "A bias correction for the minimum error rate in cross-validation",
Annals of Applied Statistics 3).
"""

from __future__ import annotations

import numpy as np

ALPHA = 0.05  # chance of finding a leader where there is none, over all candidates


def p_value_of_gain(gains: np.ndarray) -> float:
    """One-sided p-value that the mean of fold-wise gains is above 0; shape (folds,)."""
    from scipy.stats import t

    n_folds = len(gains)
    if n_folds < 2 or not np.isfinite(gains).all():
        return float("nan")
    mean, variance = float(np.mean(gains)), float(np.var(gains, ddof=1))
    if variance == 0:
        return 0.0 if mean > 0 else 1.0
    test_to_train = 1 / (n_folds - 1)
    statistic = mean / np.sqrt(variance * (1 / n_folds + test_to_train))
    return float(t.sf(statistic, n_folds - 1))


def estimate_selection_bias(scores: np.ndarray) -> float:
    """How much the best mean of several candidates promises too much; at least 0.

    Parameters
    ----------
    scores : ndarray
        Score of each candidate in each fold, larger is better; shape (candidates, folds).
    """
    best = int(np.argmax(scores.mean(axis=1)))
    return float((scores.max(axis=0) - scores[best]).mean())
