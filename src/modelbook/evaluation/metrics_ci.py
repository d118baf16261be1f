"""Metrics with intervals by entity: overall, paired, by slice, and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook.formatting import format_ci, format_code
from modelbook.tasks.base import Task
from modelbook.tasks.metric_format import ERRORS, QUANTILES, SHARES, format_metric, metric_label
from modelbook.tasks.metrics import MetricFunction, Precision, weighted_mean
from modelbook.tasks.scored_rows import (
    COMPLEMENT,
    DIFFERENCE,
    IDENTITY,
    LOGARITHM,
    LOGIT,
    Scale,
    ScoredRows,
    assign_quantile_bins,
    jackknife_ci,
    quantile_ci,
    share_ci,
)


def evaluate_metrics(
    scored: ScoredRows,
    metrics: dict[str, MetricFunction],
    *,
    baseline_score: Any = None,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Evaluate every metric with its interval, and the same metric of the constant baseline.

    Parameters
    ----------
    baseline_score : optional
        The constant prediction, from ``compute_baseline_score`` of the training outcomes; by
        default that of these rows.

    Returns
    -------
    DataFrame
        Columns ``metric, value, low, high, baseline``.
    """
    baseline = scored.to_baseline(baseline_score).score
    unit_weights = np.ones(len(scored))
    rows = []
    for name, metric in metrics.items():
        value, low, high = compute_metric_with_ci(
            name, metric, scored, resamples=resamples, seed=seed
        )
        baseline_value = metric(scored.outcome, baseline, unit_weights)
        rows.append((name, value, low, high, baseline_value))
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "baseline"])


def label_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the names in the column ``metric`` by their display labels."""
    return table.assign(metric=table["metric"].map(metric_label))


# Metrics differ in magnitude, so each cell has its own number of decimals.
COLUMN_FORMATS = dict.fromkeys(("value", "low", "high", "baseline"), format_metric)


def compute_gain_over_baseline(
    task: Task, scored: ScoredRows, *, baseline_score: Any = None, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Improvement over the baseline in the task's ``baseline_metric``: value, low, high.

    ``baseline_score`` is that of ``evaluate_metrics``.
    """
    metric = task.metric_functions()[task.baseline_metric]
    baseline = scored.to_baseline(baseline_score)

    def compute_gain(weight: np.ndarray) -> Any:
        return metric(baseline.outcome, baseline.score, weight) - metric(
            scored.outcome, scored.score, weight
        )

    return compute_gain(np.ones(len(scored))), *jackknife_ci(
        compute_gain, scored, DIFFERENCE, resamples=resamples, seed=seed
    )


def compute_paired_difference(
    task: Task,
    scored: ScoredRows,
    reference: ScoredRows,
    metric_name: str,
    *,
    resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """Paired improvement of one model over another on the same rows: value, low, high."""
    difference = _make_difference_statistic(task, scored, reference, metric_name)
    return difference(np.ones(len(scored))), *jackknife_ci(
        difference, scored, DIFFERENCE, resamples=resamples, seed=seed
    )


def compare_with_champion(
    task: Task,
    candidate: ScoredRows,
    champion: ScoredRows,
    *,
    min_rows: int,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Improvement of the candidate in each metric; columns ``metric, difference, low, high``.

    Above zero is better in every metric; for a regression it is the relative reduction of the
    champion's error. Empty with fewer than ``min_rows`` rows, or if all outcomes are equal.
    """
    rows: list[tuple] = []
    if len(candidate) >= min_rows and task.is_evaluable(candidate.outcome):
        ci_options = {"resamples": resamples, "seed": seed}
        rows = [
            (name, *compute_paired_difference(task, candidate, champion, name, **ci_options))
            for name in task.champion_metrics
        ]
    return pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])


def compare_slices_with_champion(
    task: Task,
    candidate: ScoredRows,
    champion: ScoredRows,
    frame: pd.DataFrame,
    max_drop: float,
    *,
    min_rows: int,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Improvement of the headline metric by slice.

    Columns ``slice, value, n, difference, low, high``. Slices with fewer than ``min_rows`` rows, or
    that cannot be evaluated, are omitted. To save time, only the worst slice and those with a drop
    of more than ``max_drop`` have an interval.
    """
    slices = []
    columns = task.contract.slices if len(candidate) else ()
    for column, value, mask in select_groups(candidate, frame, columns, min_rows):
        scored = candidate.select(mask)
        statistic = _make_difference_statistic(
            task, scored, champion.select(mask), task.headline_metric
        )
        slices.append((column, value, scored, statistic, statistic(np.ones(len(scored)))))
    lowest = min((difference for *_, difference in slices), default=0.0)
    rows = []
    for column, value, scored, statistic, difference in slices:
        interval = (np.nan, np.nan)
        if difference < -max_drop or difference == lowest:
            interval = jackknife_ci(statistic, scored, DIFFERENCE, resamples=resamples, seed=seed)
        rows.append((column, value, len(scored), difference, *interval))
    return pd.DataFrame(rows, columns=["slice", "value", "n", "difference", "low", "high"])


def _make_difference_statistic(
    task: Task, scored: ScoredRows, reference: ScoredRows, metric_name: str
) -> Callable[[np.ndarray], Any]:
    """Return the improvement over a reference model as a function of the rows' weights."""
    metric = task.metric_functions()[metric_name]
    return lambda weight: task.compute_improvement(
        metric_name, *(metric(rows.outcome, rows.score, weight) for rows in (scored, reference))
    )


def compute_reliability_curve(scored: ScoredRows, *, resamples: int, seed: int) -> pd.DataFrame:
    """Mean outcome by decile of the score; columns ``predicted, observed, low, high, n``."""
    bin_index = assign_quantile_bins(scored.score, 10)
    rows = []
    for bin_number in np.unique(bin_index):
        bin_rows = scored.select(bin_index == bin_number)
        low, high = _compute_mean_ci(bin_rows, resamples, seed)
        rows.append((bin_rows.score.mean(), bin_rows.outcome.mean(), low, high, len(bin_rows)))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "n"])


