"""The search for the final model: the leader tuned, the best blended or stacked, or whichever of these does best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from modelbook import engine
from modelbook.config import NONE, Finalize
from modelbook.engine import Engine
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


def search(
    trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch, *,
    name: str = engine.LOCAL, scheduler: str = NONE,
) -> Searched:  # fmt: skip
    """Search as ``params.strategy`` says, and calibrate as ``params.calibrate`` does.

    Parameters
    ----------
    families : list of str
        The best of the leaderboard, best first.
    metric : str
        What compare ranked by.
    watch : callable
        Called with a text as each step begins.
    name, scheduler : str
        The engine that settings are tried on, and its address or ``none``.

    Raises
    ------
    EngineError
        When the engine is not there, or cannot do its work.
    """
    with engine.opened(name, scheduler, tuning.Fold(trial)) as it:
        found = STRATEGIES[params.strategy](trial, params, families, metric, watch, it)
    if params.calibrate == NONE or not trial.task.classes:
        return found
    pipeline, answers = layered.over(trial, [found.pipeline], [found.answers], layered.CURVES[params.calibrate])
    return replace(found, pipeline=pipeline, answers=answers)


def _tuned(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch, it: Engine) -> Searched:
    leader, called = families[0], trial.called(families[0])
    tuned = tuning.tune(
        trial, leader, metric, params.tune_rounds, params.budget, seed=params.seed, it=it,
        watch=lambda step: watch(f"{called}, {step}"),
    )  # fmt: skip
    return Searched([leader], tuned.pipeline, tuned.answers, tuned.tried, tuned.said)


def _blended(
    trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch, it: Engine
) -> Searched:
    pipeline = trial.blended(families)
    watch("answering out of fold")
    return Searched(families, pipeline, trial.out_of_fold(pipeline).score, *_defaults(trial, families, "Blend"))


def _stacked(
    trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch, it: Engine
) -> Searched:
    plain = params.model_copy(update={"tune_rounds": 0})
    members = [_tuned(trial, plain, [family], metric, watch, it) for family in families]
    pipelines, answers = [one.pipeline for one in members], [one.answers for one in members]
    made = layered.over(trial, pipelines, answers, layered.STACKS[trial.task.learner])
    return Searched(families, *made, *_defaults(trial, families, "Stack"))


def _best(trial: Experiment, params: Finalize, families: list[str], metric: str, watch: Watch, it: Engine) -> Searched:
    """The best of the tuned families, of a blend and of a stack of them, by the mean of the folds.

    Where families are within noise of one another, which of them leads is luck; their mean errs less than most of them
    (Breiman 1996, "Stacked regressions"). So the better of blend and stack is taken unless it is worse than the leader
    by more than a standard error of the paired difference over the folds. A simple family (``task.simple``) that leads
    stays alone unless joining is better by more than that: the rule of one standard error, which prefers the simpler
    model within noise (Breiman et al. 1984, "Classification and regression trees").
    """
    measure = measured(trial.task, metric)
    sign = -1 if measure in LOWER_IS_BETTER else 1
    share = params.model_copy(update={"budget": params.budget / len(families)})
    tuned = [_tuned(trial, share, [family], metric, watch, it) for family in families]
    if len(tuned) == 1:
        return tuned[0]
    values = [_values(trial, one, measure) for one in tuned]
    order = sorted(range(len(tuned)), key=lambda place: -sign * values[place].mean())
    tuned, held = [tuned[place] for place in order], values[order[0]]
    joined = [_joined(trial, tuned, what) for what in ("blend", "stack")]
    reached = [_values(trial, one, measure) for one in joined]
    tried = pd.concat([_tried(trial, tuned), *map(partial(_row, trial), joined, reached)], ignore_index=True)
    first = max(range(len(joined)), key=lambda place: sign * np.nanmean(reached[place]))
    leader, best, steps = tuned[0], joined[first], sign * (reached[first] - held)
    said = f"Of {len(tuned)} tuned families {trial.called(leader.families[0])} is the best. {leader.said}"
    steps = steps[np.isfinite(steps)]
    error = steps.std(ddof=1) / np.sqrt(len(steps)) if len(steps) > 1 else abs(steps.mean())
    taken = steps.mean() > (error if leader.families[0] in trial.task.simple else -error)
    way, size = "better" if steps.mean() > 0 else "worse", spread(abs(steps.mean()), error)
    noise = ", which is within noise, where several err less than one" if taken and abs(steps.mean()) <= error else ""
    end = "it is taken" if taken else "the leader stays alone"
    told = f"{best.said} is {way} by {size} {label(measure)} (± a standard error){noise}: {end}."
    return replace(best if taken else leader, tried=tried, said=f"{said} {told}")


def _joined(trial: Experiment, members: list[Searched], what: str) -> Searched:
    top = layered.Mean if what == "blend" else layered.STACKS[trial.task.learner]
    pipelines, answers = [one.pipeline for one in members], [one.answers for one in members]
    families = [family for one in members for family in one.families]
    said = f"A {what} of the {len(members)}"
    return Searched(families, *layered.over(trial, pipelines, answers, top), pd.DataFrame({"setting": [what]}), said)


def _tried(trial: Experiment, tuned: list[Searched]) -> pd.DataFrame:
    """All that was tried, family by family."""
    tables = [one.tried.assign(family=trial.called(one.families[0])) for one in tuned]
    whole = pd.concat(tables, ignore_index=True)
    return whole[["family", *whole.columns.drop("family")]]


def _row(trial: Experiment, joined: Searched, values: np.ndarray) -> pd.DataFrame:
    values = values[np.isfinite(values)]
    names = " + ".join(map(trial.called, joined.families))
    return joined.tried.assign(
        family=names, mean=values.mean(), sd=values.std(), folds=len(values), state=tuning.JUDGED, parameters="as tuned"
    )


Strategy = Callable[[Experiment, Finalize, list[str], str, Watch, Engine], Searched]
STRATEGIES: dict[str, Strategy] = {"tune": _tuned, "blend": _blended, "stack": _stacked, "best": _best}


def _values(trial: Experiment, found: Searched, metric: str) -> np.ndarray:
    """The metric in each fold; NaN in one without answers."""
    values = np.full(trial.folds, np.nan)
    for fold, (_, asked) in enumerate(trial.parts()):
        if np.isfinite(found.answers[asked]).all():
            values[fold] = trial.judge(metric, found.answers[asked], asked)
    return values


def _defaults(trial: Experiment, families: list[str], what: str) -> tuple[pd.DataFrame, str]:
    tried = pd.DataFrame({"member": [trial.called(family) for family in families], "parameters": "defaults"})
    return tried, f"{what} of {len(families)} families with their defaults."
