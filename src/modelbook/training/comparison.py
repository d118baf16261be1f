"""Cross-validate the baseline and the model families within a time budget, on an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from modelbook import engine
from modelbook.config import NONE
from modelbook.tasks.metric_format import format_mean_sd, metric_label
from modelbook.training.candidate import BASELINE, POSTPONED, Candidate, FamilyPostponed
from modelbook.training.experiment import Experiment
from modelbook.training.folds import ProgressCallback

COMPARE_SHARE = 1 / 2  # of the time budget, after which no family is begun; finalize has the rest
MAX_BUDGET_SHARE = 1 / 2  # of the remaining budget: a family that would take more is postponed


class CrossValidationTask:
    """The cross-validation of a family as a task; a pickled copy reports no progress."""

    def __init__(self, experiment: Experiment, keep_models: bool = False) -> None:
        self.experiment = experiment
        self.keep_models = keep_models
        self.report_progress: Callable[..., None] = lambda *_, **__: None

    def __reduce__(self) -> Any:
        return CrossValidationTask, (self.experiment, self.keep_models)

    def __call__(self, item: tuple[str, float]) -> Candidate:
        family, max_seconds = item
        on_fold = _make_fold_callback(self.report_progress, self.experiment.folds, max_seconds)
        return self.experiment.cross_validate(family, on_fold, keep_model=self.keep_models)


def compare_families(
    experiment: Experiment,
    families: list[str],
    budget: float,
    *,
    report_progress: Callable[..., None],
    log_candidate: Callable[[Candidate], None],
    engine_name: str = engine.LOCAL,
    scheduler: str = NONE,
    keep_models: bool = False,
) -> list[Candidate]:
    """Cross-validate the baseline, then each family until the budget is spent.

    A family whose first fold shows that it would take more than half of the remaining budget is
    postponed until the others are done, so that one slow family does not block the rest, and is
    skipped if it would still take more than what then remains, unless no family has a score. An
    engine evaluates as many families at a time as it has workers, on the same folds.

    Parameters
    ----------
    budget : float
        Seconds after which no family is started; the remaining ones are listed as skipped.
    report_progress : callable
        Called with a text, the number done and the total before and after each family, and with
        ``detail`` for each fold.
    log_candidate : callable
        Called with each candidate as soon as it is evaluated.
    engine_name, scheduler : str
        The engine, and the address of its scheduler or ``none``.
    keep_models : bool
        Whether ``log_candidate`` gets each candidate with its fitted pipeline.

    Returns
    -------
    list of Candidate
        In the order of evaluation, without pipelines and predictions.

    Raises
    ------
    EngineError
        If the engine is unavailable or fails.
    """
    task = CrossValidationTask(experiment, keep_models)
    with engine.open_engine(engine_name, scheduler, task, workers=None) as executor:
        run = _ComparisonRun(executor, task, families, budget, report_progress, log_candidate)
        return run.run()


class _ComparisonRun:
    """Candidates that wait, that run, and that are evaluated; see ``compare_families``."""

    def __init__(
        self,
        executor: engine.Engine,
        task: CrossValidationTask,
        families: list[str],
        budget: float,
        report_progress: Callable[..., None],
        log_candidate: Callable[[Candidate], None],
    ) -> None:
        self.executor = executor
        self.task = task
        self.experiment = task.experiment
        self.report_progress = report_progress
        self.log_candidate = log_candidate
        self.budget = budget
        self.deadline = time.monotonic() + budget
        self.total = len(families) + 1
        self.waiting = [BASELINE, *families]
        self.postponed: dict[str, float] = {}  # expected seconds of a family
        self.running: dict[Future[Any], str] = {}
        self.candidates: list[Candidate] = []

    def run(self) -> list[Candidate]:
        """Evaluate the baseline and all families; the candidates in the order of evaluation."""
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.executor.slots():
                self._start(self.waiting.pop(0))
            if self.running:
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    self._finish(self.running.pop(future), self.executor.get_result(future))
        self._report("all candidates evaluated", self.total)
        return self.candidates

    def _start(self, family: str) -> None:
        """Submit a family, or record that the budget is spent."""
        seconds_left = self.deadline - time.monotonic()
        label = self.experiment.get_family_label(family)
        scored = {entry.family for entry in self.candidates if entry.status == "ok"} - {BASELINE}
        seconds_needed = self.postponed.get(family, 0.0)
        if seconds_left <= 0 or (scored and seconds_needed > seconds_left):
            reason = f"the budget of {self.budget:g} s was spent"
            if seconds_left > 0:
                reason = f"it would take {seconds_needed:.0f} s, and {seconds_left:.0f} s were left"
            self._record(Candidate(family, "skipped", reason=reason, label=label))
            self.experiment.fold_scores.setdefault(family, [])  # the search may have time for it
            return
        text = f"cross-validating {label}, {seconds_left:.0f} s of the budget left"
        n_done = len(self.candidates)
        self.task.report_progress = partial(self.report_progress, text, n_done, self.total)
        self._report(text, n_done)
        max_seconds = float("inf")
        if family != BASELINE and family not in self.postponed:
            if set(self.waiting) - {*self.postponed}:
                max_seconds = seconds_left * MAX_BUDGET_SHARE
            elif scored or {*self.running.values()} - {BASELINE}:
                max_seconds = seconds_left
        self.running[self.executor.submit((family, max_seconds))] = family

    def _finish(self, family: str, candidate: Candidate) -> None:
        if candidate.status == POSTPONED:
            self.experiment.fold_seconds[family] = candidate.fit_seconds
            self.postponed[family] = candidate.fit_seconds * self.experiment.folds
            self.waiting.append(family)
        else:
            self._record(candidate)

    def _record(self, candidate: Candidate) -> None:
        self.log_candidate(candidate)
        if candidate.status == "ok":
            self.experiment.fold_scores[candidate.family] = candidate.fold_scores
            fold_seconds = candidate.fit_seconds / self.experiment.folds
            self.experiment.fold_seconds[candidate.family] = fold_seconds
        self.candidates.append(replace(candidate, pipeline=None, fold_scores=[]))

    def _report(self, text: str, n_done: int) -> None:
        """Report progress, and the result of the last candidate."""
        if self.candidates:
            last = self.candidates[-1]
            name = self.experiment.task.headline_metric
            result = last.status
            if last.status == "ok":
                mean_sd = format_mean_sd(last.mean[name], last.sd[name])
                result = f"{metric_label(name)} {mean_sd}"
            text = f"{text}; {last.name}: {result}"
        self.report_progress(text, n_done, self.total)


def _make_fold_callback(
    report_progress: Callable[..., None], n_folds: int, max_seconds: float
) -> ProgressCallback:
    """Callback that reports each fold, and postpones a family that would exceed ``max_seconds``."""
    start_time = time.monotonic()
    call_counter = count()

    def report_fold(text: str) -> None:
        elapsed = time.monotonic() - start_time
        if next(call_counter) == 1 and elapsed * n_folds > max_seconds:
            raise FamilyPostponed(f"{n_folds} folds would take {elapsed * n_folds:.0f} s")
        report_progress(detail=text)

    return report_fold
