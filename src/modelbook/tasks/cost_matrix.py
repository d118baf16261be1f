"""Costs of decisions: by outcome and decision, per row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from modelbook.config import NONE
from modelbook.tasks.metrics import weighted_mean

FLAG_NOBODY, FLAG_EVERYBODY = "flag nobody", "flag everybody"


class DecisionCosts(ABC):
    """Costs of decisions, in one unit; a benefit is a negative cost.

    Attributes
    ----------
    flags_rows : bool
        Whether a decision flags rows, so that capacity limits it.
    """

    flags_rows: ClassVar[bool] = False

    @abstractmethod
    def compute_row_costs(self, outcome: np.ndarray, decision: Any) -> np.ndarray:
        """Cost of each row's decision, as ``Task.decide`` makes it; or of one for all rows."""

    @abstractmethod
    def get_constant_decisions(self, outcome: np.ndarray) -> Mapping[str, Any]:
        """Return decisions that are the same for every row, by name: policies without a model."""

    @abstractmethod
    def get_parameters(self) -> dict[str, Any]:
        """Return the costs by the names of their parameters."""


@dataclass(frozen=True)
class CostMatrix(DecisionCosts):
    """Cost of each cell of the confusion matrix of two classes.

    Attributes
    ----------
    false_negative, false_positive, true_positive, true_negative : float
        Cost per row.
    """

    false_negative: float = 4.0
    false_positive: float = 1.0
    true_positive: float = 0.0
    true_negative: float = 0.0
    flags_rows: ClassVar[bool] = True

    def expected_cost(
        self, positive_share: Any, true_positive_share: Any, selection_rate: Any
    ) -> Any:
        """Expected cost per row, from the shares of positive, true positive and flagged rows."""
        false_positive_share = selection_rate - true_positive_share
        return (
            self.true_positive * true_positive_share
            + self.false_negative * (positive_share - true_positive_share)
            + self.false_positive * false_positive_share
            + self.true_negative * (1 - positive_share - false_positive_share)
        )

    def compute_constant_decision_costs(self, positive_share: float) -> tuple[float, float]:
        """Expected cost per row of flagging nobody, and of flagging everybody."""
        return self.expected_cost(positive_share, 0, 0), self.expected_cost(
            positive_share, positive_share, 1
        )

    def compute_row_costs(self, outcome: np.ndarray, decision: Any) -> np.ndarray:
        """Cost of each row; a decision between 0 and 1 is the probability that a row is flagged."""
        is_positive = np.asarray(outcome) == 1
        flagged = np.asarray(decision, dtype=float)
        flag_cost = np.where(is_positive, self.true_positive, self.false_positive)
        skip_cost = np.where(is_positive, self.false_negative, self.true_negative)
        return flagged * flag_cost + (1 - flagged) * skip_cost

    def get_constant_decisions(self, outcome: np.ndarray) -> Mapping[str, Any]:
        return {FLAG_NOBODY: 0.0, FLAG_EVERYBODY: 1.0}

    def get_parameters(self) -> dict[str, Any]:
        names = {"cost_fn": "false_negative", "cost_fp": "false_positive"}
        names |= {"cost_tp": "true_positive", "cost_tn": "true_negative"}
        values = asdict(self)
        return {name: values[field] for name, field in names.items()}


@dataclass(frozen=True)
class CostMetric:
    """The expected cost per row at a threshold, as a metric function."""

    costs: CostMatrix
    threshold: float

    def __call__(self, outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return weighted_mean(self.costs.compute_row_costs(outcome, score >= self.threshold), weight)


@dataclass(frozen=True)
class ClassCosts(DecisionCosts):
    """Cost of predicting a wrong class; a correct prediction costs nothing.

    Attributes
    ----------
    classes : sequence of str
        The classes, in the order of their codes.
    errors : mapping
        Cost of an error by its actual and predicted class; any other error costs 1.
    """

    classes: Sequence[str]
    errors: Mapping[tuple[str, str], float]

    def compute_row_costs(self, outcome: np.ndarray, decision: Any) -> np.ndarray:
        matrix = 1.0 - np.eye(len(self.classes))
        for (actual, predicted), cost in self.errors.items():
            matrix[self.classes.index(actual), self.classes.index(predicted)] = cost
        return matrix[outcome, decision]

    def get_constant_decisions(self, outcome: np.ndarray) -> Mapping[str, Any]:
        return {f"predict {name} for all": code for code, name in enumerate(self.classes)}

    def get_parameters(self) -> dict[str, Any]:
        cells = [
            f"{actual}/{predicted}={np.format_float_positional(cost, trim='-')}"
            for (actual, predicted), cost in self.errors.items()
        ]
        return {"class_costs": ", ".join(cells) or NONE}


@dataclass(frozen=True)
class DeviationCosts(DecisionCosts):
    """Cost of each unit by which a number is predicted too low, or too high."""

    under: float = 1.0
    over: float = 1.0

    def compute_row_costs(self, outcome: np.ndarray, decision: Any) -> np.ndarray:
        shortfall = np.asarray(outcome, dtype=float) - decision
        return np.where(shortfall > 0, self.under * shortfall, -self.over * shortfall)

    def get_constant_decisions(self, outcome: np.ndarray) -> Mapping[str, Any]:
        """Return the mean, and the quantile that costs least."""
        share = self.under / (self.under + self.over)
        return {
            "predict the mean for all": outcome.mean(),
            f"predict the {share:.0%} quantile for all": np.quantile(outcome, share),
        }

    def get_parameters(self) -> dict[str, Any]:
        return {"cost_under": self.under, "cost_over": self.over}
