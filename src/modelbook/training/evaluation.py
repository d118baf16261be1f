"""Honest evaluation: metrics with intervals that resample entities, beside the baseline, and by slice.

Intervals are 95 % percentile intervals of a cluster bootstrap (Field & Welsh 2007, "Bootstrapping clustered data"):
whole entities are drawn with replacement, so that rows of one entity do not count as independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

LEVEL = 0.95
EPSILON = 1e-15  # keeps the logarithm of a certain, wrong answer finite

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Scored:
    """Rows that a model has answered: outcome (0, 1), score (probability of 1), entity; all of one length."""

    outcome: np.ndarray
    score: np.ndarray
    entity: np.ndarray

    @classmethod
    def of(cls, outcome: pd.Series, score: Any, entity: pd.Series) -> Scored:
        return cls(np.asarray(outcome, dtype=int), np.asarray(score, dtype=float), np.asarray(entity))

    def where(self, kept: Any) -> Scored:
        """The rows for which ``kept`` is true."""
        kept = np.asarray(kept, dtype=bool)
        return Scored(self.outcome[kept], self.score[kept], self.entity[kept])

    def baseline(self) -> Scored:
        """The same rows, answered by the base rate."""
        return Scored(self.outcome, np.full(len(self), self.outcome.mean()), self.entity)

    def __len__(self) -> int:
        return len(self.outcome)


def roc_auc(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    return float(sk.roc_auc_score(outcome, score, sample_weight=weight))


def pr_auc(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    if not weight[outcome == 1].any():  # scikit-learn answers 0 for a resample without positives
        return np.nan
    return float(sk.average_precision_score(outcome, score, sample_weight=weight))


def log_loss(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    return float(sk.log_loss(outcome, np.clip(score, EPSILON, 1 - EPSILON), sample_weight=weight))


def brier(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average((score - outcome) ** 2, weights=weight))


def calibration_error(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """Mean predicted minus observed rate: how far the probabilities are off on the whole; 0 is right."""
    return round(float(np.average(score - outcome, weights=weight)), 12)  # no 6e-18 where it is 0


METRICS: dict[str, Metric] = {
    "roc_auc": roc_auc, "pr_auc": pr_auc, "log_loss": log_loss, "brier": brier, "calibration_error": calibration_error,
}  # fmt: skip
LABELS = {
    "roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier score",
    "calibration_error": "mean predicted minus observed", "flagged": "flagged share",
}  # fmt: skip
HIGHER_IS_BETTER = {"roc_auc": True, "pr_auc": True, "log_loss": False, "brier": False}


def weights(entity: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each row counts in each resample of entities; shape (resamples, rows)."""
    _, position = np.unique(entity, return_inverse=True)
    count = position.max() + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, position].astype(np.int32)


