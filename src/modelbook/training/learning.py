"""The learning curve: how good the leader gets from more and more of the train rows, and whether more would help."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from modelbook.tasks.base import Task
from modelbook.tasks.names import LOWER_IS_BETTER, spread, turned
from modelbook.training.experiment import Experiment

SHARES = (0.125, 0.25, 0.5, 1.0)  # each point doubles the rows: the last step says what doubling them once more may do
COLUMNS = ["share", "fold", "rows", "value"]


def measured(task: Task, metric: str) -> str:
    """The metric of the curve: the one that ranks where answers alone can be judged by it, else the headline."""
    return metric if metric in task.metrics() else task.headline


def curve(
    trial: Experiment, family: str, metric: str, seconds: float, *, seed: int, tell: Callable[..., None]
) -> pd.DataFrame:
    """Fit a family on shares of each fold's train entities, and ask it about the rows that the fold leaves out.

    A share is drawn by entity, and smaller ones lie within larger ones. A share that lacks a class is left out.

    Parameters
    ----------
    seconds : float
        No share is begun that would, by the time of the one before, take longer in all; 0 for no curve.

    Returns
    -------
    DataFrame
        Columns ``share, fold, rows`` (that were fitted on), ``value``; a row a fold, the smallest share first.
    """
    found: list[pd.DataFrame] = []
    began, before, last = time.monotonic(), 0.0, 0.0
    for number, share in enumerate(SHARES):
        if seconds == 0 or time.monotonic() - began + last * share / (before or share) > seconds:
            break
        started = time.monotonic()
        tell(f"learning curve: {trial.called(family)} on {share:.0%} of the rows", number, len(SHARES))
        found.append(_point(trial, family, metric, share, seed))
        before, last = share, time.monotonic() - started
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def _point(trial: Experiment, family: str, metric: str, share: float, seed: int) -> pd.DataFrame:
    task, unfitted, rows = trial.task, trial.fresh(family), []
    for fold, (train, asked) in enumerate(trial.parts(), 1):
        entities = np.random.default_rng(seed + fold).permutation(trial.groups.iloc[train].unique())
        kept = train[trial.groups.iloc[train].isin(entities[: max(1, round(share * len(entities)))])]
        if task.classes and trial.outcome.iloc[kept].nunique() < len(task.classes):
            continue
        rows.append((share, fold, len(kept), trial.judge(metric, trial.ask(unfitted, kept, asked), asked)))
    return pd.DataFrame(rows, columns=COLUMNS)


def told(table: pd.DataFrame, metric: str, seconds: float) -> str:
    """Whether more rows would help, in a sentence; the rows are those of ``curve``.

    What the last doubling gained is held against its standard deviation over the folds, as leads are: a rule of thumb.
    """
    values = table.pivot(index="fold", columns="share", values="value").dropna()
    if values.shape[1] < 2 or len(values) < 2:
        return f"Whether more rows would help is not known: the {seconds:g} s of learning_budget gave no two points."
    half, full = values.columns[-2:]
    steps = (values[full] - values[half]) * (-1 if metric in LOWER_IS_BETTER else 1)
    gain, sd = steps.mean(), steps.std(ddof=0)
    size = spread(abs(gain), sd)
    short = "" if full == 1 else f" (the {seconds:g} s of learning_budget ended there)"
    first = f"From {half:.0%} to {full:.0%} of the train rows{short} the leader"
    said = f"{first} {turned(metric, gain, size, past=True)}"
    if gain > sd:
        return f"{said}: more rows would help."
    return f"{said}, within its spread: more rows of this kind would change little."
