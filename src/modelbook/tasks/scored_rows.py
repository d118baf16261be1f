"""Scored rows, and cluster-bootstrap confidence intervals of their statistics.

Intervals are 95% percentile intervals of a cluster bootstrap (Field & Welsh 2007, "Bootstrapping
clustered data"): entities are resampled with replacement, so that rows of one entity do not count
as independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

CONFIDENCE_LEVEL = 0.95
MAX_BLOCK_SIZE = 2**20  # weights per call of a statistic, a trade-off of speed and memory


@dataclass(frozen=True)
class ScoredRows:
    """Outcomes, scores and entities of scored rows; arrays of equal length.

    Attributes
    ----------
    outcome : ndarray
        Class code of the outcome, or the observed number.
    score : ndarray
        Probability of class 1; for multiclass, a column per class; or the predicted number.
    entity : ndarray
        Entity of the row.
    """

    outcome: np.ndarray
    score: np.ndarray
    entity: np.ndarray

    @classmethod
    def from_arrays(cls, outcome: Any, score: Any, entity: Any) -> ScoredRows:
        return cls(np.asarray(outcome), np.asarray(score, dtype=float), np.asarray(entity))

    def select(self, mask: Any) -> ScoredRows:
        """Rows where ``mask`` is true."""
        mask = np.asarray(mask, dtype=bool)
        return ScoredRows(self.outcome[mask], self.score[mask], self.entity[mask])

    def to_baseline(self) -> ScoredRows:
        """The same rows with a constant score: the base rate, the class shares, or the mean."""
        return ScoredRows(
            self.outcome, np.full(self.score.shape, self._baseline_score()), self.entity
        )

    def _baseline_score(self) -> Any:
        if self.score.ndim == 1:
            return self.outcome.mean()
        return np.bincount(self.outcome, minlength=self.score.shape[1]) / len(self)

    def __len__(self) -> int:
        return len(self.outcome)


def bootstrap_counts(entity: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Count of each row in each bootstrap resample of entities; shape (resamples, rows)."""
    _, position = np.unique(entity, return_inverse=True)
    n_entities = position.max() + 1
    entity_counts = np.random.default_rng(seed).multinomial(
        n_entities, np.full(n_entities, 1 / n_entities), size=resamples
    )
    return entity_counts[:, position].astype(np.int32)


def bootstrap_ci(statistic: Callable[[np.ndarray], Any], counts: np.ndarray) -> tuple[float, float]:
    """95% percentile interval of a statistic; NaN if fewer than half of the resamples have a value.

    Parameters
    ----------
    statistic : callable
        Takes weights of shape (resamples, rows), returns a value for each resample.
    """
    block_size = max(1, MAX_BLOCK_SIZE // max(counts.shape[1], 1))
    values = np.empty(len(counts))
    for start in range(0, len(counts), block_size):
        block_rows = slice(start, start + block_size)
        values[block_rows] = statistic(counts[block_rows].astype(float))
    values = values[np.isfinite(values)]
    if len(values) == 0 or len(values) < len(counts) / 2:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return float(low), float(high)


def bootstrap_band(
    curve: Callable[[np.ndarray], np.ndarray],
    scored: ScoredRows,
    x: str,
    y: str,
    grid: np.ndarray,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """A curve over a grid with its pointwise 95% bootstrap band; columns ``x, y, low, high``."""
    counts = bootstrap_counts(scored.entity, resamples, seed)
    curves = np.array([curve(weight) for weight in counts])
    curves = curves[np.isfinite(curves).all(axis=1)]  # a resample with one class has no curve
    low, high = (
        np.quantile(curves, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2], axis=0)
        if len(curves)
        else (np.nan, np.nan)
    )
    return pd.DataFrame({x: grid, y: curve(np.ones(len(scored))), "low": low, "high": high})
