"""Conformal prediction intervals of a regression, by entity.

The half width is a quantile of absolute out-of-fold errors: folds keep entities together, and each
entity has the same weight however many rows it has (Lee, Barber & Willett 2023, "Distribution-free
inference with hierarchical data"; Barber et al. 2021, "Predictive inference with the jackknife+",
whose CV+ intervals have nearly the same width). An interval covers a row of a new entity with about
the nominal probability, whatever the model and the distribution of its errors, if new entities are
like those of the table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelbook.evaluation.metrics_ci import metric_with_ci
from modelbook.tasks.metric_format import format_metric
from modelbook.tasks.metrics import weighted_mean
from modelbook.tasks.scored_rows import ScoredRows

LEVEL = 0.9  # nominal coverage


@dataclass(frozen=True)
class PredictionInterval:
    """Prediction ± ``halfwidth``, with its coverage of the holdout rows and the coverage's CI."""

    level: float
    halfwidth: float
    coverage: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """The interval as plain data; what could not be measured is None."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}

    def describe(self) -> str:
        """Describe the interval and its coverage in a sentence."""
        ci = (
            f"95% CI {self.low:.0%}–{self.high:.0%}"
            if np.isfinite(self.low)
            else "too few entities for a confidence interval"
        )
        return (
            f"Prediction ± {format_metric(self.halfwidth)} is a {self.level:.0%} prediction "
            f"interval; it covers {self.coverage:.0%} of the holdout rows ({ci})."
        )


def conformal_halfwidth(out_of_fold: ScoredRows, level: float = LEVEL) -> float:
    """The quantile of absolute errors that covers a new entity's row; infinite for few entities."""
    errors = np.abs(out_of_fold.outcome - out_of_fold.score)
    _, codes, rows_per_entity = np.unique(
        out_of_fold.entity, return_inverse=True, return_counts=True
    )
    n_entities = len(rows_per_entity)
    order = np.argsort(errors, kind="stable")
    weights = 1 / rows_per_entity[codes[order]] / (n_entities + 1)  # the new entity has the rest
    position = np.searchsorted(np.cumsum(weights), level - 1e-12)
    return float(errors[order][position]) if position < len(errors) else float("inf")


def measure_prediction_interval(
    out_of_fold: ScoredRows, holdout: ScoredRows, *, seed: int
) -> PredictionInterval:
    """The interval of out-of-fold errors, and how often it covers the holdout's outcomes."""
    halfwidth = conformal_halfwidth(out_of_fold)

    def coverage(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        return weighted_mean((np.abs(outcome - score) <= halfwidth).astype(float), weight)

    measured = metric_with_ci("coverage", coverage, holdout, resamples=1, seed=seed)
    return PredictionInterval(LEVEL, halfwidth, *map(float, measured))
