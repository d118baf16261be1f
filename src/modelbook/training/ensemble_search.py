"""Search for an ensemble: settings of several families in rounds, combined by greedy weights.

Each round tries further settings of the families that did best so far on two folds, and the better
half of them on the others (successive halving; Jamieson & Talwalkar 2016). Settings are compared
and combined with calibrated probabilities, where calibration lowers their loss: a forest of several
classes ranks them well, but is far too unsure of them. Which settings a round tries depends on
results alone, so that any number of workers comes to the same ensemble. The search ends when a
round gains nothing more, the time is spent, or all rounds were run.
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

LOG_TARGET = "log_target"  # a setting that is not a parameter of the estimator
STOP_SHARE = 0.15  # share of a fold's train groups for early stopping
FIRST_FOLDS = 2  # folds that evaluate the settings of a round first
MAX_FAMILIES = 6  # that are searched
MAX_MEMBERS = 5  # of the ensemble
MIN_CALIBRATION_GAIN = 0.03  # share of its loss: on small tables less is seldom more than chance
MEMBER_TOLERANCE = 0.001  # largest share of the loss that members left out may gain together
FORESTS = ("et", "rf")
TREES_PER_WEIGHT = 1.5  # share of its trees that a forest keeps as a member, by its weight
MAX_ROUND_SHARE = 1 / 2  # of the time left, that a round other than the last plans to take
MIN_ROUNDS, MAX_ROUNDS = 3, 4  # random settings are tried in the third for the first time
MIN_GAIN = 0.001  # share of the loss that a round must gain for another one to begin
# Ends of a search.
OUT_OF_TIME = "the time budget was spent; more time may select another model"
NOTHING_GAINED, ALL_ROUNDS = "a round improved the loss by less than 0.1%", "all rounds were run"


@dataclass(eq=False)
class Setting:
    """A family's setting, with its results in each fold so far.

    ``losses`` are those of the calibrated scores if there is a ``calibration``: a meta-model, and
    its out-of-fold scores.
    """

    family: str
    params: dict[str, Any]
    scores: dict[int, np.ndarray] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    iterations: list[int] = field(default_factory=list)
    seconds: float = 0.0
    state: str = TIMED_OUT
    calibration: tuple[Any, np.ndarray] | None = None

    @property
    def loss(self) -> float:
        values = [self.losses[fold] for fold in sorted(self.losses)]  # they come in any order
        return float(np.mean(values)) if values else np.inf


class SettingTask:
    """Fit a family's setting on a fold's train rows and score its test rows, as a task."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def __call__(
        self, item: tuple[str, dict[str, Any], int]
    ) -> tuple[np.ndarray | None, int | None, float]:
        """Scores (None if the fit fails), number of iterations where it was found, and seconds."""
        family, params, fold = item
        start = time.perf_counter()
        try:
            scores, iterations = fit_and_score(self.experiment, family, params, fold)
        except Exception:  # libraries may raise anything; the other settings still run
            return None, None, time.perf_counter() - start
        return scores, iterations, time.perf_counter() - start


def fit_and_score(
    experiment: Experiment, family: str, params: dict[str, Any], fold: int
) -> tuple[np.ndarray, int | None]:
    """Scores of a fold's test rows, and the number of iterations that early stopping found."""
    rows, outcome, test_rows = experiment.encode_fold(family, fold)
    iterations = None
    if stops_early(experiment, family, params):
        estimator = make_estimator(experiment, family, {**params, LOG_TARGET: False})
        target = np.log1p(outcome) if params.get(LOG_TARGET) else outcome
        is_stop_row = experiment.select_early_stopping_rows(fold, STOP_SHARE)
        iterations = boosters.find_iterations(family, estimator, rows, target, is_stop_row)
    estimator = make_estimator(experiment, family, params, iterations).fit(rows, outcome)
    return experiment.task.predict_scores(estimator, test_rows), iterations


def stops_early(experiment: Experiment, family: str, params: dict[str, Any]) -> bool:
    """Whether the number of iterations is to be found: not where rows are resampled."""
    name = boosters.ITERATION_PARAMETERS.get(family)
    return (
        name is not None
        and name not in params
        and experiment.options["imbalance"] not in RESAMPLERS
    )


