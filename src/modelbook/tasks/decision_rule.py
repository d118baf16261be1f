"""Decision rules turn scores into predictions. Without pandas, so that the server starts fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from modelbook.contract import Contract


class RowPrediction(NamedTuple):
    """Prediction for one row: a class with all class probabilities, or a number."""

    prediction: Any
    probabilities: Sequence[float] | None = None

    @property
    def scores(self) -> list[float]:
        """The scores that the decision rule was given: class probabilities, or one value."""
        return [self.prediction] if self.probabilities is None else list(self.probabilities)


@dataclass(frozen=True)
class DecisionRule(ABC):
    """Turns a model's scores (class probabilities, or one value) into predictions.

    Attributes
    ----------
    classes : tuple
        Class labels in the order of the scores; empty for a regression.
    threshold : float or None
        Probability at which the second class is predicted; None except for two classes.
    """

    classes: tuple[Any, ...] = ()
    threshold: float | None = None
    task: ClassVar[str]

    @abstractmethod
    def predict_row(self, scores: Sequence[float]) -> RowPrediction:
        """Predict one row."""

    @abstractmethod
    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Predict many rows; ``scores`` has shape (rows, classes) or (rows, 1)."""

    @property
    @abstractmethod
    def score_change_label(self) -> str:
        """Name of the quantity that ``score_change`` measures."""

    @abstractmethod
    def score_change(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Change of each row's score; both arrays have shape (rows, outputs)."""

    def changed_predictions(self, before: Sequence[Any], after: Sequence[Any]) -> np.ndarray:
        """Mask of the predictions that differ."""
        return np.array([old != new for old, new in zip(before, after, strict=True)], dtype=bool)

    @property
    def n_outputs(self) -> int:
        """Number of scores per row."""
        return len(self.classes) or 1

    def to_dict(self) -> dict[str, Any]:
        """As a JSON-serialisable dict; ``decision_rule_from_dict`` is the inverse."""
        return {"task": self.task, **asdict(self)}


class ThresholdClassifier(DecisionRule):
    """Predicts the second of two classes from a threshold on."""

    task = "binary"
    threshold: float

    def predict_row(self, scores: Sequence[float]) -> RowPrediction:
        return RowPrediction(self.classes[scores[1] >= self.threshold], scores)

    @property
    def score_change_label(self) -> str:
        return f"probability of {self.classes[1]}"

    def score_change(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return after[:, 1] - before[:, 1]

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return np.array(self.classes)[(scores[:, 1] >= self.threshold).astype(int)]


class ArgmaxClassifier(DecisionRule):
    """Predicts the class with the highest probability."""

    task = "multiclass"

    def predict_row(self, scores: Sequence[float]) -> RowPrediction:
        return RowPrediction(self.classes[max(range(len(scores)), key=scores.__getitem__)], scores)

    @property
    def score_change_label(self) -> str:
        return "probability of the class predicted before"

    def score_change(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        rows = np.arange(len(before))
        predicted = before.argmax(axis=1)
        return after[rows, predicted] - before[rows, predicted]

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return np.array(self.classes)[scores.argmax(axis=1)]


class IdentityRegressor(DecisionRule):
    """Predicts the score itself."""

    task = "regression"

    def predict_row(self, scores: Sequence[float]) -> RowPrediction:
        return RowPrediction(scores[0])

    score_change_label = "prediction"

    def score_change(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return after[:, 0] - before[:, 0]

    def changed_predictions(self, before: Sequence[Any], after: Sequence[Any]) -> np.ndarray:
        """Mask of the predictions that differ by more than a relative 1e-6."""
        return ~np.isclose(
            np.array(after, dtype=float), np.array(before, dtype=float), rtol=1e-6, atol=1e-6
        )

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 0]


DECISION_RULES: dict[str, type[DecisionRule]] = {
    rule.task: rule for rule in (ThresholdClassifier, ArgmaxClassifier, IdentityRegressor)
}


def make_decision_rule(contract: Contract, threshold: float | None) -> DecisionRule:
    """The decision rule of a contract's model; boolean targets are predicted as 1 or 0."""
    target = contract.columns[contract.target]
    classes = (0, 1) if target.type == "boolean" else tuple(target.classes)
    return DECISION_RULES[contract.task](classes, threshold)


def decision_rule_from_dict(data: dict[str, Any]) -> DecisionRule:
    """Restore a rule from ``DecisionRule.to_dict``."""
    return DECISION_RULES[data["task"]](tuple(data["classes"]), data["threshold"])
