"""scikit-learn's scorers, and functions of outcome and prediction, as metrics of scores."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from modelbook.errors import CustomCodeError
from modelbook.tasks.metric_format import METRIC_LABELS
from modelbook.tasks.scored_rows import ScoredRows

if TYPE_CHECKING:
    from modelbook.tasks.base import Task

MLFLOW_NAME = r"[A-Za-z][\w .-]*"  # characters that MLflow allows
FINITE = "a number; where all predictions are equal, the metric's value by chance, such as 0"
EXAMPLE = 'metrics = {"gain": gain}, where gain(outcome, prediction) returns a number'


class PredictedClassifier(ClassifierMixin, BaseEstimator):
    """A fitted classifier that returns given probabilities."""

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities
        self.classes_ = np.arange(probabilities.shape[1])

    def predict_proba(self, X: Any) -> np.ndarray:
        return self.probabilities

    def predict(self, X: Any) -> np.ndarray:
        return self.probabilities.argmax(axis=1)


class PredictedRegressor(RegressorMixin, BaseEstimator):
    """A fitted regressor that returns given predictions."""

    def __init__(self, predictions: np.ndarray) -> None:
        self.predictions = predictions

    def predict(self, X: Any) -> np.ndarray:
        return self.predictions


@dataclass(frozen=True)
class ScorerMetric:
    """A scorer as a metric of outcome and score; greater is better, as scikit-learn has it."""

    name: str
    scorer: Callable[..., Any]
    measures_classes: bool

    def __call__(self, outcome: Any, score: Any, weight: Any = None, **_: Any) -> float:
        score = np.array(score, dtype=float)  # copies: a function of a user may sort them
        estimator = _predict_classes(score) if self.measures_classes else PredictedRegressor(score)
        return float(self.scorer(estimator, None, np.array(outcome)))

    def is_finite(self, outcome: np.ndarray, score: np.ndarray) -> bool:
        """Whether it gives a number; False also where it raises."""
        try:
            return bool(np.isfinite(self(outcome, score)))
        except Exception:  # a metric of another task may raise anything
            return False


def _predict_classes(score: np.ndarray) -> PredictedClassifier:
    return PredictedClassifier(np.column_stack([1 - score, score]) if score.ndim == 1 else score)


def make_metric(task: Task, name: str, value: Any) -> ScorerMetric:
    """A metric of a task from a scorer, its name, or a function of outcome and prediction."""
    from sklearn.metrics import get_scorer, make_scorer

    scorer = get_scorer(value) if isinstance(value, str) else value
    if not isinstance(scorer, type(get_scorer("accuracy"))):
        scorer = make_scorer(scorer)
    return ScorerMetric(name, scorer, measures_classes=bool(task.classes))


def is_scorer_of_task(task: Task, name: str) -> bool:
    """Whether a name is that of one of scikit-learn's scorers for the task."""
    from sklearn.metrics import get_scorer, get_scorer_names

    if name not in get_scorer_names():
        return False
    numbers = np.array([0.5, 1.5, 2.5, 4.5])
    number_metric = ScorerMetric(name, get_scorer(name), measures_classes=False)
    measures_numbers = number_metric.is_finite(numbers, numbers + 0.25)
    if not task.classes:
        return measures_numbers
    n_classes = len(task.classes)
    outcome = np.arange(3 * n_classes) % n_classes
    metric = make_metric(task, name, name)
    return not measures_numbers and metric.is_finite(outcome, _draw_scores(task, outcome))


def make_metrics(task: Task, metrics: Mapping[str, Any], ranking: str) -> dict[str, ScorerMetric]:
    """The custom metrics by name, with the ranking scorer where it is scikit-learn's.

    Raises
    ------
    CustomCodeError
        If a name cannot be used, or a value is neither a function nor a scorer.
    """
    scorer_metrics = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not re.fullmatch(MLFLOW_NAME, name):
            raise _make_error(
                f"{name!r} is not a name of a metric", "letters, digits, spaces, . or -"
            )
        if name in METRIC_LABELS or name in task.pycaret_metric_names:
            raise _make_error(f"{name!r} is already a metric of the reports", "another name")
        if not callable(value) and not isinstance(value, str):
            raise _make_error(f"{name} is a {type(value).__name__}", EXAMPLE)
        try:
            scorer_metrics[name] = make_metric(task, name, value)
        except ValueError as error:  # not the name of a scorer
            raise _make_error(f"{name}: {str(error)[:200]}", EXAMPLE) from None
    if ranking not in scorer_metrics and ranking not in task.ranking_metrics:
        scorer_metrics[ranking] = make_metric(task, ranking, ranking)
    return scorer_metrics


def check_metric(task: Task, metric: ScorerMetric, outcome: np.ndarray) -> None:
    """Check that a metric gives a number for outcomes of a fold, also for the baseline.

    Raises
    ------
    CustomCodeError
        If it raises, or gives no finite number.
    """
    random_scores = ScoredRows.from_arrays(outcome, _draw_scores(task, outcome), outcome)
    for scores, kind in (
        (random_scores.score, "random predictions"),
        (random_scores.to_baseline().score, "constant predictions, as the baseline's"),
    ):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # precision without a positive prediction warns
                value = metric(outcome, scores)
        except Exception as error:  # a function of a user may raise anything
            raise _make_error(
                f"{metric.name} fails on {kind}: {type(error).__name__}: {str(error)[:300]}",
                EXAMPLE,
            ) from None
        if not np.isfinite(value):
            raise _make_error(f"{metric.name} gives {value} for {kind} of a fold", FINITE)


def _draw_scores(task: Task, outcome: np.ndarray) -> np.ndarray:
    """Random scores of the form that the task predicts."""
    rng = np.random.default_rng(0)
    if not task.classes:
        return outcome + rng.normal(scale=np.std(outcome) or 1.0, size=len(outcome))
    if len(task.classes) == 2:
        return rng.uniform(size=len(outcome))
    return rng.dirichlet(np.ones(len(task.classes)), size=len(outcome))


def _make_error(problem: str, expected: str) -> CustomCodeError:
    return CustomCodeError(
        f"metrics: {problem}",
        expected=expected,
        next="correct `metrics` in 03_compare, or in the file of metrics_file; "
        "docs/custom.md has an example",
    )
