"""Honest evaluation: metrics with intervals that resample entities, beside the baseline, and by slice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook.tasks.base import Task
from modelbook.tasks.metrics import Metric, mean
from modelbook.tasks.names import label, told
from modelbook.tasks.scored import Scored, interval, weights


def evaluate(scored: Scored, metrics: dict[str, Metric], *, resamples: int, seed: int) -> pd.DataFrame:
    """Every metric with its interval, beside the same metric of the baseline that answers alike to all.

    Returns
    -------
    DataFrame
        Columns ``metric, value, low, high, baseline``.
    """
    drawn = weights(scored.entity, resamples, seed)
    base, everywhere = scored.baseline().score, np.ones(len(scored))
    rows = []
    for name, metric in metrics.items():
        value, low, high = _judged(metric, scored, drawn)
        rows.append((name, value, low, high, metric(scored.outcome, base, everywhere)))
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "baseline"])


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """A table with a column ``metric``, the metrics' names for people in it."""
    return table.assign(metric=table["metric"].map(label))


WRITTEN = dict.fromkeys(("value", "low", "high", "baseline"), told)  # metrics differ in size: each cell by its own


def gain(task: Task, scored: Scored, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """How much less a model is off than the baseline, in the task's own measure: value, low, high."""
    metric, base = task.metrics()[task.gained], scored.baseline()

    def less(weight: np.ndarray) -> Any:
        return metric(base.outcome, base.score, weight) - metric(scored.outcome, scored.score, weight)

    return less(np.ones(len(scored))), *interval(less, weights(scored.entity, resamples, seed))


def difference(
    task: Task, one: Scored, other: Scored, name: str, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """How much better one model is than another on the same rows, paired: value, low, high."""
    gap = _gap(task, one, other, name)
    return gap(np.ones(len(one))), *interval(gap, weights(one.entity, resamples, seed))


def differences(
    task: Task, candidate: Scored, champion: Scored, *, fewest: int, resamples: int, seed: int
) -> pd.DataFrame:
    """How much better the candidate is in each metric; columns ``metric, difference, low, high``.

    Above zero is better in every metric; of a number, it is the share of the champion's error that is saved. Empty
    where there are fewer than ``fewest`` rows, or all turned out alike.
    """
    rows: list[tuple] = []
    if len(candidate) >= fewest and task.judgeable(candidate.outcome):
        chance = {"resamples": resamples, "seed": seed}
        rows = [(name, *difference(task, candidate, champion, name, **chance)) for name in task.compared]
    return pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])


def slice_differences(
    task: Task, candidate: Scored, champion: Scored, frame: pd.DataFrame, bound: float, *,
    fewest: int, resamples: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """The candidate's headline in each slice beside the champion's; columns ``slice, value, n, difference, low, high``.

    Slices with fewer than ``fewest`` rows, or that cannot be judged, are left out. Intervals cost time: only the worst
    slice has one, and those that lost more than ``bound``.
    """
    slices: list[tuple[str, str, Callable[[np.ndarray], Any], np.ndarray]] = []
    for column in task.contract.slices if len(candidate) else ():
        for value in sorted(frame[column].dropna().unique()):
            kept = (frame[column] == value).to_numpy()
            one, other = candidate.where(kept), champion.where(kept)
            if len(one) >= fewest and task.judgeable(one.outcome):
                written = f"{value:g}" if isinstance(value, float) else str(value)
                slices.append((column, written, _gap(task, one, other, task.headline), one.entity))
    found = [gap(np.ones(len(entity))) for *_, gap, entity in slices]
    rows = []
    for place, ((column, written, gap, entity), value) in enumerate(zip(slices, found, strict=True)):
        looked = value < -bound or place == np.argmin(found)
        ends = interval(gap, weights(entity, resamples, seed)) if looked else (np.nan, np.nan)
        rows.append((column, written, len(entity), value, *ends))
    return pd.DataFrame(rows, columns=["slice", "value", "n", "difference", "low", "high"])


def _gap(task: Task, one: Scored, other: Scored, name: str) -> Callable[[np.ndarray], Any]:
    """How much better one model is than another on the same rows, as a function of the rows' weights."""
    metric = task.metrics()[name]
    return lambda weight: task.better(name, *(metric(each.outcome, each.score, weight) for each in (one, other)))


def calibration(scored: Scored, *, resamples: int, seed: int, bins: int = 10) -> pd.DataFrame:
    """What turned out on average by tenths of the score; columns ``predicted, observed, low, high, n``."""
    edges = np.unique(np.quantile(scored.score, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, scored.score, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for number in np.unique(place):
        within = scored.where(place == number)
        drawn = weights(within.entity, resamples, seed)
        low, high = interval(partial(mean, within.outcome), drawn)
        rows.append((within.score.mean(), within.outcome.mean(), low, high, len(within)))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "n"])


def slices(
    task: Task, scored: Scored, frame: pd.DataFrame, threshold: float | None, *, fewest: int, resamples: int, seed: int
) -> pd.DataFrame:
    """Metrics in each value of the contract's slicing columns that has at least ``fewest`` rows and can be judged.

    Returns
    -------
    DataFrame
        Columns ``slice`` (the column), ``value, n``, where the target lies, the headline with ``low, high``, and
        the task's further metrics of a slice.
    """
    rows, metrics = [], task.metrics(threshold)
    for column in task.contract.slices:
        for value in sorted(frame[column].dropna().unique()):
            within = scored.where((frame[column] == value).to_numpy())
            if len(within) < fewest or not task.judgeable(within.outcome):
                continue
            found, low, high = _judged(metrics[task.headline], within, weights(within.entity, resamples, seed))
            one = np.ones(len(within))
            rows.append({
                "slice": column, "value": f"{value:g}" if isinstance(value, float) else str(value), "n": len(within),
                **task.level(within.outcome), task.headline: found, "low": low, "high": high,
                **{name: metrics[name](within.outcome, within.score, one) for name in task.in_slices},
            })  # fmt: skip
    names = ["slice", "value", "n", *task.level(scored.outcome), task.headline, "low", "high", *task.in_slices]
    return pd.DataFrame(rows, columns=names)


def _judged(metric: Metric, scored: Scored, drawn: np.ndarray) -> tuple[float, float, float]:
    value = partial(metric, scored.outcome, scored.score)
    return value(np.ones(len(scored))), *interval(value, drawn)
