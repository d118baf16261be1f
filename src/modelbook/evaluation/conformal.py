"""Conformal prediction intervals for regression and prediction sets of classes, by entity.

A prediction's nonconformity is its absolute out-of-fold error, or one minus the probability of
the true class (Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued classifiers"). A row of a
new entity exceeds a quantile of it with the nominal probability at most, whatever the model and the
distribution, if new entities are like those of the table. Folds keep entities together, and each
entity has the same weight however many rows it has (Lee, Barber & Willett 2023, "Distribution-free
inference with hierarchical data"; Barber et al. 2021, "Predictive inference with the jackknife+",
whose CV+ intervals have nearly the same width).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.evaluation.metrics_ci import compute_metric_with_ci
from modelbook.formatting import format_ci, format_share
from modelbook.stage.verdict import to_jsonable
from modelbook.tasks.conformal_prediction import COVERAGE, ConformalPrediction
from modelbook.tasks.metric_format import format_metric
from modelbook.tasks.scored_rows import ScoredRows

if TYPE_CHECKING:
    from modelbook.tasks.base import Task

NOMINAL_COVERAGE = 0.9  # of rows of new entities
RESAMPLES = 400  # resamples of the interval of the coverage


@dataclass(frozen=True)
class PredictionInterval:
    """Conformal prediction at a nominal coverage, and its coverage of the holdout rows with its CI.

    ``level`` and ``limit`` are ``nominal_coverage`` and ``quantile`` of ``ConformalPrediction``, by
    their keys in receipts. ``mean_size`` is the mean number of classes in a set; None for
    regression.
    """

    level: float
    limit: float
    coverage: float
    low: float
    high: float
    mean_size: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """The interval as plain data, with None for values that could not be measured."""
        return to_jsonable(asdict(self))

    @classmethod
    def from_metrics(cls, metrics: dict[str, Any]) -> PredictionInterval | None:
        """Restore from a version's metrics; None if it has no intervals or sets."""
        parameters = metrics.get("prediction_interval")
        if not parameters:
            return None
        bounds = {
            name: np.nan if parameters[name] is None else parameters[name]
            for name in ("low", "high")
        }
        return cls(**{**parameters, **bounds})

    def describe(self) -> str:
        """Describe the interval or the set, and its coverage, in a sentence."""
        ci = format_ci(self.low, self.high, format_share)
        kind = (
            f"Prediction ± {format_metric(self.limit)} is a {self.level:.0%} prediction interval"
            if self.mean_size is None
            else f"{self.level:.0%} prediction sets hold the classes with a probability of at "
            f"least {1 - self.limit:.2f}, {self.mean_size:.1f} on average"
        )
        return f"{kind}; coverage of the holdout rows {self.coverage:.0%} ({ci})."


def compute_nonconformity_quantile(nonconformity: np.ndarray, entity: np.ndarray) -> float:
    """Return the quantile that covers a new entity's row as often as ``NOMINAL_COVERAGE``.

    Infinite for few entities.
    """
    _, codes, rows_per_entity = np.unique(entity, return_inverse=True, return_counts=True)
    order = np.argsort(nonconformity, kind="stable")
    weights = 1 / rows_per_entity[codes[order]] / (len(rows_per_entity) + 1)  # 1: the new entity
    position = np.searchsorted(np.cumsum(weights), NOMINAL_COVERAGE - 1e-12)
    return float(nonconformity[order][position]) if position < len(order) else float("inf")


def measure_prediction_interval(
    task: Task, out_of_fold: ScoredRows, holdout: ScoredRows, *, seed: int
) -> PredictionInterval | None:
    """The conformal predictions of out-of-fold scores, and how often they cover the holdout.

    None for two classes, whose probabilities suffice, and for too few entities.
    """
    nonconformity = task.compute_nonconformity_scores(out_of_fold)
    if nonconformity is None:
        return None
    quantile = compute_nonconformity_quantile(nonconformity, out_of_fold.entity)
    if not np.isfinite(quantile):
        return None
    conformal = ConformalPrediction(NOMINAL_COVERAGE, quantile, tuple(task.classes))
    coverage, low, high = compute_metric_with_ci(
        COVERAGE, conformal.compute_coverage, holdout, resamples=RESAMPLES, seed=seed
    )
    mean_size = conformal.compute_mean_set_size(holdout.score) if task.classes else None
    return PredictionInterval(NOMINAL_COVERAGE, quantile, float(coverage), low, high, mean_size)
