"""Predictors: estimators without pandas, from encoded rows to class probabilities or a value."""

from __future__ import annotations

import math
import pickle
import struct
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.errors import CompileError
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.lightgbm_native import NativeBooster

PREDICTOR_TYPES: dict[str, type[Predictor]] = {}


class Predictor(ABC):
    """Base class of converted estimators; ``name`` is shown to users."""

    name: str

    def __init_subclass__(cls) -> None:
        PREDICTOR_TYPES[cls.__name__] = cls

    @abstractmethod
    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        """Predict one encoded row."""

    @abstractmethod
    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        """Predict many encoded rows; shape (rows, classes or 1)."""

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> Predictor:
        """Load a predictor from its parameters, and from its files, which begin with ``stem``."""
        return cls(**parameters)


class LinearPredictor(Predictor):
    """A linear model with a link: sigmoid or softmax for probabilities, none for a value."""

    name = "linear model"

    def __init__(self, weights: list[list[float]], offsets: list[float], link: str) -> None:
        self._rows = list(zip(weights, offsets))
        self._link = link
        self._weights, self._offsets = np.array(weights), np.array(offsets)

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        sums = [sum(map(mul, weights, values)) + offset for weights, offset in self._rows]
        return apply_link_to_row(sums, self._link)

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        # No BLAS product: its threads would compete with those that score chunks in parallel.
        return apply_link(
            np.einsum("ij,kj->ik", rows.dense, self._weights) + self._offsets, self._link
        )


class LightGBMPredictor(Predictor):
    """LightGBM's native booster."""

    name = "native LightGBM booster"

    def __init__(self, text: str, width: int, is_classifier: bool) -> None:
        self._booster = NativeBooster(text, width)
        self._is_binary = is_classifier and self._booster.output_count == 1

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        numbers = self._booster.predict_one(values)
        return [1 - numbers[0], numbers[0]] if self._is_binary else numbers

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        numbers = self._booster.predict_many(rows.dense)
        return np.column_stack([1 - numbers[:, 0], numbers[:, 0]]) if self._is_binary else numbers

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> LightGBMPredictor:
        return cls((folder / f"{stem}.txt").read_text(encoding="utf-8"), **parameters)


class OnnxPredictor(Predictor):
    """An ONNX Runtime graph; float32 is exact for scikit-learn's trees, which cast to it."""

    name = "ONNX graph"

    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self._session = open_session(path)
        # A classifier's probabilities come after its labels.
        self._output_names = [self._session.get_outputs()[-1].name]
        self._input_name = self._session.get_inputs()[0].name
        self._dtype = dtype
        self._row_buffer = np.zeros((1, width), dtype=dtype)
        self._input_feed = {self._input_name: self._row_buffer}
        self._pack_row = struct.Struct(f"{width}{'f' if dtype == 'float32' else 'd'}").pack_into

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        try:
            self._pack_row(self._row_buffer.data, 0, *values)
        except OverflowError:  # beyond float32
            with np.errstate(over="ignore"):
                self._row_buffer[0] = values
        return self._session.run(self._output_names, self._input_feed)[0].ravel().tolist()

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        with np.errstate(over="ignore"):
            scores = self._session.run(
                self._output_names, {self._input_name: rows.dense.astype(self._dtype, order="C")}
            )[0]
        return np.asarray(scores, dtype="float64").reshape(rows.row_count, -1)

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> OnnxPredictor:
        return cls(folder / f"{stem}.onnx", **parameters)


class WeightedMeanPredictor(Predictor):
    """The weighted mean of several predictors."""

    name = "weighted mean of models"

    def __init__(self, members: list[Predictor], weights: list[float]) -> None:
        self._members = list(zip(members, [weight / sum(weights) for weight in weights]))
        if len(members) == 1:  # all models are trees, merged into one predictor
            self.predict_one = members[0].predict_one  # type: ignore[method-assign]

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        numbers = [
            [weight * number for number in member.predict_one(values)]
            for member, weight in self._members
        ]
        return [sum(outputs) for outputs in zip(*numbers)]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        return np.sum(
            [weight * member.predict_many(rows) for member, weight in self._members], axis=0
        )

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> WeightedMeanPredictor:
        return cls(load_members(folder, stem, parameters), parameters["weights"])


