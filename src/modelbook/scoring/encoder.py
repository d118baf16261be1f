"""The encoder: a fitted pipeline's preprocessing as plain arithmetic and lookup tables.

Each output column depends on at most one input column. A number becomes
``(value - center) / scale`` or ``value * slope + offset``, a missing value a constant, and a
category a block of table values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

OutputValues = list[float]
MIN_FACTORIZED_ROWS = 2000  # with fewer rows, importing pandas takes longer


@dataclass(frozen=True)
class NumericEncoding:
    """A numeric input encoded to one output column; ``is_scaled`` selects center and scale."""

    name: str
    output_index: int
    center_or_slope: float
    scale_or_offset: float
    missing_value: float
    is_scaled: bool

    def encode(self, value: Any) -> Any:
        """Encode a value, or an array of values, that is not missing."""
        if self.is_scaled:
            return (value - self.center_or_slope) / self.scale_or_offset
        return value * self.center_or_slope + self.scale_or_offset


@dataclass(frozen=True)
class CategoryEncoding:
    """A categorical input: output values by category, and ``unseen_outputs`` for any other."""

    name: str
    output_indices: list[int]
    outputs_by_category: dict[str, OutputValues]
    missing_outputs: OutputValues
    unseen_outputs: OutputValues

    def encode(self, value: Any) -> OutputValues:
        """Return the output values of one category."""
        if is_missing(value):
            return self.missing_outputs
        return self.outputs_by_category.get(value, self.unseen_outputs)


@dataclass
class EncodedRows:
    """Encoded rows by column, with the outputs of categories stored once for each category.

    Attributes
    ----------
    constant_row : list of float
        A row with the values of all other columns.
    category_columns : list of tuples
        Column indices, each row's block position, and the blocks of shape (blocks, indices).
    """

    row_count: int
    constant_row: OutputValues
    numeric_columns: dict[int, np.ndarray] = field(default_factory=dict)
    category_columns: list[tuple[list[int], np.ndarray, np.ndarray]] = field(default_factory=list)

    @cached_property
    def dense(self) -> np.ndarray:
        """Float64 array of shape (rows, width), in column-major order."""
        out = np.empty((len(self.constant_row), self.row_count))
        out[:] = np.array(self.constant_row, dtype="float64")[:, None]
        for index, values in self.numeric_columns.items():
            out[index] = values
        for indices, codes, blocks in self.category_columns:
            out[indices] = blocks.T[:, codes]
        return out.T

    def take_columns(self, columns: np.ndarray, rows: slice) -> np.ndarray:
        """Return some columns of some rows, in row-major order; shape (rows, columns)."""
        out = np.empty((len(range(*rows.indices(self.row_count))), len(columns)))
        out[:] = np.array(self.constant_row, dtype="float64")[columns]
        positions = {column: position for position, column in enumerate(columns.tolist())}
        for index, values in self.numeric_columns.items():
            if index in positions:
                out[:, positions[index]] = values[rows]
        for indices, codes, blocks in self.category_columns:
            used = [number for number, index in enumerate(indices) if index in positions]
            if used:
                values = blocks[:, used]
                out[:, [positions[indices[number]] for number in used]] = values[codes[rows]]
        return out

    @classmethod
    def from_array(cls, rows: np.ndarray) -> EncodedRows:
        """Create encoded rows from an array of shape (rows, width)."""
        return cls(len(rows), [0.0] * rows.shape[1], dict(enumerate(rows.T)))


@dataclass
class Encoder:
    """Encodes rows to the estimator's input columns.

    Attributes
    ----------
    constant_row : list of float
        An output row with the values of columns that depend on no input.
    """

    inputs: list[str]
    constant_row: OutputValues
    numeric_encodings: list[NumericEncoding]
    category_encodings: list[CategoryEncoding]
    _scaled_inputs: list[tuple[str, int, float, float, float]] = field(init=False, repr=False)
    _linear_inputs: list[tuple[str, int, float, float, float]] = field(init=False, repr=False)
    _category_inputs: list[
        tuple[str, dict[Any, OutputValues], OutputValues, list[tuple[slice, slice]]]
    ] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._scaled_inputs, self._linear_inputs = (
            [
                astuple(encoding)[:5]
                for encoding in self.numeric_encodings
                if encoding.is_scaled == is_scaled
            ]
            for is_scaled in (True, False)
        )
        self._category_inputs = [
            (
                encoding.name,
                {**encoding.outputs_by_category, None: encoding.missing_outputs},
                encoding.unseen_outputs,
                _find_contiguous_slices(encoding.output_indices),
            )
            for encoding in self.category_encodings
        ]

    @property
    def width(self) -> int:
        return len(self.constant_row)

    def transform_one(self, row: Mapping[str, Any]) -> OutputValues:
        """Encode one row: numbers as float, categories as str, missing values as None or NaN."""
        out = self.constant_row.copy()
        for name, index, center, scale, missing_value in self._scaled_inputs:
            value = row[name]
            is_missing = value is None or value != value  # noqa: PLR0124  NaN
            out[index] = missing_value if is_missing else (value - center) / scale
        for name, index, slope, offset, missing_value in self._linear_inputs:
            value = row[name]
            is_missing = value is None or value != value  # noqa: PLR0124  NaN
            out[index] = missing_value if is_missing else value * slope + offset
        for name, outputs_by_category, unseen_outputs, slices in self._category_inputs:
            value = row[name]
            key = None if value != value else value  # noqa: PLR0124  NaN
            block = outputs_by_category.get(key, unseen_outputs)
            for output_slice, block_slice in slices:
                out[output_slice] = block[block_slice]
        return out

    def transform_many(
        self, columns: Mapping[str, np.ndarray] | pd.DataFrame, row_count: int
    ) -> EncodedRows:
        """Encode many rows, given as columns by name."""
        out = EncodedRows(row_count, self.constant_row)
        numeric_columns = np.empty((len(self.numeric_encodings), row_count))
        for encoding, column in zip(self.numeric_encodings, numeric_columns):
            values = np.asarray(columns[encoding.name], dtype="float64")
            column[:] = encoding.encode(values)
            column[np.isnan(values)] = encoding.missing_value
            out.numeric_columns[encoding.output_index] = column
        for category_encoding in self.category_encodings:
            distinct, codes = _factorize(np.asarray(columns[category_encoding.name], dtype=object))
            blocks = np.array(
                [category_encoding.encode(value) for value in distinct], dtype="float64"
            ).reshape(len(distinct), -1)
            out.category_columns.append((category_encoding.output_indices, codes, blocks))
        return out

    @classmethod
    def join(cls, encoders: Sequence[Encoder]) -> Encoder:
        """An encoder whose output columns are those of several, side by side."""
        constant_row: OutputValues = []
        numeric_encodings: list[NumericEncoding] = []
        category_encodings: list[CategoryEncoding] = []
        for encoder in encoders:
            start = len(constant_row)
            constant_row += encoder.constant_row
            numeric_encodings += [
                replace(encoding, output_index=encoding.output_index + start)
                for encoding in encoder.numeric_encodings
            ]
            category_encodings += [
                replace(
                    encoding, output_indices=[index + start for index in encoding.output_indices]
                )
                for encoding in encoder.category_encodings
            ]
        return cls(encoders[0].inputs, constant_row, numeric_encodings, category_encodings)

    def is_equivalent(self, other: Encoder) -> bool:
        """Whether another encoder encodes each row to the same values; NaN equals NaN."""
        return json.dumps(self.to_dict()) == json.dumps(other.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as plain data."""
        return {
            "inputs": self.inputs,
            "blank": self.constant_row,
            "numbers": [asdict(encoding) for encoding in self.numeric_encodings],
            "tables": [asdict(encoding) for encoding in self.category_encodings],
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Encoder:
        """Create an encoder from the result of ``to_dict``."""
        return cls(
            document["inputs"],
            document["blank"],
            [NumericEncoding(**encoding) for encoding in document["numbers"]],
            [CategoryEncoding(**encoding) for encoding in document["tables"]],
        )


def is_missing(value: Any) -> bool:
    """Return whether a value is None or NaN, the only value that differs from itself."""
    return value is None or value != value  # noqa: PLR0124


def _find_contiguous_slices(indices: Sequence[int]) -> list[tuple[slice, slice]]:
    """Group adjacent indices: pairs of a slice of the output row and one of the block."""
    slices: list[tuple[slice, slice]] = []
    start = 0
    for i in range(1, len(indices) + 1):
        if i == len(indices) or indices[i] != indices[i - 1] + 1:
            slices.append((slice(indices[start], indices[i - 1] + 1), slice(start, i)))
            start = i
    return slices


def _factorize(values: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Return the distinct values, None when missing, and each value's position among them."""
    if len(values) > MIN_FACTORIZED_ROWS and find_spec("pandas"):  # the service image has no pandas
        import pandas as pd

        codes, distinct = pd.factorize(values)
        return [*distinct, None], np.where(codes < 0, len(distinct), codes)
    code_by_value: dict[Any, int] = {}
    normalized_values = [None if is_missing(value) else value for value in values]
    codes = np.array(
        [code_by_value.setdefault(value, len(code_by_value)) for value in normalized_values],
        dtype="int64",
    )
    return list(code_by_value), codes
