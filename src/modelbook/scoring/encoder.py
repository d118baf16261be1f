"""The encoder: what a fitted pipeline does to a row before its estimator sees it, as plain arithmetic and tables.

Each output column depends on one input column at the most. A number becomes ``(value - center) / scale`` or
``value * slope + offset``, a gap a fixed number, a category a block of numbers from a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Block = list[float]
MANY = 2000  # values from which importing pandas pays


@dataclass(frozen=True)
class Number:
    """A numeric input on its way to one output column; ``ratio`` says which of the two forms it takes."""

    name: str
    place: int
    a: float
    b: float
    fill: float
    ratio: bool

    def of(self, value: Any) -> Any:
        """The output for a value, or for an array of values without gaps."""
        return (value - self.a) / self.b if self.ratio else value * self.a + self.b


@dataclass(frozen=True)
class Table:
    """A categorical input: for each category the numbers in its output columns; others have those of ``unseen``."""

    name: str
    places: list[int]
    known: dict[str, Block]
    missing: Block
    unseen: Block

    def of(self, value: Any) -> Block:
        """The block of one value."""
        return self.missing if gap(value) else self.known.get(value, self.unseen)


@dataclass
class Encoded:
    """Many encoded rows, column by column; what a table gave is kept once for each category.

    Attributes
    ----------
    blank : list of float
        A row, with every column that stands in neither of the others.
    numbers : dict
        By place: a column.
    tables : list of tuples
        Places of some columns, for each row the position of its block, and the blocks; shape (blocks, places).
    """

    count: int
    blank: Block
    numbers: dict[int, np.ndarray] = field(default_factory=dict)
    tables: list[tuple[list[int], np.ndarray, np.ndarray]] = field(default_factory=list)

    @cached_property
    def dense(self) -> np.ndarray:
        """As an array; shape (rows, width), double; a column lies together in memory."""
        out = np.empty((len(self.blank), self.count))
        out[:] = np.array(self.blank, dtype="float64")[:, None]
        for place, values in self.numbers.items():
            out[place] = values
        for places, position, blocks in self.tables:
            out[places] = blocks.T[:, position]
        return out.T

    @classmethod
    def of(cls, rows: np.ndarray) -> Encoded:
        """From an array of shape (rows, width)."""
        return cls(len(rows), [0.0] * rows.shape[1], dict(enumerate(rows.T)))


@dataclass
class Encoder:
    """Rows in, the estimator's numbers out.

    Attributes
    ----------
    blank : list of float
        A row of the output, with every column that depends on no input.
    """

    inputs: list[str]
    blank: Block
    numbers: list[Number]
    tables: list[Table]
    _ratios: list[tuple[str, int, float, float, float]] = field(init=False, repr=False)
    _lines: list[tuple[str, int, float, float, float]] = field(init=False, repr=False)
    _blocks: list[tuple[str, dict[Any, Block], Block, list[tuple[int, slice, slice]]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        flat = [((n.name, n.place, n.a, n.b, n.fill), n.ratio) for n in self.numbers]
        self._ratios = [one for one, ratio in flat if ratio]
        self._lines = [one for one, ratio in flat if not ratio]
        self._blocks = [(t.name, {**t.known, None: t.missing}, t.unseen, _runs(t.places)) for t in self.tables]

    @property
    def width(self) -> int:
        return len(self.blank)

    def one(self, row: Mapping[str, Any]) -> Block:
        """One row, by name; numbers as float, categories as text, a gap as None or NaN."""
        out = self.blank.copy()
        for name, place, center, scale, fill in self._ratios:
            value = row[name]
            out[place] = fill if value is None or value != value else (value - center) / scale  # noqa: PLR0124
        for name, place, slope, offset, fill in self._lines:
            value = row[name]
            out[place] = fill if value is None or value != value else value * slope + offset  # noqa: PLR0124
        for name, known, unseen, runs in self._blocks:
            block = known.get(row[name], unseen)
            for _, here, there in runs:
                out[here] = block[there]
        return out

    def many(self, columns: Mapping[str, np.ndarray] | pd.DataFrame, rows: int) -> Encoded:
        """Many rows, as columns by name."""
        out = Encoded(rows, self.blank)
        lines = np.empty((len(self.numbers), rows))
        for number, line in zip(self.numbers, lines):
            values = np.asarray(columns[number.name], dtype="float64")
            line[:] = number.of(values)
            line[np.isnan(values)] = number.fill
            out.numbers[number.place] = line
        for table in self.tables:
            distinct, position = _unique(np.asarray(columns[table.name], dtype=object))
            blocks = np.array([table.of(value) for value in distinct], dtype="float64").reshape(len(distinct), -1)
            out.tables.append((table.places, position, blocks))
        return out

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a file."""
        return {
            "inputs": self.inputs, "blank": self.blank, "numbers": [asdict(one) for one in self.numbers],
            "tables": [asdict(one) for one in self.tables],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Encoder:
        """From what ``to_dict`` gave, through JSON."""
        numbers = [Number(**one) for one in told["numbers"]]
        return cls(told["inputs"], told["blank"], numbers, [Table(**one) for one in told["tables"]])


def gap(value: Any) -> bool:
    """Whether a value is none: None, or NaN, which alone differs from itself."""
    return value is None or value != value  # noqa: PLR0124


def _runs(places: Sequence[int]) -> list[tuple[int, slice, slice]]:
    """Neighbouring places as slices of the output and of the block: (first, there, here)."""
    runs: list[tuple[int, slice, slice]] = []
    start = 0
    for i in range(1, len(places) + 1):
        if i == len(places) or places[i] != places[i - 1] + 1:
            runs.append((places[start], slice(places[start], places[i - 1] + 1), slice(start, i)))
            start = i
    return runs


def _unique(values: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Distinct values, None for gaps, and the position of each value among them."""
    if len(values) > MANY and find_spec("pandas"):  # a service's image goes without
        import pandas as pd

        position, distinct = pd.factorize(values)
        return [*distinct, None], np.where(position < 0, len(distinct), position)
    known: dict[Any, int] = {}
    plain = [None if gap(value) else value for value in values]
    position = np.array([known.setdefault(value, len(known)) for value in plain], dtype="int64")
    return list(known), position
