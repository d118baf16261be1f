"""Tuning: settings of one family that Optuna proposes, cross-validated by entity, within a time, here or on an engine.

PyCaret's own Optuna search cannot be stopped by the clock, and drops settings early only of families that learn in
steps (``partial_fit``). Its search spaces are taken from it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from modelbook.engine import Engine
from modelbook.errors import TrainingError
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
    answers : ndarray
        Its answers to the train rows out of fold, as ``Scored.score``.
    tried : DataFrame
        Columns ``setting, mean, sd, folds, state`` (judged, dropped, failed, out of time), ``parameters``; the
        defaults first.
    said : str
        What came of it, in a sentence.
    """

    pipeline: Any
    answers: np.ndarray
    tried: pd.DataFrame
    said: str


class Fold:
    """The work on a fold: a family with a setting, fitted without the fold's rows, and asked about them."""

    def __init__(self, trial: Experiment) -> None:
        self.trial = trial

    def __call__(self, item: tuple[str, dict[str, Any], int]) -> np.ndarray | None:
        """Its answers; None where parameters do not go together, so that the other settings still run."""
        family, params, fold = item
        try:
            return self.trial.ask(with_params(self.trial, family, params), *self.trial.parts()[fold])
        except Exception:  # any library may fail in any way; what the defaults meet is told
            if not params:
                raise
            return None


@dataclass
class Setting:
    """A setting, and how it did in the folds so far; ``asked`` is Optuna's trial, None for the defaults."""

    name: str
    asked: Trial | None = None
    params: dict[str, Any] = field(default_factory=dict)
    answers: list[np.ndarray] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    state: str = ""


def tune(
    trial: Experiment, family: str, metric: str, rounds: int, seconds: float, *, seed: int, it: Engine,
    watch: Watch | None = None,
) -> Tuned:  # fmt: skip
    """Judge the defaults, then what Optuna proposes until the rounds or the time are spent.

    Settings are proposed by a tree-structured Parzen estimator (Bergstra et al. 2011). One is dropped after two folds
    or more when a signed-rank test on the same folds (Wilcoxon 1945) finds it worse than the best one.

    Parameters
    ----------
    metric : str
        What compare ranked by; where answers alone cannot be judged by it, the headline stands in.
    rounds : int
        Settings beside the defaults.
    seconds : float
        No fold is begun after that, but for those of the defaults.
    it : Engine
        Does the work of ``Fold``: as many settings at a time as it has slots, the folds of each one after another. A
        setting is proposed by those that are judged by then, so that another number of slots may try others.
    watch : callable, optional
        Called with ``setting 3 of 8, fold 2 of 5`` as each fold begins.

    Raises
    ------
    TrainingError
        When what the defaults answer is no number.
    """
    metric = measured(trial.task, metric)
    until, asking = time.monotonic() + seconds, _Asking(trial, family, metric, rounds, it, watch or (lambda _: None))
    space, study, defaults = _space(*trial.spaces(family)), _study(metric, rounds, seed), asking.defaults()
    study.add_trial(_defaults(trial.fresh(family), space, defaults.values))
    settings = [defaults, *_tried(asking, study, space, until)]
    tried = pd.DataFrame([_row(one) for one in settings])
    judged = tried.loc[tried["state"] == JUDGED, "mean"]
    best = judged.idxmin() if metric in LOWER_IS_BETTER else judged.idxmax()  # of several the first: the defaults
    pipeline, answers = with_params(trial, family, settings[best].params), trial.joined(settings[best].answers)
    return Tuned(pipeline, answers, tried, _said(tried, best, metric, seconds, rounds))


