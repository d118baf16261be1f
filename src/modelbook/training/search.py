"""The search for the final model: the leader tuned, the best blended or stacked, or whichever of these does best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from modelbook.config import NONE, Finalize
from modelbook.tasks.names import LOWER_IS_BETTER, label, spread
from modelbook.training import layered, tuning
from modelbook.training.experiment import Experiment
from modelbook.training.folds import Watch
from modelbook.training.learning import measured


@dataclass(frozen=True)
class Searched:
    """What the search came to.

    Attributes
    ----------
    families : list of str
        What the model is made of, best first.
    pipeline : pipeline
        Unfitted.
    answers : ndarray
        Its answers to the train rows, each of a fit that has not seen the row's entity; as ``Scored.score``.
    tried, said : DataFrame, str
        What was tried, and what came of it, in a sentence.
    """

    families: list[str]
    pipeline: Any
    answers: np.ndarray
    tried: pd.DataFrame
    said: str


def search(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch) -> Searched:
    """Search as ``params.strategy`` says, and calibrate as ``params.calibrate`` does.

    Parameters
    ----------
    families : list of str
        The best of the leaderboard, best first.
    metric : str
        What compare ranked by.
    watch : callable
        Called with a text as each step begins.
    """
    found = STRATEGIES[params.strategy](trial, params, families, metric, watch)
    if params.calibrate == NONE or not trial.task.classes:
        return found
    pipeline, answers = layered.over(trial, [found.pipeline], [found.answers], layered.CURVES[params.calibrate])
    return replace(found, pipeline=pipeline, answers=answers)


def _tuned(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch) -> Searched:
    tuned = tuning.tune(trial, families[0], metric, params.tune_rounds, params.budget, seed=params.seed, watch=watch)
    answers = trial.out_of_fold(tuned.pipeline).score
    return Searched(families[:1], tuned.pipeline, answers, tuned.tried, tuned.said)


def _blended(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch) -> Searched:
    pipeline = trial.blended(families)
    return Searched(families, pipeline, trial.out_of_fold(pipeline).score, *_defaults(trial, families, "Blend"))


def _stacked(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch) -> Searched:
    members = [trial.fresh(family) for family in families]
    pipeline, answers = layered.over(
        trial, members, _asked(trial, members, families, watch), layered.STACKS[trial.task.learner]
    )
    return Searched(families, pipeline, answers, *_defaults(trial, families, "Stack"))


def _best(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch) -> Searched:
    """The tuned leader, unless a blend or a stack with it is better by more than a standard error over the folds.

    The rule of one standard error prefers the simpler model within noise (Breiman et al. 1984, "Classification and
    regression trees"); here the error is that of the paired difference.
    """
    leader = _tuned(trial, params, families, metric, watch)
    others = [trial.fresh(family) for family in families[1:]]
    if not others:
        return leader
    members = [leader.pipeline, *others]
    answers = [leader.answers, *_asked(trial, others, families[1:], watch)]
    tops = {"blend": layered.Mean, "stack": layered.STACKS[trial.task.learner]}
    joined = {name: layered.over(trial, members, answers, top) for name, top in tops.items()}
    measure = measured(trial.task, metric)
    plain = _values(trial, leader.answers, measure)
    values = {name: _values(trial, found, measure) for name, (_, found) in joined.items()}
    sign = -1 if measure in LOWER_IS_BETTER else 1
    first = max(values, key=lambda name: sign * values[name].mean())
    steps = sign * (values[first] - plain)
    error = steps.std(ddof=1) / np.sqrt(len(steps))
    rows = [{"setting": name, "mean": one.mean(), "sd": one.std(), "folds": len(one), "state": tuning.JUDGED,
             "parameters": _names(trial, families)} for name, one in values.items()]  # fmt: skip
    tried = pd.concat([leader.tried, pd.DataFrame(rows)], ignore_index=True)
    told = f"{spread(abs(steps.mean()), error)} {label(measure)} out of fold, give or take a standard error"
    if steps.mean() <= error:
        way = "better" if steps.mean() > 0 else "worse"
        said = f"{leader.said} A {first} of the best {len(members)} is {way} by {told}: the leader stays alone."
        return replace(leader, tried=tried, said=said)
    said = f"{leader.said} A {first} of the best {len(members)} is better by {told}: it is taken."
    return Searched(families, *joined[first], tried, said)


Strategy = Callable[[Experiment, Finalize, list[str], str, Watch], Searched]
STRATEGIES: dict[str, Strategy] = {"tune": _tuned, "blend": _blended, "stack": _stacked, "best": _best}


def _asked(trial: Experiment, members: list[Any], families: list[str], watch: Watch) -> list[np.ndarray]:
    """Each member's answers out of fold."""
    found = []
    for member, family in zip(members, families):
        watch(f"asking {trial.called(family)} out of fold")
        found.append(trial.out_of_fold(member).score)
    return found


def _values(trial: Experiment, answers: np.ndarray, metric: str) -> np.ndarray:
    """The metric in each fold."""
    judge, outcome = trial.task.metrics()[metric], trial.outcome.to_numpy()
    return np.array([judge(outcome[asked], answers[asked], np.ones(len(asked))) for _, asked in trial.parts()])


def _names(trial: Experiment, families: list[str]) -> str:
    return " + ".join(trial.called(family) for family in families)


def _defaults(trial: Experiment, families: list[str], what: str) -> tuple[pd.DataFrame, str]:
    tried = pd.DataFrame({"member": [trial.called(family) for family in families], "parameters": "defaults"})
    return tried, f"{what} of {len(families)} families with their defaults."
