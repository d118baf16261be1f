"""Metrics of weighted rows: what all tasks measure by, for one weighting of the rows or for many at once.

A weight has shape (rows,) or (resamples, rows), and what is found has shape () or (resamples,): the bootstrap asks for
a thousand weightings, and most of what a metric does is the same for each. Where nothing has weight, or but one class
has, there is no value: NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]  # of outcome, score and weight


def mean(values: np.ndarray, weight: np.ndarray) -> Any:
    """The weighted mean of values, shape (rows,)."""
    return ratio(weight @ values, weight.sum(axis=-1))


def ratio(over: Any, under: Any) -> Any:
    """A quotient; NaN where there is nothing to divide by."""
    return np.divide(over, under, out=np.full(np.shape(under), np.nan), where=np.not_equal(under, 0))[()]


def auc(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """ROC AUC: the share of the pairs of a positive and another row that the score ranks right, ties counted half."""
    yes, no = _by_score(positive, score, weight)
    right = (yes * (no.cumsum(axis=-1) - no / 2)).sum(axis=-1)
    return ratio(right, yes.sum(axis=-1) * no.sum(axis=-1))


def average_precision(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Precision at each score, weighted by the recall that it adds (as scikit-learn's ``average_precision_score``)."""
    yes, no = (side[..., ::-1] for side in _by_score(positive, score, weight))
    found = yes.cumsum(axis=-1)
    precision = np.nan_to_num(ratio(found, found + no.cumsum(axis=-1)))
    return ratio((yes * precision).sum(axis=-1), yes.sum(axis=-1))


def _by_score(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """Weight of the positive and of the other rows at each score, lowest first; shape (..., scores)."""
    if np.isnan(score).any():
        raise ValueError("a score is not a number")  # sorting would rank it above all others
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ranked, there = weight[..., order], positive[order].astype(bool)
    return [np.add.reduceat(ranked * side, starts, axis=-1) for side in (there, ~there)]
