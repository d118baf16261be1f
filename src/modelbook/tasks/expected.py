"""The ROC AUC to expect before any outcome is in, from the probabilities alone.

Confidence-based performance estimation (NannyML's CBPE: "Estimation of model performance without targets"): a
calibrated probability says how often the row turns out so, hence how many pairs of rows are ranked right. It sees what
another mix of rows costs. It cannot see a change of what the outcomes depend on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EDGE = 1e-6  # keeps the logit of a certain answer finite
FEWEST = 10  # outcomes of either kind that calibration needs


class Expected(NamedTuple):
    """A metric that is expected, and between what bounds 95 % of such windows would have it."""

    value: float
    low: float
    high: float


def area(
    score: np.ndarray, past: np.ndarray, turned: np.ndarray, *, draws: int = 200, seed: int = 0
) -> Expected | None:
    """The ROC AUC of each class against the rest that is to be expected, on average over the classes.

    Parameters
    ----------
    score, past : ndarray
        Probabilities of the rows in question, and of rows whose outcomes are known: a column for each class.
    turned : ndarray of bool
        Whether the known rows turned out so; of the shape of ``past``.
    draws : int
        Times that outcomes are drawn from the probabilities for the bounds, which are calibrated on other known rows,
        drawn with replacement, for each twentieth of them.

    Returns
    -------
    Expected or None
        None where too few known rows turned out so, or did not.
    """
    from scipy.stats import rankdata

    if min(turned.sum(axis=0).min(), (~turned).sum(axis=0).min()) < FEWEST or len(score) < 2:
        return None
    chance = _chances(score, past, turned)
    ranks, random, drawn = rankdata(score, axis=0), np.random.default_rng(seed), []
    for _ in range(max(draws // 20, 1)):
        some = random.integers(0, len(past), len(past))
        other = _chances(score, past[some], turned[some])
        drawn += [_ranked(ranks, _outcomes(other, random)) for _ in range(20)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    value = np.mean([_pairs(*columns) for columns in zip(score.T, chance.T, strict=True)])
    return Expected(float(value), float(low), float(high))


def _chances(score: np.ndarray, past: np.ndarray, turned: np.ndarray) -> np.ndarray:
    chance = np.column_stack([_calibrated(*columns) for columns in zip(score.T, past.T, turned.T, strict=True)])
    return chance / chance.sum(axis=1, keepdims=True) if chance.shape[1] > 1 else chance


def _calibrated(score: np.ndarray, past: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Probabilities that hold on the known rows (Platt scaling of the logit)."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(_logit(past)[:, None], turned)
    return fitted.predict_proba(_logit(score)[:, None])[:, 1]


def _logit(probability: np.ndarray) -> np.ndarray:
    kept = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(kept / (1 - kept))


def _pairs(score: np.ndarray, chance: np.ndarray) -> float:
    """Share of the pairs of a yes and a no that are expected to be ranked right; ties count half."""
    _, place = np.unique(score, return_inverse=True)
    yes, no = np.bincount(place, chance), np.bincount(place, 1 - chance)
    return float((yes * (np.cumsum(no) - no / 2)).sum() / (yes.sum() * no.sum()))


def _outcomes(chance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Outcomes drawn from probabilities, a column for each class."""
    drawn = random.uniform(size=(len(chance), 1))
    if chance.shape[1] == 1:
        return drawn < chance
    ends = np.cumsum(chance, axis=1)
    return (drawn < ends) & (drawn >= ends - chance)


def _ranked(ranks: np.ndarray, turned: np.ndarray) -> float:
    yes, count = turned.sum(axis=0), len(ranks)
    pairs = np.where(turned, ranks, 0).sum(axis=0) - yes * (yes + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.mean(pairs / (yes * (count - yes))))
