"""Scored rows, and confidence intervals of their statistics by entity.

Rows of one entity do not count as independent evidence. The interval of a metric is a t-interval
from a jackknife that leaves out one entity at a time, on a scale on which the metric is nearly
symmetric, with Satterthwaite's degrees of freedom from the kurtosis of the entities' influences
(Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11; Pan & Wall 2002,
"Small-sample adjustments", Statistics in Medicine 21). For independent rows it is close to DeLong's
interval on the logit scale. The upper end of the interval of an error allows for skewness (Hall
1992, "On the removal of skewness by transformation", JRSS B 54): a few entities carry most of it,
and those of the sample may not be among them. Quantiles have Woodruff's (1952) interval, shares of
a bin Wilson's (1927) with the number of independent rows that the entities are worth (Korn &
Graubard 1998, "Confidence intervals for proportions with small expected number of positive
counts"). The bands of curves are pointwise percentiles of a cluster bootstrap (Field & Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook.tasks.metrics import weighted_mean

CONFIDENCE_LEVEL = 0.95
MIN_ENTITIES, MIN_CLASS_ENTITIES = 20, 10  # fewest entities, and of each of two classes
MIN_ENTITIES_OF_SEVERAL = 5  # for each of several classes: metrics are means over classes
MIN_ENTITIES_BEYOND = 5  # expected number beyond a quantile
WILSON = 1.96**2  # z² of the Wilson interval of a share of 0 or 1
SKEWNESS = 8**0.5  # skewness of a squared normal error: the minimum for an error of entities
SKEWNESS_FACTOR = 1.5  # few entities show less skewness than there is
MAX_BLOCK_SIZE = 2**20  # weights per call of a statistic, a trade-off of speed and memory
EPSILON = 1e-24  # sum of squared influences that counts as none


@dataclass(frozen=True)
class Scale:
    """A scale for intervals: a transformation that keeps its argument inside, and its inverse."""

    transform: Callable[[np.ndarray, float], np.ndarray]
    invert: Callable[[np.ndarray], np.ndarray]


def _compute_bounded_logit(values: np.ndarray, margin: float) -> np.ndarray:
    inside = np.clip(values, margin, 1 - margin)
    return np.log(inside / (1 - inside))


IDENTITY = Scale(lambda values, _: values, lambda values: values)
LOGIT = Scale(_compute_bounded_logit, lambda values: 1 / (1 + np.exp(-values)))
LOGARITHM = Scale(lambda values, _: np.log(np.maximum(values, 1e-300)), np.exp)
DIFFERENCE = Scale(IDENTITY.transform, IDENTITY.invert)  # of two models
COMPLEMENT = Scale(  # R²: the logarithm of what is not explained
    lambda values, _: np.log(np.maximum(1 - values, 1e-300)),
    lambda values: 1 - np.exp(values)[::-1],
)


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

    def to_baseline(self, score: Any = None) -> ScoredRows:
        """The same rows with a constant score, by default that of their own outcomes."""
        if score is None:
            score = compute_baseline_score(self.outcome, self.score.size // max(len(self), 1))
        return ScoredRows(self.outcome, np.full(self.score.shape, score), self.entity)

    def __len__(self) -> int:
        return len(self.outcome)

    def count_class_entities(self) -> int:
        """Entities of the rarest present class; all entities if outcomes are not classes."""
        if self.outcome.dtype.kind not in "iub":
            return len(np.unique(self.entity))
        codes = np.unique(self.outcome)
        return min((len(np.unique(self.entity[self.outcome == code])) for code in codes), default=0)

    def has_enough_entities(self) -> bool:
        """Whether there are enough entities for the intervals to have their nominal coverage."""
        if len(np.unique(self.entity)) < MIN_ENTITIES:
            return False
        if self.outcome.dtype.kind not in "iub":
            return True
        fewest = MIN_CLASS_ENTITIES if self.score.ndim == 1 else MIN_ENTITIES_OF_SEVERAL
        return len(np.unique(self.outcome)) > 1 and self.count_class_entities() >= fewest


def compute_baseline_score(outcome: np.ndarray, n_scores: int = 1) -> Any:
    """Score of the constant baseline: the base rate or the mean, or the shares of many classes.

    ``n_scores`` is the number of scores of a row: one per class with more than two classes.
    """
    if n_scores == 1:
        return float(outcome.mean())
    return np.bincount(outcome, minlength=n_scores) / len(outcome)


def assign_quantile_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """The quantile bin of each value; equal values are in one bin, so there may be fewer."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, n_bins + 1)))
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))


