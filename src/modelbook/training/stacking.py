"""Calibration, blending and stacking: meta-models fitted on out-of-fold scores.

scikit-learn and PyCaret compute out-of-fold scores with folds that ignore entities, since a
pipeline's ``fit`` receives no groups. Here the meta-model is fitted outside the pipeline, on scores
of the experiment's folds, and stays unchanged when the member pipelines are refitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone

from modelbook.tasks.logit import logit

if TYPE_CHECKING:
    from modelbook.training.experiment import Experiment


MAX_ADDITIONS = 30  # of members to a greedy blend
MIN_PROBABILITY = 1e-15  # in a log loss


class SigmoidCalibrator:
    """Platt scaling of each class's log-odds (Platt 1999)."""

    def __init__(self, scores: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.calibrators = [
            LogisticRegression(penalty=None).fit(logit(column)[:, None], is_class)
            for column, is_class in _one_vs_rest_pairs(scores[0], outcome)
        ]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        log_odds = logit(scores[0])
        return _normalize_columns(
            [
                calibrator.predict_proba(log_odds[:, [index]])[:, 1]
                for index, calibrator in enumerate(self.calibrators)
            ]
        )


class IsotonicCalibrator:
    """Isotonic regression of each class's probability (Zadrozny & Elkan 2002), within (0, 1)."""

    def __init__(self, scores: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.isotonic import IsotonicRegression

        min_probability = 1 / (len(outcome) + 2)
        self.calibrators = [
            IsotonicRegression(
                y_min=min_probability, y_max=1 - min_probability, out_of_bounds="clip"
            ).fit(column, is_class)
            for column, is_class in _one_vs_rest_pairs(scores[0], outcome)
        ]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return _normalize_columns(
            [
                calibrator.predict(scores[0][:, index])
                for index, calibrator in enumerate(self.calibrators)
            ]
        )


class MeanBlender:
    """Blend: the mean of the members' scores, without parameters to fit."""

    def __init__(self, scores: np.ndarray, outcome: np.ndarray) -> None: ...

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return scores.mean(axis=0)


class GreedyBlender:
    """Weighted mean of the members, the weights chosen greedily (Caruana et al. 2004).

    Members are added one at a time, with repetition, each the one that lowers the loss of the mean
    most: log loss of probabilities, or the squared error. ``weights`` are the shares of the
    additions at which the loss was least.
    """

    def __init__(self, scores: np.ndarray, outcome: np.ndarray, *, is_number: bool) -> None:
        loss = squared_error if is_number else cross_entropy
        total = np.zeros(scores.shape[1:])
        added: list[int] = []
        losses: list[float] = []
        for count in range(1, MAX_ADDITIONS + 1):
            candidates = [loss((total + score) / count, outcome) for score in scores]
            added.append(int(np.argmin(candidates)))
            losses.append(candidates[added[-1]])
            total = total + scores[added[-1]]
        best = added[: int(np.argmin(losses)) + 1]
        self.weights = np.bincount(best, minlength=len(scores)) / len(best)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.tensordot(self.weights, scores, axes=1)


def cross_entropy(probabilities: np.ndarray, outcome: np.ndarray) -> float:
    """Mean log loss; a single column holds the probability of class 1."""
    if probabilities.shape[1] == 1:
        probabilities = np.hstack([1 - probabilities, probabilities])
    true_class = probabilities[np.arange(len(outcome)), outcome.astype(int)]
    return float(-np.log(np.clip(true_class, MIN_PROBABILITY, None)).mean())


def squared_error(predictions: np.ndarray, outcome: np.ndarray) -> float:
    """Mean squared error of a single column."""
    return float(np.square(predictions[:, 0] - outcome).mean())


class LogisticStacker:
    """Stack of classifiers: a logistic regression on the members' log-odds (Wolpert 1992)."""

    def __init__(self, scores: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.regression = LogisticRegression(max_iter=1000).fit(
            np.hstack([*map(logit, scores)]), outcome
        )

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        probabilities = self.regression.predict_proba(np.hstack([*map(logit, scores)]))
        return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


class NonNegativeStacker:
    """Stack of regressors: a linear regression with non-negative weights (Breiman 1996)."""

    def __init__(self, scores: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.linear_model import LinearRegression

        self.regression = LinearRegression(positive=True).fit(np.hstack([*scores]), outcome)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return self.regression.predict(np.hstack([*scores]))[:, None]


class StackedModel(BaseEstimator):
    """Member pipelines, refitted by ``fit``, and a fixed meta-model on their scores.

    Parameters
    ----------
    members : list of pipelines
    meta_model : callable
        Maps the members' scores, shape (members, rows, columns), to scores of shape (rows,
        columns): one column for binary and regression, one per class for multiclass.
    """

    def __init__(self, members: list[Any], meta_model: Any) -> None:
        self.members, self.meta_model = members, meta_model

    def fit(self, X: pd.DataFrame, y: pd.Series) -> StackedModel:
        self.fitted_ = [clone(member).fit(X, y) for member in self.members]
        return self


class StackedClassifier(ClassifierMixin, StackedModel):
    """A stacked model that predicts probabilities."""

    @property
    def classes_(self) -> np.ndarray:
        return self.fitted_[0].classes_

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        member_scores = np.stack(
            [_positive_columns(member.predict_proba(X)) for member in self.fitted_]
        )
        probabilities = self.meta_model(member_scores)
        return (
            np.hstack([1 - probabilities, probabilities])
            if probabilities.shape[1] == 1
            else probabilities
        )

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class StackedRegressor(RegressorMixin, StackedModel):
    """A stacked model that predicts numbers."""

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.meta_model(np.stack([member.predict(X)[:, None] for member in self.fitted_]))[
            :, 0
        ]


STACKED_MODELS = {"classification": StackedClassifier, "regression": StackedRegressor}
STACKERS = {"classification": LogisticStacker, "regression": NonNegativeStacker}
AUTO_CALIBRATOR = "sigmoid"  # two parameters per class: it seldom overfits
CALIBRATORS = {"sigmoid": SigmoidCalibrator, "isotonic": IsotonicCalibrator}


def fit_meta_model(
    experiment: Experiment,
    members: Sequence[Any],
    member_scores: Sequence[np.ndarray],
    meta_model_class: Any,
) -> tuple[Any, np.ndarray]:
    """Fit a meta-model on members; returns the unfitted stacked model and its out-of-fold scores.

    Each row's score comes from a meta-model fitted without the row's fold, so that no entity is on
    both sides; NaN if there is no such meta-model.

    Parameters
    ----------
    member_scores : sequence of ndarray
        Each member's out-of-fold scores, in the form of ``ScoredRows.score``.
    meta_model_class : type
        A calibrator, blender or stacker of this module.
    """
    stacked_scores = np.stack([score.reshape(len(score), -1) for score in member_scores])
    outcome = experiment.outcome.to_numpy()
    has_scores = np.isfinite(stacked_scores).all(
        axis=(0, 2)
    )  # forward folds do not score the first periods
    out_of_fold_scores = np.full(member_scores[0].shape, np.nan)
    for train_index, test_index in experiment.cv_splits():
        if (fit_index := train_index[has_scores[train_index]]).size:
            fold_scores = meta_model_class(stacked_scores[:, fit_index], outcome[fit_index])(
                stacked_scores[:, test_index]
            )
            out_of_fold_scores[test_index] = fold_scores.reshape(
                out_of_fold_scores[test_index].shape
            )
    return STACKED_MODELS[experiment.task.experiment_type](
        list(members), meta_model_class(stacked_scores[:, has_scores], outcome[has_scores])
    ), out_of_fold_scores


def _positive_columns(probabilities: np.ndarray) -> np.ndarray:
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def _one_vs_rest_pairs(
    scores: np.ndarray, outcome: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each class's scores and whether it is the outcome; a single column is that of class 1."""
    first_class = 1 if scores.shape[1] == 1 else 0
    return [
        (scores[:, index], (outcome == index + first_class).astype(int))
        for index in range(scores.shape[1])
    ]


def _normalize_columns(columns: list[np.ndarray]) -> np.ndarray:
    """Stack columns; those of several classes are normalised to sum to 1."""
    matrix = np.column_stack(columns)
    return matrix if matrix.shape[1] == 1 else matrix / matrix.sum(axis=1, keepdims=True)
