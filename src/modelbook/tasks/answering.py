"""Answers to rows: what a served model makes of its numbers, by task. Without pandas, for a service starts with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from modelbook.contract import Contract


class Answer(NamedTuple):
    """What a model answers to a row: a class with the probability of each class, or a number without."""

    prediction: Any
    probabilities: Sequence[float] | None = None


@dataclass(frozen=True)
class Answering(ABC):
    """How a model's numbers become answers: a probability for each class, or one value.

    Attributes
    ----------
    classes : tuple
        What is answered, in the order of the model's numbers; none for a regression.
    threshold : float or None
        Probability of the second class from which it is the answer; None but for two classes.
    """

    classes: tuple[Any, ...] = ()
    threshold: float | None = None
    task: ClassVar[str]

    @abstractmethod
    def answer(self, numbers: Sequence[float]) -> Answer:
        """One row's answer."""

    @abstractmethod
    def predictions(self, numbers: np.ndarray) -> np.ndarray:
        """Many rows' predictions; ``numbers`` has a row for each row, and a column for each class or one."""

    @property
    @abstractmethod
    def moving(self) -> str:
        """What ``moved`` tells of, in words."""

    @abstractmethod
    def moved(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """How far each row's answer went from some numbers to others; both with a row for each row."""

    def differ(self, before: Sequence[Any], after: Sequence[Any]) -> np.ndarray:
        """Which predictions are other ones."""
        return np.array([one != other for one, other in zip(before, after, strict=True)], dtype=bool)

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return len(self.classes) or 1

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a file."""
        return {"task": self.task, **asdict(self)}


class YesOrNo(Answering):
    """Of two classes the second, from a threshold on."""

    task = "binary"
    threshold: float

    def answer(self, numbers: Sequence[float]) -> Answer:
        return Answer(self.classes[numbers[1] >= self.threshold], numbers)

    @property
    def moving(self) -> str:
        return f"probability of {self.classes[1]}"

    def moved(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return after[:, 1] - before[:, 1]

    def predictions(self, numbers: np.ndarray) -> np.ndarray:
        return np.array(self.classes)[(numbers[:, 1] >= self.threshold).astype(int)]


class Likeliest(Answering):
    """Of several classes the one with the largest probability."""

    task = "multiclass"

    def answer(self, numbers: Sequence[float]) -> Answer:
        return Answer(self.classes[max(range(len(numbers)), key=numbers.__getitem__)], numbers)

    @property
    def moving(self) -> str:
        return "probability of the class that was likeliest before"

    def moved(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        rows, likeliest = np.arange(len(before)), before.argmax(axis=1)
        return after[rows, likeliest] - before[rows, likeliest]

    def predictions(self, numbers: np.ndarray) -> np.ndarray:
        return np.array(self.classes)[numbers.argmax(axis=1)]


class Value(Answering):
    """The number itself."""

    task = "regression"

    def answer(self, numbers: Sequence[float]) -> Answer:
        return Answer(numbers[0])

    moving = "answer"

    def moved(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return after[:, 0] - before[:, 0]

    def differ(self, before: Sequence[Any], after: Sequence[Any]) -> np.ndarray:
        """Beyond the last digits: by a millionth."""
        return ~np.isclose(np.array(after, dtype=float), np.array(before, dtype=float), rtol=1e-6, atol=1e-6)

    def predictions(self, numbers: np.ndarray) -> np.ndarray:
        return numbers[:, 0]


KINDS: dict[str, type[Answering]] = {kind.task: kind for kind in (YesOrNo, Likeliest, Value)}


def answering(contract: Contract, threshold: float | None) -> Answering:
    """How a contract's model answers. A yes or no without names is 1 or 0, as in the table."""
    target = contract.columns[contract.target]
    classes = (0, 1) if target.type == "boolean" else tuple(target.classes)
    return KINDS[contract.task](classes, threshold)


def recalled(told: dict[str, Any]) -> Answering:
    """From what ``Answering.to_dict`` gave, through JSON."""
    return KINDS[told["task"]](tuple(told["classes"]), told["threshold"])
