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

# States of a trial.
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
    """The pipeline of the best trial, and all trials.

    Attributes
    ----------
    pipeline : pipeline
        Unfitted; with the defaults of the family if no trial is better.
    out_of_fold_scores : ndarray
        Its out-of-fold scores of the train rows, in the form of ``ScoredRows.score``.
    trials : DataFrame
        Columns ``trial, mean, sd, folds, state, parameters``; the defaults first.
    summary : str
        Summary in a sentence.
    fold_values : ndarray
        The metric in each fold, larger is better, of the trials that could be chosen, the best
        one first; shape (trials, folds).
    """

    pipeline: Any
    out_of_fold_scores: np.ndarray
    trials: pd.DataFrame
    summary: str
    fold_values: np.ndarray


class TuningTrialTask:
    """Task of the engine: fit a trial on a fold's train rows and score its test rows."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def __call__(self, item: tuple[str, dict[str, Any], int]) -> np.ndarray | None:
        """Return the scores; None if the fit fails, so that the other trials still run."""
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
class TuningTrial:
    """Parameters and their fold results so far; ``optuna_trial`` is None for the defaults."""

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

    Trials are proposed by a tree-structured Parzen estimator (Bergstra et al. 2011). A trial is
    pruned after two folds or more if a signed-rank test on the same folds (Wilcoxon 1945) finds it
    worse than the best one.

    Parameters
    ----------
    metric : str
        The ranking metric; replaced by the headline metric if it cannot be computed from scores.
    n_trials : int
        Number of trials besides the defaults.
    budget_seconds : float
        Seconds after which no fold is started, except those of the defaults.
    executor : Engine
        Runs ``TuningTrialTask``: as many trials at a time as it has slots, the folds of each in
        sequence. Proposals depend on the results so far, hence on the number of slots.
    on_progress : callable, optional
        Called with ``trial 3 of 8, fold 2 of 5`` as each fold begins.

    Raises
    ------
    TrainingError
        If the defaults return non-finite predictions.
    """
    metric = experiment.resolve_score_metric(metric)
    deadline = time.monotonic() + budget_seconds
    runner = _TrialRunner(
        experiment, family, metric, n_trials, executor, on_progress or (lambda _: None)
    )
    space = make_search_space(*experiment.get_search_spaces(family))
    defaults = runner.run_defaults()
    study = _make_study(metric, n_trials, seed)
    default_pipeline = experiment.make_default_pipeline(family)
    study.add_trial(_make_defaults_trial(default_pipeline, space, defaults.fold_values))
    trials = [defaults, *_run_trials(runner, study, space, deadline)]
    table = pd.DataFrame([_make_trial_row(trial) for trial in trials])
    ranking = _rank_trials(trials, metric)
    beats_baseline = (_beats_baseline(experiment, trials[index]) for index in ranking)
    n_rejected = next((rank for rank, is_better in enumerate(beats_baseline) if is_better), 0)
    ranking = ranking[n_rejected:]
    best = trials[ranking[0]]
    sign = metric_sign(metric)
    summary = "It has no search space, so its parameters are kept."
    if space:
        summary = _summarize_trials(table, ranking[0], metric, budget_seconds, n_trials)
        summary += _describe_rejected(experiment, n_rejected)
    return TuningResult(
        make_pipeline_with_params(experiment, family, best.params),
        experiment.join_fold_scores(enumerate(best.fold_scores)),
        table,
        summary,
        sign * np.array([trials[index].fold_values for index in ranking]),
    )


@dataclass
class _TrialRunner:
    """Runs trials fold by fold on the engine."""

    experiment: Experiment
    family: str
    metric: str
    n_trials: int
    executor: Engine
    on_progress: ProgressCallback

    def submit_fold(self, trial: TuningTrial, fold: int) -> Future[Any]:
        step = f"trial {trial.name} of {self.n_trials}" if trial.optuna_trial else trial.name
        self.on_progress(f"{step}, fold {fold + 1} of {self.experiment.folds}")
        return self.executor.submit((self.family, trial.params, fold))

    def record_fold(self, trial: TuningTrial, future: Future[Any]) -> None:
        """Record the result of the next fold, and report it to Optuna."""
        scores = self.executor.get_result(future)
        if scores is None or not np.isfinite(scores).all():
            trial.state = FAILED
            return
        trial.fold_values.append(
            self.experiment.evaluate_fold(
                self.metric, scores, self.experiment.cv_splits[len(trial.fold_values)][1]
            )
        )
        trial.fold_scores.append(scores)
        if trial.optuna_trial:
            trial.optuna_trial.report(trial.fold_values[-1], len(trial.fold_values))

    def run_defaults(self) -> TuningTrial:
        trial = TuningTrial("defaults", state=COMPLETED)
        for future in [self.submit_fold(trial, fold) for fold in range(self.experiment.folds)]:
            self.record_fold(trial, future)
        if trial.state == FAILED:
            label = self.experiment.get_family_label(self.family)
            raise TrainingError(
                f"{label} returns non-finite predictions with its default parameters",
                next="remove it from `families`",
            )
        return trial


