"""Hyperparameter tuning of one family with Optuna, cross-validated by group within a time budget.

PyCaret's Optuna search has no time limit, and prunes only families with ``partial_fit``. Its search
spaces are used for families that ``spaces`` does not name.
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
from modelbook.evaluation.metrics_ci import compute_gain_over_baseline
from modelbook.tasks.metric_format import LOWER_IS_BETTER, format_metric, metric_label, metric_sign
from modelbook.training.experiment import Experiment
from modelbook.training.folds import ProgressCallback
from modelbook.training.pycaret import to_optuna

# States of a setting.
COMPLETED, PRUNED, TIMED_OUT, FAILED = "completed", "pruned", "out of time", "failed"
OPTUNA_STATES = {
    COMPLETED: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    TIMED_OUT: TrialState.FAIL,
    FAILED: TrialState.FAIL,
}
PRUNER_P_VALUE = 0.3  # p_threshold of the Wilcoxon pruner; two worse folds have p = 0.25
MAX_RESAMPLES = 200  # of the interval of the gain over the baseline
MAX_RANDOM_TRIALS = 10  # n_startup_trials of the TPE sampler; at most half of the trials

SearchSpace = dict[str, BaseDistribution]


@dataclass(frozen=True)
class TuningResult:
    """The best setting, and all trials.

    Attributes
    ----------
    pipeline : pipeline
        Unfitted; with the family's defaults if no setting is better.
    out_of_fold_scores : ndarray
        Its out-of-fold scores of the train rows, in the form of ``ScoredRows.score``.
    trials : DataFrame
        Columns ``setting, mean, sd, folds, state, parameters``; the defaults first.
    summary : str
        Summary in a sentence.
    fold_values : ndarray
        The metric in each fold, larger is better, of the settings that could be chosen, the best
        one first; shape (settings, folds).
    """

    pipeline: Any
    out_of_fold_scores: np.ndarray
    trials: pd.DataFrame
    summary: str
    fold_values: np.ndarray


class FoldTask:
    """Fit a family with a setting on a fold's train rows and score its test rows, as a task."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def __call__(self, item: tuple[str, dict[str, Any], int]) -> np.ndarray | None:
        """The scores; None if the fit fails, so that the other settings still run."""
        family, params, fold = item
        try:
            return self.experiment.fit_predict_fold(
                make_pipeline_with_params(self.experiment, family, params),
                *self.experiment.cv_splits[fold],
            )
        except Exception:  # libraries may raise anything; a failure of the defaults is raised
            if not params:
                raise
            return None


@dataclass
class Setting:
    """A setting and its fold results so far; ``optuna_trial`` is None for the defaults."""

    name: str
    optuna_trial: Trial | None = None
    params: dict[str, Any] = field(default_factory=dict)
    fold_scores: list[np.ndarray] = field(default_factory=list)
    fold_values: list[float] = field(default_factory=list)
    state: str = ""


def tune_family(
    experiment: Experiment,
    family: str,
    metric: str,
    n_trials: int,
    budget_seconds: float,
    *,
    seed: int,
    executor: Engine,
    on_progress: ProgressCallback | None = None,
) -> TuningResult:
    """Evaluate the defaults, then Optuna's proposals until trials or time are used up.

    Settings are proposed by a tree-structured Parzen estimator (Bergstra et al. 2011). A setting is
    pruned after two folds or more if a signed-rank test on the same folds (Wilcoxon 1945) finds it
    worse than the best one.

    Parameters
    ----------
    metric : str
        The ranking metric; replaced by the headline metric if it cannot be computed from scores.
    n_trials : int
        Number of settings in addition to the defaults.
    budget_seconds : float
        Seconds after which no fold is started, except those of the defaults.
    executor : Engine
        Runs ``FoldTask``: as many settings at a time as it has slots, the folds of each in
        sequence. Proposals depend on the results so far, hence on the number of slots.
    on_progress : callable, optional
        Called with ``setting 3 of 8, fold 2 of 5`` as each fold begins.

    Raises
    ------
    TrainingError
        If the defaults return non-finite predictions.
    """
    metric = experiment.resolve_score_metric(metric)
    deadline = time.monotonic() + budget_seconds
    runner = _SettingRunner(
        experiment, family, metric, n_trials, executor, on_progress or (lambda _: None)
    )
    space = make_search_space(*experiment.search_spaces(family))
    defaults = runner.run_defaults()
    study = _make_study(metric, n_trials, seed)
    default_pipeline = experiment.make_default_pipeline(family)
    study.add_trial(_make_defaults_trial(default_pipeline, space, defaults.fold_values))
    settings = [defaults, *_run_settings(runner, study, space, deadline)]
    trials = pd.DataFrame([_make_trial_row(setting) for setting in settings])
    ranking = _rank_settings(settings, metric)
    beats_baseline = (_beats_baseline(experiment, settings[index]) for index in ranking)
    n_rejected = next((rank for rank, is_better in enumerate(beats_baseline) if is_better), 0)
    ranking = ranking[n_rejected:]
    best, sign = settings[ranking[0]], metric_sign(metric)
    summary = "It has no search space, so its parameters are kept."
    if space:
        summary = _summarize_trials(trials, ranking[0], metric, budget_seconds, n_trials)
        summary += _describe_rejected(experiment, n_rejected)
    return TuningResult(
        make_pipeline_with_params(experiment, family, best.params),
        experiment.join_fold_scores(enumerate(best.fold_scores)),
        trials,
        summary,
        sign * np.array([settings[index].fold_values for index in ranking]),
    )


