"""Collect a version's results as plain data, from which the model card is rendered."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES
from modelbook.evaluation.conformal import PredictionInterval
from modelbook.evaluation.error_slices import compute_min_leaf_rows
from modelbook.registry.versions import ModelVersion
from modelbook.tasks.base import Task
from modelbook.tasks.power import compute_detectable_difference, standard_error

if TYPE_CHECKING:
    from modelbook.gate import Decision  # type only: finalize must not depend on the gate


def collect_card_data(
    version: ModelVersion, decision: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Collect everything that a model card shows; what was not recorded is empty.

    Parameters
    ----------
    version : ModelVersion
        Version to describe.
    decision : dict, optional
        The gate's decision from ``describe_decision``; None before the gate has run.
    """
    contract, metrics = version.contract, version.metrics
    task = tasks.get_task(contract)
    importance, importance_sd = (metrics.get(name, {}) for name in ("importance", "importance_sd"))
    return {
        "model": version.name,
        "task": task.name,
        "version": version.number,
        "tags": version.tags,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "table": _describe_table(contract),
        "target": _describe_column(contract, contract.target),
        "entity": _describe_column(contract, contract.entity)
        if contract.entity
        else {"label": "row"},
        "time": _describe_column(contract, contract.time) if contract.time else {},
        "features": [_describe_column(contract, name) for name in contract.input_names],
        "sensitive": [
            _describe_column(contract, name) for name in contract.columns_with_role("sensitive")
        ],
        "dropped": [
            {**_describe_column(contract, name), "reason": contract.columns[name].reason or ""}
            for name in contract.columns_with_role("dropped")
        ],
        "split": SPLIT_STRATEGIES[metrics["split"]].explain_holdout(contract),
        "metrics": {name: metrics.get(name, default) for name, default in _DEFAULT_METRICS.items()}
        | {"evaluation": _add_detectable_differences(metrics.get("evaluation", []))},
        "importance": [
            {"feature": contract.label(name), "mean": mean, "sd": importance_sd.get(name)}
            for name, mean in sorted(importance.items(), key=lambda pair: -pair[1])
        ],
        "slices": _label_slices(contract, metrics.get("slices", [])),
        "sensitive_gaps": _label_slices(contract, metrics.get("gaps", [])),
        "gaps": _list_gaps(task, metrics.get("gaps_by_significance", {})),
        "text": _describe_quality(task, metrics),
        "slicing": [contract.label(name) for name in contract.slices],
        "gate_decision": decision or {},
    }


def _list_gaps(
    task: Task, gaps_by_significance: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return all gaps of ``fairness.summarize_gaps``, largest first, each with its ``status``."""
    statuses = {"conclusive": "significant", "inconclusive": "inconclusive", "small": "negligible"}
    rows = [
        {**task.label_gap(row), "status": statuses[kind]}
        for kind in gaps_by_significance
        for row in gaps_by_significance[kind]
    ]
    return sorted(rows, key=lambda row: -abs(row["gap"]))


def describe_decision(
    decision: Decision, promotion_result: dict[str, Any], *, commit: str, gate_mode: str
) -> dict[str, Any]:
    """Describe the gate's decision and its effect as plain data.

    Parameters
    ----------
    promotion_result : dict
        Result of ``promotion.apply_decision``.
    commit, gate_mode : str
        Commit of the gate's code; ``enforce`` or ``dry_run``.
    """
    return {
        "action": decision.action,
        "criteria": decision.to_records(),
        "reasons": decision.reasons,
        "commit": commit,
        "gate": gate_mode,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **promotion_result,
    }


def _describe_quality(task: Task, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the task's sentences about quality, and its headline metric."""
    rows = {row["metric"]: row for row in metrics.get("evaluation", [])}
    threshold = metrics.get("threshold")
    interval = PredictionInterval.from_metrics(metrics)
    slices = pd.DataFrame(metrics.get("slices", []))
    value, gaps = metrics.get("business_value", {}), metrics.get("gaps_by_significance", {})
    has_capacity = value.get("capacity_is_set", False)
    headline = rows.get(task.headline_metric, {})
    return task.get_phrases() | {
        "headline": headline,
        "caption": task.make_metrics_caption(threshold, has_capacity=has_capacity) if rows else "",
        "quality": task.describe_quality(rows, threshold, value) if rows else "",
        "calibration": task.describe_calibration(rows) if task.calibration_metric in rows else "",
        "weakest_slice": task.describe_weakest_slice(slices, headline["value"]) if headline else "",
        "gaps": task.describe_fairness_gaps(gaps) if gaps else [],
        "business_value": task.describe_business_value(value) if value else "",
        "interval": interval.describe() if interval else "",
        "error_slice_rows": compute_min_leaf_rows(metrics.get("slice_rows") or 0),
        "gap_limit": _describe_gap_limit(task, gaps),
        "overall": task.describe_overall_metrics(list(itertools.chain(*gaps.values()))),
    }


def _describe_gap_limit(task: Task, gaps: dict[str, list[dict[str, Any]]]) -> str:
    """Return the smallest gap that matters; empty if no gap was measured."""
    row = next(itertools.chain(*gaps.values()), None)
    return f"{100 * row['relevant_gap'] / row.get('scale', 1.0):g} {task.gap_unit}" if row else ""


def _add_detectable_differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each metric the minimum detectable difference from a fixed value (power 80%)."""
    return [
        row | {"detectable": compute_detectable_difference(standard_error(row["low"], row["high"]))}
        for row in rows
    ]


_DEFAULT_METRICS: dict[str, Any] = {
    "name": "", "threshold": None, "rows": {}, "entities": {}, "periods": [], "evaluation": [],
    "calibration": [], "gain": [], "slice_rows": None, "baseline_comparison": [], "sentences": {},
    "business_value": {}, "gaps_by_significance": {}, "by_period": [],
}  # fmt: skip


def _describe_table(contract: Contract) -> dict[str, Any]:
    names = ("title", "question", "source", "licence", "use", "not_for", "limits", "contact")
    return {name: getattr(contract, name) for name in names}


def _describe_column(contract: Contract, name: str) -> dict[str, str]:
    return {"name": name, "label": contract.label(name), "meaning": contract.columns[name].meaning}


def _label_slices(contract: Contract, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the labels of columns, values and groups."""
    labelled_rows = []
    for row in rows:
        keys = {"value", "against"} & row.keys()
        labels = {key: contract.label_value(row["slice"], row[key]) for key in keys}
        labels["group"] = contract.label_group(row["slice"], row["value"])
        labelled_rows.append({**row, **labels, "slice": contract.label(row["slice"])})
    return labelled_rows
