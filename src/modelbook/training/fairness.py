"""Fairness: how much worse or better a model is for one group of a sensitive column than for its largest group."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook.tasks.base import Task
from modelbook.tasks.metrics import Metric
from modelbook.tasks.scored import Scored, interval, weights

COLUMNS = ["slice", "value", "n", "against", "against_n", "metric", "one", "other", "gap", "low", "high"]


def gaps(
    task: Task, scored: Scored, frame: pd.DataFrame, threshold: float | None, *, fewest: int, resamples: int, seed: int
) -> pd.DataFrame:
    """Each group of each sensitive column minus the column's largest, with intervals that draw whole entities.

    The task names the metrics (``in_gaps``). Of two classes, recall is compared because those who turn out yes should
    be found alike (equal opportunity; Hardt et al. 2016), the flagged share because groups may be singled out unalike,
    ROC AUC and calibration error because answers should be as good and as true for each. The four cannot all be equal
    where groups differ in how often the answer is yes.

    Parameters
    ----------
    frame : DataFrame
        The rows that were scored; groups with fewer than ``fewest`` rows, or of one class, are left out.

    Returns
    -------
    DataFrame
        Columns ``slice, value, n, against, against_n, metric, one, other, gap, low, high``; ``one`` is the group's
        metric, ``other`` the largest group's.
    """
    rows: list[dict[str, Any]] = []
    metrics = task.metrics(threshold)
    wanted = {name: metrics[name] for name in task.in_gaps}
    for column in task.contract.named("sensitive"):
        groups = {value: (frame[column] == value).to_numpy() for value in sorted(frame[column].dropna().unique())}
        judged = {
            value: kept for value, kept in groups.items()
            if kept.sum() >= fewest and task.judgeable(scored.outcome[kept])
        }  # fmt: skip
        if len(judged) < 2:
            continue
        largest = max(judged, key=lambda value: judged[value].sum())
        for value, kept in judged.items():
            if value != largest:
                named = {"slice": column, "value": _text(value), "against": _text(largest)}
                found = _between(wanted, scored, kept, judged[largest], resamples, seed)
                rows += [{**named, **one} for one in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def _between(
    wanted: dict[str, Metric], scored: Scored, one: np.ndarray, other: np.ndarray, resamples: int, seed: int
) -> list[dict[str, Any]]:
    both = one | other
    within, mine, theirs = scored.where(both), one[both], other[both]
    drawn, everywhere = weights(within.entity, resamples, seed), np.ones(int(both.sum()))
    told = []
    for name, metric in wanted.items():
        ours, other_ones = (_within(metric, within, kept) for kept in (mine, theirs))
        low, high = interval(partial(_apart, ours, other_ones), drawn)
        told.append({
            "metric": name, "n": int(mine.sum()), "against_n": int(theirs.sum()),
            "one": ours(everywhere), "other": other_ones(everywhere),
            "gap": ours(everywhere) - other_ones(everywhere), "low": low, "high": high,
        })  # fmt: skip
    return told


def _within(metric: Metric, scored: Scored, kept: np.ndarray) -> Callable[[np.ndarray], Any]:
    """A metric of some of the rows, as a function of all rows' weights."""
    part = scored.where(kept)
    return lambda weight: metric(part.outcome, part.score, weight[..., kept])


def _apart(one: Callable[[np.ndarray], Any], other: Callable[[np.ndarray], Any], weight: np.ndarray) -> Any:
    return one(weight) - other(weight)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
