"""Trees for a batch: looked up as bits instead of walked.

Each leaf of a tree is one bit, and each split has a mask without the leaves that a row cannot reach when it goes right.
All masks of the splits that a row goes right at, taken together, leave the leaf that it falls into as their lowest bit
(QuickScorer: Lucchese et al., SIGIR 2015). Which splits of a column these are says the place of its value among their
thresholds, so a table for each column holds the masks taken together beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.encoder import Encoded
from modelbook.scoring.forest import Forest
from modelbook.scoring.kernel import Kernel, linked, load

FEW = 1000  # rows, fewer of which are answered sooner without tables
TREES = 128  # whose tables stay in a processor's cache together
ROWS = 1024  # as well
PAIRS = 4096  # rows of a table that stands for several columns
HEAD, OFTEN = 1000, 0.9  # where of so many values a smaller share is distinct, each distinct one is looked up once
BIAS = 127  # of an exponent in single precision

Pick = tuple[np.ndarray, np.ndarray]  # a table, shape (rows, trees), and its row for each row asked


class Masks(Kernel):
    """Tables of masks for a batch; another kernel for fewer rows."""

    name = "tables of bits"

    def __init__(self, forest: Forest, alone: Kernel) -> None:
        self._forest, self._alone = forest, alone
        self.name = alone.name  # it answers requests

    def one(self, values: Sequence[float]) -> Sequence[float]:
        return self._alone.one(values)

    def many(self, rows: Encoded) -> np.ndarray:
        if rows.count < FEW:
            return self._alone.many(rows)
        sums = np.tile(self._forest.offset, (rows.count, 1))
        for group in self._groups:
            group.add(rows, sums)
        return linked(sums, self._forest.link)

    @cached_property
    def _groups(self) -> list[_Group]:
        count, each = len(self._forest.leaves), len(self._forest.offset)
        step = TREES // each * each or each
        return [_Group(self._forest, first, min(first + step, count)) for first in range(0, count, step)]

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Masks:
        return cls(Forest.load(folder / f"{stem}.npz"), load(folder, stem, told["alone"]))


class _Group:
    """Tables of some trees, for each column that they look at."""

    def __init__(self, forest: Forest, first: int, last: int) -> None:
        leaves = forest.leaves[first:last]
        bits = next(bits for bits in (8, 16, 32, 64) if leaves.shape[1] <= bits)
        self._every = np.full(len(leaves), -1, f"int{bits}").view(f"uint{bits}")
        self._leaves, self._starts = leaves.ravel(), np.arange(len(leaves)) * leaves.shape[1] - BIAS
        among = (forest.tree >= first) & (forest.tree < last)
        self._tables = {
            int(place): self._table(forest, first, np.flatnonzero(among & (forest.place == place)))
            for place in np.unique(forest.place[among])
        }

    def _table(self, forest: Forest, first: int, splits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The thresholds of a column, and what is left of each tree below, between and above them, and at a gap."""
        edges = np.unique(forest.threshold[splits])
        table = np.tile(self._every, (len(edges) + 2, 1))
        for split, edge in zip(splits, np.searchsorted(edges, forest.threshold[splits])):
            tree, right = forest.tree[split] - first, (~forest.left[split]).astype(table.dtype)
            table[edge + 1 : -1, tree] &= right
            if not forest.gap_left[split]:
                table[-1, tree] &= right
        return np.append(edges, [np.inf, np.nan]), table  # where NumPy looks a value up, NaN stands above all

    def add(self, rows: Encoded, sums: np.ndarray) -> None:
        """Add to each row's sums what its leaves add."""
        (table, at), *others = _joined(self._picks(rows))
        for begin in range(0, rows.count, ROWS):
            part = slice(begin, begin + ROWS)
            masks = table.take(at[part], axis=0)
            for other, there in others:
                masks &= other.take(there[part], axis=0)
            added = self._leaves.take(_lowest(masks) + self._starts)
            sums[part] += added.reshape(len(masks), -1, sums.shape[1]).sum(axis=1)

    def _picks(self, rows: Encoded) -> list[Pick]:
        """Which row of which table each row picks, for each input."""
        start, picks = self._every.copy(), []
        of_tables = {place for places, _, _ in rows.tables for place in places}
        for place, value in enumerate(rows.blank):
            if place not in rows.numbers and place not in of_tables:
                start &= self._masks(place, np.array([value]))[0]
        for place, values in rows.numbers.items():
            if place in self._tables:
                picks.append((self._tables[place][1], self._places(place, values)))
        for places, position, blocks in rows.tables:
            masks = [self._masks(place, values) for place, values in zip(places, blocks.T)]
            picks.append((np.bitwise_and.reduce(masks), position))
        return [(start[None], np.zeros(rows.count, "int64")), *picks]

    def _masks(self, place: int, values: np.ndarray) -> np.ndarray:
        if place not in self._tables:
            return np.tile(self._every, (len(values), 1))
        return self._tables[place][1][self._places(place, values)]

    def _places(self, place: int, values: np.ndarray) -> np.ndarray:
        edges = self._tables[place][0]
        often = len(values) > HEAD and len(np.unique(values[:HEAD])) < OFTEN * HEAD
        return _each_once(edges, values) if often and find_spec("pyarrow") else np.searchsorted(edges, values)


def _joined(picks: list[Pick]) -> list[Pick]:
    """Small tables as one that holds all their pairs: fewer look-ups for each row."""
    joined: list[Pick] = []
    for table, at in sorted(picks, key=lambda pick: len(pick[0])):
        if joined and len(joined[-1][0]) * len(table) <= PAIRS:
            smaller, where = joined[-1]
            joined[-1] = (smaller[:, None] & table).reshape(-1, table.shape[1]), where * len(table) + at
        else:
            joined.append((table, at))
    return joined


def _each_once(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``np.searchsorted`` of values many of which are there again."""
    import pyarrow as pa

    coded = pa.array(values).dictionary_encode()
    return np.searchsorted(edges, coded.dictionary.to_numpy()).take(coded.indices.to_numpy())


def _lowest(masks: np.ndarray) -> np.ndarray:
    """The place of each mask's lowest bit, plus ``BIAS``: alone it is a power of two, whose exponent tells it."""
    return (masks & -masks).astype("float32").view("int32") >> 23
