"""Estimate ROC AUC from the predicted probabilities alone, before outcomes are known.

Confidence-based performance estimation (NannyML's CBPE: "Estimation of model performance without
targets"): calibrated probabilities imply the expected share of correctly ranked pairs. It captures
the effect of covariate shift. It cannot capture concept drift.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from modelbook.tasks.logit import logit

MIN_OUTCOMES = 10  # positives and negatives that calibration needs
DRAWS_PER_CALIBRATION = 10  # draws of outcomes for each calibration, to bound the estimate
BOUND_QUANTILES = (0.005, 0.995)  # cover 95%: calibrations of bootstrap samples vary too little
N_KNOTS = 6  # knots of the calibration spline, at quantiles of the reference scores
REGULARIZATION = 100.0  # C of its logistic regression, larger is weaker
N_CACHED_CURVES = 128  # windows of equal size share reference rows and bootstrap samples


class EstimatedMetric(NamedTuple):
    """Expected value of a metric, and the bounds of 95% of such windows."""

    value: float
    low: float
    high: float


def estimate_roc_auc(
    score: np.ndarray,
    reference_score: np.ndarray,
    reference_outcome: np.ndarray,
    *,
    n_simulations: int = 400,
) -> EstimatedMetric | None:
    """Estimate the macro-averaged one-vs-rest ROC AUC.

    Parameters
    ----------
    score, reference_score : ndarray
        Probabilities of the rows to estimate, and of labelled reference rows; a column per class.
    reference_outcome : ndarray of bool
        Outcomes of the reference rows; same shape as ``reference_score``.
    n_simulations : int
        Number of simulated outcomes for the bounds; calibration is repeated on a bootstrap sample
        of the reference rows for every 10 of them.

    Returns
    -------
    EstimatedMetric or None
        None if the reference rows have too few positives or negatives.
    """
    from scipy.stats import rankdata

    if (
        min(reference_outcome.sum(axis=0).min(), (~reference_outcome).sum(axis=0).min())
        < MIN_OUTCOMES
        or len(score) < 2
    ):
        return None
    calibrated = _calibrate_probabilities(score, reference_score, reference_outcome)
    ranks = rankdata(score, axis=0)
    rng = np.random.default_rng(0)
    simulated_aucs = []
    for _ in range(max(n_simulations // DRAWS_PER_CALIBRATION, 1)):
        sample = rng.integers(0, len(reference_score), len(reference_score))
        resampled = _calibrate_probabilities(
            score, reference_score[sample], reference_outcome[sample]
        )
        simulated_aucs += [
            _compute_roc_auc_from_ranks(ranks, _simulate_outcomes(resampled, rng))
            for _ in range(DRAWS_PER_CALIBRATION)
        ]
    low, high = np.nanquantile(simulated_aucs, BOUND_QUANTILES)
    value = np.mean(
        [_compute_expected_roc_auc(*columns) for columns in zip(score.T, calibrated.T, strict=True)]
    )
    return EstimatedMetric(float(value), float(low), float(high))


def _calibrate_probabilities(
    score: np.ndarray, reference_score: np.ndarray, reference_outcome: np.ndarray
) -> np.ndarray:
    calibrated = np.column_stack(
        [
            _recalibrate(*columns)
            for columns in zip(score.T, reference_score.T, reference_outcome.T, strict=True)
        ]
    )
    if calibrated.shape[1] > 1:
        return calibrated / calibrated.sum(axis=1, keepdims=True)
    return calibrated


def _recalibrate(
    score: np.ndarray, reference_score: np.ndarray, reference_outcome: np.ndarray
) -> np.ndarray:
    """Probabilities calibrated on the reference rows by a cubic spline of the logit.

    A straight line (Platt scaling) or a polynomial is wrong wherever calibration has another form,
    as a step, and a shifted mix of rows then moves the estimate. Beyond the reference scores the
    curve continues as a straight line.
    """
    curve = _fit_calibration_curve(
        reference_score.astype(float).tobytes(), reference_outcome.astype(bool).tobytes()
    )
    if curve is None:
        return np.full(len(score), reference_outcome.mean())
    return curve.predict_proba(logit(score)[:, None])[:, 1]


@lru_cache(maxsize=N_CACHED_CURVES)
def _fit_calibration_curve(reference_score: bytes, reference_outcome: bytes) -> Any:
    """Fit the curve to float scores and bool outcomes; None if the scores are all equal."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    logits = logit(np.frombuffer(reference_score))[:, None]
    knots = np.unique(np.quantile(logits, np.linspace(0, 1, N_KNOTS)))[:, None]
    if len(knots) < 2:
        return None
    curve = make_pipeline(
        SplineTransformer(knots=knots, extrapolation="linear"),
        LogisticRegression(C=REGULARIZATION, solver="newton-cholesky"),
    )
    return curve.fit(logits, np.frombuffer(reference_outcome, dtype=bool))


def _compute_expected_roc_auc(score: np.ndarray, probability: np.ndarray) -> float:
    """Expected share of positive-negative pairs ranked correctly; ties count half."""
    _, score_rank = np.unique(score, return_inverse=True)
    expected_positives = np.bincount(score_rank, probability)
    expected_negatives = np.bincount(score_rank, 1 - probability)
    return float(
        (expected_positives * (np.cumsum(expected_negatives) - expected_negatives / 2)).sum()
        / (expected_positives.sum() * expected_negatives.sum())
    )


def _simulate_outcomes(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw outcomes from the probabilities, a column per class."""
    uniform_draws = rng.uniform(size=(len(probability), 1))
    if probability.shape[1] == 1:
        return uniform_draws < probability
    upper_bounds = np.cumsum(probability, axis=1)
    return (uniform_draws < upper_bounds) & (uniform_draws >= upper_bounds - probability)


def _compute_roc_auc_from_ranks(ranks: np.ndarray, outcome: np.ndarray) -> float:
    n_positive = outcome.sum(axis=0)
    count = len(ranks)
    pairs = np.where(outcome, ranks, 0).sum(axis=0) - n_positive * (n_positive + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.mean(pairs / (n_positive * (count - n_positive))))