@dataclass
class _SettingRunner:
    """Runs settings fold by fold on the engine."""

    experiment: Experiment
    family: str
    metric: str
    n_trials: int
    executor: Engine
    on_progress: ProgressCallback

    def submit_fold(self, setting: Setting, fold: int) -> Future[Any]:
        step = (
            f"setting {setting.name} of {self.n_trials}" if setting.optuna_trial else setting.name
        )
        self.on_progress(f"{step}, fold {fold + 1} of {self.experiment.folds}")
        return self.executor.submit((self.family, setting.params, fold))

    def record_fold(self, setting: Setting, future: Future[Any]) -> None:
        """Record the result of the next fold, and report it to Optuna."""
        scores = self.executor.get_result(future)
        if scores is None or not np.isfinite(scores).all():
            setting.state = FAILED
            return
        setting.fold_values.append(
            self.experiment.evaluate_fold(
                self.metric, scores, self.experiment.cv_splits[len(setting.fold_values)][1]
            )
        )
        setting.fold_scores.append(scores)
        if setting.optuna_trial:
            setting.optuna_trial.report(setting.fold_values[-1], len(setting.fold_values))

    def run_defaults(self) -> Setting:
        setting = Setting("defaults", state=COMPLETED)
        for future in [self.submit_fold(setting, fold) for fold in range(self.experiment.folds)]:
            self.record_fold(setting, future)
        if setting.state == FAILED:
            raise TrainingError(
                f"{self.experiment.family_label(self.family)} returns non-finite predictions with "
                "its default parameters",
                next="remove it from `families`",
            )
        return setting


def _run_settings(
    runner: _SettingRunner, study: optuna.Study, space: SearchSpace, deadline: float
) -> list[Setting]:
    """Run settings until trials or time are used up; returns them in the order proposed."""
    settings, running = list[Setting](), dict[Future[Any], Setting]()
    proposed = _propose_settings(study, space, runner.n_trials)

    def advance(setting: Setting) -> None:
        """Start the next fold, or finish the setting."""
        setting.state = setting.state or _resolve_state(setting, runner.experiment.folds, deadline)
        if not setting.state:
            running[runner.submit_fold(setting, len(setting.fold_values))] = setting
        elif setting.optuna_trial:
            mean = float(np.mean(setting.fold_values)) if setting.state == COMPLETED else None
            study.tell(setting.optuna_trial, mean, state=OPTUNA_STATES[setting.state])

    while True:
        has_timed_out = any(setting.state == TIMED_OUT for setting in settings)
        while (
            not has_timed_out
            and len(running) < runner.executor.slots()
            and (next_setting := next(proposed, None))
        ):
            settings.append(next_setting)
            advance(next_setting)
            has_timed_out = next_setting.state == TIMED_OUT
        if not running:
            return settings
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            setting = running.pop(future)
            runner.record_fold(setting, future)
            advance(setting)


def _propose_settings(study: optuna.Study, space: SearchSpace, n_trials: int) -> Iterator[Setting]:
    """Settings proposed by Optuna, generated on demand, without repetitions."""
    proposed_params = list[dict[str, Any]]()
    for number in range(1, n_trials + 1 if space else 1):
        trial = study.ask(space)
        if trial.params in proposed_params:
            study.tell(trial, state=TrialState.FAIL)
            continue
        proposed_params.append(trial.params)
        yield Setting(str(number), trial, trial.params)


def make_pipeline_with_params(experiment: Experiment, family: str, params: dict[str, Any]) -> Any:
    """An unfitted pipeline of a family with the given parameters."""
    return experiment.make_default_pipeline(family).set_params(
        **{f"model__{name}": value for name, value in params.items()}
    )


