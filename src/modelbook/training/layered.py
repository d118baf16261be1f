"""Layers: fitted pipelines with a small step on top, which was learned from answers out of fold.

Calibration and stacking both learn from answers to rows that a fit has not seen. scikit-learn and PyCaret make those by
folds that know no entities, since a pipeline's ``fit`` is handed none. Here the top is learned outside, from answers
by the experiment's own folds, and is kept as it is when the pipelines are fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone

from modelbook.tasks.odds import odds

if TYPE_CHECKING:
    from modelbook.training.experiment import Experiment


class Sigmoid:
    """Each class's log-odds stretched and moved (Platt 1999)."""

    def __init__(self, answers: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.curves = [
            LogisticRegression(penalty=None).fit(odds(column)[:, None], yes)
            for column, yes in _each(answers[0], outcome)
        ]

    def __call__(self, answers: np.ndarray) -> np.ndarray:
        seen = odds(answers[0])
        return _shared([curve.predict_proba(seen[:, [at]])[:, 1] for at, curve in enumerate(self.curves)])


class Isotonic:
    """Each class's probability by steps that never go down (Zadrozny & Elkan 2002); never quite 0 or 1."""

    def __init__(self, answers: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.isotonic import IsotonicRegression

        least = 1 / (len(outcome) + 2)
        self.curves = [
            IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(column, yes)
            for column, yes in _each(answers[0], outcome)
        ]

    def __call__(self, answers: np.ndarray) -> np.ndarray:
        return _shared([curve.predict(answers[0][:, at]) for at, curve in enumerate(self.curves)])


class Mean:
    """The mean of all members' answers: a blend. There is nothing to learn."""

    def __init__(self, answers: np.ndarray, outcome: np.ndarray) -> None: ...

    def __call__(self, answers: np.ndarray) -> np.ndarray:
        return answers.mean(axis=0)


class Odds:
    """A logistic regression of all members' log-odds: a stack of classifiers (Wolpert 1992)."""

    def __init__(self, answers: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.mixed = LogisticRegression(max_iter=1000).fit(np.hstack([*map(odds, answers)]), outcome)

    def __call__(self, answers: np.ndarray) -> np.ndarray:
        found = self.mixed.predict_proba(np.hstack([*map(odds, answers)]))
        return found[:, 1:] if found.shape[1] == 2 else found


class Weights:
    """A sum of all members' numbers, no weight below 0 (Breiman 1996): a stack of regressors."""

    def __init__(self, answers: np.ndarray, outcome: np.ndarray) -> None:
        from sklearn.linear_model import LinearRegression

        self.mixed = LinearRegression(positive=True).fit(np.hstack([*answers]), outcome)

    def __call__(self, answers: np.ndarray) -> np.ndarray:
        return self.mixed.predict(np.hstack([*answers]))[:, None]


class Layered(BaseEstimator):
    """Pipelines that are fitted on what ``fit`` is given, and a top that stays as it is.

    Parameters
    ----------
    members : list of pipelines
    top : callable
        Answers of the members, an array (members, rows, columns), to one answer, an array (rows, columns). A
        probability has one column for two classes and one each for more; a number has one.
    """

    def __init__(self, members: list[Any], top: Any) -> None:
        self.members, self.top = members, top

    def fit(self, rows: pd.DataFrame, outcome: pd.Series) -> Layered:
        self.fitted_ = [clone(member).fit(rows, outcome) for member in self.members]
        return self


class LayeredClassifier(ClassifierMixin, Layered):
    """Layers that answer with probabilities."""

    @property
    def classes_(self) -> np.ndarray:
        return self.fitted_[0].classes_

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        found = np.stack([_columns(member.predict_proba(rows)) for member in self.fitted_])
        made = self.top(found)
        return np.hstack([1 - made, made]) if made.shape[1] == 1 else made

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


class LayeredRegressor(RegressorMixin, Layered):
    """Layers that answer with numbers."""

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return self.top(np.stack([member.predict(rows)[:, None] for member in self.fitted_]))[:, 0]


LAYERED = {"classification": LayeredClassifier, "regression": LayeredRegressor}
STACKS = {"classification": Odds, "regression": Weights}
CURVES = {"sigmoid": Sigmoid, "isotonic": Isotonic}


def over(trial: Experiment, members: Sequence[Any], answers: Sequence[np.ndarray], top: Any) -> tuple[Any, np.ndarray]:
    """Put a top over pipelines; returns the whole, unfitted, and its own answers out of fold.

    Each row's answer comes from a top that was learned without the row's fold, so an entity is never on both sides. A
    row for which there is no such top has none: NaN.

    Parameters
    ----------
    answers : sequence of ndarray
        Each member's answers to the train rows out of fold, as ``Scored.score`` holds them.
    top : type
        One of ``Sigmoid, Isotonic, Mean, Odds, Weights``.
    """
    held = np.stack([score.reshape(len(score), -1) for score in answers])
    outcome = trial.outcome.to_numpy()
    known = np.isfinite(held).all(axis=(0, 2))  # forward folds leave the first times without answers
    made = np.full(answers[0].shape, np.nan)
    for learned, asked in trial.parts():
        if (seen := learned[known[learned]]).size:
            found = top(held[:, seen], outcome[seen])(held[:, asked])
            made[asked] = found.reshape(made[asked].shape)
    return LAYERED[trial.task.learner](list(members), top(held[:, known], outcome[known])), made


def _columns(probabilities: np.ndarray) -> np.ndarray:
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def _each(answers: np.ndarray, outcome: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each column beside whether its class is what turned out; one column is that of class 1."""
    first = 1 if answers.shape[1] == 1 else 0
    return [(answers[:, at], (outcome == at + first).astype(int)) for at in range(answers.shape[1])]


def _shared(columns: list[np.ndarray]) -> np.ndarray:
    """Columns side by side; of several classes they sum to 1."""
    made = np.column_stack(columns)
    return made if made.shape[1] == 1 else made / made.sum(axis=1, keepdims=True)
