"""The answer to one row: what each task makes of a model's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from modelbook.contract import Contract


class Answer(NamedTuple):
    """What a model answers to a row: a class with the probability of each class, or a number without."""

    prediction: Any
    probabilities: Sequence[float] | None = None


@dataclass(frozen=True)
class Task:
    """How a model's numbers become answers.

    Attributes
    ----------
    name : str
        ``binary``, ``multiclass`` or ``regression``.
    classes : tuple
        What is answered, in the order of the model's numbers; none for a regression.
    threshold : float
        Probability of the second class from which it is the answer; binary only.
    """

    name: str
    classes: tuple[Any, ...] = ()
    threshold: float = 0.5

    @classmethod
    def of(cls, contract: Contract, threshold: float, classes: Sequence[Any]) -> Task:
        """The task of a contract; ``classes`` are the fitted model's own, in its order."""
        if contract.task == "regression":
            return cls("regression")
        if contract.columns[contract.target].type == "category" and hasattr(contract, "classes"):
            classes = contract.classes  # the model learned codes of them
        plain = tuple(one.item() if isinstance(one, np.generic) else one for one in classes)
        return cls(contract.task, plain, threshold)

    def answer(self, numbers: Sequence[float]) -> Answer:
        """One row's answer; ``numbers`` are a probability for each class, or one value."""
        if self.name == "regression":
            return Answer(numbers[0])
        if self.name == "binary":
            return Answer(self.classes[numbers[1] >= self.threshold], numbers)
        return Answer(self.classes[max(range(len(numbers)), key=numbers.__getitem__)], numbers)

    def predictions(self, numbers: np.ndarray) -> np.ndarray:
        """Many rows' predictions; ``numbers`` has a row for each row, and a column for each class or one."""
        if self.name == "regression":
            return numbers[:, 0]
        place = numbers[:, 1] >= self.threshold if self.name == "binary" else numbers.argmax(axis=1)
        return np.array(self.classes)[place.astype(int)]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Task:
        """From what ``to_dict`` gave, through JSON."""
        return cls(**{**told, "classes": tuple(told["classes"])})
