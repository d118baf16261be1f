"""Weighted metrics shared by all tasks, vectorised over resamples.

Weights have shape (rows,) or (resamples, rows), and results shape () or (resamples,), because most
of a metric's work is the same for each resample. A result that is undefined is NaN: without any
weight, or, for ROC AUC, with weight in one class only. Precision is then 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MetricFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]  # outcome, score, weight


def weighted_mean(values: np.ndarray, weight: np.ndarray) -> Any:
    """Weighted mean of values of shape (rows,)."""
    return safe_divide(weight @ values, weight.sum(axis=-1))


@dataclass(frozen=True)
class Precision:
    """Precision of two classes at a threshold; 0 if no row is flagged, as scikit-learn has it."""

    threshold: float

    def __call__(self, outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        is_flagged = score >= self.threshold
        return np.nan_to_num(weighted_mean(outcome == 1, weight * is_flagged))

    def count_entities(self, score: np.ndarray, entity: np.ndarray) -> int:
        """Entities of the rows that are flagged."""
        return len(np.unique(entity[score >= self.threshold]))


def safe_divide(numerator: Any, denominator: Any) -> Any:
    """Element-wise quotient; NaN where the denominator is 0."""
    return np.divide(
        numerator,
        denominator,
        out=np.full(np.shape(denominator), np.nan),
        where=np.not_equal(denominator, 0),
    )[()]


def binary_roc_auc(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """ROC AUC: share of positive-negative pairs ranked correctly; ties count half."""
    positive_weight, negative_weight = class_weights_by_score(positive, score, weight)
    concordant_pairs = (
        positive_weight * (negative_weight.cumsum(axis=-1) - negative_weight / 2)
    ).sum(axis=-1)
    return safe_divide(
        concordant_pairs, positive_weight.sum(axis=-1) * negative_weight.sum(axis=-1)
    )


def average_precision(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Average precision, as scikit-learn's ``average_precision_score``."""
    positive_weight, negative_weight = (
        class_weight[..., ::-1] for class_weight in class_weights_by_score(positive, score, weight)
    )
    true_positives = positive_weight.cumsum(axis=-1)
    precision = np.nan_to_num(
        safe_divide(true_positives, true_positives + negative_weight.cumsum(axis=-1))
    )
    return safe_divide((positive_weight * precision).sum(axis=-1), positive_weight.sum(axis=-1))


def class_weights_by_score(
    positive: np.ndarray, score: np.ndarray, weight: np.ndarray
) -> list[np.ndarray]:
    """Weights of positives and negatives by distinct score, ascending; shape (..., scores)."""
    if np.isnan(score).any():
        raise ValueError("a score is not a number")  # sorting would rank NaN first
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    ranked_weight = weight[..., order]
    is_positive = positive[order].astype(bool)
    return [
        np.add.reduceat(ranked_weight * class_mask, starts, axis=-1)
        for class_mask in (is_positive, ~is_positive)
    ]
