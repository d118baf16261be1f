"""Names, direction and formatting of metrics, shared by all reports."""

from __future__ import annotations

from math import inf

from modelbook.formatting import choose_decimals
from modelbook.formatting import format_metric as format_metric  # noqa: PLC0414  exported again

METRIC_LABELS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "f1": "F1",
    "mcc": "MCC",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "p90_absolute_error": "90th percentile of absolute error",
    "calibration_in_the_large": "calibration-in-the-large",
    "overconfidence": "mean confidence minus accuracy",
    "cost": "expected cost per row at the threshold",
    "coverage": "coverage of prediction intervals",
}
LOWER_IS_BETTER = frozenset(
    {"log_loss", "brier", "rmse", "mae", "median_absolute_error", "p90_absolute_error", "cost"}
)
SHARES = frozenset((  # metrics from 0 to 1, whose intervals are made on the logit scale
    "roc_auc", "pr_auc", "recall", "precision", "selection_rate", "accuracy", "balanced_accuracy",
    "f1", "coverage",
))  # fmt: skip
ERRORS = frozenset({"rmse", "mae", "log_loss", "brier"})  # above 0: on the logarithmic scale
QUANTILES = {"median_absolute_error": 0.5, "p90_absolute_error": 0.9}  # absolute error
GAIN_VERBS = {  # (lower is better, improved): present and past tense
    (False, True): ("gains", "gained"), (False, False): ("loses", "lost"),
    (True, True): ("lowers", "lowered"), (True, False): ("raises", "raised"),
}  # fmt: skip
HEADLINE_METRICS = ("roc_auc", "rmse")  # headline metrics of the tasks


def metric_sign(metric: str) -> int:
    """Return 1 if a larger value of the metric is better, else -1."""
    return -1 if metric in LOWER_IS_BETTER else 1


def format_passed(passed: bool | None, is_certain: bool = True) -> str:
    """Format whether a criterion was met; None: it could not be evaluated.

    It is not certain if the confidence interval contains values beyond the limit.
    """
    if passed is None or (passed and not is_certain):
        return "inconclusive"
    return "yes" if passed else "no"


def metric_range(metric: str) -> tuple[float, float]:
    """The smallest and the largest value of a metric."""
    if metric in SHARES:
        return 0.0, 1.0
    return (0.0 if metric in ERRORS or metric in QUANTILES else -inf), inf


def metric_label(metric: str) -> str:
    """Display name of a metric."""
    return METRIC_LABELS.get(metric, metric.replace("_", " "))


def slice_metric_label(metric: str) -> str:
    """Display name of a metric in tables of slices and periods.

    There the model's threshold flags the rows, elsewhere the capacity may.
    """
    is_flagged = metric in ("recall", "precision", "selection_rate")
    return f"{metric_label(metric)} at the threshold" if is_flagged else metric_label(metric)


def format_gain(metric: str, gain: float, size: str, *, past: bool = False) -> str:
    """Describe a gain or loss: “gains 0.012 ROC AUC”, or “lowers RMSE by 0.012”."""
    lower_is_better = metric in LOWER_IS_BETTER
    verb = GAIN_VERBS[lower_is_better, gain >= 0][past]
    name = metric_label(metric)
    return f"{verb} {name} by {size}" if lower_is_better else f"{verb} {size} {name}"


def format_difference(value: float) -> str:
    """Format a difference between metric values, with its sign."""
    return ("−" if value < 0 else "+") + format_metric(abs(value))


def format_mean_sd(mean: float, sd: float) -> str:
    """Format a mean and its standard deviation, with the decimals of the mean."""
    return f"{format_metric(mean)} ± {sd:,.{choose_decimals(abs(mean))}f}"