def interval(statistic: Callable[[np.ndarray], float], drawn: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of row weights; NaN where too few resamples have a value."""
    values = np.array([_or_nan(statistic, weight) for weight in drawn])
    values = values[np.isfinite(values)]
    if len(values) == 0 or len(values) < len(drawn) / 2:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def evaluate(scored: Scored, threshold: float, *, resamples: int, seed: int) -> pd.DataFrame:
    """Every metric with its interval, beside the same metric of the baseline that answers the base rate to all.

    Returns
    -------
    DataFrame
        Columns ``metric, value, low, high, baseline``; classification metrics are at the threshold.
    """
    drawn = weights(scored.entity, resamples, seed)
    base = scored.baseline().score
    rows = []
    for name, metric in {**METRICS, **at_threshold(threshold)}.items():
        low, high = interval(partial(metric, scored.outcome, scored.score), drawn)
        everywhere = np.ones(len(scored))
        rows.append(
            (
                name,
                metric(scored.outcome, scored.score, everywhere),
                low,
                high,
                metric(scored.outcome, base, everywhere),
            )
        )
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "baseline"])


def rate(outcome: np.ndarray, weight: np.ndarray) -> float:
    """Share of positives."""
    return float(np.average(outcome, weights=weight))


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """A table with a column ``metric``, the metrics' names for people in it."""
    return table.assign(metric=table["metric"].map(lambda name: LABELS.get(name, name)))


def at_threshold(threshold: float) -> dict[str, Metric]:
    """Recall, precision and flagged share of the answers at a threshold."""

    def recall(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        return float(np.average(score >= threshold, weights=weight * (outcome == 1)))

    def precision(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        flagged = weight * (score >= threshold)
        return float(np.average(outcome, weights=flagged)) if flagged.sum() else 0.0

    def flagged(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        return float(np.average(score >= threshold, weights=weight))

    return {"recall": recall, "precision": precision, "flagged": flagged}


def difference(one: Scored, other: Scored, name: str, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """A metric of one model minus another's on the same rows, paired: value, low, high."""
    metric, drawn = METRICS[name], weights(one.entity, resamples, seed)

    def gap(weight: np.ndarray) -> float:
        return metric(one.outcome, one.score, weight) - metric(other.outcome, other.score, weight)

    return gap(np.ones(len(one))), *interval(gap, drawn)


def differences(pairs: pd.DataFrame, *, fewest: int, resamples: int, seed: int) -> pd.DataFrame:
    """How much better the candidate is in each metric; columns ``metric, difference, low, high``.

    Above zero is better in every metric. Empty where ``pairs`` (columns ``entity, outcome, candidate, champion``) has
    fewer than ``fewest`` rows or one class.
    """
    rows: list[tuple] = []
    if len(pairs) >= fewest and pairs["outcome"].nunique() == 2:
        candidate, champion = (
            Scored.of(pairs["outcome"], pairs[who], pairs["entity"]) for who in ("candidate", "champion")
        )
        for name, higher in HIGHER_IS_BETTER.items():
            better, worse = (candidate, champion) if higher else (champion, candidate)
            rows.append((name, *difference(better, worse, name, resamples=resamples, seed=seed)))
    return pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])


def roc_curve(scored: Scored, *, resamples: int, seed: int, points: int = 101) -> pd.DataFrame:
    """True positive rate at evenly spaced false positive rates, with a band; columns ``fpr, tpr, low, high``."""
    grid = np.linspace(0, 1, points)

    def curve(weight: np.ndarray) -> np.ndarray:
        fpr, tpr, _ = sk.roc_curve(scored.outcome, scored.score, sample_weight=weight, drop_intermediate=True)
        return np.interp(grid, fpr, tpr)

    return _band(curve, scored, "fpr", "tpr", grid, resamples, seed)


def precision_recall_curve(scored: Scored, *, resamples: int, seed: int, points: int = 101) -> pd.DataFrame:
    """Precision at evenly spaced recalls, with a band; columns ``recall, precision, low, high``."""
    grid = np.linspace(0, 1, points)

    def curve(weight: np.ndarray) -> np.ndarray:
        precision, recall, _ = sk.precision_recall_curve(
            scored.outcome, scored.score, sample_weight=weight, drop_intermediate=True
        )
        return np.interp(grid, recall[::-1], precision[::-1])

    return _band(curve, scored, "recall", "precision", grid, resamples, seed)


def calibration(scored: Scored, *, resamples: int, seed: int, bins: int = 10) -> pd.DataFrame:
    """Observed rate by tenths of the score; columns ``predicted, observed, low, high, n``."""
    edges = np.unique(np.quantile(scored.score, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, scored.score, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for number in np.unique(place):
        within = scored.where(place == number)
        drawn = weights(within.entity, resamples, seed)
        low, high = interval(partial(rate, within.outcome), drawn)
        rows.append((within.score.mean(), within.outcome.mean(), low, high, len(within)))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "n"])


def slices(
    scored: Scored, frame: pd.DataFrame, columns: list[str], threshold: float, *, fewest: int, resamples: int, seed: int
) -> pd.DataFrame:
    """Metrics in each value of the slicing columns that has at least ``fewest`` rows and both classes.

    Returns
    -------
    DataFrame
        Columns ``slice`` (the column), ``value, n, rate, roc_auc, low, high, calibration_error, recall, flagged``.
    """
    rows = []
    for column in columns:
        for value in sorted(frame[column].dropna().unique()):
            within = scored.where((frame[column] == value).to_numpy())
            if len(within) < fewest or len(np.unique(within.outcome)) < 2:
                continue
            drawn = weights(within.entity, resamples, seed)
            low, high = interval(partial(roc_auc, within.outcome, within.score), drawn)
            one = np.ones(len(within))
            told = {name: metric(within.outcome, within.score, one) for name, metric in at_threshold(threshold).items()}
            rows.append({
                "slice": column, "value": f"{value:g}" if isinstance(value, float) else str(value), "n": len(within),
                "rate": within.outcome.mean(),
                "roc_auc": roc_auc(within.outcome, within.score, one), "low": low, "high": high,
                "calibration_error": calibration_error(within.outcome, within.score, one),
                "recall": told["recall"], "flagged": told["flagged"],
            })  # fmt: skip
    return pd.DataFrame(
        rows,
        columns=["slice", "value", "n", "rate", "roc_auc", "low", "high", "calibration_error", "recall", "flagged"],
    )


def confusion(scored: Scored, threshold: float) -> pd.DataFrame:
    """Counts of rows: actual class down, predicted class across."""
    counts = sk.confusion_matrix(scored.outcome, scored.score >= threshold, labels=[0, 1])
    names = pd.Index(["no", "yes"])
    return pd.DataFrame(counts, index=names.rename("actual"), columns=names.rename("predicted"))


def costs(scored: Scored, cost_miss: float) -> pd.DataFrame:
    """Mean cost a row at each threshold: a false alarm costs 1, a miss ``cost_miss``; columns ``threshold, cost``."""
    thresholds = np.linspace(0.01, 0.99, 99)
    flagged = scored.score[None, :] >= thresholds[:, None]
    cost = (flagged & (scored.outcome == 0)).mean(axis=1) + cost_miss * (~flagged & (scored.outcome == 1)).mean(axis=1)
    return pd.DataFrame({"threshold": thresholds, "cost": cost})


def cheapest(frame: pd.DataFrame) -> float:
    """The threshold of the least cost; of several, the one in the middle."""
    least = frame.loc[frame["cost"] <= frame["cost"].min() + 1e-12, "threshold"]
    return float(round(least.iloc[(len(least) - 1) // 2], 2))


def _band(
    curve: Callable[[np.ndarray], np.ndarray],
    scored: Scored,
    x: str,
    y: str,
    grid: np.ndarray,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    drawn = weights(scored.entity, resamples, seed)
    curves = np.array([curve(weight) for weight in drawn])
    curves = curves[np.isfinite(curves).all(axis=1)]  # a resample with one class has no curve
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0) if len(curves) else (np.nan, np.nan)
    return pd.DataFrame({x: grid, y: curve(np.ones(len(scored))), "low": low, "high": high})


def _or_nan(statistic: Callable[[np.ndarray], float], weight: np.ndarray) -> float:
    try:
        return statistic(weight)
    except (ValueError, ZeroDivisionError):  # a resample with one class, or with nothing to divide by
        return np.nan
