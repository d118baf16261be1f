"""Rows that a model has answered, and how sure one can be of what they say.

Intervals are 95 % percentile intervals of a cluster bootstrap (Field & Welsh 2007, "Bootstrapping clustered data"):
whole entities are drawn with replacement, so that rows of one entity do not count as independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

LEVEL = 0.95
AT_ONCE = 2**20  # weights that a statistic is asked about at once: enough to be fast, and few to hold


@dataclass(frozen=True)
class Scored:
    """Rows that a model has answered; all of one length.

    Attributes
    ----------
    outcome : ndarray
        The code of what turned out (0, 1, and so on), or the number.
    score : ndarray
        The probability of 1; of several classes a column each; or the number predicted.
    entity : ndarray
        Whose row it is.
    """

    outcome: np.ndarray
    score: np.ndarray
    entity: np.ndarray

    @classmethod
    def of(cls, outcome: Any, score: Any, entity: Any) -> Scored:
        return cls(np.asarray(outcome), np.asarray(score, dtype=float), np.asarray(entity))

    def where(self, kept: Any) -> Scored:
        """The rows for which ``kept`` is true."""
        kept = np.asarray(kept, dtype=bool)
        return Scored(self.outcome[kept], self.score[kept], self.entity[kept])

    def baseline(self) -> Scored:
        """The same rows, all answered alike: by the base rate, the classes' shares, or the mean."""
        return Scored(self.outcome, np.full(self.score.shape, self._mean()), self.entity)

    def _mean(self) -> Any:
        if self.score.ndim == 1:
            return self.outcome.mean()
        return np.bincount(self.outcome, minlength=self.score.shape[1]) / len(self)

    def __len__(self) -> int:
        return len(self.outcome)


def weights(entity: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each row counts in each resample of entities; shape (resamples, rows)."""
    _, position = np.unique(entity, return_inverse=True)
    count = position.max() + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, position].astype(np.int32)


def interval(statistic: Callable[[np.ndarray], Any], drawn: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of row weights; NaN where too few resamples have a value.

    Parameters
    ----------
    statistic : callable
        Takes weights, shape (resamples, rows), and gives a value for each resample.
    """
    block = max(1, AT_ONCE // max(drawn.shape[1], 1))
    values = np.empty(len(drawn))
    for first in range(0, len(drawn), block):
        some = slice(first, first + block)
        values[some] = statistic(drawn[some].astype(float))
    values = values[np.isfinite(values)]
    if len(values) == 0 or len(values) < len(drawn) / 2:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def band(
    curve: Callable[[np.ndarray], np.ndarray],
    scored: Scored,
    x: str,
    y: str,
    grid: np.ndarray,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """A curve of row weights over a grid, with the band that most resamples stay in; columns ``x, y, low, high``."""
    drawn = weights(scored.entity, resamples, seed)
    curves = np.array([curve(weight) for weight in drawn])
    curves = curves[np.isfinite(curves).all(axis=1)]  # a resample with one class has no curve
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0) if len(curves) else (np.nan, np.nan)
    return pd.DataFrame({x: grid, y: curve(np.ones(len(scored))), "low": low, "high": high})
