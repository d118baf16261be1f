"""Costs: what each outcome of a yes or no costs, and what answers cost on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelbook.tasks.metrics import Metric, mean
from modelbook.tasks.names import told


@dataclass(frozen=True)
class Costs:
    """A cost matrix, in any one unit; a benefit is a cost below 0.

    Attributes
    ----------
    miss, false_alarm, hit, rest : float
        Of a yes that is answered no, a no that is answered yes, a yes that is found, and a no that is left alone.
    """

    miss: float = 4.0
    false_alarm: float = 1.0
    hit: float = 0.0
    rest: float = 0.0

    def mean(self, yes: Any, found: Any, flagged: Any) -> Any:
        """Mean cost a row, of the shares of rows that turn out yes, that are found, and that are answered yes."""
        alarms = flagged - found
        return self.hit * found + self.miss * (yes - found) + self.false_alarm * alarms + self.rest * (1 - yes - alarms)

    def alike(self, yes: float) -> tuple[float, float]:
        """Mean cost a row of answering no to all, and yes to all."""
        return self.mean(yes, 0, 0), self.mean(yes, yes, 1)

    def metric(self, threshold: float) -> Metric:
        """Mean cost a row of the answers at a threshold."""

        def cost(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
            flagged = score >= threshold
            return self.mean(mean(outcome, weight), mean(outcome * flagged, weight), mean(flagged, weight))

        return cost

    def number(self, row: Any, yes: float) -> dict[str, str]:
        """What a row costs, as a key number; ``row`` is that of ``evaluate``, ``yes`` the share that turned out so."""
        none, all_ = self.alike(yes)
        beside = f"no to all {told(none)}, yes to all {told(all_)}"
        return {"name": "cost a row", "value": told(row["value"]), "beside": beside}