class ColumnsPredictor(Predictor):
    """A predictor that takes a range of the encoded columns."""

    name = "model of some columns"

    def __init__(self, member: Predictor, start: int, width: int) -> None:
        self._member = member
        self._columns = slice(start, start + width)

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        return self._member.predict_one(values[self._columns])

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        return self._member.predict_many(EncodedRows.from_array(rows.dense[:, self._columns]))

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> ColumnsPredictor:
        member = load_predictor(folder, stem, parameters["member"])
        return cls(member, parameters["start"], parameters["width"])


class ExponentialPredictor(Predictor):
    """A predictor of log(1 + y), whose predictions are transformed back to y."""

    name = "model of the logarithm"

    def __init__(self, member: Predictor, factor: float) -> None:
        self._member = member
        self._factor = factor

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        return [self._factor * math.expm1(self._member.predict_one(values)[0])]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        return self._factor * np.expm1(self._member.predict_many(rows))

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> ExponentialPredictor:
        return cls(load_predictor(folder, f"{stem}-0", parameters["member"]), parameters["factor"])


class EstimatorPredictor(Predictor):
    """The fitted estimator itself, applied to encoded rows: slow, but exact."""

    name = "the estimator itself"

    def __init__(self, estimator: Any, is_classifier: bool) -> None:
        self._predict = estimator.predict_proba if is_classifier else estimator.predict

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        return self._predict_rows(np.array([values]))[0].tolist()

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        return self._predict_rows(rows.dense)

    def _predict_rows(self, rows: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it was fitted with column names
            return np.asarray(self._predict(rows), dtype="float64").reshape(len(rows), -1)

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> EstimatorPredictor:
        return cls(pickle.loads((folder / f"{stem}.pkl").read_bytes()), **parameters)


def load_predictor(folder: Path, stem: str, parameters: dict[str, Any]) -> Predictor:
    """Load a predictor of type ``kind`` from its files and parameters.

    Raises
    ------
    CompileError
        When there is no such type: the version was compiled by another release.
    """
    kind = parameters["kind"]
    if kind not in PREDICTOR_TYPES:
        raise CompileError(
            f"the scorer needs {kind}, which this release of Modelbook does not have",
            expected=", ".join(PREDICTOR_TYPES),
            next="build finalize again, or use the release that registered the version",
        )
    return PREDICTOR_TYPES[kind].load(
        folder, stem, {key: value for key, value in parameters.items() if key != "kind"}
    )


def load_members(folder: Path, stem: str, parameters: dict[str, Any]) -> list[Predictor]:
    """Load the members of a predictor."""
    return [
        load_predictor(folder, f"{stem}-{number}", member)
        for number, member in enumerate(parameters["members"])
    ]


def open_session(path: Path) -> Any:
    """Load a graph into ONNX Runtime, with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def apply_link(sums: np.ndarray, link: str) -> np.ndarray:
    """Convert sums to probabilities or values by a link, as in ``TreeEnsemble``."""
    if link in ("sigmoid", "probability"):
        probability = sums[:, 0]
        if link == "sigmoid":
            probability = 1 / (1 + np.exp(-np.clip(probability, -700, 700)))
        return np.column_stack([1 - probability, probability])
    if link == "softmax":
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    return np.expm1(sums) if link == "expm1" else sums


def apply_link_to_row(sums: Sequence[float], link: str) -> Sequence[float]:
    """``apply_link`` for the sums of one row, without NumPy."""
    if link in BINARY_LINKS:
        probability = BINARY_LINKS[link](sums[0])
        return [1 - probability, probability]
    if link == "softmax":
        largest = max(sums)
        powers = [math.exp(total - largest) for total in sums]
        total_power = sum(powers)
        return [power / total_power for power in powers]
    return [math.expm1(total) for total in sums] if link == "expm1" else sums


def sigmoid(value: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


# Links from one sum to the probability of the second of two classes.
BINARY_LINKS: dict[str, Callable[[float], float]] = {"sigmoid": sigmoid, "probability": float}