def _compute_mean_ci(scored: ScoredRows, resamples: int, seed: int) -> tuple[float, float]:
    """95% interval of the mean outcome: of a share, or of a number."""
    if scored.outcome.dtype.kind in "iub":
        return share_ci(scored.outcome.astype(float), scored.entity)
    mean = partial(weighted_mean, scored.outcome)
    return jackknife_ci(mean, scored, IDENTITY, resamples=resamples, seed=seed)


def evaluate_slices(
    task: Task,
    scored: ScoredRows,
    frame: pd.DataFrame,
    threshold: float | None,
    *,
    columns: Sequence[str] | None = None,
    min_rows: int,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Evaluate metrics by slice, for slices that have at least ``min_rows`` rows and are evaluable.

    Parameters
    ----------
    columns : sequence of str, optional
        The columns whose values make the slices; by default the contract's ``slices``.

    Returns
    -------
    DataFrame
        Columns ``slice`` (the column), ``value, n``, the task's summary of the target, the headline
        metric with ``low, high``, and the task's ``slice_metrics``.
    """
    metrics = task.metric_functions(threshold)
    options = {"resamples": resamples, "seed": seed}
    headline = task.headline_metric
    rows = []
    slicing = task.contract.slices if columns is None else columns
    for column, value, mask in select_groups(scored, frame, slicing, min_rows):
        slice_rows = scored.select(mask)
        unit_weights = np.ones(len(slice_rows))
        interval = compute_metric_with_ci(headline, metrics[headline], slice_rows, **options)
        more_metrics = (
            metrics[name](slice_rows.outcome, slice_rows.score, unit_weights)
            for name in task.slice_metrics
        )
        summary = task.summarize_outcome(slice_rows.outcome).values()
        rows.append((column, value, len(slice_rows), *summary, *interval, *more_metrics))
    names = ["slice", "value", "n", *task.summarize_outcome(scored.outcome)]
    names += [headline, "low", "high", *task.slice_metrics]
    return pd.DataFrame(rows, columns=names)


def evaluate_periods(
    task: Task, scored: ScoredRows, frame: pd.DataFrame, threshold: float | None, **options: Any
) -> pd.DataFrame:
    """Evaluate metrics by period, as ``evaluate_slices``; without a time column there are none.

    Returns
    -------
    DataFrame
        As in ``evaluate_slices``, with ``period`` and ``rows`` instead of ``slice, value, n``.
    """
    columns = [task.contract.time] if task.contract.time else []
    table = evaluate_slices(task, scored, frame, threshold, columns=columns, **options)
    return table.drop(columns="slice").rename(columns={"value": "period", "n": "rows"})


def describe_periods(task: Task, table: pd.DataFrame) -> str:
    """State the lowest and the highest headline metric of the periods."""
    if task.contract.time is None:
        return "The table has no time column, so metrics by period cannot be compared."
    if table.empty:
        return "No period has enough holdout rows to be evaluated alone."
    values = table[task.headline_metric]
    low, high = table.loc[values.idxmin()], table.loc[values.idxmax()]
    name = metric_label(task.headline_metric)
    label = task.contract.label(task.contract.time)
    ends = [
        f"{format_metric(row[task.headline_metric])} in {label} {row['period']} "
        f"({format_ci(row['low'], row['high'])})"
        for row in (low, high)
    ]
    if len(table) == 1:
        return f"{name} is {ends[0]}, the only period with enough holdout rows."
    return f"{name} ranges from {ends[0]} to {ends[1]}."


def select_groups(
    scored: ScoredRows, frame: pd.DataFrame, columns: Sequence[str], min_rows: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield column, value and rows of each group that has enough rows and can be evaluated."""
    for column in columns:
        for value in sorted(frame[column].dropna().unique()):
            mask = (frame[column] == value).to_numpy()
            if mask.sum() >= min_rows and scored.select(mask).has_enough_entities():
                yield column, format_code(value), mask


def compute_metric_with_ci(
    name: str, metric: MetricFunction, scored: ScoredRows, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """A metric's value with its interval, which is NaN without resamples or with few entities."""
    value = partial(metric, scored.outcome, scored.score)
    estimate = value(np.ones(len(scored)))
    options = {"resamples": resamples, "seed": seed}
    if name in QUANTILES:
        errors = np.abs(scored.outcome - scored.score)
        return estimate, *quantile_ci(errors, QUANTILES[name], scored, **options)
    n_units = None
    if isinstance(metric, Precision):
        n_units = metric.count_entities(scored.score, scored.entity)
    return estimate, *jackknife_ci(value, scored, _select_scale(name), n_units=n_units, **options)


def _select_scale(metric: str) -> Scale:
    if metric in SHARES:
        return LOGIT
    if metric in ERRORS:
        return LOGARITHM
    return COMPLEMENT if metric == "r2" else IDENTITY
