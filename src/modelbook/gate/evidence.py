"""Evidence on a candidate, collected from its metrics and its comparison with the champion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelbook.stage.project import NO_COMMIT
from modelbook.tasks.intervals import Interval, read_gap
from modelbook.tasks.metric_format import metric_label

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.tasks.base import Task

PARITY_TOLERANCE = 1e-6  # largest difference between predictions that count as equal


@dataclass(frozen=True)
class Evidence:
    """Evidence on a candidate. None or empty: could not be measured.

    Attributes
    ----------
    candidate, champion : int or None
        Version numbers; the champion is None for a book's first model, and where the candidate is
        the champion itself.
    quality : Interval
        The quality metric (the one with a minimum) on the candidate's holdout.
    baseline_gain : Interval
        Improvement over the baseline on the same rows; above zero is better.
    paired_rows : int
        Number of rows that neither version was fitted on before its refit on all rows; 0 without
        a champion.
    champion_difference : Interval or None
        Improvement over the champion on those rows, in the headline metric.
    first_champion, first_champion_difference : int or None, Interval or None
        The first champion, and the improvement over it on rows that neither was trained on; None if
        it is the champion.
    slice_differences : tuple
        The same by slice, as pairs of label and interval: finite for the worst slice and for each
        slice whose drop exceeds the limit.
    fairness_gaps : tuple
        Difference between each group of a sensitive column and the largest group, in the task's
        first fairness metric, as pairs of description, without an interval, and interval.
    gap_unit : str
        Unit of hundredths of such a difference.
    calibration : Interval or None
        Calibration-in-the-large; for a regression, in standard deviations of the outcome.
    scorer : str or None
        Description of the compiled scorer and its parity check.
    is_scorer_exact : bool
        Whether the scorer reproduces the model's predictions.
    latency_ms, size_mb : float or None
        Median latency of a prediction, and artifact size.
    suspicions : tuple of str or None
        Suspicions of a leak; None if the version was registered without the check.
    cost_saving : Interval or None
        Fall of the expected cost below the champion's on the same rows, as a share of it.
    selection_changes : tuple
        Change of the predictions from the champion's on the same rows (the share of
        flagged rows, or of each predicted class), as pairs of label and interval.
    decision_rule : str
        How both versions decide for the cost and the changes; empty if it needs no words.
    commit : str
        Commit of the code that made the candidate, with ``+`` for uncommitted changes.
    metric_labels : tuple of str
        Display names of the metrics of quality, baseline gain and champion difference.
    """

    candidate: int
    champion: int | None
    quality: Interval
    baseline_gain: Interval
    paired_rows: int = 0
    champion_difference: Interval | None = None
    first_champion: int | None = None
    first_champion_difference: Interval | None = None
    slice_differences: tuple[tuple[str, Interval], ...] = ()
    fairness_gaps: tuple[tuple[str, Interval], ...] = ()
    gap_unit: str = "percentage points"
    calibration: Interval | None = None
    scorer: str | None = None
    is_scorer_exact: bool = False
    latency_ms: float | None = None
    size_mb: float | None = None
    suspicions: tuple[str, ...] | None = None
    cost_saving: Interval | None = None
    selection_changes: tuple[tuple[str, Interval], ...] = ()
    decision_rule: str = ""
    commit: str = NO_COMMIT
    metric_labels: tuple[str, str, str] = ("ROC AUC", "log loss", "ROC AUC")


def gather_evidence(
    task: Task,
    metrics: dict[str, Any],
    candidate: int,
    champion: int | None,
    paired_rows: int,
    differences: pd.DataFrame,
    slice_differences: pd.DataFrame | None = None,
    latency_and_size: tuple[float, float] | None = None,
    first_champion: tuple[int, pd.DataFrame] | None = None,
    consequences: pd.DataFrame | None = None,
    commit: str = NO_COMMIT,
) -> Evidence:
    """Collect the evidence from a version's metrics, the paired comparison, and latency and size.

    Parameters
    ----------
    differences, slice_differences : DataFrame
        From ``compare_with_champion`` and ``compare_slices_with_champion``; may be empty.
    latency_and_size : tuple of float, optional
        Latency in milliseconds, artifact size in megabytes.
    first_champion : tuple of int and DataFrame, optional
        Number of the first champion, and the comparison with it, from ``compare_with_champion``.
    consequences : DataFrame, optional
        From ``compare_consequences``; may be empty.
    """
    quality = next(row for row in metrics["evaluation"] if row["metric"] == task.quality_metric)
    first_number, first_differences = first_champion or (None, differences.head(0))
    latency_ms, size_mb = latency_and_size or (None, None)
    slices = [] if slice_differences is None else slice_differences.to_dict("records")
    return Evidence(
        candidate,
        champion,
        quality=_to_interval(quality, "value"),
        baseline_gain=Interval(*metrics["gain"]),
        paired_rows=paired_rows,
        champion_difference=_measure_headline_difference(task, differences),
        first_champion=first_number,
        first_champion_difference=_measure_headline_difference(task, first_differences),
        slice_differences=tuple(
            (task.contract.label_group(row["slice"], row["value"]), _to_interval(row, "difference"))
            for row in slices
        ),
        fairness_gaps=tuple(
            (task.describe_gap(row), _to_gap_interval(task, row))
            for row in metrics.get("gaps", [])
            if row["metric"] == task.fairness_metrics[0]
        ),
        gap_unit=task.gap_unit,
        calibration=_find_calibration(task, metrics["evaluation"]),
        latency_ms=latency_ms,
        size_mb=size_mb,
        suspicions=tuple(metrics["suspicions"]) if "suspicions" in metrics else None,
        commit=commit,
        metric_labels=(
            metric_label(task.quality_metric),
            metric_label(task.baseline_metric),
            metric_label(task.headline_metric),
        ),
        **_collect_scorer_evidence(metrics.get("scorer")),
        **_collect_consequence_evidence(task, consequences),
        decision_rule=_describe_decision_rule(metrics),
    )


def _measure_headline_difference(task: Task, differences: pd.DataFrame) -> Interval | None:
    rows = differences[differences["metric"] == task.headline_metric].to_dict("records")
    return _to_interval(rows[0], "difference") if rows else None


def _to_interval(row: dict[str, Any], value_key: str) -> Interval:
    return Interval(row[value_key], row["low"], row["high"])


def _to_gap_interval(task: Task, row: dict[str, Any]) -> Interval:
    """The gap between groups; for a regression, as a share of the reference's error."""
    return read_gap(row).multiply(task.normalization_factor(row["reference_metric"]))


