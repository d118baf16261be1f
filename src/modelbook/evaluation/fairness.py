"""Fairness: metric differences between each group of a sensitive column and its largest group."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook.tasks.base import Task
from modelbook.tasks.metrics import MetricFunction
from modelbook.tasks.scored_rows import ScoredRows, bootstrap_ci, bootstrap_counts

COLUMNS = [
    "slice",
    "value",
    "n",
    "against",
    "against_n",
    "metric",
    "one",
    "other",
    "gap",
    "low",
    "high",
]


def measure_fairness_gaps(
    task: Task,
    scored: ScoredRows,
    frame: pd.DataFrame,
    threshold: float | None,
    *,
    min_rows: int,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Metric differences between each group and the column's largest, with cluster-bootstrap CIs.

    The metrics are ``Task.fairness_metrics``. For a binary task: recall (equal opportunity; Hardt
    et al. 2016), selection rate (demographic parity), ROC AUC and calibration-in-the-large. They
    cannot all be equal if the groups' base rates differ.

    Parameters
    ----------
    frame : DataFrame
        The scored rows. Groups with fewer than ``min_rows`` rows, or with one class, are omitted.

    Returns
    -------
    DataFrame
        Columns ``slice, value, n, against, against_n, metric, one, other, gap, low, high``; ``one``
        is the group's metric, ``other`` the largest group's.
    """
    rows: list[dict[str, Any]] = []
    metrics = task.metric_functions(threshold)
    fairness_metrics = {name: metrics[name] for name in task.fairness_metrics}
    for column in task.contract.columns_with_role("sensitive"):
        groups = {
            value: (frame[column] == value).to_numpy()
            for value in sorted(frame[column].dropna().unique())
        }
        evaluable_groups = {
            value: mask
            for value, mask in groups.items()
            if mask.sum() >= min_rows and task.is_evaluable(scored.outcome[mask])
        }
        if len(evaluable_groups) < 2:
            continue
        largest = max(evaluable_groups, key=lambda value: evaluable_groups[value].sum())
        for value, mask in evaluable_groups.items():
            if value != largest:
                group_labels = {
                    "slice": column,
                    "value": _format_group(value),
                    "against": _format_group(largest),
                }
                gaps = _compare_groups(
                    fairness_metrics, scored, mask, evaluable_groups[largest], resamples, seed
                )
                rows += [{**group_labels, **gap} for gap in gaps]
    return pd.DataFrame(rows, columns=COLUMNS)


def _compare_groups(
    metrics: dict[str, MetricFunction],
    scored: ScoredRows,
    group_mask: np.ndarray,
    reference_mask: np.ndarray,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    in_either_group = group_mask | reference_mask
    group_rows, in_group, in_reference = (
        scored.select(in_either_group),
        group_mask[in_either_group],
        reference_mask[in_either_group],
    )
    counts, unit_weights = (
        bootstrap_counts(group_rows.entity, resamples, seed),
        np.ones(int(in_either_group.sum())),
    )
    rows = []
    for name, metric in metrics.items():
        group_statistic, reference_statistic = (
            _metric_on_rows(metric, group_rows, mask) for mask in (in_group, in_reference)
        )
        low, high = bootstrap_ci(partial(_difference, group_statistic, reference_statistic), counts)
        rows.append(
            {
                "metric": name,
                "n": int(in_group.sum()),
                "against_n": int(in_reference.sum()),
                "one": group_statistic(unit_weights),
                "other": reference_statistic(unit_weights),
                "gap": group_statistic(unit_weights) - reference_statistic(unit_weights),
                "low": low,
                "high": high,
            }
        )
    return rows


def _metric_on_rows(
    metric: MetricFunction, scored: ScoredRows, mask: np.ndarray
) -> Callable[[np.ndarray], Any]:
    """A metric of the masked rows, as a function of all rows' weights."""
    subset = scored.select(mask)
    return lambda weight: metric(subset.outcome, subset.score, weight[..., mask])


def _difference(
    statistic: Callable[[np.ndarray], Any],
    reference_statistic: Callable[[np.ndarray], Any],
    weight: np.ndarray,
) -> Any:
    return statistic(weight) - reference_statistic(weight)


def _format_group(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
