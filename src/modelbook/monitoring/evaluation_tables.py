"""Tables of the evaluations of batches, and the metrics of a run of monitor."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from modelbook.contract import Contract
from modelbook.display.figures.monitor import DRIFT_COLUMN_NAMES
from modelbook.formatting import capitalize_first, join_names
from modelbook.monitoring import change_split, drift
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.monitoring.latest_verdict import EXPECTED_PREFIX
from modelbook.tasks.base import Task
from modelbook.tasks.metric_format import metric_label

INVALID_METRIC_CHARACTERS = re.compile(r"[^\w.-]")  # invalid in MLflow metric names
QUALITY_COLUMNS = [
    "batch",
    "rows",
    "violations",
    "duplicate_share",
    "outcome_distance",
    "score_distance",
    "drifted_share",
]


def make_drift_table(
    evaluations: list[BatchEvaluation], importance: dict[str, float]
) -> pd.DataFrame:
    """Concatenate the feature drift of all batches, with each column's importance."""
    tables = [
        evaluation.feature_drift.assign(batch=evaluation.batch)
        for evaluation in evaluations
        if len(evaluation.feature_drift)
    ]
    columns = ["batch", *drift.DRIFT_COLUMNS, "importance"]
    if not tables:
        return pd.DataFrame(columns=columns).astype({"drifted": bool})
    table = pd.concat(tables, ignore_index=True)
    return table.assign(importance=table["column"].map(importance).fillna(0))[columns]


def make_drifted_columns_table(drift_rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the drifted rows of ``make_drift_table``, with readable names.

    Its columns are those of ``DRIFT_COLUMN_NAMES``, but ``drifted`` and ``importance``.
    """
    drifted_rows = contract.replace_with_labels(drift_rows[drift_rows["drifted"]], "column")
    return (
        drifted_rows[list(DRIFT_COLUMN_NAMES)]
        .rename(columns=DRIFT_COLUMN_NAMES)
        .drop(columns=["drifted", "importance"])
        .reset_index(drop=True)
    )


def make_performance_table(evaluations: list[BatchEvaluation]) -> pd.DataFrame:
    """Concatenate the metrics of all batches, with the matched holdout's values as ``reference``.

    ``mostly_known_entities`` states whether most rows of the batch are of entities in train or
    holdout.
    """
    tables = [
        evaluation.metrics.assign(
            batch=evaluation.batch,
            mostly_known_entities=bool(
                evaluation.change and evaluation.change.has_mostly_known_entities
            ),
        )
        for evaluation in evaluations
        if len(evaluation.metrics)
    ]
    columns = ["batch", "metric", "value", "low", "high", "reference", "mostly_known_entities"]
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    )


def describe_threshold(performance: pd.DataFrame, task: Task, metrics: dict[str, Any]) -> str:
    """State the threshold of the metrics that depend on it; empty without any.

    Parameters
    ----------
    performance : pandas.DataFrame
        Of ``make_performance_table``.
    metrics : dict
        Holdout metrics stored with the model version: ``threshold``, ``business_value``.
    """
    threshold = metrics["threshold"]
    always = task.metric_functions()
    names = [
        name
        for name in performance["metric"].unique()
        if threshold is not None and name in task.metric_functions(threshold) and name not in always
    ]
    if not names:
        return ""
    has_capacity = (metrics.get("business_value") or {}).get("capacity_is_set", False)
    limit_text = ", ignoring the capacity" if has_capacity else ""
    labels = capitalize_first(join_names(map(metric_label, names)))
    return f"{labels}: at threshold {threshold:g}{limit_text}."


def make_estimated_performance_table(evaluations: list[BatchEvaluation]) -> pd.DataFrame:
    """Compare estimated and actual metric: ``batch, estimated, low, high, observed, error``."""
    rows = []
    for evaluation in evaluations:
        if estimate := evaluation.estimated_metric:
            metric_row = evaluation.find_metric(evaluation.task.headline_metric)
            value = float("nan") if metric_row is None else metric_row["value"]
            bounds = (estimate["value"], estimate["low"], estimate["high"])
            rows.append((evaluation.batch, *bounds, value, estimate["value"] - value))
    return pd.DataFrame(rows, columns=["batch", "estimated", "low", "high", "observed", "error"])


def make_change_table(evaluations: list[BatchEvaluation]) -> pd.DataFrame:
    """Return the change of the headline metric of each batch, split by cause."""
    return change_split.tabulate_splits(
        [(evaluation.batch, evaluation.change) for evaluation in evaluations if evaluation.change]
    )


def select_matched_references(
    evaluations: list[BatchEvaluation], reference: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Return the rows that each batch was compared with; the whole reference if it was not."""
    return {
        evaluation.batch: evaluation.matched.rows if evaluation.matched else reference
        for evaluation in evaluations
    }


def make_quality_table(evaluations: list[BatchEvaluation]) -> pd.DataFrame:
    """Return size, contract violations, duplicate share and drift of each batch."""
    rows = [
        {
            **evaluation.summarize_rows(),
            "batch": evaluation.batch,
            "outcome_distance": evaluation.measure_output_distance("outcome").distance,
            "score_distance": evaluation.measure_output_distance("score").distance,
        }
        for evaluation in evaluations
    ]
    return pd.DataFrame(rows, columns=QUALITY_COLUMNS)


def collect_run_metrics(evaluations: list[BatchEvaluation]) -> dict[str, float]:
    """Return the metrics to log in a run, by name.

    Names of a single batch have no batch prefix, so that runs can be compared.
    """
    if len(evaluations) == 1:
        return _collect_batch_metrics(evaluations[0])
    return {
        f"batch_{INVALID_METRIC_CHARACTERS.sub('_', evaluation.batch)[:100]}_{name}": value
        for evaluation in evaluations
        for name, value in _collect_batch_metrics(evaluation).items()
    }


def _collect_batch_metrics(evaluation: BatchEvaluation) -> dict[str, float]:
    metrics = {name: float(number) for name, number in evaluation.summarize_rows().items()}
    if estimate := evaluation.estimated_metric:
        metrics[f"{EXPECTED_PREFIX}{estimate['metric']}"] = estimate["value"]
    return metrics | {row.metric: row.value for row in evaluation.metrics.itertuples()}
