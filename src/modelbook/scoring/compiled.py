"""The compiled scorer: encoder and kernel, kept in a folder with the proof that they answer like the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.scoring import (
    kernel,
    layers,  # noqa: F401  its kinds of kernels are known once it is there
    masks,  # noqa: F401
)
from modelbook.scoring.encoder import Encoder
from modelbook.tasks.answering import Answer, Answering, recalled

if TYPE_CHECKING:
    import pandas as pd

FILE = "scorer.json"
FORMAT = 1
TOLERANCE = 1e-6  # largest difference in a probability, or in a value relative to its size


@dataclass(frozen=True)
class Proof:
    """What was found when scorer and model were asked the same rows.

    Attributes
    ----------
    rows : int
        Rows that both answered.
    flips : int
        Rows with another label.
    worst : float
        Largest difference of a probability, or of a value relative to its size where that is above 1.
    """

    rows: int
    flips: int
    worst: float

    @property
    def passed(self) -> bool:
        return self.flips == 0 and self.worst <= TOLERANCE

    def __str__(self) -> str:
        return f"{self.flips} other labels in {self.rows:,} rows, largest difference {self.worst:.1g}"


class Scorer:
    """A model that answers rows given by name, without pandas.

    Attributes
    ----------
    answering : Answering
    name : str
        What does the work: ``native LightGBM booster``.
    proof : Proof or None
        What was found when it was compiled.
    """

    compiled = True

    def __init__(self, encoder: Encoder, kernel: kernel.Kernel, answers: Answering, proof: Proof | None = None) -> None:
        self.encoder, self.answering, self.proof, self.name = encoder, answers, proof, kernel.name
        self._encode, self._kernel, self._answer = encoder.one, kernel, answers.answer
        self._ask = kernel.one

    def one(self, row: Mapping[str, Any]) -> Answer:
        """One row's answer: numbers as float, categories as text, gaps as None or NaN. For one thread at a time."""
        return self._answer(self._ask(self._encode(row)))

    def numbers(self, rows: pd.DataFrame | Mapping[str, np.ndarray], count: int | None = None) -> np.ndarray:
        """Probabilities for each class, or values, of many rows as columns by name; shape (rows, numbers)."""
        return self._kernel.many(self.encoder.many(rows, len(rows) if count is None else count))

    def many(self, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Many rows' answers, in their order."""
        columns = {
            name: np.array([row[name] for row in rows], dtype=object if name in self._texts else "float64")
            for name in self.encoder.inputs
        }
        return self.answers(self.numbers(columns, len(rows)))

    def answers(self, numbers: np.ndarray) -> list[Answer]:
        """Answers from what ``numbers`` gave."""
        return [self._answer(each) for each in numbers.tolist()]

    @property
    def _texts(self) -> set[str]:
        return {table.name for table in self.encoder.tables}

    @classmethod
    def load(cls, folder: Path) -> Scorer:
        """From the folder that ``compile.compile`` wrote."""
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        found = Proof(**told["proof"]) if told["proof"] else None
        asked = kernel.load(folder, "kernel", told["kernel"])
        return cls(Encoder.from_dict(told["encoder"]), asked, recalled(told["answering"]), found)


def save(folder: Path, encoder: Encoder, told: dict[str, Any], answers: Answering, proof: Proof | None) -> None:
    """Write what ``Scorer.load`` reads; the kernel's own files are there already."""
    document = {
        "format": FORMAT, "encoder": encoder.to_dict(), "kernel": told, "answering": answers.to_dict(),
        "proof": asdict(proof) if proof else None,
    }  # fmt: skip
    (folder / FILE).write_text(json.dumps(document), encoding="utf-8")
