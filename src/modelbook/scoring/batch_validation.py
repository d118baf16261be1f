"""Validate batch rows against the contract; each distinct value is parsed and checked only once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from modelbook.contract.parsing import DecimalMark, mask_missing_markers, may_contain_text
from modelbook.dataset.reader import NUMBER_TYPES
from modelbook.errors import DataError

if TYPE_CHECKING:
    from modelbook.contract import Column, Contract

MIN_ROWS_PER_VALUE = 4  # with fewer rows per distinct value, factorizing is slower


def validate_rows(
    rows: pa.Table, contract: Contract, decimal: DecimalMark = "."
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the model's features, and for each row the reasons why it breaks the contract.

    Returns
    -------
    dict, array
        Feature columns, with NaN in place of invalid values; and a string per row, empty when
        the row is valid.

    Raises
    ------
    DataError
        If a column's values are not scalars, such as lists.
    """
    features: dict[str, np.ndarray] = {}
    reasons = np.full(len(rows), "", dtype=object)
    for name in contract.input_names:
        column = contract.columns[name]
        if (numbers := _read_valid_numbers(rows[name], column)) is not None:
            features[name] = numbers
            continue
        _check_type(name, rows[name].type)
        values, positions = _factorize_column(rows[name])
        values = mask_missing_markers(
            column.clean_cells(values, decimal) if may_contain_text(values) else values,
            contract.missing,
        )
        parsed = column.parse_values(values)
        is_invalid = ~column.find_valid(values, parsed)
        is_invalid = is_invalid if column.nullable else is_invalid | values.isna()
        if is_invalid.any():
            parsed = parsed.where(~is_invalid)
            invalid_rows = is_invalid.to_numpy()[positions]
            reasons[invalid_rows] += _describe_violations(name, values, column).to_numpy()[
                positions
            ][invalid_rows]
        features |= {
            feature: feature_values.to_numpy()[positions]
            for feature, feature_values in column.derive_features(name, parsed).items()
        }
    return features, reasons


def _read_valid_numbers(values: pa.ChunkedArray, column: Column) -> np.ndarray | None:
    """Return a numeric column as float64 when all its values are valid, else None.

    The contract allows a range of numbers, so the smallest and the largest value are checked;
    integers are also checked for fractions.
    """
    arrow_type = values.type
    if (
        column.type not in NUMBER_TYPES
        or not len(values)
        or not (pa.types.is_floating(arrow_type) or pa.types.is_integer(arrow_type))
    ):
        return None
    values = values.combine_chunks().to_numpy(zero_copy_only=False).astype("float64", copy=False)
    extremes = np.fmin.reduce(values), np.fmax.reduce(values)  # ignore NaN
    if np.isnan(values).any() if not column.nullable else np.isnan(extremes[0]):
        return None
    is_integral = column.type == "number" or not (values > np.floor(values)).any()
    return values if is_integral and all(map(column.is_valid_number, extremes)) else None


def _check_type(name: str, arrow_type: pa.DataType) -> None:
    if pa.types.is_nested(arrow_type) or isinstance(arrow_type, pa.BaseExtensionType):
        raise DataError(
            f"the column {name!r} has values of the type {arrow_type}",
            expected="a number, text, date or boolean in each cell",
            next="convert the column to the contract's type",
        )


def _factorize_column(column: pa.ChunkedArray) -> tuple[pd.Series, np.ndarray | slice]:
    """Return values and each row's position among them; distinct values when they are few."""
    if pa.types.is_primitive(column.type):  # checking numbers is faster than factorizing
        return column.to_pandas(), slice(None)
    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode(null_encoding="mask")
    values = encoded.dictionary
    if len(values) * MIN_ROWS_PER_VALUE > len(encoded):
        return column.cast(values.type).to_pandas(), slice(None)
    positions = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    # A missing value changes pandas' dtype, so append one only when the column has one.
    missing_value = [pa.nulls(1, values.type)] if encoded.null_count else []
    return pa.concat_arrays([values, *missing_value]).to_pandas(), positions


def _describe_violations(name: str, values: pd.Series, column: Column) -> pd.Series:
    """Return for each value the reason to reject its row."""
    rule = column.describe_allowed_values("missing")
    value_texts = values.map(lambda value: "missing" if pd.isna(value) else repr(value)[:80])
    return f"{name} = " + value_texts.astype(object) + f": must be {rule}; "
