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
        self.experiment, self.keep_models = experiment, keep_models
        self.report_progress: Callable[..., None] = _ignore_progress

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
    postponed until the others are done, so that one slow family does not block the rest. An engine
    evaluates as many families at a time as it has workers, on the same folds.

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
        In the order of evaluation, without pipelines.

    Raises
    ------
    EngineError
        If the engine is unavailable or fails.
    """
    task = CrossValidationTask(experiment, keep_models)
    with engine.open_engine(engine_name, scheduler, task, workers=None) as executor:
        return _run_comparison(executor, task, families, budget, report_progress, log_candidate)


def _run_comparison(
    executor: engine.Engine,
    task: CrossValidationTask,
    families: list[str],
    budget: float,
    report_progress: Callable[..., None],
    log_candidate: Callable[[Candidate], None],
) -> list[Candidate]:
    experiment, deadline, total = task.experiment, time.monotonic() + budget, len(families) + 1
    waiting, postponed, candidates = [BASELINE, *families], set[str](), list[Candidate]()
    running: dict[Future[Any], str] = {}

    def record_candidate(candidate: Candidate) -> None:
        log_candidate(candidate)
        candidates.append(replace(candidate, pipeline=None, out_of_fold=None))

    while waiting or running:
        while waiting and len(running) < executor.slots():
            family, seconds_left = waiting.pop(0), deadline - time.monotonic()
            if seconds_left <= 0:
                record_candidate(_make_skipped(experiment, family, budget))
                continue
            progress_text = (
                f"cross-validating {experiment.family_label(family)}, {seconds_left:.0f} s of "
                "the budget left"
            )
            task.report_progress = partial(report_progress, progress_text, len(candidates), total)
            report_progress(
                f"{progress_text}{_describe_last_candidate(experiment, candidates)}",
                len(candidates),
                total,
            )
            others_wait = (
                family != BASELINE and family not in postponed and set(waiting) - postponed
            )
            running[
                executor.submit(
                    (family, seconds_left * MAX_BUDGET_SHARE if others_wait else float("inf"))
                )
            ] = family
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            family, candidate = running.pop(future), executor.get_result(future)
            if candidate.status == POSTPONED:
                postponed.add(family)
                waiting.append(family)
            else:
                record_candidate(candidate)
    report_progress(
        f"all candidates evaluated{_describe_last_candidate(experiment, candidates)}", total, total
    )
    return candidates


def _make_skipped(experiment: Experiment, family: str, budget: float) -> Candidate:
    reason = f"the budget of {budget:g} s was spent"
    return Candidate(family, "skipped", reason=reason, label=experiment.family_label(family))


def _ignore_progress(*_: Any, **__: Any) -> None:
    pass


def _make_fold_callback(
    report_progress: Callable[..., None], n_folds: int, max_seconds: float
) -> ProgressCallback:
    """Callback that reports each fold, and postpones a family that would exceed ``max_seconds``."""
    start_time, call_counter = time.monotonic(), count()

    def report_fold(text: str) -> None:
        elapsed = time.monotonic() - start_time
        if next(call_counter) == 1 and elapsed * n_folds > max_seconds:
            raise FamilyPostponed(f"{n_folds} folds would take {elapsed * n_folds:.0f} s")
        report_progress(detail=text)

    return report_fold


def _describe_last_candidate(experiment: Experiment, candidates: list[Candidate]) -> str:
    if not candidates:
        return ""
    last, name = candidates[-1], experiment.task.headline_metric
    if last.status != "ok":
        return f"; {last.name}: {last.status}"
    return f"; {last.name}: {metric_label(name)} {format_mean_sd(last.mean[name], last.sd[name])}"
