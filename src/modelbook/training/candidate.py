"""A candidate: one model family and its cross-validation results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

BASELINE = "dummy"  # PyCaret's id of scikit-learn's DummyClassifier and DummyRegressor
BASELINE_LABEL = "baseline (dummy)"
POSTPONED = "postponed"


class FamilyPostponed(Exception):
    """Raised during the cross-validation of a family that is too slow to go first."""


@dataclass(frozen=True)
class Candidate:
    """Cross-validation of one family: each metric's mean, sd and fold values, or why it failed.

    ``fold_scores`` are the predictions for each fold's test rows. ``pipeline`` is fitted on all
    rows for model selection; None where no model was requested.
    """

    family: str
    status: str  # ok, failed, skipped; postponed: to be evaluated after the others
    fit_seconds: float = 0.0
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    label: str = ""
    fold_values: dict[str, list[float]] = field(default_factory=dict)
    pipeline: Any = field(default=None, repr=False, compare=False)
    fold_scores: list[np.ndarray] = field(default_factory=list, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.label or self.family

    def to_row(self) -> dict[str, Any]:
        """The candidate as a row of the leaderboard."""
        statistics: dict[str, dict[str, Any]] = {
            "mean": self.mean,
            "sd": self.sd,
            "folds": self.fold_values,
        }
        metric_columns = {
            f"{name}_{statistic}": values[name]
            for name in self.mean
            for statistic, values in statistics.items()
            if name in values
        }
        return {
            "candidate": self.name,
            "family": self.family,
            "status": self.status,
            **metric_columns,
            "fit_seconds": self.fit_seconds,
            "reason": self.reason,
        }

    def collect_run_metrics(self) -> dict[str, float]:
        """Mean, sd and fit time by the metric names of an MLflow run."""
        return {
            **{f"{name}_mean": value for name, value in self.mean.items()},
            **{f"{name}_sd": value for name, value in self.sd.items()},
            "fit_seconds": self.fit_seconds,
        }
