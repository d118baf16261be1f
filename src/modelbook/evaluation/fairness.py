"""Fairness: metric differences between each group of a sensitive column and its largest group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.evaluation.metrics_ci import compute_metric_with_ci, select_groups
from modelbook.tasks.base import Task
from modelbook.tasks.intervals import Interval, read_gap, subtract
from modelbook.tasks.metric_format import metric_range
from modelbook.tasks.metrics import MetricFunction
from modelbook.tasks.power import compute_detectable_difference
from modelbook.tasks.scored_rows import ScoredRows

SMALLEST_GAP = 0.01  # smallest gap for which required rows are computed
AT_CAPACITY = "at capacity"
COLUMNS = ["slice", "value", "n", "reference", "reference_n", "metric", "decision", "rate"]
COLUMNS += ["reference_rate", "scale", "group_metric", "group_low", "group_high"]
COLUMNS += ["reference_metric", "reference_low", "reference_high", "gap", "low", "high", "overall"]


def measure_fairness_gaps(
    task: Task,
    scored: ScoredRows,
    frame: pd.DataFrame,
    threshold: float | None,
    decision_threshold: float | None,
    *,
    columns: Sequence[str] | None = None,
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
    decision_threshold : float or None
        The lowest score that is acted on, by which rows are flagged: above ``threshold``, the
        version's own, if the capacity is smaller.
    frame : DataFrame
        The scored rows. Groups with fewer than ``min_rows`` rows, or with too few
        entities of a class (``ScoredRows.has_enough_entities``), are omitted.
    columns : sequence of str, optional
        The columns whose values make the groups; by default the sensitive ones.

    Returns
    -------
    DataFrame
        Columns ``slice, value, n, reference, reference_n, metric, decision, rate, reference_rate,
        scale, group_metric, group_low, group_high, reference_metric, reference_low,
        reference_high, gap, low, high, overall``. The reference is the largest group; ``overall``
        is the metric of all scored rows;
        ``scale`` is what a limit of 1 is in the metric's unit: for a regression, the first metric
        of the reference;
        ``decision`` is ``at capacity`` for metrics of rows that are flagged up to the capacity, or
        empty; the rates are the groups' shares of positive rows, None unless the task is binary.
    """
    rows: list[dict[str, Any]] = []
    metrics = task.metric_functions(decision_threshold)
    is_limited = decision_threshold != threshold
    limited_metrics = metrics.keys() - task.metric_functions().keys() if is_limited else set()
    fairness_metrics = {name: metrics[name] for name in task.fairness_metrics}
    unit_weights = np.ones(len(scored))
    overall = {
        name: float(metric(scored.outcome, scored.score, unit_weights))
        for name, metric in fairness_metrics.items()
    }
    for column in columns or task.contract.columns_with_role("sensitive"):
        groups = {
            value: scored.select(mask)
            for _, value, mask in select_groups(scored, frame, [column], min_rows)
        }
        if len(groups) < 2:
            continue
        largest = max(groups, key=lambda value: len(groups[value]))
        for value, group in groups.items():
            if value != largest:
                gaps = _compare_groups(fairness_metrics, group, groups[largest], resamples, seed)
                labels = {
                    "slice": column,
                    "value": value,
                    "reference": largest,
                    "rate": task.positive_rate(group),
                    "reference_rate": task.positive_rate(groups[largest]),
                    "scale": 1 / task.normalization_factor(gaps[0]["reference_metric"]),
                }
                for gap in gaps:
                    decision = AT_CAPACITY if gap["metric"] in limited_metrics else ""
                    more = {"decision": decision, "overall": overall[gap["metric"]]}
                    rows.append({**labels, **gap, **more})
    return pd.DataFrame(rows, columns=COLUMNS)


def summarize_gaps(
    contract: Contract, gaps: pd.DataFrame, relevant_gap: float
) -> dict[str, list[dict[str, Any]]]:
    """Sort gaps into significant, inconclusive and negligible ones.

    ``relevant_gap`` is a share; of a regression, of the reference group's first metric. The
    intervals of the result are widened by Bonferroni's correction for the number of gaps
    (``Interval.widen``); ``low_alone, high_alone`` are those of the gap alone.

    Returns
    -------
    dict
        ``conclusive``: gaps whose interval excludes 0, the largest first;
        ``inconclusive``: gaps whose interval contains 0 and a gap of ``relevant_gap``; those of
        sensitive columns first, and of these the ones that are significant alone. ``rows_needed``
        are the group's rows in a holdout with a power of 80% for a gap of ``relevant_gap``, if the
        reference group grows alike. ``small``: gaps whose interval contains 0, but no gap of
        ``relevant_gap``. Groups have display labels; ``relevant_gap`` is in the metric's unit.
    """
    conclusive, inconclusive, small = [], [], []
    # Without any group the table is empty, and its columns are not numeric.
    finite_gaps = gaps[np.isfinite(gaps[["low", "high"]].to_numpy(dtype=float)).all(axis=1)]
    n_gaps = max(len(finite_gaps), 1)
    for row in finite_gaps.to_dict("records"):
        gap = read_gap(row)
        scale = row.get("scale", 1.0)
        widened = gap.widen(n_gaps)
        row |= {
            "group": contract.label_group(row["slice"], row["value"]),
            "reference": contract.label_group(row["slice"], row["reference"]),
            "low": widened.low,
            "high": widened.high,
            "low_alone": gap.low,
            "high_alone": gap.high,
            "n_gaps": len(finite_gaps),
            "relevant_gap": max(relevant_gap, SMALLEST_GAP) * scale,
        }
        if row["low"] > 0 or row["high"] < 0:
            conclusive.append(row)
        elif max(row["high"], -row["low"]) > relevant_gap * scale:
            ratio = compute_detectable_difference(gap.standard_error, n_gaps) / row["relevant_gap"]
            inconclusive.append({**row, "rows_needed": row["n"] * max(ratio, 1) ** 2})
        else:
            small.append(row)
    sensitive = contract.columns_with_role("sensitive")
    return {
        "conclusive": sorted(conclusive, key=lambda row: -abs(row["gap"])),
        "inconclusive": sorted(
            inconclusive,
            key=lambda row: (
                row["slice"] not in sensitive,
                row["low_alone"] <= 0 <= row["high_alone"],
                -abs(row["gap"]),
            ),
        ),
        "small": small,
    }


def _compare_groups(
    metrics: dict[str, MetricFunction],
    group: ScoredRows,
    reference: ScoredRows,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The groups' metrics and their difference, with Newcombe's (1998) square-and-add interval.

    It joins the intervals of both groups, which hold near 0 and 1, where a difference has none.
    """
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    rows = []
    for name, metric in metrics.items():
        first, second = (
            Interval(
                *compute_metric_with_ci(name, metric, scored, **options), bounds=metric_range(name)
            )
            for scored in (group, reference)
        )
        gap = subtract(first, second)
        rows.append(
            {
                "metric": name,
                "n": len(group),
                "reference_n": len(reference),
                "group_metric": first.value,
                "group_low": first.low,
                "group_high": first.high,
                "reference_metric": second.value,
                "reference_low": second.low,
                "reference_high": second.high,
                "gap": gap.value,
                "low": gap.low,
                "high": gap.high,
            }
        )
    return rows
