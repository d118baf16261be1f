"""Search for an ensemble: trials of several families in rounds, combined by greedy weights.

Each round evaluates new trials on two folds, and the better half of them on the remaining folds
(successive halving; Jamieson & Talwalkar 2016); from the second round on only trials of the best
families. Trials are compared and combined with calibrated probabilities, where calibration lowers
their loss: forests rank multiclass rows well, but are underconfident. Unless the time budget leaves
trials out, the ensemble does not depend on the number of workers or their speed. The search ends
when a round improves the loss no further, the time is spent, or all rounds were run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import optuna
import pandas as pd

from modelbook.engine import Engine
from modelbook.errors import TrainingError
from modelbook.formatting import format_count
from modelbook.training import boosters, spaces, stacking
from modelbook.training.class_balancing import RESAMPLERS
from modelbook.training.experiment import Experiment
from modelbook.training.folds import ProgressCallback
from modelbook.training.log_target import LogTargetRegressor, suits_log_target
from modelbook.training.tuning import (
    COMPLETED,
    FAILED,
    PRUNED,
    TIMED_OUT,
    describe_parameters,
    make_search_space,
)

LOG_TARGET = "log_target"  # a parameter of a trial, not of its estimator
EARLY_STOPPING_FRACTION = 0.15  # of a fold's train groups, as stop rows
FIRST_FOLDS = 2  # folds that evaluate the trials of a round first
MAX_FAMILIES = 6  # that are searched
MAX_MEMBERS = 5  # of the ensemble
MAX_RANKED_MEMBERS = 8  # best trials that may become members, besides the best of each family
MAX_STARTING_FAMILIES = 4  # best families of which the second round tries other starting points
# Minimum relative decrease of the loss; on small tables smaller ones are mostly noise.
MIN_CALIBRATION_GAIN = 0.03
# Maximum relative increase of the blend's loss from removing members.
MEMBER_TOLERANCE = 0.001
FORESTS = ("et", "rf")
TREES_PER_WEIGHT = 1.5  # a member forest keeps min(1, 1.5 * weight) of its trees
MAX_ROUND_SHARE = 1 / 2  # of the time left, for a round other than the last
MIN_ROUNDS, MAX_ROUNDS = 3, 4  # the third is the first with random trials
MIN_GAIN = 0.001  # minimum relative decrease of the loss by a round for another one to begin
# Reasons for stopping.
OUT_OF_TIME = "no further trial fitted into the time budget; more time may select another model"
NO_GAIN = f"the last round improved the loss by less than {MIN_GAIN:.1%}"
ALL_ROUNDS = "all rounds were run"
PENDING = "pending"  # state of a trial that is not evaluated yet


@dataclass(eq=False)
class EnsembleTrial:
    """Hyperparameters of a family, with their results in each fold so far.

    ``losses`` are those of the calibrated scores if there is a ``calibration``: a meta-model, and
    its out-of-fold scores.
    """

    family: str
    params: dict[str, Any]
    scores: dict[int, np.ndarray] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    iterations: list[int] = field(default_factory=list)
    seconds: float = 0.0
    state: str = PENDING
    calibration: tuple[Any, np.ndarray] | None = None

    @property
    def loss(self) -> float:
        values = [self.losses[fold] for fold in sorted(self.losses)]  # recorded in any order
        return float(np.mean(values)) if values else np.inf


class EnsembleTrialTask:
    """Task of the engine: fit a trial on a fold's train rows and score its test rows."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def __call__(
        self, item: tuple[str, dict[str, Any], int]
    ) -> tuple[np.ndarray | None, int | None, float]:
        """Return scores (None if the fit fails), iterations found by early stopping, seconds."""
        family, params, fold = item
        start = time.perf_counter()
        try:
            scores, iterations = fit_and_score(self.experiment, family, params, fold)
        except Exception:  # libraries may raise anything; the other trials still run
            return None, None, time.perf_counter() - start
        return scores, iterations, time.perf_counter() - start


