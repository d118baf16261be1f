"""Layers as kernels: several members, and on top what weighs or corrects their answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.encoder import Encoded
from modelbook.scoring.kernel import Kernel, load
from modelbook.tasks.odds import odds, odds_of_one


class Layers(Kernel):
    """Members, and a kernel over their numbers side by side; of two classes the first says nothing more.

    Parameters
    ----------
    odds : bool
        Whether the top sees log-odds instead of probabilities.
    pair : bool
        Whether the members answer with probabilities of two classes.
    """

    name = "layers of several"

    def __init__(self, members: list[Kernel], top: Kernel, odds: bool, pair: bool) -> None:
        self._members, self._top, self._odds, self._first = members, top, odds, int(pair)

    def one(self, values: Sequence[float]) -> Sequence[float]:
        numbers = [number for member in self._members for number in member.one(values)[self._first :]]
        return self._top.one([odds_of_one(number) for number in numbers] if self._odds else numbers)

    def many(self, rows: Encoded) -> np.ndarray:
        numbers = np.hstack([member.many(rows)[:, self._first :] for member in self._members])
        return self._top.many(Encoded.of(odds(numbers) if self._odds else numbers))

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Layers:
        members = [load(folder, f"{stem}-{i}", one) for i, one in enumerate(told["members"])]
        return cls(members, load(folder, f"{stem}-top", told["top"]), told["odds"], told["pair"])


class Curves(Kernel):
    """One curve a column, through points, between which it is straight; of several classes they then sum to 1."""

    name = "curves"

    def __init__(self, curves: list[dict[str, list[float]]]) -> None:
        self._curves = [(np.array(each["at"]), np.array(each["to"])) for each in curves]

    def one(self, values: Sequence[float]) -> Sequence[float]:
        return self.many(Encoded.of(np.array([values])))[0].tolist()

    def many(self, rows: Encoded) -> np.ndarray:
        made = np.column_stack([np.interp(rows.dense[:, i], at, to) for i, (at, to) in enumerate(self._curves)])
        return _shared(made)

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Curves:
        return cls(**told)


class Sigmoids(Kernel):
    """One sigmoid a column, stretched and moved; of several classes they then sum to 1."""

    name = "sigmoids"

    def __init__(self, weights: list[float], offsets: list[float]) -> None:
        self._weights, self._offsets = np.array(weights), np.array(offsets)

    def one(self, values: Sequence[float]) -> Sequence[float]:
        return self.many(Encoded.of(np.array([values])))[0].tolist()

    def many(self, rows: Encoded) -> np.ndarray:
        return _shared(1 / (1 + np.exp(-np.clip(rows.dense * self._weights + self._offsets, -700, 700))))

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Sigmoids:
        return cls(**told)


def _shared(columns: np.ndarray) -> np.ndarray:
    if columns.shape[1] == 1:
        return np.hstack([1 - columns, columns])
    return columns / columns.sum(axis=1, keepdims=True)