def _make_study(metric: str, n_trials: int, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # keeps trial logs out of the notebook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=PRUNER_P_VALUE)
    # Univariate, because a joint model would ignore trials with any default outside its space.
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=min(MAX_RANDOM_TRIALS, 1 + n_trials // 2), multivariate=False
    )
    direction = StudyDirection.MINIMIZE if metric in LOWER_IS_BETTER else StudyDirection.MAXIMIZE
    return optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)


def make_search_space(ranges: dict[str, Any], grid: dict[str, Any]) -> SearchSpace:
    """Each parameter's Optuna distribution, or the values of its grid where there is none."""
    space = SearchSpace()
    for name in {**ranges, **grid}:
        space[name] = to_optuna(ranges.get(name)) or CategoricalDistribution(list(grid[name]))
    return space


def _make_defaults_trial(pipeline: Any, space: SearchSpace, values: list[float]) -> FrozenTrial:
    """The defaults as a trial, with those parameters that lie within the search space."""
    params = pipeline.steps[-1][1].get_params()
    distributions = {
        name: distribution
        for name, distribution in space.items()
        if name in params and _is_within(distribution, params[name])  # CatBoost omits defaults
    }
    return optuna.trial.create_trial(
        value=float(np.mean(values)),
        params={name: params[name] for name in distributions},
        distributions=distributions,
        intermediate_values=dict(enumerate(values, 1)),
    )


def _is_within(distribution: Any, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def _resolve_state(setting: Setting, n_folds: int, deadline: float) -> str:
    """The final state of a setting; empty while it has folds to run."""
    if len(setting.fold_values) == n_folds:
        return COMPLETED
    if time.monotonic() > deadline:
        return TIMED_OUT
    return PRUNED if setting.optuna_trial and setting.optuna_trial.should_prune() else ""


def _rank_settings(settings: list[Setting], metric: str) -> list[int]:
    """Positions of the completed settings, best first; of ties the first, i.e. the defaults."""
    completed = [index for index, setting in enumerate(settings) if setting.state == COMPLETED]
    sign = -metric_sign(metric)
    return sorted(completed, key=lambda index: sign * float(np.mean(settings[index].fold_values)))


def _beats_baseline(experiment: Experiment, setting: Setting) -> bool:
    """Whether out-of-fold scores pass the gate's test against the baseline.

    A setting may rank rows well and still have probabilities that are worse than the base rate.
    """
    scores = experiment.join_fold_scores(enumerate(setting.fold_scores))
    scored = experiment.to_scored_rows(scores)
    options = {"resamples": MAX_RESAMPLES, "seed": 0}
    _, low, _ = compute_gain_over_baseline(experiment.task, scored, **options)
    return low > 0


def _describe_rejected(experiment: Experiment, n_rejected: int) -> str:
    """Settings that rank before the best, but would not pass the gate."""
    if not n_rejected:
        return ""
    baseline_metric = metric_label(experiment.task.baseline_metric)
    return (
        f" Rejected because {baseline_metric} is not better than the baseline's, as the gate "
        f"requires: {n_rejected}."
    )


def _make_trial_row(setting: Setting) -> dict[str, Any]:
    values = setting.fold_values or [np.nan]
    return {
        "setting": setting.name,
        "mean": np.mean(values),
        "sd": np.std(values),
        "folds": len(setting.fold_values),
        "state": setting.state,
        "parameters": describe_parameters(setting.params),
    }


def describe_parameters(params: dict[str, Any]) -> str:
    """Parameters with their values, as a string."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in params.items()
    )


def _summarize_trials(
    trials: pd.DataFrame, best_index: int, metric: str, budget_seconds: float, n_trials: int
) -> str:
    n_started, n_pruned = len(trials) - 1, (trials["state"] == PRUNED).sum()
    has_timed_out = (trials["state"] == TIMED_OUT).any()
    budget_text = (
        f" of {n_trials} trials were started before the budget of {budget_seconds:g} s was spent"
        if has_timed_out
        else f" {'trial' if n_started == 1 else 'trials'} besides the defaults"
    )
    counts_text = f"{n_started}{budget_text}, {n_pruned} pruned"
    default_value, name = trials["mean"].iloc[0], metric_label(metric)
    if not best_index:
        return (
            f"{counts_text}; none is better than the defaults, which are kept: {name} "
            f"{format_metric(default_value)}."
        )
    return (
        f"{counts_text}; the best has {name} {format_metric(trials['mean'][best_index])} out-of-"
        f"fold, the defaults {format_metric(default_value)}."
    )