def make_estimator(
    experiment: Experiment, family: str, params: dict[str, Any], iterations: int | None = None
) -> Any:
    """An unfitted estimator of a family's setting."""
    estimator_params = {name: value for name, value in params.items() if name != LOG_TARGET}
    if iterations is not None:
        estimator_params[boosters.ITERATION_PARAMETERS[family]] = iterations
    estimator = experiment.make_estimator(family).set_params(**estimator_params)
    return LogTargetRegressor(estimator) if params.get(LOG_TARGET) else estimator


class EnsembleSearch:
    """Settings tried so far, and the rounds that try more.

    Attributes
    ----------
    compared, settings : list of Setting
        The defaults that the comparison has evaluated; these and others, in the order in which they
        were tried.
    curve : list of dict
        After each round: ``seconds, settings, best`` (loss of the best setting) and ``ensemble``.
    end : str
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
        self.metric = experiment.task.baseline_metric
        self.is_number = not experiment.task.classes
        self.executor, self.on_progress = executor, on_progress
        self.start = time.monotonic()
        self.deadline = self.start + seconds
        self.n_random, self.seed = n_random, seed
        self.compared = self._take_compared()
        self.settings = [*self.compared]
        self.curve: list[dict[str, float]] = []
        self.end = ALL_ROUNDS

    def run(self) -> Ensemble:
        """Run rounds until nothing is gained, or the time is spent; combine the best settings.

        Returns
        -------
        Ensemble
            The last one that is not worse than the best of the rounds by more than ``MIN_GAIN``.
        """
        ensembles = [self._combine_best()] if self.completed else []
        for number, settings in enumerate(self._plan_rounds()):
            if not settings:  # families without other settings to start with
                continue
            self._run_round(number, settings)
            if not self.completed:
                raise TrainingError(
                    "no family could be fitted on all folds: "
                    f"{', '.join(map(self.experiment.family_label, self.families))}",
                    next="raise time_budget, or set other families",
                )
            ensembles.append(self._combine_best())
            if self.seconds_left <= 0:
                self.end = OUT_OF_TIME
                break
            if number + 1 >= MIN_ROUNDS and self._has_gained_nothing() and not self._left_out:
                self.end = NOTHING_GAINED
                break
        if self._left_out:
            self.end = OUT_OF_TIME
        losses = [point["ensemble"] for point in self.curve]
        # NaN if no fold has a loss, as with a single forward fold.
        limit = min(filter(math.isfinite, losses), default=math.inf) * (1 + MIN_GAIN)
        return next(each for each, loss in zip(ensembles[::-1], losses[::-1]) if not loss > limit)

    def _take_compared(self) -> list[Setting]:
        """The families' defaults that the comparison has evaluated on the same folds."""
        compared = []
        for family in self.families:
            fold_scores = self.experiment.fold_scores.get(family, [])
            setting = Setting(family, {})
            for fold, scores in enumerate(fold_scores):
                self._record_fold(setting, fold, scores, None, 0.0)
            if setting.state == COMPLETED:
                self._calibrate(setting)
                compared.append(setting)
        return compared

    def _combine_best(self) -> Ensemble:
        """Combine the best settings so far, and add a point to the curve."""
        ensemble = self.combine(self._list_candidates())
        self.curve.append(
            {
                "seconds": time.monotonic() - self.start,
                "settings": len(self.completed),
                "best": self.completed[0].loss,
                "ensemble": self.measure_loss(ensemble.out_of_fold_scores),
            }
        )
        return ensemble

    def _has_gained_nothing(self) -> bool:
        losses = [point["ensemble"] for point in self.curve[-2:]]
        return len(losses) > 1 and not losses[0] - losses[1] > MIN_GAIN * losses[0]

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def _left_out(self) -> list[Setting]:
        """Settings that there was no time for so far."""
        return [setting for setting in self.settings if setting.state == TIMED_OUT]

    @property
    def completed(self) -> list[Setting]:
        """Settings with a score on all folds, best first."""
        finished = [setting for setting in self.settings if setting.state == COMPLETED]
        return sorted(finished, key=lambda setting: setting.loss)

    def _plan_rounds(self) -> Iterator[list[Setting]]:
        """Each round's settings: the families' first, their others, then random ones.

        Defaults that the comparison has evaluated are not among them.
        """
        is_skewed = self.is_number and suits_log_target(self.experiment.target)
        firsts = list[Setting]()
        for family in self.families:
            point = _get_starting_points(family)[0]
            firsts.append(Setting(family, point))
            if is_skewed:
                firsts.append(Setting(family, {**point, LOG_TARGET: True}))
        compared = {setting.family for setting in self.compared}
        yield [entry for entry in firsts if entry.params or entry.family not in compared]
        yield [
            Setting(family, self._with_best_target(family, point))
            for family in self._rank_families()[:4]
            for point in _get_starting_points(family)[1:]
        ]
        samplers = {family: self._draw_settings(family) for family in self.families}
        for number in range(MAX_ROUNDS - 2):
            best_families = self._rank_families()[: max(1, 2 - number)]
            n_draws = -(-self.n_random // len(best_families))
            drawn = [
                Setting(family, params)
                for family in best_families
                for _, params in zip(range(n_draws), samplers[family], strict=False)
            ]
            yield drawn[: self.n_random]

    def _rank_families(self) -> list[str]:
        return list(dict.fromkeys(setting.family for setting in self.completed))

    def _draw_settings(self, family: str) -> Iterator[dict[str, Any]]:
        """Random settings of a family, each with the target of its best one."""
        space = make_search_space(*self.experiment.search_spaces(family))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self.seed))
        while space:
            yield self._with_best_target(family, study.ask(space).params)

    def _with_best_target(self, family: str, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters with the logarithm of the target where it was better for the family."""
        best = next(entry for entry in self.completed if entry.family == family)
        return {**params, LOG_TARGET: True} if best.params.get(LOG_TARGET) else params

    def _run_round(self, number: int, settings: list[Setting]) -> None:
        """Run settings on the first folds, and those that are worth it on the others.

        Settings that earlier rounds had no time for come last.
        """
        planned = [*settings, *(entry for entry in self._left_out if not entry.losses)]
        self.settings += settings
        share = MAX_ROUND_SHARE if number + 1 < MAX_ROUNDS else 1.0
        settings = self._choose_affordable(planned, share * self.seconds_left)
        folds = list(range(self.experiment.folds))
        first, others = folds[:FIRST_FOLDS], folds[FIRST_FOLDS:]
        text = f"round {number + 1} of {MAX_ROUNDS}, {format_count(len(settings), 'setting')}"
        self._run_folds(text, settings, first)
        evaluated = [setting for setting in settings if len(setting.losses) == len(first)]
        evaluated.sort(key=lambda setting: setting.loss)
        promising = self._choose_promising(evaluated, first)
        for setting in evaluated:
            if setting not in promising and setting.state != COMPLETED:
                setting.state = PRUNED
        self._run_folds(f"{text}, the better half", promising, others)

    def _choose_affordable(self, settings: list[Setting], seconds_left: float) -> list[Setting]:
        """Settings for which there is time: for all on the first folds, for half on the others."""
        n_slots, n_folds = self.executor.slots(), self.experiment.folds
        mean_folds = FIRST_FOLDS + (n_folds - FIRST_FOLDS) / 2
        chosen = list[Setting]()
        for setting in settings:
            seconds = self._predict_seconds(setting)
            has_time = seconds * max(mean_folds, n_folds - n_slots) / n_slots <= seconds_left
            if has_time or self._is_required(setting, settings):
                chosen.append(setting)
                seconds_left -= seconds * mean_folds / n_slots
        return chosen

    def _predict_seconds(self, setting: Setting) -> float:
        """Seconds of a fold, by those of the setting, or of its family; 0 if none is known."""
        fitted = [entry for entry in self.settings if entry.losses and entry.seconds]
        of_family = [entry for entry in fitted if entry.family == setting.family]
        entries = [setting] if setting in fitted else of_family
        if not entries:
            n_fits = 2 if stops_early(self.experiment, setting.family, setting.params) else 1
            return n_fits * self.experiment.fold_seconds.get(setting.family, 0.0)
        return sum(entry.seconds for entry in entries) / sum(len(entry.losses) for entry in entries)

    def _is_required(self, setting: Setting, settings: list[Setting]) -> bool:
        """Whether there would be no model without a setting."""
        return not self.completed and setting is settings[0]

    def _choose_promising(self, ranked: list[Setting], folds: list[int]) -> list[Setting]:
        """The better half, and the members of a blend of all, by these folds; best first."""
        if len(ranked) < 2:
            return ranked
        rows = np.concatenate([self.experiment.cv_splits[fold][1] for fold in folds])
        scores = [self.out_of_fold(setting)[rows] for setting in ranked]
        members = self._choose_members(scores, self.experiment.target.to_numpy()[rows])
        positions = {*range(-(-len(ranked) // 2)), *members}
        return [ranked[position] for position in sorted(positions)]

    def _choose_members(self, scores: list[np.ndarray], outcome: np.ndarray) -> list[int]:
        stacked_scores = np.stack([score.reshape(len(score), -1) for score in scores])
        has_scores = np.isfinite(stacked_scores).all(axis=(0, 2))
        return stacking.choose_members(
            stacked_scores[:, has_scores],
            outcome[has_scores],
            is_number=self.is_number,
            max_members=MAX_MEMBERS,
            tolerance=MEMBER_TOLERANCE,
        )

    def _run_folds(self, text: str, settings: list[Setting], folds: Sequence[int]) -> None:
        """Run settings on folds, as many at a time as there are workers, until the deadline.

        A fit starts if the setting's fits that wait are predicted to end in time.
        """
        fold_seconds = sum(map(self._predict_seconds, settings))
        if fold_seconds * len(folds) < self.seconds_left * self.executor.slots():
            # The longest first, because workers without a fit wait for the last one to end.
            settings = sorted(settings, key=self._predict_seconds, reverse=True)
        waiting = [(setting, fold) for setting in settings for fold in folds]
        running: dict[Future[Any], tuple[Setting, int]] = {}
        total, uncalibrated = len(waiting), [*settings]
        while waiting or running:
            while waiting and len(running) < self.executor.slots():
                setting, fold = waiting.pop(0)
                n_left = 1 + sum(entry is setting for entry, _ in waiting)
                turns = math.ceil(n_left / self.executor.slots())
                has_time = turns * self._predict_seconds(setting) < self.seconds_left
                if setting.state == FAILED or not (
                    has_time or self._is_required(setting, settings)
                ):
                    continue
                label = self.experiment.family_label(setting.family)
                self.on_progress(f"{text}: {label}, fit {total - len(waiting)} of {total}")
                future = self.executor.submit((setting.family, setting.params, fold))
                running[future] = (setting, fold)
            unfinished = [entry for entry, _ in (*waiting, *running.values())]
            for setting in [entry for entry in uncalibrated if entry not in unfinished]:
                uncalibrated.remove(setting)
                self._calibrate(setting)  # here, while the workers run
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                self._record_fold(*running.pop(future), *self.executor.get_result(future))
        for setting in uncalibrated:
            self._calibrate(setting)

    def _record_fold(
        self,
        setting: Setting,
        fold: int,
        scores: np.ndarray | None,
        iterations: int | None,
        seconds: float,
    ) -> None:
        setting.seconds += seconds
        if scores is None or not np.isfinite(scores).all():
            setting.state = FAILED
            return
        test_index = self.experiment.cv_splits[fold][1]
        setting.scores[fold] = scores
        setting.losses[fold] = self.experiment.evaluate_fold(self.metric, scores, test_index)
        setting.iterations += [] if iterations is None else [iterations]
        if len(setting.losses) == self.experiment.folds:
            setting.state = COMPLETED

    def _calibrate(self, setting: Setting) -> None:
        """Calibrate a setting where that lowers its loss clearly, and in each fold.

        The scores of a fold are calibrated by those of the others.
        """
        folds = sorted(setting.scores)
        is_forward = self.experiment.split_strategy.is_forward  # its first fold has no others
        if self.is_number or is_forward or len(folds) < FIRST_FOLDS or setting.state == FAILED:
            return
        setting.calibration = None
        raw_scores = self.out_of_fold(setting)
        model, scores = stacking.fit_meta_model(
            self.experiment,
            [self.make_pipeline(setting)],
            [raw_scores],
            stacking.choose_calibrator(self.experiment.task.classes),
        )
        before, after = (
            self.experiment.evaluate_folds(self.metric, each)[folds]
            for each in (raw_scores, scores)
        )
        gain = before.mean() - after.mean()
        if (after < before).all() and gain > MIN_CALIBRATION_GAIN * before.mean():
            setting.calibration = model.meta_model, scores
        losses = after if setting.calibration else before
        setting.losses = dict(zip(folds, losses.tolist(), strict=True))

    def measure_loss(self, out_of_fold_scores: np.ndarray) -> float:
        """Mean over the folds of the loss of out-of-fold scores."""
        return float(np.nanmean(self.experiment.evaluate_folds(self.metric, out_of_fold_scores)))

    def combine(self, settings: list[Setting]) -> Ensemble:
        """Combine the settings that are worth their cost as members, by greedy weights."""
        scores = [self.out_of_fold(setting) for setting in settings]
        members = self._choose_members(scores, self.experiment.target.to_numpy())
        settings = [settings[index] for index in members]
        model, ensemble_scores = stacking.fit_meta_model(
            self.experiment,
            [],  # they depend on the weights
            [scores[index] for index in members],
            partial(stacking.GreedyBlender, is_number=self.is_number),
        )
        weights = model.meta_model.weights.tolist()
        model.members = [
            self.make_pipeline(setting, weight) for setting, weight in zip(settings, weights)
        ]
        return Ensemble(settings, weights, model, ensemble_scores)

    def _list_candidates(self) -> list[Setting]:
        """The settings that a combination chooses among: the best of all, and of each family."""
        best_of_family = {entry.family: entry for entry in reversed(self.completed)}
        return list(dict.fromkeys([*self.completed[:8], *best_of_family.values()]))

    def out_of_fold(self, setting: Setting) -> np.ndarray:
        """Scores of the train rows; NaN for those that no fold has tested."""
        if setting.calibration:
            return setting.calibration[1]
        return self.experiment.join_fold_scores(setting.scores.items())

    def make_pipeline(self, setting: Setting, weight: float = 1.0) -> Any:
        """An unfitted pipeline; a booster's number of iterations is the mean over the folds.

        A forest with a small weight in an ensemble has fewer trees: what their number changes is
        multiplied by the weight, but each tree takes the same time in each prediction.
        """
        iterations = round(np.mean(setting.iterations)) if setting.iterations else None
        estimator = make_estimator(self.experiment, setting.family, setting.params, iterations)
        if setting.family in FORESTS:
            forest = getattr(estimator, "regressor", estimator)
            kept_share = min(1.0, TREES_PER_WEIGHT * weight)
            forest.set_params(n_estimators=math.ceil(kept_share * forest.n_estimators))
        pipeline = self.experiment.make_pipeline(estimator, setting.family)
        if setting.calibration is None:
            return pipeline
        return stacking.StackedClassifier([pipeline], setting.calibration[0])


def _get_starting_points(family: str) -> list[dict[str, Any]]:
    return spaces.STARTING_POINTS.get(family, [{}])


@dataclass(frozen=True)
class Ensemble:
    """Members with their weights, the unfitted model, and its out-of-fold scores."""

    members: list[Setting]
    weights: list[float]
    model: Any
    out_of_fold_scores: np.ndarray


def tabulate_settings(search: EnsembleSearch, ensemble: Ensemble) -> pd.DataFrame:
    """The settings tried, best first: out-of-fold loss, weight in the ensemble, and seconds."""
    weights = dict(zip(ensemble.members, ensemble.weights))
    ordered = sorted(
        search.settings, key=lambda setting: (setting.state != COMPLETED, setting.loss)
    )
    return pd.DataFrame(
        [
            {
                "family": search.experiment.family_label(setting.family),
                "mean": setting.loss if setting.losses else np.nan,
                "sd": float(np.std(list(setting.losses.values()))) if setting.losses else np.nan,
                "folds": len(setting.losses),
                "state": setting.state,
                "weight": weights.get(setting, 0.0),
                "seconds": setting.seconds,
                "parameters": _describe_setting(setting),
            }
            for setting in ordered
        ]
    )


def _describe_setting(setting: Setting) -> str:
    iterations = {"iterations": round(np.mean(setting.iterations))} if setting.iterations else {}
    calibrated = {"calibrated": True} if setting.calibration else {}
    return describe_parameters({**setting.params, **iterations, **calibrated}) or "defaults"
