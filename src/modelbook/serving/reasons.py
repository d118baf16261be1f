"""Reasons: what moved the answer to one row away from the answer to a typical one."""

from __future__ import annotations

from typing import Any, NamedTuple

from modelbook.scoring import Answer


class Reason(NamedTuple):
    """One feature: its value, the typical one, and how much less (or more) would be answered with that."""

    feature: str
    value: Any
    typical: Any
    moved: float


def reasons(scorer: Any, row: dict[str, Any], typical: dict[str, Any], most: int = 5) -> list[Reason]:
    """The features that move the answer most, strongest first; each is set to its typical value, all else as it is.

    The answer is the probability of the predicted class, or the value. Features that act together share their merit
    or both have none; nothing here is a cause.
    """
    names = [name for name in typical if row.get(name) != typical[name]]
    first, *others = scorer.many([row, *({**row, name: typical[name]} for name in names)])
    place = 0 if first.probabilities is None else list(scorer.task.classes).index(first.prediction)
    told = [
        Reason(name, row.get(name), typical[name], _number(first, place) - _number(other, place))
        for name, other in zip(names, others)
    ]
    return sorted((one for one in told if one.moved), key=lambda one: -abs(one.moved))[:most]


def _number(answer: Answer, place: int) -> float:
    return answer.prediction if answer.probabilities is None else answer.probabilities[place]
