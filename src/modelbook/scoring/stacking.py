"""Predictors for stacking and calibration: members, and a meta-model over their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.predictors import Predictor, load_members, load_predictor, sigmoid
from modelbook.tasks.logit import EPSILON, logit, logit_scalar


class StackingPredictor(Predictor):
    """Members, and a meta-predictor over their stacked predictions.

    Parameters
    ----------
    use_logits : bool
        Whether the meta-predictor takes log-odds instead of probabilities.
    is_binary : bool
        Whether members predict two classes; the redundant first probability is dropped.
    """

    name = "stacked models"

    def __init__(
        self, members: list[Predictor], meta_predictor: Predictor, use_logits: bool, is_binary: bool
    ) -> None:
        self._members = members
        self._meta_predictor = meta_predictor
        self._use_logits = use_logits
        self._first_output = int(is_binary)

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        numbers = [
            number
            for member in self._members
            for number in member.predict_one(values)[self._first_output :]
        ]
        return self._meta_predictor.predict_one(
            [logit_scalar(number) for number in numbers] if self._use_logits else numbers
        )

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        numbers = np.hstack(
            [member.predict_many(rows)[:, self._first_output :] for member in self._members]
        )
        return self._meta_predictor.predict_many(
            EncodedRows.from_array(logit(numbers) if self._use_logits else numbers)
        )

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> StackingPredictor:
        return cls(
            load_members(folder, stem, parameters),
            load_predictor(folder, f"{stem}-top", parameters["top"]),
            parameters["odds"],
            parameters["pair"],
        )


class IsotonicPredictor(Predictor):
    """Isotonic calibration: one piecewise linear curve per column, normalised over classes."""

    name = "isotonic calibration"

    def __init__(self, curves: list[dict[str, list[float]]]) -> None:
        self._curves = [(np.array(curve["at"]), np.array(curve["to"])) for curve in curves]

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        return self.predict_many(EncodedRows.from_array(np.array([values])))[0].tolist()

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        probabilities = np.column_stack(
            [
                np.interp(rows.dense[:, i], x_points, y_points)
                for i, (x_points, y_points) in enumerate(self._curves)
            ]
        )
        return _normalize_probabilities(probabilities)


class TemperaturePredictor(Predictor):
    """Temperature scaling: probabilities to the power of 1/T, normalised over classes."""

    name = "temperature scaling"

    def __init__(self, temperature: float) -> None:
        self._exponent = 1 / temperature

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        probabilities = [1 - values[0], values[0]] if len(values) == 1 else values
        powers = [max(value, EPSILON) ** self._exponent for value in probabilities]
        total = sum(powers)
        return [power / total for power in powers]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        columns = rows.dense
        if columns.shape[1] == 1:
            columns = np.hstack([1 - columns, columns])
        return _normalize_probabilities(np.maximum(columns, EPSILON) ** self._exponent)


class SigmoidPredictor(Predictor):
    """Sigmoid calibration: one scaled and shifted sigmoid per column, normalised over classes."""

    name = "sigmoid calibration"

    def __init__(self, weights: list[float], offsets: list[float]) -> None:
        self._weights, self._offsets = np.array(weights), np.array(offsets)
        self._curves = list(zip(weights, offsets))

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        columns = [
            sigmoid(value * weight + offset)
            for value, (weight, offset) in zip(values, self._curves)
        ]
        if len(columns) == 1:
            return [1 - columns[0], columns[0]]
        total = sum(columns)
        return [column / total for column in columns]

    def predict_many(self, rows: EncodedRows) -> np.ndarray:
        return _normalize_probabilities(
            1 / (1 + np.exp(-np.clip(rows.dense * self._weights + self._offsets, -700, 700)))
        )


def _normalize_probabilities(columns: np.ndarray) -> np.ndarray:
    if columns.shape[1] == 1:
        return np.hstack([1 - columns, columns])
    return columns / columns.sum(axis=1, keepdims=True)