def _find_calibration(task: Task, evaluation: list[dict[str, Any]]) -> Interval | None:
    rows = {row["metric"]: row for row in evaluation}
    if task.calibration_metric not in rows:
        return None
    calibration = _to_interval(rows[task.calibration_metric], "value")
    return calibration.multiply(task.normalization_factor(task.compute_outcome_sd(rows)))


def _collect_consequence_evidence(task: Task, consequences: pd.DataFrame | None) -> dict[str, Any]:
    """The fall of the cost as a share of the champion's, and the changes of the selection rate."""
    if consequences is None or consequences.empty:
        return {}
    rows = {row["consequence"]: row for row in consequences.to_dict("records")}
    cost = rows["cost"]
    scale = abs(cost["champion"]) or 1.0
    return {
        "cost_saving": Interval(*(0 - cost[name] / scale for name in ("change", "high", "low"))),
        "selection_changes": tuple(
            (f"share {name}", _to_interval(rows[name], "change"))
            for name in task.selection_consequences()
        ),
    }


def _describe_decision_rule(metrics: dict[str, Any]) -> str:
    """By which rule both versions flag rows; empty for tasks without a threshold."""
    if metrics.get("threshold") is None:
        return ""
    has_capacity = metrics.get("business_value", {}).get("capacity_is_set", False)
    return f"at the thresholds{', ignoring the capacity' if has_capacity else ''}"


def _collect_scorer_evidence(scorer: dict[str, Any] | None) -> dict[str, Any]:
    if scorer is None:
        return {}
    parity = scorer["parity" if "parity" in scorer else "proof"]  # the key in 1.0.0
    if parity is None:
        return {
            "scorer": "no compiled scorer; the fitted pipeline predicts",
            "is_scorer_exact": True,
        }
    description = (
        f"{scorer['name']}: {parity['label_mismatches']} different labels in {parity['rows']:,} "
        "rows (holdout, golden and constructed ones), largest difference of scores "
        f"{parity['max_difference']:.0e}"
    )
    return {
        "scorer": description,
        "is_scorer_exact": parity["label_mismatches"] == 0
        and parity["max_difference"] <= PARITY_TOLERANCE,
    }
