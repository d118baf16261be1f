"""Tuning: random settings of one family, cross-validated by entity, within a time, hopeless ones dropped early.

PyCaret's own tuner cannot be stopped by the clock, and its early stopping needs families that learn in steps
(``partial_fit``). Its grids are taken from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import ParameterSampler

from modelbook.tasks.names import LOWER_IS_BETTER, label, told
from modelbook.training.experiment import Experiment
from modelbook.training.folds import Watch
from modelbook.training.learning import measured

JUDGED, DROPPED, LATE, FAILED = "judged", "dropped", "out of time", "failed"  # what becomes of a setting


@dataclass(frozen=True)
class Tuned:
    """The best setting, and all that were tried.

    Attributes
    ----------
    pipeline : pipeline
        Unfitted; with the family's defaults where no setting is better.
    tried : DataFrame
        Columns ``setting, mean, sd, folds, state`` (judged, dropped, failed, out of time), ``parameters``; the
        defaults first.
    said : str
        What came of it, in a sentence.
    """

    pipeline: Any
    tried: pd.DataFrame
    said: str


def tune(
    trial: Experiment, family: str, metric: str, rounds: int, seconds: float, *, seed: int, watch: Watch | None = None
) -> Tuned:
    """Judge the defaults, then random settings until the rounds or the time are spent.

    A setting is dropped after a fold when its mean so far is further behind the best one's on the same folds than the
    best one's standard deviation over all folds.

    Parameters
    ----------
    metric : str
        What compare ranked by; where that takes a threshold, the headline stands in.
    seconds : float
        No fold is begun after that, but for those of the defaults.
    watch : callable, optional
        Called with ``setting 3 of 8, fold 2 of 5`` as each fold begins.
    """
    until, metric = time.monotonic() + seconds, measured(trial.task, metric)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    best = plain = trial.fresh(family)
    settings = _settings(trial.grid(family), rounds, seed)
    kept, _ = _values(trial, plain, metric, lambda _: "", _step("defaults", watch))
    rows = [_row("defaults", kept, JUDGED, {})]
    for number, setting in enumerate(settings, 1):
        made = clone(plain).set_params(**{f"model__{name}": value for name, value in setting.items()})
        step = _step(f"setting {number} of {len(settings)}", watch)
        values, state = _values(trial, made, metric, partial(_ended, kept, sign, until), step)
        rows.append(_row(str(number), values, state, setting))
        if state == JUDGED and sign * (np.mean(values) - np.mean(kept)) > 0:
            best, kept = made, values
        if state == LATE:
            break
    tried = pd.DataFrame(rows)
    return Tuned(best, tried, _said(tried, metric, seconds, len(settings)))


def _ended(kept: list[float], sign: int, until: float, found: list[float]) -> str:
    """Why no further fold is worth it, beside the values of the best; empty where one is."""
    if time.monotonic() > until:
        return LATE
    behind = sign * (np.mean(kept[: len(found)]) - np.mean(found)) if found else 0.0
    return DROPPED if behind > np.std(kept) else ""


def _settings(grid: dict[str, list[Any]], rounds: int, seed: int) -> list[dict[str, Any]]:
    most = math.prod(len(values) for values in grid.values()) if grid else 0
    return list(ParameterSampler(grid, min(rounds, most), random_state=seed)) if most else []


def _values(
    trial: Experiment, pipeline: Any, metric: str, ended: Callable[[list[float]], str], step: Watch
) -> tuple[list[float], str]:
    """The metric in each fold until ``ended`` says why to stop, and what became of the setting."""
    judge, values = trial.task.metrics()[metric], list[float]()
    for fold, (train, asked) in enumerate(trial.parts(), 1):
        if why := ended(values):
            return values, why
        step(f"fold {fold} of {trial.folds}")
        try:
            fitted = clone(pipeline).fit(trial.features.iloc[train], trial.outcome.iloc[train])
        except ValueError:  # a grid may hold parameters that do not go together
            return values, FAILED
        answers = trial.task.answers(fitted, trial.features.iloc[asked])
        values.append(judge(trial.outcome.iloc[asked].to_numpy(), answers, np.ones(len(asked))))
    return values, JUDGED


def _step(name: str, watch: Watch | None) -> Watch:
    return (lambda fold: watch(f"{name}, {fold}")) if watch else (lambda _: None)


def _row(name: str, values: list[float], state: str, setting: dict[str, Any]) -> dict[str, Any]:
    mean, sd = (np.mean(values), np.std(values)) if values else (np.nan, np.nan)
    words = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                      for key, value in setting.items())  # fmt: skip
    return {"setting": name, "mean": mean, "sd": sd, "folds": len(values), "state": state, "parameters": words}


def _said(tried: pd.DataFrame, metric: str, seconds: float, wanted: int) -> str:
    whole = tried[tried["state"] == JUDGED]
    plain = tried["mean"].iloc[0]
    best = whole["mean"].min() if metric in LOWER_IS_BETTER else whole["mean"].max()
    begun, dropped = len(tried) - 1, int((tried["state"] == DROPPED).sum())
    end = f" before the budget of {seconds:g} s was spent" if (tried["state"] == LATE).any() else ""
    first = f"{begun} of {wanted} settings were begun{end}, {dropped} dropped early"
    if best == plain:
        return f"{first}; none is better than the defaults, which stay: {label(metric)} {told(plain)}."
    return f"{first}; the best has {label(metric)} {told(best)} out of fold, the defaults {told(plain)}."