def bootstrap_counts(entity: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Count of each row in each bootstrap resample of entities; shape (resamples, rows)."""
    _, position = np.unique(entity, return_inverse=True)
    n_entities = position.max() + 1
    entity_counts = np.random.default_rng(seed).multinomial(
        n_entities, np.full(n_entities, 1 / n_entities), size=resamples
    )
    return entity_counts[:, position].astype(np.int32)


def jackknife_ci(
    statistic: Callable[[np.ndarray], Any],
    scored: ScoredRows,
    scale: Scale,
    *,
    resamples: int,
    seed: int,
    n_units: int | None = None,
) -> tuple[float, float]:
    """95% interval of a smooth statistic by the jackknife over entities; NaN for too few of them.

    Parameters
    ----------
    statistic : callable
        Takes weights of shape (resamples, rows), returns a value for each resample.
    scale : Scale
        The scale on which the statistic is nearly symmetric.
    resamples : int
        Most values of the statistic; more entities are left out in blocks. 0: no interval.
    n_units : int, optional
        Entities that the statistic is about, as those for which a class is predicted; by default
        those of the rarest class.
    """
    has_few_units = n_units is not None and n_units < MIN_CLASS_ENTITIES
    if resamples == 0 or has_few_units or not scored.has_enough_entities():
        return np.nan, np.nan
    blocks = _assign_jackknife_blocks(scored.entity, resamples, seed)
    n_blocks = int(blocks.max()) + 1
    left_out = (blocks[None, :] != np.arange(n_blocks)[:, None]).astype(float)
    step = max(1, MAX_BLOCK_SIZE // len(blocks))
    values = np.concatenate(
        [np.atleast_1d(statistic(left_out[i : i + step])) for i in range(0, n_blocks, step)]
    )
    estimate = float(statistic(np.ones(len(blocks))))
    n_units = n_units or scored.count_class_entities()
    margin = 0.5 / (n_units * len(scored))
    centre = scale.transform(np.array([estimate]), margin)[0]
    transformed = scale.transform(values, margin)
    influences = (n_blocks - 1) * (transformed.mean() - transformed)
    sum_of_squares, fourth_powers = (influences**2).sum(), (influences**4).sum()
    if not np.isfinite(sum_of_squares):
        return np.nan, np.nan
    if sum_of_squares <= n_blocks * EPSILON:
        return _compute_interval_without_variance(estimate, n_units, scale)
    excess = fourth_powers - sum_of_squares**2 / n_blocks
    freedom = np.clip(2 * sum_of_squares**2 / max(excess, EPSILON), 2, n_blocks - 1)
    standard_error = np.sqrt(sum_of_squares / (n_blocks * (n_blocks - 1)))
    quantile = t_quantile(freedom)
    allowance = (
        _compute_skewness_allowance(influences, scored.entity, quantile)
        if scale is LOGARITHM
        else 0
    )
    ends = np.array([-quantile, quantile + allowance])
    low, high = scale.invert(centre + ends * standard_error)
    return float(low), float(high)


def _compute_skewness_allowance(
    influences: np.ndarray, entity: np.ndarray, quantile: float
) -> float:
    """Standard errors that skewness adds to the upper end, the second term of its expansion."""
    rows = np.unique(entity, return_counts=True)[1]
    n_effective = rows.sum() ** 2 / (rows**2).sum()  # Kish's (1965) number of entities of one size
    skewness = (influences**3).sum() / (influences**2).sum() ** 1.5
    skewness = max(skewness, SKEWNESS / np.sqrt(n_effective))
    return float(SKEWNESS_FACTOR * skewness * (1 + 2 * quantile**2) / 6)


def quantile_ci(
    values: np.ndarray, level: float, scored: ScoredRows, *, resamples: int, seed: int
) -> tuple[float, float]:
    """95% interval of a quantile: the quantiles at the ends of the interval of the share below.

    NaN if too few entities lie beyond the quantile.
    """
    if min(level, 1 - level) * len(np.unique(scored.entity)) < MIN_ENTITIES_BEYOND:
        return np.nan, np.nan
    is_below = (values <= np.quantile(values, level, method="inverted_cdf")).astype(float)
    ends = jackknife_ci(
        partial(weighted_mean, is_below), scored, LOGIT, resamples=resamples, seed=seed
    )
    if not np.isfinite(ends).all():
        return np.nan, np.nan
    low, high = np.quantile(values, np.clip(ends + (level - is_below.mean()), 0, 1))
    return float(low), float(high)


def share_ci(is_event: np.ndarray, entity: np.ndarray) -> tuple[float, float]:
    """95% interval of a share, with the effective number of independent rows."""
    from statsmodels.stats.proportion import proportion_confint

    n_rows = len(is_event)
    share = is_event.mean()
    _, codes = np.unique(entity, return_inverse=True)
    variance = (np.bincount(codes, is_event - share) ** 2).sum() / n_rows**2
    n_entities = codes.max() + 1
    n_independent = share * (1 - share) / variance if variance > 0 else n_entities
    n_independent = min(n_independent, n_rows)
    low, high = proportion_confint(share * n_independent, n_independent, method="wilson")
    return float(low), float(high)


def _assign_jackknife_blocks(entity: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Block of each row: one for each entity, or blocks of several if there are very many."""
    _, codes = np.unique(entity, return_inverse=True)
    n_entities = int(codes.max()) + 1
    if n_entities <= resamples:
        return codes
    shuffled = np.random.default_rng(seed).permutation(n_entities)
    return shuffled[codes] % resamples


def _compute_interval_without_variance(
    value: float, n_units: int, scale: Scale
) -> tuple[float, float]:
    """Wilson's (1927) interval of a share of 0 or 1; 0 for models that predict alike; else NaN."""
    if scale is DIFFERENCE and value == 0:
        return 0.0, 0.0
    if scale is not LOGIT or value not in (0.0, 1.0):
        return np.nan, np.nan
    width = WILSON / (n_units + WILSON)
    return (1 - width, 1.0) if value == 1.0 else (0.0, width)


def t_quantile(freedom: float) -> float:
    """Half the width of a 95% t-interval, in standard errors."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE_LEVEL) / 2, freedom))


def bootstrap_band(
    curve: Callable[[np.ndarray], np.ndarray],
    scored: ScoredRows,
    x: str,
    y: str,
    grid: np.ndarray,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """A curve over a grid with its pointwise 95% bootstrap band; columns ``x, y, low, high``.

    The band is NaN without resamples.
    """
    counts = bootstrap_counts(scored.entity, resamples, seed)
    curves = np.array([curve(weight) for weight in counts]).reshape(resamples, len(grid))
    curves = curves[np.isfinite(curves).all(axis=1)]  # a resample with one class has no curve
    low, high = (
        np.quantile(curves, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2], axis=0)
        if len(curves)
        else (np.nan, np.nan)
    )
    return pd.DataFrame({x: grid, y: curve(np.ones(len(scored))), "low": low, "high": high})
