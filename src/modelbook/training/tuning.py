"""Tuning: settings of one family that Optuna proposes, cross-validated by entity, within a time.

PyCaret's own Optuna search cannot be stopped by the clock, and drops settings early only of families that learn in
steps (``partial_fit``). Its search spaces are taken from it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sklearn.base import clone

from modelbook.tasks.names import LOWER_IS_BETTER, label, told
from modelbook.training.experiment import Experiment
from modelbook.training.folds import Watch
from modelbook.training.learning import measured

JUDGED, DROPPED, LATE, FAILED = "judged", "dropped", "out of time", "failed"  # what becomes of a setting
STATES = {JUDGED: TrialState.COMPLETE, DROPPED: TrialState.PRUNED, LATE: TrialState.FAIL, FAILED: TrialState.FAIL}
SURE = 0.3  # p-value from which a setting counts as worse: two folds that are both worse have 0.25
AT_RANDOM = 10  # settings drawn at random before answers guide the draw, at the most; of few rounds the half

Space = dict[str, BaseDistribution]


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
    """Judge the defaults, then what Optuna proposes until the rounds or the time are spent.

    Settings are proposed by a tree-structured Parzen estimator (Bergstra et al. 2011). One is dropped after two folds
    or more when a signed-rank test on the same folds (Wilcoxon 1945) finds it worse than the best one.

    Parameters
    ----------
    metric : str
        What compare ranked by; where answers alone cannot be judged by it, the headline stands in.
    seconds : float
        No fold is begun after that, but for those of the defaults.
    watch : callable, optional
        Called with ``setting 3 of 8, fold 2 of 5`` as each fold begins.
    """
    until, metric = time.monotonic() + seconds, measured(trial.task, metric)
    plain, space, study = trial.fresh(family), _space(*trial.spaces(family)), _study(metric, rounds, seed)
    values = list(_values(trial, plain, metric, _step("defaults", watch)))
    study.add_trial(_defaults(plain, space, values))
    rows, made, known = [_row("defaults", values, JUDGED, {})], [plain], list[dict[str, Any]]()
    for number in range(1, rounds + 1 if space else 1):
        asked = study.ask(space)
        if asked.params in known:  # of a small space; what it answers is known
            study.tell(asked, state=TrialState.FAIL)
            continue
        known.append(asked.params)
        made.append(clone(plain).set_params(**{f"model__{name}": value for name, value in asked.params.items()}))
        folds = _values(trial, made[-1], metric, _step(f"setting {number} of {rounds}", watch))
        values, state = _judged(folds, trial.folds, asked, until)
        study.tell(asked, float(np.mean(values)) if state == JUDGED else None, state=STATES[state])
        rows.append(_row(str(number), values, state, asked.params))
        if state == LATE:
            break
    tried = pd.DataFrame(rows)
    judged = tried.loc[tried["state"] == JUDGED, "mean"]
    best = judged.idxmin() if metric in LOWER_IS_BETTER else judged.idxmax()  # of several the first: the defaults
    return Tuned(made[best], tried, _said(tried, best, metric, seconds, rounds))


def _study(metric: str, rounds: int, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of each trial, into the notebook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=SURE)
    # Each parameter by itself: many a default lies outside its space, and a joint model would leave all such out.
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=min(AT_RANDOM, 1 + rounds // 2), multivariate=False
    )
    direction = StudyDirection.MINIMIZE if metric in LOWER_IS_BETTER else StudyDirection.MAXIMIZE
    return optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)


def _space(ranges: dict[str, Any], grid: dict[str, Any]) -> Space:
    """Each parameter's range as Optuna's; where there is none, or Optuna refuses it, the values of its grid."""
    found = Space()
    for name in {**ranges, **grid}:
        try:
            found[name] = ranges[name].get_optuna()
        except (AttributeError, KeyError, ValueError):
            found[name] = CategoricalDistribution(list(grid[name]))
    return found


def _defaults(plain: Any, space: Space, values: list[float]) -> FrozenTrial:
    """The defaults as a trial, by those of their parameters that lie within the space."""
    params = plain.steps[-1][1].get_params()
    inside = {name: values for name, values in space.items() if _within(values, params[name])}
    return optuna.trial.create_trial(
        value=float(np.mean(values)),
        params={name: params[name] for name in inside},
        distributions=inside,
        intermediate_values=dict(enumerate(values, 1)),
    )


def _within(values: Any, one: Any) -> bool:
    if isinstance(values, CategoricalDistribution):
        return one in values.choices
    return isinstance(one, int | float) and values.low <= one <= values.high


def _values(trial: Experiment, pipeline: Any, metric: str, step: Watch) -> Iterator[float]:
    """The metric in each fold, one fold at a time."""
    for fold, (learned, asked) in enumerate(trial.parts(), 1):
        step(f"fold {fold} of {trial.folds}")
        yield trial.judge(metric, trial.ask(pipeline, learned, asked), asked)


def _judged(values: Iterator[float], folds: int, asked: Trial, until: float) -> tuple[list[float], str]:
    """The values of the folds that were worth it, told to Optuna one by one, and what became of the setting."""
    found = list[float]()
    for fold in range(1, folds + 1):
        if time.monotonic() > until:
            return found, LATE
        if asked.should_prune():
            return found, DROPPED
        try:
            found.append(next(values))
        except Exception:  # a space may hold parameters that do not go together; the others still run
            return found, FAILED
        asked.report(found[-1], fold)
    return found, JUDGED


def _step(name: str, watch: Watch | None) -> Watch:
    return (lambda fold: watch(f"{name}, {fold}")) if watch else (lambda _: None)


def _row(name: str, values: list[float], state: str, setting: dict[str, Any]) -> dict[str, Any]:
    mean, sd = (np.mean(values), np.std(values)) if values else (np.nan, np.nan)
    words = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                      for key, value in setting.items())  # fmt: skip
    return {"setting": name, "mean": mean, "sd": sd, "folds": len(values), "state": state, "parameters": words}


def _said(tried: pd.DataFrame, best: int, metric: str, seconds: float, wanted: int) -> str:
    begun, dropped, late = len(tried) - 1, (tried["state"] == DROPPED).sum(), (tried["state"] == LATE).any()
    end = f" of {wanted} were begun before the budget of {seconds:g} s was spent" if late else " settings were tried"
    first = f"{begun}{end}, {dropped} dropped early"
    plain, name = tried["mean"].iloc[0], label(metric)
    if not best:
        return f"{first}; none is better than the defaults, which stay: {name} {told(plain)}."
    return f"{first}; the best has {name} {told(tried['mean'][best])} out of fold, the defaults {told(plain)}."
