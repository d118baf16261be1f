"""Regression: predicted values and errors in the target's unit."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from modelbook.config import Finalize
from modelbook.formatting import KeyNumber, key_number
from modelbook.tasks.base import (
    MetricRows,
    Task,
    describe_size,
    is_beyond_chance,
    metric_key_number,
)
from modelbook.tasks.cost_matrix import DeviationCosts
from modelbook.tasks.metric_format import QUANTILES, format_gain, format_metric
from modelbook.tasks.metrics import MetricFunction, safe_divide, weighted_mean
from modelbook.tasks.scored_rows import ScoredRows, assign_quantile_bins, t_quantile

MAX_POINTS = 400  # rows of a legible scatter plot
ERROR_BINS = 30  # of the histogram of errors, between their 0.5% and 99.5% quantiles
ROUNDING_TOLERANCE = 1e-12  # relative size below which a value counts as 0
LOSS_BOUND_FACTOR = 10  # times the 90th percentile of absolute errors
SPREAD_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles that summarise a distribution


def rmse(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Root of the mean squared error."""
    return np.sqrt(weighted_mean((score - outcome) ** 2, weight))


def mae(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean absolute error."""
    return weighted_mean(np.abs(score - outcome), weight)


def r2(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Share of variance explained; 0 for a constant prediction of the mean."""
    deviations = outcome - outcome.mean()  # avoids cancellation for large means
    variance = weighted_mean(deviations**2, weight) - weighted_mean(deviations, weight) ** 2
    has_variance = variance > ROUNDING_TOLERANCE * (deviations**2).max()
    return 1 - safe_divide(
        weighted_mean((score - outcome) ** 2, weight), np.where(has_variance, variance, 0)
    )


def mean_error(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
    """Mean of predicted minus actual; 0 is perfect."""
    bias = weighted_mean(score - outcome, weight)
    # Removes rounding noise around 0.
    return np.where(np.abs(bias) > ROUNDING_TOLERANCE * np.abs(outcome).max(), bias, 0.0)[()]


def absolute_error_quantile(quantile: float) -> MetricFunction:
    """Metric function of a quantile of the absolute errors."""

    def weighted_quantile(outcome: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Any:
        errors = np.abs(score - outcome)
        order = np.argsort(errors, kind="stable")
        is_reached = weight[..., order].cumsum(axis=-1) >= quantile * weight.sum(
            axis=-1, keepdims=True
        )
        return errors[order][is_reached.argmax(axis=-1)]

    return weighted_quantile


METRICS: dict[str, MetricFunction] = {
    "rmse": rmse,
    "mae": mae,
    "r2": r2,
    **{name: absolute_error_quantile(level) for name, level in QUANTILES.items()},
    "calibration_in_the_large": mean_error,
}


def tabulate_errors_by_decile(scored: ScoredRows) -> pd.DataFrame:
    """Errors (predicted minus actual) by decile of the prediction.

    Columns ``predicted, median, q05, q25, q75, q95, rows``.
    """
    errors = scored.score - scored.outcome
    bin_index = assign_quantile_bins(scored.score, 10)
    rows = []
    for bin_number in np.unique(bin_index):
        in_bin = bin_index == bin_number
        low, lower, middle, upper, high = np.quantile(errors[in_bin], SPREAD_QUANTILES)
        rows.append(
            (scored.score[in_bin].mean(), middle, low, lower, upper, high, int(in_bin.sum()))
        )
    return pd.DataFrame(rows, columns=["predicted", "median", "q05", "q25", "q75", "q95", "rows"])


class Regression(Task):
    """Regression."""

    name = "regression"
    experiment_type = "regression"
    response_method = "predict"
    default_families = (
        "ridge", "lightgbm", "hgb", "catboost", "et", "rf", "lr", "lasso", "en", "huber", "knn",
        "dt",
    )  # fmt: skip
    small_table_families = ()
    pycaret_metric_names: ClassVar = {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}
    ranking_metrics = ("rmse", "mae", "r2")
    simple_families = ("ridge", "lr", "lasso", "en", "br", "huber")
    headline_metric = baseline_metric = "rmse"
    quality_metric, default_min_quality, quality_chance_level = "r2", 0.1, 0.0
    champion_metrics = ("rmse", "mae")
    slice_metrics = ("mae", "calibration_in_the_large")
    fairness_metrics = ("mae", "rmse", "calibration_in_the_large")
    gap_unit = "percent of the comparison group's value"
    row_error_label = row_loss_label = "absolute error"
    row_loss_bound = None
    univariate_measure, univariate_chance_level = "rank correlation", 0.0

    def predict_scores(self, pipeline: Any, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(pipeline.predict(rows.reset_index(drop=True)), dtype=float)

    def prediction_columns(self) -> dict[str, str]:
        return {"prediction": "double"}

    def make_predictions(self, score: np.ndarray, threshold: float | None) -> pd.DataFrame:
        return pd.DataFrame({"prediction": score})

    def scores_from_predictions(self, predictions: pd.DataFrame) -> np.ndarray:
        return predictions["prediction"].to_numpy()

    def metric_functions(self, threshold: float | None = None) -> dict[str, MetricFunction]:
        return METRICS

    def choose_threshold(self, scored: ScoredRows, costs: Any) -> tuple[float | None, pd.DataFrame]:
        """No threshold; out-of-fold error quantiles: columns ``quantile, absolute_error``."""
        quantiles = np.linspace(0.05, 0.95, 19)
        errors = np.quantile(np.abs(scored.score - scored.outcome), quantiles)
        return None, pd.DataFrame({"quantile": quantiles, "absolute_error": errors})

    def read_costs(self, params: Finalize) -> DeviationCosts:
        return DeviationCosts(params.cost_under, params.cost_over)

    def measure_decisions(self, outcome: np.ndarray, decision: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean prediction": decision, "mean absolute error": np.abs(decision - outcome)}

    def compute_curves(
        self, scored: ScoredRows, *, resamples: int, seed: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A sample of rows (``predicted, actual``), and errors by decile of the prediction."""
        sample = np.random.default_rng(seed).permutation(len(scored))[:MAX_POINTS]
        return pd.DataFrame(
            {"predicted": scored.score[sample], "actual": scored.outcome[sample]}
        ), tabulate_errors_by_decile(scored)

    def tabulate_errors(self, scored: ScoredRows, threshold: float | None) -> pd.DataFrame:
        """Histogram of the errors (predicted minus actual); columns ``low, high, rows``.

        0 is an edge, so that no bin holds predictions both too high and too low. Only the outer
        bins, which also take the errors beyond the 0.5% and 99.5% quantiles, may hold both.
        """
        errors = scored.score - scored.outcome
        low, high = np.quantile(errors, [0.005, 0.995])
        width = (high - low) / ERROR_BINS or 1.0
        edges = width * np.arange(np.floor(low / width), np.floor(high / width) + 2)
        counts, _ = np.histogram(np.clip(errors, edges[0], edges[-1]), bins=edges)
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": counts})

    def compute_row_errors(self, scored: ScoredRows) -> np.ndarray:
        return np.abs(scored.score - scored.outcome)

    def compute_row_losses(self, scored: ScoredRows) -> np.ndarray:
        return self.compute_row_errors(scored)

    def compute_nonconformity_scores(self, scored: ScoredRows) -> np.ndarray:
        return self.compute_row_errors(scored)

    def choose_loss_bound(self, metrics: dict[str, Any]) -> float | None:
        """10 times the holdout's 90th percentile of absolute errors; larger losses are clipped."""
        p90_errors = [
            row["value"] for row in metrics["evaluation"] if row["metric"] == "p90_absolute_error"
        ]
        return LOSS_BOUND_FACTOR * p90_errors[0] if any(p90_errors) else None

    def tabulate_actual_and_predicted(self, scored: ScoredRows) -> pd.DataFrame:
        columns = {"actual": scored.outcome, "predicted": scored.score}
        return pd.DataFrame({name: map(format_metric, column) for name, column in columns.items()})

    def summarize_outcome(self, outcome: np.ndarray) -> dict[str, float]:
        return {"mean": outcome.mean()}

    def compute_improvement(self, metric: str, value: Any, reference: Any) -> Any:
        """Relative reduction of the error: unitless, so one margin fits every target."""
        return np.where(
            reference == 0, np.sign(reference - value), 1 - safe_divide(value, reference)
        )[()]

    def normalization_factor(self, reference: float) -> float:
        return 1 / reference if reference else float("nan")

    def compute_outcome_sd(self, rows: MetricRows) -> float:
        rmse, bias = (rows[name]["baseline"] for name in ("rmse", self.calibration_metric))
        return float(np.sqrt(max(rmse**2 - bias**2, 0.0)))

    def make_drift_frame(self, score: np.ndarray, outcome: Any) -> tuple[pd.DataFrame, list[str]]:
        return pd.DataFrame({"score": score, "outcome": outcome}), ["score", "outcome"]

    def assess_metric_drop(self, row: Any) -> tuple[float, bool, str]:
        value, reference = row["value"], row["reference"]
        relative_increase = value / reference - 1 if reference else float("inf")
        reference_error = row.get("reference_high", reference) - reference
        is_significant = is_beyond_chance(value - reference, value - row["low"], reference_error)
        sentence = (
            f"RMSE {format_metric(value)} (lower 95% bound {format_metric(row['low'])}) is "
            f"{relative_increase:.0%} above the matched holdout's {format_metric(reference)}"
        )
        return relative_increase, is_significant, sentence

    def describe_gain(self, metric: str, gain: float, low: float, high: float) -> str:
        return format_gain(metric, gain, describe_size(gain, low, high, "{:.1%}".format))

    def format_drop_limit(self, max_drop: float) -> str:
        return f"{max_drop:.0%}"

    def assess_calibration(self, rows: MetricRows) -> tuple[float, str]:
        """In standard deviations of the outcome."""
        bias = rows[self.calibration_metric]["value"]
        outcome_sd = self.compute_outcome_sd(rows)
        relative_bias = bias / outcome_sd if outcome_sd else 0.0
        direction = "high" if bias > 0 else "low"
        return relative_bias, (
            f"predictions are {format_metric(abs(bias))} too {direction} on average, "
            f"{abs(relative_bias):.0%} of a standard deviation"
        )

    def summarize_target_by_period(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Mean and quantiles by period.

        Columns ``period, rows, mean, low, high, q05, q25, median, q75, q95``.
        """
        rows = []
        for period, group in self.contract.encode_checked_target(frame).groupby(
            self.contract.row_periods(frame)
        ):
            standard_error = group.sem() if len(group) > 1 else np.nan
            halfwidth = standard_error * t_quantile(max(len(group) - 1, 1))
            mean_and_ci = (group.mean(), group.mean() - halfwidth, group.mean() + halfwidth)
            rows.append(
                (str(period), len(group), *mean_and_ci, *group.quantile(list(SPREAD_QUANTILES)))
            )
        names = ["period", "rows", "mean", "low", "high", "q05", "q25", "median", "q75", "q95"]
        return pd.DataFrame(rows, columns=names)

    def univariate_score(
        self, values: pd.Series, is_categorical: bool, outcome: pd.Series
    ) -> tuple[float, str]:
        """Absolute Spearman rank correlation; categorical columns are target-encoded."""
        encoded_values = values.map(outcome.groupby(values).mean()) if is_categorical else values
        has_value = encoded_values.notna()
        if encoded_values[has_value].nunique() < 2 or outcome[has_value].nunique() < 2:
            return 0.0, ""
        correlation = float(encoded_values[has_value].rank().corr(outcome[has_value].rank()))
        direction = "higher" if correlation >= 0 else "lower"
        return abs(correlation), "" if is_categorical else direction

    @property
    def _target_label(self) -> str:
        return self.contract.label(self.contract.target)

    def describe_target(self, frame: pd.DataFrame, population: str) -> str:
        outcome = self.contract.encode_checked_target(frame)
        q25, q75 = outcome.quantile([0.25, 0.75])
        values = {"label": self._target_label, "mean": outcome.mean(), "q25": q25, "q75": q75}
        [text] = self._render("target", population=population, **values)
        return text

    def target_key_number(self, frame: pd.DataFrame) -> KeyNumber:
        mean = self.contract.encode_checked_target(frame).mean()
        return key_number(f"mean {self._target_label}", mean)

    def make_key_numbers(self, rows: MetricRows) -> list[KeyNumber]:
        metrics_shown = {"RMSE": "rmse", "MAE": "mae", "R²": "r2"}
        p90_error = rows["p90_absolute_error"]["value"]
        return [
            *(metric_key_number(name, rows[metric]) for name, metric in metrics_shown.items()),
            key_number("90% of predictions within", p90_error, context="of the actual value"),
        ]

    def get_phrases(self) -> dict[str, str]:
        return {
            "baseline": "a model that predicts the mean for every row",
            "prediction": f"a value of “{self._target_label}”",
            "target": f"“{self._target_label}”",
            "importance": "the RMSE that is added when a column is shuffled",
        }
