"""Cost matrix of a binary decision, and the expected cost per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelbook.formatting import KeyNumber, key_number
from modelbook.tasks.metrics import MetricFunction, weighted_mean


@dataclass(frozen=True)
class CostMatrix:
    """Cost of each cell of the confusion matrix, in one unit; a benefit is a negative cost.

    Attributes
    ----------
    false_negative, false_positive, true_positive, true_negative : float
        Cost per row.
    """

    false_negative: float = 4.0
    false_positive: float = 1.0
    true_positive: float = 0.0
    true_negative: float = 0.0

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

    def constant_decision_costs(self, positive_share: float) -> tuple[float, float]:
        """Expected cost per row of flagging nobody, and of flagging everybody."""
        return self.expected_cost(positive_share, 0, 0), self.expected_cost(
            positive_share, positive_share, 1
        )

    def make_metric(self, threshold: float) -> MetricFunction:
        """Metric function of the expected cost per row at a threshold."""

        def cost(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
            flagged = score >= threshold
            return self.expected_cost(
                weighted_mean(outcome, weight),
                weighted_mean(outcome * flagged, weight),
                weighted_mean(flagged, weight),
            )

        return cost

    def key_number(self, row: Any, positive_share: float) -> KeyNumber:
        """Expected cost as a key number; ``row`` is of ``evaluate_metrics``."""
        costs = self.constant_decision_costs(positive_share)
        compared_with = dict(zip(("flag nobody", "flag everybody"), costs, strict=True))
        return key_number("expected cost per row", row["value"], compared_with=compared_with)
