"""Fairness: metric differences between each group of a sensitive column and its largest group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.evaluation.metrics_ci import metric_with_ci
from modelbook.tasks.base import Task
from modelbook.tasks.metrics import MetricFunction
from modelbook.tasks.scored_rows import ScoredRows

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
    """Metric differences between each group and the column's largest, with intervals by entity.

    The metrics are ``Task.fairness_metrics``. For a binary task: recall (equal opportunity; Hardt
    et al. 2016), selection rate (demographic parity), ROC AUC and calibration-in-the-large. They
    cannot all be equal if the groups' base rates differ.

    Parameters
    ----------
    frame : DataFrame
        The scored rows. Groups with fewer than ``min_rows`` rows, or with too few
        entities of a class (``ScoredRows.can_be_judged``), are omitted.

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
            if mask.sum() >= min_rows and scored.select(mask).can_be_judged()
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
    """The groups' metrics and their difference, with Newcombe's (1998) square-and-add interval.

    It joins the intervals of both groups, which hold near 0 and 1, where a difference has none.
    """
    group, reference = scored.select(group_mask), scored.select(reference_mask)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rows = []
    for name, metric in metrics.items():
        one, one_low, one_high = metric_with_ci(name, metric, group, **options)
        other, other_low, other_high = metric_with_ci(name, metric, reference, **options)
        gap = one - other
        rows.append(
            {
                "metric": name,
                "n": len(group),
                "against_n": len(reference),
                "one": one,
                "other": other,
                "gap": gap,
                "low": gap - np.hypot(one - one_low, other_high - other),
                "high": gap + np.hypot(one_high - one, other - other_low),
            }
        )
    return rows


def _format_group(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
