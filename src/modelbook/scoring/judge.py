"""Rows of a batch held against the contract: each distinct value is read and judged once, however often it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from modelbook.contract.parsing import GAPS, without

if TYPE_CHECKING:
    from modelbook.contract import Column, Contract
    from modelbook.dataset.delimited import Found

NUMBERS = ("number", "integer", "boolean")
FEW = 4  # rows for each distinct value from which looking for them pays


def judge(part: pa.Table, contract: Contract, layout: Found | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The features of rows as the model sees them (``contract.features``), and why each row breaks the contract.

    Parameters
    ----------
    layout : Found, optional
        Of a file of text, whose cells are all text here.

    Returns
    -------
    dict, array
        Columns of ``part``'s length, with gaps in the place of what breaks the contract; and a text for each row, empty
        where it keeps it.
    """
    typed: dict[str, np.ndarray] = {}
    reasons = np.full(len(part), "", dtype=object)
    for name in contract.inputs_:
        column = contract.columns[name]
        if (plain := _numbers(part[name], column)) is not None:
            typed[name] = plain
            continue
        values, place = _distinct(part[name])
        values = without(_plain(values, column, layout) if layout else values, contract.missing)
        parsed = column.parsed(values)
        wrong = ~column.holds(values, parsed)
        wrong = wrong if column.nullable else wrong | values.isna()
        if wrong.any():
            parsed, at = parsed.where(~wrong), wrong.to_numpy()[place]
            reasons[at] += _reasons(name, values, column).to_numpy()[place][at]
        seen = column.derived(name, parsed) if column.type == "date" else {name: parsed}
        typed |= {name: read.to_numpy()[place] for name, read in seen.items()}
    return typed, reasons


def _numbers(given: pa.ChunkedArray, column: Column) -> np.ndarray | None:
    """A column of numbers all of which keep the rule, as the model sees it.

    A number's rule is a range, so the least and the greatest one tell of all; of a whole number's, that it is whole.
    """
    kind = given.type
    if column.type not in NUMBERS or not len(given) or not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return None
    values = given.combine_chunks().to_numpy(zero_copy_only=False).astype("float64", copy=False)
    ends = np.fmin.reduce(values), np.fmax.reduce(values)  # apart from gaps
    if np.isnan(values).any() if not column.nullable else np.isnan(ends[0]):
        return None
    whole = column.type == "number" or not (values > np.floor(values)).any()
    return values if whole and all(map(column.keeps, ends)) else None


def _distinct(column: pa.ChunkedArray) -> tuple[pd.Series, np.ndarray | slice]:
    """The values of a column, and which of them stands in each row: each once, where there are few."""
    if pa.types.is_primitive(column.type):  # numbers are judged faster than looked for
        return column.to_pandas(), slice(None)
    coded = column.combine_chunks()
    if not pa.types.is_dictionary(coded.type):
        coded = coded.dictionary_encode(null_encoding="mask")
    values = coded.dictionary
    if len(values) * FEW > len(coded):
        return column.cast(values.type).to_pandas(), slice(None)
    place = coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    # A gap decides the kind of column that pandas makes, so there is one only where there was one.
    gap = [pa.nulls(1, values.type)] if coded.null_count else []
    return pa.concat_arrays([values, *gap]).to_pandas(), place


def _plain(values: pd.Series, column: Column, layout: Found) -> pd.Series:
    """Cells as a table of text is read by: gaps are gaps, and numbers have a point."""
    values = values.where(~values.str.strip().isin(GAPS.difference(column.categories or ())))
    plain = column.type == "number" and not column.parse and layout.decimal == ","
    return values.str.replace(",", ".", regex=False) if plain else values


def _reasons(name: str, values: pd.Series, column: Column) -> pd.Series:
    """For each value what a row that holds it would be told."""
    rule = column.rule() + (", or missing" if column.nullable else "")
    told = values.map(lambda value: "missing" if pd.isna(value) else repr(value)[:80])
    return f"{name} = " + told.astype(object) + f": must be {rule}; "
