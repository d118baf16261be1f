"""Conformal prediction: intervals for regression, sets of classes for several classes.

Without pandas, so that the server starts fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.tasks.metrics import weighted_mean

if TYPE_CHECKING:
    from modelbook.tasks.decision_rule import RowPrediction

COVERAGE = "coverage"  # name of the metric
SET_SEPARATOR = " | "  # separates the classes of a prediction set in a table


@dataclass(frozen=True)
class ConformalPrediction:
    """Quantile of the nonconformity scores, for prediction intervals and prediction sets.

    Attributes
    ----------
    nominal_coverage : float
        Nominal coverage of rows of new entities.
    quantile : float
        Half the width of an interval, or one minus the smallest probability of a class in the set.
    classes : tuple
        Class labels in the order of the scores; empty for regression.
    """

    nominal_coverage: float
    quantile: float
    classes: tuple[Any, ...] = ()

    @classmethod
    def from_metrics(
        cls, metrics: dict[str, Any], classes: Sequence[Any]
    ) -> ConformalPrediction | None:
        """Restore from a version's metrics; None if it has no intervals or sets."""
        parameters = metrics.get("prediction_interval") or {}
        return (
            cls(parameters["level"], parameters["limit"], tuple(classes))
            if "limit" in parameters
            else None
        )

    def make_response_fields(self, prediction: RowPrediction) -> dict[str, Any]:
        """Return the fields of a row's response: ``interval``, or ``prediction_set``."""
        if prediction.probabilities is None:
            low = prediction.prediction - self.quantile
            high = prediction.prediction + self.quantile
            return {"interval": {"low": low, "high": high}}
        [is_member] = self._find_set_members(np.array([prediction.probabilities]))
        labels = [str(label) for label, is_in_set in zip(self.classes, is_member) if is_in_set]
        return {"prediction_set": labels}

    def make_output_columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Return output columns of rows; ``scores`` has shape (rows, classes) or (rows, 1)."""
        if not self.classes:
            return {
                "prediction_low": scores[:, 0] - self.quantile,
                "prediction_high": scores[:, 0] + self.quantile,
            }
        labels = np.array([str(label) for label in self.classes], dtype=object)
        sets = [
            SET_SEPARATOR.join(labels[is_member]) for is_member in self._find_set_members(scores)
        ]
        return {"prediction_set": np.array(sets, dtype=object)}

    def compute_coverage(self, outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        """Share of rows whose outcome is covered: a metric."""
        if score.ndim == 1:
            is_inside = np.abs(outcome - score) <= self.quantile
        else:
            is_inside = self._find_set_members(score)[np.arange(len(outcome)), outcome]
        return weighted_mean(is_inside.astype(float), weight)

    def compute_mean_set_size(self, scores: np.ndarray) -> float:
        """Mean number of classes in a set."""
        return float(self._find_set_members(scores).sum(axis=1).mean())

    def _find_set_members(self, scores: np.ndarray) -> np.ndarray:
        """Which classes are in each row's set; the most probable always is."""
        is_member = scores >= 1 - self.quantile
        is_member[np.arange(len(scores)), scores.argmax(axis=1)] = True
        return is_member
