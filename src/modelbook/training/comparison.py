"""The comparison: baseline and families judged within a budget, slow ones behind the others, here or on an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from itertools import count
from typing import Any

from modelbook import engine
from modelbook.config import NONE
from modelbook.tasks.names import label, spread
from modelbook.training.candidate import BASELINE, PUT_OFF, Candidate, Slow
from modelbook.training.experiment import Experiment
from modelbook.training.folds import Watch

SHARE = 1 / 2  # of what is left of the budget: a family that would take more waits until the others are judged


class Judge:
    """The work on a family: its cross-validation. What a copy on a worker is told of folds, nobody hears."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.say: Callable[..., None] = _silent

    def __reduce__(self) -> Any:
        return Judge, (self.experiment,)

    def __call__(self, item: tuple[str, float]) -> Candidate:
        family, most = item
        return self.experiment.candidate(family, _paced(self.say, self.experiment.folds, most))


def compare(
    experiment: Experiment,
    families: list[str],
    budget: float,
    *,
    tell: Callable[..., None],
    log: Callable[[Candidate], None],
    name: str = engine.LOCAL,
    scheduler: str = NONE,
) -> list[Candidate]:
    """Cross-validate the baseline, then each family until the budget is spent.

    A family whose first fold shows that all would take more than half of what is left, while others wait, is put off
    until these are judged: else one slow family would keep out all that come behind it. An engine judges as many at a
    time as it has workers, on the same folds.

    Parameters
    ----------
    budget : float
        Seconds; no family is begun after that, and those left are listed as skipped.
    tell : callable
        Called with a text, the number done and the total, before and after each; and ``passing``, the fold.
    log : callable
        Called with each candidate as soon as it is judged.
    name, scheduler : str
        The engine, and its address or ``none``.

    Returns
    -------
    list of Candidate
        In the order in which they were judged.

    Raises
    ------
    EngineError
        When the engine is not there, or cannot do its work.
    """
    work = Judge(experiment)
    with engine.opened(name, scheduler, work) as it:
        return _compared(it, work, families, budget, tell, log)


def _compared(
    it: engine.Engine, work: Judge, families: list[str], budget: float, tell: Callable[..., None],
    log: Callable[[Candidate], None],
) -> list[Candidate]:  # fmt: skip
    experiment, end, total = work.experiment, time.monotonic() + budget, len(families) + 1
    waiting, off, candidates = [BASELINE, *families], set[str](), list[Candidate]()
    running: dict[Future[Any], str] = {}

    def keep(candidate: Candidate) -> None:
        log(candidate)
        candidates.append(candidate)

    while waiting or running:
        while waiting and len(running) < it.slots():
            family, left = waiting.pop(0), end - time.monotonic()
            if left <= 0:
                keep(_skipped(experiment, family, budget))
                continue
            text = f"cross-validating {experiment.called(family)}, {left:.0f} s of the budget left"
            work.say = partial(tell, text, len(candidates), total)
            tell(f"{text}{_told(experiment, candidates)}", len(candidates), total)
            others_wait = family != BASELINE and family not in off and set(waiting) - off
            running[it.submit((family, left * SHARE if others_wait else float("inf")))] = family
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            family, candidate = running.pop(future), it.answer(future)
            if candidate.status == PUT_OFF:
                off.add(family)
                waiting.append(family)
            else:
                keep(candidate)
    tell(f"all candidates judged{_told(experiment, candidates)}", total, total)
    return candidates


def _skipped(experiment: Experiment, family: str, budget: float) -> Candidate:
    reason = f"the budget of {budget:g} s was spent"
    return Candidate(family, "skipped", reason=reason, called=experiment.called(family))


def _silent(*_: Any, **__: Any) -> None:
    pass


def _paced(say: Callable[..., None], folds: int, most: float) -> Watch:
    """Says each fold; puts a family off when its first one shows that all would take more than ``most`` seconds."""
    began, calls = time.monotonic(), count()

    def step(text: str) -> None:
        taken = time.monotonic() - began
        if next(calls) == 1 and taken * folds > most:
            raise Slow(f"{folds} folds would take {taken * folds:.0f} s")
        say(passing=text)

    return step


def _told(experiment: Experiment, candidates: list[Candidate]) -> str:
    if not candidates:
        return ""
    last, name = candidates[-1], experiment.task.headline
    if last.status != "ok":
        return f"; {last.name}: {last.status}"
    return f"; {last.name}: {label(name)} {spread(last.mean[name], last.sd[name])}"
