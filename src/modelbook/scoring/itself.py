"""The model itself as a scorer: what serves where nothing compiled answers like it. Slow, and loads its stack."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pandas as pd

from modelbook.scoring import trials
from modelbook.tasks.answering import Answer, answering

if TYPE_CHECKING:
    from modelbook.contract import Contract


class Itself:
    """A fitted pipeline with the interface of ``Scorer``."""

    name, compiled, proof = "the model itself", False, None

    def __init__(self, model: Any, contract: Contract, threshold: float | None) -> None:
        self.answering = answering(contract, threshold)
        self._model, self._contract = model, contract

    @classmethod
    def load(cls, pickled: Path, contract: Contract, threshold: float | None) -> Itself:
        """From the file that keeps the fitted pipeline."""
        # Unpickling imports PyCaret, which writes a logs.log into whatever the working folder is.
        os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
        with warnings.catch_warnings(), pickled.open("rb") as file:
            warnings.simplefilter("ignore")
            return cls(cloudpickle.load(file), contract, threshold)

    def one(self, row: Mapping[str, Any]) -> Answer:
        """One row's answer."""
        return self.many([row])[0]

    def numbers(self, rows: pd.DataFrame | Mapping[str, np.ndarray], count: int | None = None) -> np.ndarray:
        """Probabilities for each class, or values, of many rows as columns by name; shape (rows, numbers)."""
        return trials.asked(self._model, pd.DataFrame(rows), self._contract)

    def many(self, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Many rows' answers, in their order."""
        return self.answers(self.numbers(pd.DataFrame(list(rows), columns=self._contract.features_)))

    def answers(self, numbers: np.ndarray) -> list[Answer]:
        """Answers from what ``numbers`` gave."""
        return [self.answering.answer(each) for each in numbers.tolist()]
