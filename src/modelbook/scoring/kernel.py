"""Kernels: estimators without pandas. Each takes encoded rows to a probability for each class, or to one value."""

from __future__ import annotations

import math
import pickle
import struct
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.booster import Booster
from modelbook.scoring.encoder import Encoded

KINDS: dict[str, type[Kernel]] = {}


class Kernel(ABC):
    """An estimator in another form. ``name`` is what people read; files lie in a folder beside each other."""

    name: str

    def __init_subclass__(cls) -> None:
        KINDS[cls.__name__] = cls

    @abstractmethod
    def one(self, values: Sequence[float]) -> Sequence[float]:
        """One encoded row's numbers."""

    @abstractmethod
    def many(self, rows: Encoded) -> np.ndarray:
        """Many encoded rows' numbers; shape (rows, classes or 1)."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Kernel:
        """From the files of that stem, and the plain data kept beside them."""


class Linear(Kernel):
    """A weighted sum behind a link: sigmoid or softmax for probabilities, none for a value."""

    name = "weighted sum"

    def __init__(self, weights: list[list[float]], offsets: list[float], link: str) -> None:
        self._lines, self._link = list(zip(weights, offsets)), link
        self._weights, self._offsets = np.array(weights), np.array(offsets)

    def one(self, values: Sequence[float]) -> Sequence[float]:
        sums = [sum(map(mul, weights, values)) + offset for weights, offset in self._lines]
        if self._link == "sigmoid":
            p = _sigmoid(sums[0])
            return [1 - p, p]
        if self._link == "softmax":
            powers = [math.exp(one - max(sums)) for one in sums]
            return [power / sum(powers) for power in powers]
        return sums

    def many(self, rows: Encoded) -> np.ndarray:
        # Not a product by BLAS: its own threads get in the way of those that answer parts of a batch side by side.
        return linked(np.einsum("ij,kj->ik", rows.dense, self._weights) + self._offsets, self._link)

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Linear:
        return cls(**told)


class Lightgbm(Kernel):
    """LightGBM's own booster."""

    name = "native LightGBM booster"

    def __init__(self, path: Path, width: int, probabilities: bool) -> None:
        self._booster = Booster(path, width)
        self._pair = probabilities and self._booster.outputs == 1

    def one(self, values: Sequence[float]) -> Sequence[float]:
        numbers = self._booster.one(values)
        return [1 - numbers[0], numbers[0]] if self._pair else numbers

    def many(self, rows: Encoded) -> np.ndarray:
        numbers = self._booster.many(rows.dense)
        return np.column_stack([1 - numbers[:, 0], numbers[:, 0]]) if self._pair else numbers

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Lightgbm:
        return cls(folder / f"{stem}.txt", **told)


class Onnx(Kernel):
    """A graph of ONNX Runtime. Scikit-learn's trees cast to float32 themselves, so one in float32 is faithful."""

    name = "ONNX graph"

    def __init__(self, path: Path, width: int, dtype: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._asked = [self._session.get_outputs()[-1].name]  # of a classifier the probabilities, after the labels
        self._named, self._dtype = self._session.get_inputs()[0].name, dtype
        self._row = np.zeros((1, width), dtype=dtype)
        self._feed = {self._named: self._row}
        self._pack = struct.Struct(f"{width}{'f' if dtype == 'float32' else 'd'}").pack_into

    def one(self, values: Sequence[float]) -> Sequence[float]:
        try:
            self._pack(self._row.data, 0, *values)
        except OverflowError:  # beyond float32
            with np.errstate(over="ignore"):
                self._row[0] = values
        return self._session.run(self._asked, self._feed)[0].ravel().tolist()

    def many(self, rows: Encoded) -> np.ndarray:
        with np.errstate(over="ignore"):
            out = self._session.run(self._asked, {self._named: rows.dense.astype(self._dtype, order="C")})[0]
        return np.asarray(out, dtype="float64").reshape(rows.count, -1)

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Onnx:
        return cls(folder / f"{stem}.onnx", **told)


class Vote(Kernel):
    """The weighted mean of several kernels."""

    name = "mean of several"

    def __init__(self, members: list[Kernel], weights: list[float]) -> None:
        self._members = list(zip(members, [weight / sum(weights) for weight in weights]))

    def one(self, values: Sequence[float]) -> Sequence[float]:
        numbers = [[weight * number for number in member.one(values)] for member, weight in self._members]
        return [sum(each) for each in zip(*numbers)]

    def many(self, rows: Encoded) -> np.ndarray:
        return np.sum([weight * member.many(rows) for member, weight in self._members], axis=0)

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Vote:
        members = [load(folder, f"{stem}-{i}", one) for i, one in enumerate(told["members"])]
        return cls(members, told["weights"])


class Estimator(Kernel):
    """The fitted estimator itself, asked with encoded rows: slow, but nothing of it can differ."""

    name = "the estimator itself"

    def __init__(self, estimator: Any, probabilities: bool) -> None:
        self._ask = estimator.predict_proba if probabilities else estimator.predict

    def one(self, values: Sequence[float]) -> Sequence[float]:
        return self._asked(np.array([values]))[0].tolist()

    def many(self, rows: Encoded) -> np.ndarray:
        return self._asked(rows.dense)

    def _asked(self, rows: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it was fitted with names of columns
            return np.asarray(self._ask(rows), dtype="float64").reshape(len(rows), -1)

    @classmethod
    def load(cls, folder: Path, stem: str, told: dict[str, Any]) -> Estimator:
        return cls(pickle.loads((folder / f"{stem}.pkl").read_bytes()), **told)


def load(folder: Path, stem: str, told: dict[str, Any]) -> Kernel:
    """A kernel from its files and the plain data kept beside them: ``kind`` and what ``kind.load`` wants."""
    return KINDS[told["kind"]].load(folder, stem, {key: value for key, value in told.items() if key != "kind"})


def linked(sums: np.ndarray, link: str) -> np.ndarray:
    """What sums of shape (rows, sums) say: probabilities by ``sigmoid`` or ``softmax``, values by ``none``."""
    if link == "sigmoid":
        p = 1 / (1 + np.exp(-np.clip(sums[:, 0], -700, 700)))
        return np.column_stack([1 - p, p])
    if link == "softmax":
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return sums


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
