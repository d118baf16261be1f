"""The comparison: baseline and families judged one after another within a budget, slow ones behind the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count

from modelbook.tasks.names import label, spread
from modelbook.training.candidate import BASELINE, PUT_OFF, Candidate, Slow
from modelbook.training.experiment import Experiment
from modelbook.training.folds import Watch

SHARE = 1 / 2  # of what is left of the budget: a family that would take more waits until the others are judged


def compare(
    experiment: Experiment,
    families: list[str],
    budget: float,
    *,
    tell: Callable[..., None],
    log: Callable[[Candidate], None],
) -> list[Candidate]:
    """Cross-validate the baseline, then each family until the budget is spent.

    A family whose first fold shows that all would take more than half of what is left, while others wait, is put off
    until these are judged: else one slow family would keep out all that come behind it.

    Parameters
    ----------
    budget : float
        Seconds; no family is begun after that, and those left are listed as skipped.
    tell : callable
        Called with a text, the number done and the total, before and after each; and ``passing``, the fold.
    log : callable
        Called with each candidate as soon as it is judged.

    Returns
    -------
    list of Candidate
        In the order in which they were judged.
    """
    end, total = time.monotonic() + budget, len(families) + 1
    waiting, off, candidates = [BASELINE, *families], set[str](), list[Candidate]()
    while waiting:
        family, left = waiting.pop(0), end - time.monotonic()
        if left > 0:
            text = f"cross-validating {experiment.called(family)}, {left:.0f} s of the budget left"
            say = partial(tell, text, len(candidates), total)
            tell(f"{text}{_told(experiment, candidates)}", len(candidates), total)
            others_wait = family != BASELINE and family not in off and set(waiting) - off
            most = left * SHARE if others_wait else float("inf")
            candidate = experiment.candidate(family, _paced(say, experiment.folds, most))
        else:
            reason = f"the budget of {budget:g} s was spent"
            candidate = Candidate(family, "skipped", reason=reason, called=experiment.called(family))
        if candidate.status == PUT_OFF:
            off.add(family)
            waiting.append(family)
            continue
        log(candidate)
        candidates.append(candidate)
    tell(f"all candidates judged{_told(experiment, candidates)}", total, total)
    return candidates


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
