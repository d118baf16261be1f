"""Comparison of the model with the baseline and a simple model on the same rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.evaluation.metrics_ci import (
    compute_paired_difference,
    evaluate_metrics,
    label_metrics,
)
from modelbook.formatting import capitalize_first
from modelbook.tasks.base import Task
from modelbook.tasks.metric_format import LOWER_IS_BETTER, format_metric, metric_label
from modelbook.tasks.scored_rows import ScoredRows

CAPTION = "Metrics on the same holdout rows with 95% CI, and the model's paired gain over each"
MODEL, BASELINE, SIMPLE = "model", "baseline", "simple"


def compare_with_baseline(
    task: Task,
    model_name: str,
    scored: ScoredRows,
    simple_model: tuple[str, ScoredRows] | None,
    *,
    baseline_score: Any = None,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Evaluate the model, a simple model and the baseline, and the model's gain over the other two.

    Gains are paired: each jackknife resample leaves out the same entities for both models.

    Parameters
    ----------
    model_name, scored : str, ScoredRows
        The final model.
    simple_model : pair of str and ScoredRows, or None
        The simple model; None if the final model is itself simple.
    baseline_score : optional
        The baseline's constant prediction; by default that of these rows.

    Returns
    -------
    DataFrame
        Columns ``is`` (model, simple, baseline), ``candidate, metric, value, low, high``, and
        ``gain, gain_low, gain_high``, empty for the model itself. A gain above 0 is an improvement
        in every metric; for a regression it is the relative reduction of the error.
    """
    options = {"resamples": resamples, "seed": seed}
    names = list(dict.fromkeys((task.headline_metric, task.baseline_metric)))
    metrics = {metric: task.metric_functions()[metric] for metric in names}
    baseline = scored.to_baseline(baseline_score)
    candidates = [(MODEL, model_name, scored), (BASELINE, BASELINE, baseline)]
    if simple_model:
        candidates.insert(1, (SIMPLE, *simple_model))
    rows: list[dict[str, Any]] = []
    for kind, candidate_name, candidate_scores in candidates:
        table = evaluate_metrics(candidate_scores, metrics, **options).drop(columns="baseline")
        for row in table.to_dict("records"):
            gain: tuple[float, ...] = ()
            if kind != MODEL:
                gain = compute_paired_difference(
                    task, scored, candidate_scores, row["metric"], **options
                )
            gains = dict(zip(("gain", "gain_low", "gain_high"), gain))
            rows.append({"is": kind, "candidate": candidate_name, **row, **gains})
    return pd.DataFrame(rows).sort_values(
        "metric", key=lambda column: column.map(names.index), kind="stable"
    )


def beats_simple_model(comparison: pd.DataFrame) -> bool:
    """Whether the model is significantly better than the simple model in any metric."""
    return SIMPLE not in set(comparison["is"]) or bool(find_gains_over_simple(comparison))


def find_gains_over_simple(comparison: pd.DataFrame) -> list[str]:
    """Metrics in which the model is significantly better than the simple model."""
    is_gain = (comparison["is"] == SIMPLE) & (comparison["gain_low"] > 0)
    return comparison.loc[is_gain, "metric"].tolist()


def describe_rule(task: Task) -> str:
    """Describe when the simple model is preferred: the rule of the verdict, with its metrics."""
    metrics = dict.fromkeys((task.headline_metric, task.baseline_metric))
    return (
        "Prefer the simple model unless the gain over it is significant in "
        f"{' or '.join(map(metric_label, metrics))}: it is faster, and easier to explain and to "
        "maintain."
    )


def describe_gain_over_simple(task: Task, comparison: pd.DataFrame) -> str:
    """Describe the model's gain over the simple model, from ``compare_with_baseline``."""
    simple_rows = comparison[comparison["is"] == SIMPLE].to_dict("records")
    if not simple_rows:
        return "The model is itself a simple one, so it is compared with the baseline only."
    headline_row, *other_rows = simple_rows
    model = comparison.loc[comparison["is"] == MODEL, "candidate"].iloc[0]
    if pd.isna(headline_row["gain_low"]):
        return (
            f"The gain of {model} over {headline_row['candidate']} cannot be estimated: too few "
            "entities."
        )
    is_raised = headline_row["gain"] >= 0 and headline_row["metric"] not in LOWER_IS_BETTER
    gain = _describe_gain(task, headline_row)
    sentence = (
        f"{capitalize_first(model)} {gain} {'over' if is_raised else 'against'} "
        f"{headline_row['candidate']}"
    )
    if headline_row["gain_low"] > 0:
        return f"{sentence}."
    if headline_row["gain_high"] < 0:
        return f"{sentence}: prefer the simple model."
    significant_rows = [row for row in other_rows if row["gain_low"] > 0]
    if not significant_rows:
        return f"{sentence}, which is within noise: prefer the simple model."
    gain = _describe_gain(task, significant_rows[0])
    return f"{sentence}, which is within noise; but it {gain}."


def to_display_table(comparison: pd.DataFrame) -> pd.DataFrame:
    """The table with display names of metrics and columns."""
    return label_metrics(comparison.drop(columns="is")).rename(
        columns={"gain": "model's gain", "gain_low": "gain low", "gain_high": "gain high"}
    )


def _format_gain(value: float) -> str:
    return "" if pd.isna(value) else format_metric(value)  # the model has no gain over itself


COLUMN_FORMATS = dict.fromkeys(
    ("value", "low", "high", "model's gain", "gain low", "gain high"), _format_gain
)


def describe_holdout_use(n_holdout_evaluations: int) -> str:
    """Describe how often the holdout has been used, and the selection bias that follows."""
    if n_holdout_evaluations <= 1:
        return (
            "The registry has no earlier evaluation on this holdout. Evaluations outside the "
            "registry would bias these metrics, and are unknown."
        )
    return (
        "This holdout, or at least half of its entities, has been evaluated "
        f"{n_holdout_evaluations} times: the best of several results is optimistically biased. "
        "Draw a new holdout (another seed in ingest) for an unbiased estimate."
    )


def _describe_gain(task: Task, row: dict[str, Any]) -> str:
    return task.describe_gain(row["metric"], row["gain"], row["gain_low"], row["gain_high"])
