"""Calibration, blending and stacking: meta-models fitted on out-of-fold scores.

scikit-learn and PyCaret compute out-of-fold scores with folds that ignore entities, since a
pipeline's ``fit`` receives no groups. Here the meta-model is fitted outside the pipeline, on scores
of the experiment's folds, and stays unchanged when the member pipelines are refitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone

from modelbook import engine
from modelbook.config import NONE
from modelbook.tasks.binary import MIN_PROBABILITY
from modelbook.tasks.logit import EPSILON, logit

if TYPE_CHECKING:
    from modelbook.training.experiment import Experiment


MAX_ADDITIONS = 30  # maximum number of additions to a greedy blend
TEMPERATURE_BOUNDS = (0.05, 20.0)


class SigmoidCalibrator:
    """Platt scaling of each class's log-odds (Platt 1999)."""

    def __init__(self, scores: np.ndarray, target: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.calibrators = [
            LogisticRegression(C=np.inf, solver="newton-cholesky").fit(  # no penalty
                logit(column)[:, None], is_class
            )
            for column, is_class in _make_one_vs_rest_pairs(scores[0], target)
        ]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        log_odds = logit(scores[0])
        return _normalize_columns(
            [
                calibrator.predict_proba(log_odds[:, [index]])[:, 1]
                for index, calibrator in enumerate(self.calibrators)
            ]
        )


class TemperatureCalibrator:
    """Temperature scaling: probabilities to the power of 1/T, normalised (Guo et al. 2017).

    ``temperature`` T minimises the log loss: above 1 the model was overconfident, below 1
    underconfident.
    """

    def __init__(self, scores: np.ndarray, target: np.ndarray) -> None:
        from scipy.optimize import minimize_scalar

        log_probabilities = self._log_probabilities(scores[0])
        rows = np.arange(len(target))
        classes = target.astype(int)

        def measure_loss(log_temperature: float) -> float:
            probabilities = softmax(log_probabilities / np.exp(log_temperature), axis=1)
            return _measure_log_loss(probabilities[rows, classes])

        bounds = np.log(TEMPERATURE_BOUNDS)
        best = minimize_scalar(measure_loss, bounds=bounds, method="bounded")
        self.temperature = float(np.exp(best.x))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        probabilities = softmax(self._log_probabilities(scores[0]) / self.temperature, axis=1)
        return probabilities[:, 1:] if scores.shape[2] == 1 else probabilities

    @staticmethod
    def _log_probabilities(scores: np.ndarray) -> np.ndarray:
        """Log-probabilities of all classes; a single column is the probability of class 1."""
        class_probabilities = np.hstack([1 - scores, scores]) if scores.shape[1] == 1 else scores
        return np.log(np.clip(class_probabilities, EPSILON, None))


class IsotonicCalibrator:
    """Isotonic regression of each class's probability (Zadrozny & Elkan 2002), within (0, 1)."""

    def __init__(self, scores: np.ndarray, target: np.ndarray) -> None:
        from sklearn.isotonic import IsotonicRegression

        min_probability = 1 / (len(target) + 2)
        self.calibrators = [
            IsotonicRegression(
                y_min=min_probability, y_max=1 - min_probability, out_of_bounds="clip"
            ).fit(column, is_class)
            for column, is_class in _make_one_vs_rest_pairs(scores[0], target)
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

    def __init__(self, scores: np.ndarray, target: np.ndarray) -> None: ...

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return scores.mean(axis=0)


class GreedyBlender:
    """Weighted mean of the members, the weights chosen greedily (Caruana et al. 2004).

    Each step adds the member that lowers the loss of the mean most; a member may be added again.
    ``loss`` is the lowest loss of all steps: log loss of probabilities, or RMSE. ``weights`` are
    the members' shares of the additions up to that step.
    """

    def __init__(self, scores: np.ndarray, target: np.ndarray, *, is_regression: bool) -> None:
        measure = _measure_rmse if is_regression else _measure_log_loss
        terms = _make_loss_terms(scores, target, is_regression)
        total = np.zeros(terms.shape[1])
        added: list[int] = []
        losses: list[float] = []
        for count in range(1, MAX_ADDITIONS + 1):
            candidates = [measure((total + term) / count) for term in terms]
            added.append(int(np.argmin(candidates)))
            losses.append(candidates[added[-1]])
            total = total + terms[added[-1]]
        n_added = int(np.argmin(losses)) + 1
        self.weights = np.bincount(added[:n_added], minlength=len(scores)) / n_added
        self.loss = losses[n_added - 1]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.tensordot(self.weights, scores, axes=1)


def _make_loss_terms(scores: np.ndarray, target: np.ndarray, is_regression: bool) -> np.ndarray:
    """Return errors of numbers, or probabilities of the actual class: shape (members, rows).

    A weighted mean of the members has the weighted mean of their terms. A single column is the
    probability of class 1.
    """
    if is_regression:
        return scores[:, :, 0] - target
    if scores.shape[2] == 1:
        return np.where(target == 1, scores[:, :, 0], 1 - scores[:, :, 0])
    return scores[:, np.arange(len(target)), target.astype(int)]


def _measure_log_loss(probabilities: np.ndarray) -> float:
    return float(-np.log(np.clip(probabilities, MIN_PROBABILITY, None)).mean())


def _measure_rmse(errors: np.ndarray) -> float:
    return float(np.sqrt(np.square(errors).mean()))


def choose_members(
    scores: np.ndarray,
    target: np.ndarray,
    *,
    is_regression: bool,
    max_members: int,
    tolerance: float,
) -> list[int]:
    """Choose few members for a greedy blend; return their positions, largest weight first.

    The ``max_members`` with the largest weights are taken. Then members are removed one at a time,
    each the one whose removal gives the lowest loss, while the loss is at most ``1 + tolerance``
    times that of the blend of all.
    """
    blend = GreedyBlender(scores, target, is_regression=is_regression)
    members = _rank_members(blend)[:max_members]
    limit = blend.loss * (1 + tolerance)
    while len(members) > 1:
        shorter = [[other for other in members if other != member] for member in members]
        blends = [
            GreedyBlender(scores[subset], target, is_regression=is_regression) for subset in shorter
        ]
        best = int(np.argmin([candidate.loss for candidate in blends]))
        if blends[best].loss > limit:
            break
        members = [shorter[best][index] for index in _rank_members(blends[best])]
    return members


def _rank_members(blend: GreedyBlender) -> list[int]:
    """Return the positions of the members with a weight, largest first."""
    order = np.argsort(-blend.weights, kind="stable")
    return [int(index) for index in order if blend.weights[index] > 0]


class LogisticStacker:
    """Stack of classifiers: a logistic regression on the members' log-odds (Wolpert 1992)."""

    def __init__(self, scores: np.ndarray, target: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.regression = LogisticRegression(max_iter=1000).fit(
            np.hstack([*map(logit, scores)]), target
        )

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return _select_positive_columns(
            self.regression.predict_proba(np.hstack([*map(logit, scores)]))
        )


class NonNegativeStacker:
    """Stack of regressors: a linear regression with non-negative weights (Breiman 1996)."""

    def __init__(self, scores: np.ndarray, target: np.ndarray) -> None:
        from sklearn.linear_model import LinearRegression

        self.regression = LinearRegression(positive=True).fit(np.hstack([*scores]), target)

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
        self.members = members
        self.meta_model = meta_model

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
            [_select_positive_columns(member.predict_proba(X)) for member in self.fitted_]
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


def fit_on_all_cores(model: Any, X: pd.DataFrame, y: pd.Series) -> Any:
    """Fit a model in place; members of a stacked model are fitted in parallel, a core each."""
    if not isinstance(model, StackedModel):
        return model.fit(X, y)
    if len(model.members) == 1:
        model.fitted_ = [fit_on_all_cores(clone(model.members[0]), X, y)]
        return model
    fit_member = partial(_fit_member, model, X, y)
    with engine.open_engine(engine.LOCAL, NONE, fit_member, workers=None) as executor:
        futures = [executor.submit(index) for index in range(len(model.members))]
        model.fitted_ = [executor.get_result(future) for future in futures]
    return model


def _fit_member(model: StackedModel, X: pd.DataFrame, y: pd.Series, index: int) -> Any:
    return clone(model.members[index]).fit(X, y)


STACKED_MODELS = {"classification": StackedClassifier, "regression": StackedRegressor}
STACKERS = {"classification": LogisticStacker, "regression": NonNegativeStacker}
CALIBRATORS = {
    "sigmoid": SigmoidCalibrator,
    "temperature": TemperatureCalibrator,
    "isotonic": IsotonicCalibrator,
}


def choose_calibrator(classes: Sequence[str]) -> Any:
    """Choose a calibrator that seldom overfits: it has at most two parameters."""
    return CALIBRATORS["temperature" if len(classes) > 2 else "sigmoid"]


def fit_meta_model(
    experiment: Experiment,
    members: Sequence[Any],
    member_scores: Sequence[np.ndarray],
    meta_model_class: Any,
) -> tuple[Any, np.ndarray]:
    """Fit a meta-model on members; returns the unfitted stacked model and its out-of-fold scores.

    Each row's score comes from a meta-model fitted without the row's fold, so that no entity is on
    both sides; NaN if there is no such meta-model, or the members have no score.

    Parameters
    ----------
    member_scores : sequence of ndarray
        Each member's out-of-fold scores, in the form of ``ScoredRows.score``.
    meta_model_class : type
        A calibrator, blender or stacker of this module.
    """
    stacked_scores = np.stack([score.reshape(len(score), -1) for score in member_scores])
    target = experiment.target.to_numpy()
    # Forward folds do not score the first periods.
    has_scores = np.isfinite(stacked_scores).all(axis=(0, 2))
    out_of_fold_scores = np.full(member_scores[0].shape, np.nan)
    for train_index, test_index in experiment.cv_splits:
        fit_index = train_index[has_scores[train_index]]
        if fit_index.size and has_scores[test_index].all():
            fold_scores = meta_model_class(stacked_scores[:, fit_index], target[fit_index])(
                stacked_scores[:, test_index]
            )
            out_of_fold_scores[test_index] = fold_scores.reshape(
                out_of_fold_scores[test_index].shape
            )
    return STACKED_MODELS[experiment.task.experiment_type](
        list(members), meta_model_class(stacked_scores[:, has_scores], target[has_scores])
    ), out_of_fold_scores


def _select_positive_columns(probabilities: np.ndarray) -> np.ndarray:
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def _make_one_vs_rest_pairs(
    scores: np.ndarray, target: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pair each class's scores with whether a row is of it; a single column is class 1."""
    first_class = 1 if scores.shape[1] == 1 else 0
    return [
        (scores[:, index], (target == index + first_class).astype(int))
        for index in range(scores.shape[1])
    ]


def _normalize_columns(columns: list[np.ndarray]) -> np.ndarray:
    """Stack columns; those of several classes are normalised to sum to 1."""
    matrix = np.column_stack(columns)
    return matrix if matrix.shape[1] == 1 else matrix / matrix.sum(axis=1, keepdims=True)
