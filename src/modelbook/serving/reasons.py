"""Reasons: what moved the answer to one row away from the answer to a typical one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from modelbook.scoring import Answer

if TYPE_CHECKING:
    from modelbook.serving.loaded import Loaded


class Reason(NamedTuple):
    """One field: its value, the typical one, and how much less (or more) would be answered with that."""

    field: str
    value: Any
    typical: Any
    moved: float


def reasons(one: Loaded, row: dict[str, Any], given: dict[str, Any], most: int = 5) -> list[Reason]:
    """The fields that move the answer most, strongest first; each is set to its typical value, all else as it is.

    The answer is the probability of the predicted class, or the value. Fields that act together share their merit
    or both have none; nothing here is a cause.

    Parameters
    ----------
    row, given : dict
        The row as the model sees it, and as it was asked with.
    """
    typical = {name: _seen(one, name) for name in one.typical}
    names = [name for name, values in typical.items() if any(row.get(part) != values[part] for part in values)]
    first, *others = one.scorer.many([row, *({**row, **typical[name]} for name in names)])
    place = 0 if first.probabilities is None else list(one.scorer.answering.classes).index(first.prediction)
    told = [
        Reason(name, given.get(name), one.typical[name], _number(first, place) - _number(other, place))
        for name, other in zip(names, others)
    ]
    return sorted((one for one in told if one.moved), key=lambda one: -abs(one.moved))[:most]


def _seen(one: Loaded, name: str) -> dict[str, Any]:
    """The typical value of a field as the model sees it."""
    column, value = one.contract.columns[name], one.typical[name]
    parts = list(column.seen(name))
    if column.type != "date":
        return {name: value}
    return dict(zip(parts, column.read(value) or [None] * len(parts)))


def _number(answer: Answer, place: int) -> float:
    return answer.prediction if answer.probabilities is None else answer.probabilities[place]