def fit_and_score(
    experiment: Experiment, family: str, params: dict[str, Any], fold: int
) -> tuple[np.ndarray, int | None]:
    """Return scores of a fold's test rows, and the iterations found by early stopping, if any."""
    X_train, y_train, X_test = experiment.encode_fold(family, fold)
    iterations = None
    if uses_early_stopping(experiment, family, params):
        estimator = make_estimator(experiment, family, {**params, LOG_TARGET: False})
        y = np.log1p(y_train) if params.get(LOG_TARGET) else y_train
        is_stop_row = experiment.select_early_stopping_rows(fold, EARLY_STOPPING_FRACTION)
        iterations = boosters.find_iterations(family, estimator, X_train, y, is_stop_row)
    estimator = make_estimator(experiment, family, params, iterations).fit(X_train, y_train)
    return experiment.task.predict_scores(estimator, X_test), iterations


def uses_early_stopping(experiment: Experiment, family: str, params: dict[str, Any]) -> bool:
    """Whether a booster's number of iterations is found by early stopping.

    It is unless the trial sets the number, or rows are resampled.
    """
    name = boosters.ITERATION_PARAMETERS.get(family)
    return (
        name is not None
        and name not in params
        and experiment.options["imbalance"] not in RESAMPLERS
    )


def make_estimator(
    experiment: Experiment, family: str, params: dict[str, Any], iterations: int | None = None
) -> Any:
    """Make an unfitted estimator of a family with a trial's parameters."""
    estimator_params = {name: value for name, value in params.items() if name != LOG_TARGET}
    if iterations is not None:
        estimator_params[boosters.ITERATION_PARAMETERS[family]] = iterations
    estimator = experiment.make_estimator(family).set_params(**estimator_params)
    return LogTargetRegressor(estimator) if params.get(LOG_TARGET) else estimator


