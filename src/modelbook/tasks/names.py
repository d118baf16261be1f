"""What metrics are called, which way is better, and how their values are written: the same on every page."""

from __future__ import annotations

LABELS = {
    "roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier score", "f1": "F1", "mcc": "MCC",
    "rmse": "RMSE", "mae": "MAE", "r2": "R²", "half_within": "half of the errors within",
    "most_within": "nine in ten errors within", "calibration_error": "mean predicted minus observed",
    "overconfidence": "mean confidence minus share right", "flagged": "flagged share", "cost": "cost a row",
}  # fmt: skip
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae", "half_within", "most_within", "cost"})
VERBS = {  # whether lower is better, whether it became better: now, and in the past
    (False, True): ("gains", "gained"), (False, False): ("loses", "lost"),
    (True, True): ("lowers", "lowered"), (True, False): ("raises", "raised"),
}  # fmt: skip
HEADLINES = ("roc_auc", "rmse")  # what a model of each task is first told by


def judged(passed: bool | None) -> str:
    """Whether something that was asked for was met; None could not be judged."""
    return "not judged" if passed is None else "yes" if passed else "no"


def label(metric: str) -> str:
    """A metric's name for people."""
    return LABELS.get(metric, metric.replace("_", " "))


def turned(metric: str, gain: float, size: str, *, past: bool = False) -> str:
    """What a gain does: “gains 0.012 ROC AUC”, or “lowers RMSE by 0.012” where lower is better; likewise a loss."""
    falls = metric in LOWER_IS_BETTER
    verb, name = VERBS[falls, gain >= 0][past], label(metric)
    return f"{verb} {name} by {size}" if falls else f"{verb} {size} {name}"


def told(value: float) -> str:
    """A metric's value: three decimals below ten, fewer for larger numbers."""
    return _written(value, value)


def signed(value: float) -> str:
    """A difference of a metric's values, with its sign."""
    return ("−" if value < 0 else "+") + told(abs(value))


def spread(mean: float, sd: float) -> str:
    """A mean and its standard deviation, with the decimals of the mean."""
    return f"{told(mean)} ± {_written(sd, mean)}"


def _written(value: float, like: float) -> str:
    size = abs(like)
    text = f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text
