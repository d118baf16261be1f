"""Format table values: decimals by column, thousands separators, missing values as a dash."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Format = str | Callable[[Any], str]

MISSING = "–"


def column_formatters(
    frame: pd.DataFrame, formats: Mapping[str, Format]
) -> list[Callable[[Any], str]]:
    """Return a formatter for each column, in order."""
    return [
        _column_formatter(frame.iloc[:, i], formats.get(name))
        for i, name in enumerate(frame.columns)
    ]


def is_numeric(column: pd.Series) -> bool:
    """Return whether a column holds only numbers and missing values, to align it right."""
    values = [value for value in column if not is_missing(value)]
    return bool(values) and all(_is_number(value) for value in values)


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or NA."""
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def choose_decimals(largest: float) -> int:
    """Choose decimals for about three significant digits, given a column's largest value."""
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3


def format_value(value: Any, decimals: int = 3) -> str:
    """Format one value as text."""
    if is_missing(value):
        return MISSING
    if not _is_number(value):
        return _format_non_number(value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    number = float(value)
    if number and (round(number, decimals) == 0 or abs(number) >= 1e15):
        return f"{number:.2g}"  # 0.000 would read as zero
    return f"{number:,.{decimals}f}"


def natural_sort_key(value: Any) -> tuple[float, str]:
    """Return a key that sorts numbers in texts by value: 2 before 11."""
    text = str(value)
    return (
        (float(text), text)
        if text.replace(".", "", 1).lstrip("-").isdecimal()
        else (float("inf"), text)
    )


def _column_formatter(column: pd.Series, format_spec: Format | None) -> Callable[[Any], str]:
    if format_spec is not None:
        format_text = (
            format_spec if callable(format_spec) else lambda value: format(value, format_spec)
        )
        return lambda value: MISSING if is_missing(value) else str(format_text(value))
    values = [abs(float(value)) for value in column if not is_missing(value) and _is_number(value)]
    finite = [value for value in values if value != float("inf")]
    if column.isna().any() and all(value.is_integer() for value in finite):
        return lambda value: format_value(value, 0)  # integers, float because of missing values
    decimals = choose_decimals(max(finite, default=0.0))
    return lambda value: format_value(value, decimals)


def _is_number(value: Any) -> bool:
    # numpy's bool is not a Real, and pandas' NA is handled earlier
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _format_non_number(value: Any) -> str:
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")
    return value.isoformat() if isinstance(value, date) else str(value)


def format_cell(value: Any) -> str:
    """Format a value: floats with four decimals, missing values as a dash."""
    if value is None or value == "":
        return MISSING
    return (
        f"{value:.4f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def format_difference(value: float) -> str:
    """Format a difference with its sign."""
    if float(value).is_integer():
        return f"{value:+,.0f}"
    return f"{value:+.4f}".rstrip("0") if abs(value) >= 0.0001 else f"{value:+.0e}"