class EnsembleSearch:
    """Search in rounds of trials.

    Attributes
    ----------
    default_trials : list of EnsembleTrial
        The families' defaults that the comparison has evaluated.
    trials : list of EnsembleTrial
        All trials, in the order tried; the default trials first.
    curve : list of dict
        After each round: ``seconds, trials, best`` (loss of the best trial) and ``ensemble``.
    stop_reason : str
        Why the search ended.
    """

    def __init__(
        self,
        experiment: Experiment,
        families: list[str],
        n_random: int,
        seconds: float,
        executor: Engine,
        on_progress: ProgressCallback,
        *,
        seed: int,
    ) -> None:
        skipped = [family for family, scores in experiment.fold_scores.items() if not scores]
        self.families = list(dict.fromkeys([*families, *skipped]))[:MAX_FAMILIES]
        self.experiment = experiment
        self.loss_metric = experiment.task.baseline_metric
        self.is_regression = not experiment.task.classes
        self.executor = executor
        self.on_progress = on_progress
        self.start = time.monotonic()
        self.deadline = self.start + seconds
        self.n_random = n_random
        self.seed = seed
        self.default_trials = self._load_default_trials()
        self.trials = [*self.default_trials]
        self.curve: list[dict[str, float]] = []
        self.stop_reason = ALL_ROUNDS

    def run(self) -> Ensemble:
        """Run rounds until the loss improves no further, or the time is spent.

        Returns
        -------
        Ensemble
            That of the last round whose loss is within ``MIN_GAIN`` of the lowest.
        """
        ensembles = [self._combine_best()] if self.completed else []
        for number, trials in enumerate(self._plan_rounds()):
            if not trials:  # families without other trials to start with
                continue
            self._run_round(number, trials)
            if not self.completed:
                raise TrainingError(
                    "no family could be fitted on all folds: "
                    f"{', '.join(map(self.experiment.get_family_label, self.families))}",
                    next="raise time_budget, or set other families",
                )
            ensembles.append(self._combine_best())
            if self.seconds_left <= 0:
                self.stop_reason = OUT_OF_TIME
                break
            if number + 1 >= MIN_ROUNDS and self._has_no_gain() and not self._left_out:
                self.stop_reason = NO_GAIN
                break
        for trial in self._left_out:
            trial.state = TIMED_OUT
            self.stop_reason = OUT_OF_TIME
        losses = [point["ensemble"] for point in self.curve]
        # NaN if no fold has a loss, as with a single forward fold.
        limit = min(filter(math.isfinite, losses), default=math.inf) * (1 + MIN_GAIN)
        return next(
            ensemble for ensemble, loss in zip(ensembles[::-1], losses[::-1]) if not loss > limit
        )

    def _load_default_trials(self) -> list[EnsembleTrial]:
        """Load the families' defaults that the comparison has evaluated on the same folds."""
        default_trials = []
        for family in self.families:
            fold_scores = self.experiment.fold_scores.get(family, [])
            trial = EnsembleTrial(family, {})
            for fold, scores in enumerate(fold_scores):
                self._record_fold(trial, fold, scores, None, 0.0)
            if trial.state == COMPLETED:
                self._calibrate(trial)
                default_trials.append(trial)
        return default_trials

    def _combine_best(self) -> Ensemble:
        """Combine the best trials so far, and add a point to the curve."""
        ensemble = self.combine(self._list_member_trials())
        self.curve.append(
            {
                "seconds": time.monotonic() - self.start,
                "trials": len(self.completed),
                "best": self.completed[0].loss,
                "ensemble": self.measure_loss(ensemble.out_of_fold_scores),
            }
        )
        return ensemble

    def _has_no_gain(self) -> bool:
        losses = [point["ensemble"] for point in self.curve[-2:]]
        return len(losses) > 1 and not losses[0] - losses[1] > MIN_GAIN * losses[0]

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def _left_out(self) -> list[EnsembleTrial]:
        """Trials that there was no time for so far."""
        return [trial for trial in self.trials if trial.state == PENDING]

    @property
    def completed(self) -> list[EnsembleTrial]:
        """Trials with a score on all folds, best first."""
        finished = [trial for trial in self.trials if trial.state == COMPLETED]
        return sorted(finished, key=lambda trial: trial.loss)

    def _plan_rounds(self) -> Iterator[list[EnsembleTrial]]:
        """Yield each round's trials: each family's first starting point, the others, random ones.

        Defaults that the comparison has evaluated are not repeated.
        """
        is_skewed = self.is_regression and suits_log_target(self.experiment.target)
        first_trials = list[EnsembleTrial]()
        for family in self.families:
            point = _get_starting_points(family)[0]
            first_trials.append(EnsembleTrial(family, point))
            if is_skewed:
                first_trials.append(EnsembleTrial(family, {**point, LOG_TARGET: True}))
        evaluated_families = {trial.family for trial in self.default_trials}
        yield [
            trial
            for trial in first_trials
            if trial.params or trial.family not in evaluated_families
        ]
        yield [
            EnsembleTrial(family, self._apply_best_target_transform(family, point))
            for family in self._rank_families()[:MAX_STARTING_FAMILIES]
            for point in _get_starting_points(family)[1:]
        ]
        samplers = {family: self._draw_trials(family) for family in self.families}
        for number in range(MAX_ROUNDS - 2):
            best_families = self._rank_families()[: max(1, 2 - number)]
            n_draws = -(-self.n_random // len(best_families))
            drawn = [
                EnsembleTrial(family, params)
                for family in best_families
                for _, params in zip(range(n_draws), samplers[family], strict=False)
            ]
            yield drawn[: self.n_random]

    def _rank_families(self) -> list[str]:
        return list(dict.fromkeys(trial.family for trial in self.completed))

    def _draw_trials(self, family: str) -> Iterator[dict[str, Any]]:
        """Yield random parameters of a family, on the scale of the target of its best trial."""
        space = make_search_space(*self.experiment.get_search_spaces(family))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self.seed))
        while space:
            yield self._apply_best_target_transform(family, study.ask(space).params)

    def _apply_best_target_transform(self, family: str, params: dict[str, Any]) -> dict[str, Any]:
        """Add the log transform of the target if the family's best trial uses it."""
        best = next(trial for trial in self.completed if trial.family == family)
        return {**params, LOG_TARGET: True} if best.params.get(LOG_TARGET) else params

    def _run_round(self, number: int, trials: list[EnsembleTrial]) -> None:
        """Run trials on the first folds, and the promising ones on the remaining folds.

        Trials that earlier rounds had no time for come last.
        """
        planned = [*trials, *(trial for trial in self._left_out if not trial.losses)]
        self.trials += trials
        share = MAX_ROUND_SHARE if number + 1 < MAX_ROUNDS else 1.0
        trials = self._choose_affordable(planned, share * self.seconds_left)
        folds = list(range(self.experiment.folds))
        first_folds = folds[:FIRST_FOLDS]
        remaining_folds = folds[FIRST_FOLDS:]
        step = f"round {number + 1} of {MAX_ROUNDS}, {format_count(len(trials), 'trial')}"
        self._run_folds(step, trials, first_folds)
        evaluated = [trial for trial in trials if len(trial.losses) == len(first_folds)]
        evaluated.sort(key=lambda trial: trial.loss)
        promising = self._choose_promising(evaluated, first_folds)
        for trial in evaluated:
            if trial not in promising and trial.state != COMPLETED:
                trial.state = PRUNED
        self._run_folds(f"{step}, remaining folds", promising, remaining_folds)

    def _choose_affordable(
        self, trials: list[EnsembleTrial], seconds_left: float
    ) -> list[EnsembleTrial]:
        """Choose trials that fit into the time: all run the first folds, half of them the rest."""
        n_slots = self.executor.slots()
        n_folds = self.experiment.folds
        mean_folds = FIRST_FOLDS + (n_folds - FIRST_FOLDS) / 2
        chosen = list[EnsembleTrial]()
        for trial in trials:
            seconds = self._predict_seconds(trial)
            has_time = seconds * max(mean_folds, n_folds - n_slots) / n_slots <= seconds_left
            if has_time or self._is_required(trial, trials):
                chosen.append(trial)
                seconds_left -= seconds * mean_folds / n_slots
        return chosen

    def _predict_seconds(self, trial: EnsembleTrial) -> float:
        """Estimate the seconds of a fold: mean of the trial's own folds, else of its family's.

        0 if neither has run.
        """
        timed = [entry for entry in self.trials if entry.losses and entry.seconds]
        of_family = [entry for entry in timed if entry.family == trial.family]
        entries = [trial] if trial in timed else of_family
        if not entries:
            n_fits = 2 if uses_early_stopping(self.experiment, trial.family, trial.params) else 1
            return n_fits * self.experiment.fold_seconds.get(trial.family, 0.0)
        return sum(entry.seconds for entry in entries) / sum(len(entry.losses) for entry in entries)

    def _is_required(self, trial: EnsembleTrial, trials: list[EnsembleTrial]) -> bool:
        """Whether it is the first trial and none is complete: it runs regardless of time."""
        return not self.completed and trial is trials[0]

    def _choose_promising(
        self, ranked: list[EnsembleTrial], folds: list[int]
    ) -> list[EnsembleTrial]:
        """Choose the better half on these folds, and the members of a blend of all; best first."""
        if len(ranked) < 2:
            return ranked
        rows = np.concatenate([self.experiment.cv_splits[fold][1] for fold in folds])
        scores = [self.get_out_of_fold_scores(trial)[rows] for trial in ranked]
        members = self._choose_members(scores, self.experiment.target.to_numpy()[rows])
        positions = {*range(-(-len(ranked) // 2)), *members}
        return [ranked[position] for position in sorted(positions)]

    def _choose_members(self, scores: list[np.ndarray], y: np.ndarray) -> list[int]:
        stacked_scores = np.stack([score.reshape(len(score), -1) for score in scores])
        has_scores = np.isfinite(stacked_scores).all(axis=(0, 2))
        return stacking.choose_members(
            stacked_scores[:, has_scores],
            y[has_scores],
            is_regression=self.is_regression,
            max_members=MAX_MEMBERS,
            tolerance=MEMBER_TOLERANCE,
        )

    def _run_folds(self, step: str, trials: list[EnsembleTrial], folds: Sequence[int]) -> None:
        """Run trials on folds, as many at a time as there are workers, until the deadline.

        A fit starts only if the trial's remaining fits should end before the deadline.
        """
        fold_seconds = sum(map(self._predict_seconds, trials))
        if fold_seconds * len(folds) < self.seconds_left * self.executor.slots():
            # The longest first, because workers without a fit wait for the last one to end.
            trials = sorted(trials, key=self._predict_seconds, reverse=True)
        waiting = [(trial, fold) for trial in trials for fold in folds]
        running: dict[Future[Any], tuple[EnsembleTrial, int]] = {}
        total = len(waiting)
        uncalibrated = [*trials]
        while waiting or running:
            while waiting and len(running) < self.executor.slots():
                trial, fold = waiting.pop(0)
                n_left = 1 + sum(entry is trial for entry, _ in waiting)
                n_batches = math.ceil(n_left / self.executor.slots())
                has_time = n_batches * self._predict_seconds(trial) < self.seconds_left
                if trial.state == FAILED or not (has_time or self._is_required(trial, trials)):
                    continue
                label = self.experiment.get_family_label(trial.family)
                self.on_progress(f"{step}: {label}, fit {total - len(waiting)} of {total}")
                future = self.executor.submit((trial.family, trial.params, fold))
                running[future] = (trial, fold)
            unfinished = [entry for entry, _ in (*waiting, *running.values())]
            for trial in [entry for entry in uncalibrated if entry not in unfinished]:
                uncalibrated.remove(trial)
                self._calibrate(trial)  # here, while the workers run
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                self._record_fold(*running.pop(future), *self.executor.get_result(future))
        for trial in uncalibrated:
            self._calibrate(trial)

    def _record_fold(
        self,
        trial: EnsembleTrial,
        fold: int,
        scores: np.ndarray | None,
        iterations: int | None,
        seconds: float,
    ) -> None:
        trial.seconds += seconds
        if scores is None or not np.isfinite(scores).all():
            trial.state = FAILED
            return
        test_index = self.experiment.cv_splits[fold][1]
        trial.scores[fold] = scores
        trial.losses[fold] = self.experiment.evaluate_fold(self.loss_metric, scores, test_index)
        trial.iterations += [] if iterations is None else [iterations]
        if len(trial.losses) == self.experiment.folds:
            trial.state = COMPLETED

    def _calibrate(self, trial: EnsembleTrial) -> None:
        """Calibrate a trial where that lowers its loss clearly, and in each fold.

        Each fold is scored by a calibrator fitted on the other folds.
        """
        folds = sorted(trial.scores)
        # The first forward fold has no earlier scores.
        is_forward = self.experiment.split_strategy.is_forward
        if self.is_regression or is_forward or len(folds) < FIRST_FOLDS or trial.state == FAILED:
            return
        trial.calibration = None
        raw_scores = self.get_out_of_fold_scores(trial)
        model, scores = stacking.fit_meta_model(
            self.experiment,
            [self.make_pipeline(trial)],
            [raw_scores],
            stacking.choose_calibrator(self.experiment.task.classes),
        )
        before, after = (
            self.experiment.evaluate_folds(self.loss_metric, fold_scores)[folds]
            for fold_scores in (raw_scores, scores)
        )
        gain = before.mean() - after.mean()
        if (after < before).all() and gain > MIN_CALIBRATION_GAIN * before.mean():
            trial.calibration = model.meta_model, scores
        losses = after if trial.calibration else before
        trial.losses = dict(zip(folds, losses.tolist(), strict=True))

    def measure_loss(self, out_of_fold_scores: np.ndarray) -> float:
        """Mean over the folds of the loss of out-of-fold scores."""
        return float(
            np.nanmean(self.experiment.evaluate_folds(self.loss_metric, out_of_fold_scores))
        )

    def combine(self, trials: list[EnsembleTrial]) -> Ensemble:
        """Combine trials by greedy weights; those that lower the loss too little are left out."""
        scores = [self.get_out_of_fold_scores(trial) for trial in trials]
        members = self._choose_members(scores, self.experiment.target.to_numpy())
        trials = [trials[index] for index in members]
        model, ensemble_scores = stacking.fit_meta_model(
            self.experiment,
            [],  # the members depend on the weights
            [scores[index] for index in members],
            partial(stacking.GreedyBlender, is_regression=self.is_regression),
        )
        weights = model.meta_model.weights.tolist()
        model.members = [
            self.make_pipeline(trial, weight) for trial, weight in zip(trials, weights)
        ]
        return Ensemble(trials, weights, model, ensemble_scores)

    def _list_member_trials(self) -> list[EnsembleTrial]:
        """List the trials that may become members: the best ones, and the best of each family."""
        best_of_family = {trial.family: trial for trial in reversed(self.completed)}
        return list(dict.fromkeys([*self.completed[:MAX_RANKED_MEMBERS], *best_of_family.values()]))

    def get_out_of_fold_scores(self, trial: EnsembleTrial) -> np.ndarray:
        """Return scores of the train rows; NaN for those that no fold has tested."""
        if trial.calibration:
            return trial.calibration[1]
        return self.experiment.join_fold_scores(trial.scores.items())

    def make_pipeline(self, trial: EnsembleTrial, weight: float = 1.0) -> Any:
        """Make an unfitted pipeline; a booster's number of iterations is the mean over the folds.

        A forest with a small weight in an ensemble has fewer trees, since fewer trees change the
        ensemble by little, while each tree costs prediction time.
        """
        iterations = round(np.mean(trial.iterations)) if trial.iterations else None
        estimator = make_estimator(self.experiment, trial.family, trial.params, iterations)
        if trial.family in FORESTS:
            forest = getattr(estimator, "regressor", estimator)
            kept_share = min(1.0, TREES_PER_WEIGHT * weight)
            forest.set_params(n_estimators=math.ceil(kept_share * forest.n_estimators))
        pipeline = self.experiment.make_pipeline(estimator, trial.family)
        if trial.calibration is None:
            return pipeline
        return stacking.StackedClassifier([pipeline], trial.calibration[0])


def _get_starting_points(family: str) -> list[dict[str, Any]]:
    return spaces.STARTING_POINTS.get(family, [{}])


@dataclass(frozen=True)
class Ensemble:
    """Members with their weights, the unfitted model, and its out-of-fold scores."""

    members: list[EnsembleTrial]
    weights: list[float]
    model: Any
    out_of_fold_scores: np.ndarray


def tabulate_trials(search: EnsembleSearch, ensemble: Ensemble) -> pd.DataFrame:
    """Tabulate the trials, best first.

    Columns ``family, mean, sd`` (out-of-fold loss over the folds), ``folds, state, weight`` (in the
    ensemble), ``seconds, parameters``.
    """
    weights = dict(zip(ensemble.members, ensemble.weights))
    ordered = sorted(search.trials, key=lambda trial: (trial.state != COMPLETED, trial.loss))
    return pd.DataFrame(
        [
            {
                "family": search.experiment.get_family_label(trial.family),
                "mean": trial.loss if trial.losses else np.nan,
                "sd": float(np.std(list(trial.losses.values()))) if trial.losses else np.nan,
                "folds": len(trial.losses),
                "state": trial.state,
                "weight": weights.get(trial, 0.0),
                "seconds": trial.seconds,
                "parameters": _describe_trial(trial),
            }
            for trial in ordered
        ]
    )


def _describe_trial(trial: EnsembleTrial) -> str:
    iterations = {"iterations": round(np.mean(trial.iterations))} if trial.iterations else {}
    calibrated = {"calibrated": True} if trial.calibration else {}
    return describe_parameters({**trial.params, **iterations, **calibrated}) or "defaults"