def _run_trials(
    runner: _TrialRunner, study: optuna.Study, space: SearchSpace, deadline: float
) -> list[TuningTrial]:
    """Run trials until all have run or time is up; returns them in the order proposed."""
    trials = list[TuningTrial]()
    running = dict[Future[Any], TuningTrial]()
    proposed = _propose_trials(study, space, runner.n_trials)

    def advance(trial: TuningTrial) -> None:
        """Start the next fold, or finish the trial."""
        trial.state = trial.state or _resolve_state(trial, runner.experiment.folds, deadline)
        if not trial.state:
            running[runner.submit_fold(trial, len(trial.fold_values))] = trial
        elif trial.optuna_trial:
            mean = float(np.mean(trial.fold_values)) if trial.state == COMPLETED else None
            study.tell(trial.optuna_trial, mean, state=OPTUNA_STATES[trial.state])

    while True:
        has_timed_out = any(trial.state == TIMED_OUT for trial in trials)
        while (
            not has_timed_out
            and len(running) < runner.executor.slots()
            and (next_trial := next(proposed, None))
        ):
            trials.append(next_trial)
            advance(next_trial)
            has_timed_out = next_trial.state == TIMED_OUT
        if not running:
            return trials
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            trial = running.pop(future)
            runner.record_fold(trial, future)
            advance(trial)


def _propose_trials(
    study: optuna.Study, space: SearchSpace, n_trials: int
) -> Iterator[TuningTrial]:
    """Yield trials proposed by Optuna, on demand, without repetitions."""
    proposed_params = list[dict[str, Any]]()
    for number in range(1, n_trials + 1 if space else 1):
        optuna_trial = study.ask(space)
        if optuna_trial.params in proposed_params:
            study.tell(optuna_trial, state=TrialState.FAIL)
            continue
        proposed_params.append(optuna_trial.params)
        yield TuningTrial(str(number), optuna_trial, optuna_trial.params)


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


def _resolve_state(trial: TuningTrial, n_folds: int, deadline: float) -> str:
    """The final state of a trial; empty while it has folds to run."""
    if len(trial.fold_values) == n_folds:
        return COMPLETED
    if time.monotonic() > deadline:
        return TIMED_OUT
    return PRUNED if trial.optuna_trial and trial.optuna_trial.should_prune() else ""


def _rank_trials(trials: list[TuningTrial], metric: str) -> list[int]:
    """Positions of the completed trials, best first; of ties the first, i.e. the defaults."""
    completed = [index for index, trial in enumerate(trials) if trial.state == COMPLETED]
    sign = -metric_sign(metric)
    return sorted(completed, key=lambda index: sign * float(np.mean(trials[index].fold_values)))


def _beats_baseline(experiment: Experiment, trial: TuningTrial) -> bool:
    """Whether out-of-fold scores pass the gate's test against the baseline.

    A trial may rank rows well and still have probabilities that are worse than the base rate.
    """
    scores = experiment.join_fold_scores(enumerate(trial.fold_scores))
    scored = experiment.to_scored_rows(scores)
    options = {"resamples": MAX_RESAMPLES, "seed": 0}
    _, low, _ = compute_gain_over_baseline(experiment.task, scored, **options)
    return low > 0


def _describe_rejected(experiment: Experiment, n_rejected: int) -> str:
    """Trials that rank before the best, but would not pass the gate."""
    if not n_rejected:
        return ""
    baseline_metric = metric_label(experiment.task.baseline_metric)
    return (
        f" Rejected because {baseline_metric} is not better than the baseline's, as the gate "
        f"requires: {n_rejected}."
    )


def _make_trial_row(trial: TuningTrial) -> dict[str, Any]:
    values = trial.fold_values or [np.nan]
    return {
        "trial": trial.name,
        "mean": np.mean(values),
        "sd": np.std(values),
        "folds": len(trial.fold_values),
        "state": trial.state,
        "parameters": describe_parameters(trial.params),
    }


def describe_parameters(params: dict[str, Any]) -> str:
    """Parameters with their values, as a string."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in params.items()
    )


def _summarize_trials(
    table: pd.DataFrame, best_index: int, metric: str, budget_seconds: float, n_trials: int
) -> str:
    n_started = len(table) - 1
    n_pruned = (table["state"] == PRUNED).sum()
    has_timed_out = (table["state"] == TIMED_OUT).any()
    budget_text = (
        f" of {n_trials} trials were started before the budget of {budget_seconds:g} s was spent"
        if has_timed_out
        else f" {'trial' if n_started == 1 else 'trials'} besides the defaults"
    )
    counts_text = f"{n_started}{budget_text}, {n_pruned} pruned"
    default_value = table["mean"].iloc[0]
    name = metric_label(metric)
    if not best_index:
        return (
            f"{counts_text}; none is better than the defaults, which are kept: {name} "
            f"{format_metric(default_value)}."
        )
    return (
        f"{counts_text}; the best has {name} {format_metric(table['mean'][best_index])} out-of-"
        f"fold, the defaults {format_metric(default_value)}."
    )