@dataclass
class _Asking:
    """How a setting is asked fold by fold."""

    trial: Experiment
    family: str
    metric: str
    rounds: int
    it: Engine
    say: Watch

    def begin(self, one: Setting, fold: int) -> Future[Any]:
        step = f"setting {one.name} of {self.rounds}" if one.asked else one.name
        self.say(f"{step}, fold {fold + 1} of {self.trial.folds}")
        return self.it.submit((self.family, one.params, fold))

    def take(self, one: Setting, future: Future[Any]) -> None:
        """Judge what came of the next fold, and tell Optuna."""
        answers = self.it.answer(future)
        if answers is None or not np.isfinite(answers).all():
            one.state = FAILED
            return
        one.values.append(self.trial.judge(self.metric, answers, self.trial.parts()[len(one.values)][1]))
        one.answers.append(answers)
        if one.asked:
            one.asked.report(one.values[-1], len(one.values))

    def defaults(self) -> Setting:
        one = Setting("defaults", state=JUDGED)
        for future in [self.begin(one, fold) for fold in range(self.trial.folds)]:
            self.take(one, future)
        if one.state == FAILED:
            raise TrainingError(
                f"{self.trial.called(self.family)} answers what is no number", next="leave it out of `families`"
            )
        return one


def _tried(asking: _Asking, study: optuna.Study, space: Space, until: float) -> list[Setting]:
    """All settings that were begun, in the order of their proposal, with what became of them."""
    settings, running = list[Setting](), dict[Future[Any], Setting]()
    proposed = _proposed(study, space, asking.rounds)

    def go_on(one: Setting) -> None:
        """Begin the next fold, where that is worth it."""
        one.state = one.state or _state(one, asking.trial.folds, until)
        if not one.state:
            running[asking.begin(one, len(one.values))] = one
        elif one.asked:
            mean = float(np.mean(one.values)) if one.state == JUDGED else None
            study.tell(one.asked, mean, state=STATES[one.state])

    while True:
        late = any(one.state == LATE for one in settings)
        while not late and len(running) < asking.it.slots() and (new := next(proposed, None)):
            settings.append(new)
            go_on(new)
            late = new.state == LATE
        if not running:
            return settings
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            one = running.pop(future)
            asking.take(one, future)
            go_on(one)


def _proposed(study: optuna.Study, space: Space, rounds: int) -> Iterator[Setting]:
    """What Optuna proposes, one by one, as it is asked for; of a small space, what is known already is left out."""
    known = list[dict[str, Any]]()
    for number in range(1, rounds + 1 if space else 1):
        asked = study.ask(space)
        if asked.params in known:
            study.tell(asked, state=TrialState.FAIL)
            continue
        known.append(asked.params)
        yield Setting(str(number), asked, asked.params)


def with_params(trial: Experiment, family: str, params: dict[str, Any]) -> Any:
    """A family with some parameters other than the defaults, unfitted."""
    return trial.fresh(family).set_params(**{f"model__{name}": value for name, value in params.items()})


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


def _state(one: Setting, folds: int, until: float) -> str:
    """What has become of a setting; empty while another fold is worth it."""
    if len(one.values) == folds:
        return JUDGED
    if time.monotonic() > until:
        return LATE
    return DROPPED if one.asked and one.asked.should_prune() else ""


def _row(one: Setting) -> dict[str, Any]:
    mean, sd = (np.mean(one.values), np.std(one.values)) if one.values else (np.nan, np.nan)
    words = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                      for key, value in one.params.items())  # fmt: skip
    return {
        "setting": one.name,
        "mean": mean,
        "sd": sd,
        "folds": len(one.values),
        "state": one.state,
        "parameters": words,
    }


def _said(tried: pd.DataFrame, best: int, metric: str, seconds: float, wanted: int) -> str:
    begun, dropped, late = len(tried) - 1, (tried["state"] == DROPPED).sum(), (tried["state"] == LATE).any()
    end = f" of {wanted} were begun before the budget of {seconds:g} s was spent" if late else " settings were tried"
    first = f"{begun}{end}, {dropped} dropped early"
    plain, name = tried["mean"].iloc[0], label(metric)
    if not best:
        return f"{first}; none is better than the defaults, which stay: {name} {told(plain)}."
    return f"{first}; the best has {name} {told(tried['mean'][best])} out of fold, the defaults {told(plain)}."
