"""How values are written in tables: one number of decimals a column, thousands parted, gaps as a dash."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Format = str | Callable[[Any], str]

MISSING = "–"


def formatters(frame: pd.DataFrame, formats: Mapping[str, Format]) -> list[Callable[[Any], str]]:
    """A function from value to text for each column, in order."""
    return [_formatter(frame.iloc[:, i], formats.get(name)) for i, name in enumerate(frame.columns)]


def is_numeric(column: pd.Series) -> bool:
    """Whether a column lines up on the right: nothing but numbers and gaps."""
    values = [value for value in column if not is_missing(value)]
    return bool(values) and all(_is_number(value) for value in values)


def is_missing(value: Any) -> bool:
    """None, NaN, NaT or NA."""
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def decimals(largest: float) -> int:
    """Decimals that leave a column about three figures, given its largest value."""
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3


def write(value: Any, places: int = 3) -> str:
    """One value as text."""
    if is_missing(value):
        return MISSING
    if not _is_number(value):
        return _other(value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    number = float(value)
    if number and (round(number, places) == 0 or abs(number) >= 1e15):
        return f"{number:.2g}"  # 0.000 would say that there is nothing
    return f"{number:,.{places}f}"


def counting(value: Any) -> tuple[float, str]:
    """As people count: 2 before 11."""
    text = str(value)
    return (float(text), text) if text.replace(".", "", 1).lstrip("-").isdecimal() else (float("inf"), text)


def _formatter(column: pd.Series, given: Format | None) -> Callable[[Any], str]:
    if given is not None:
        text = given if callable(given) else lambda value: format(value, given)
        return lambda value: MISSING if is_missing(value) else str(text(value))
    values = [abs(float(value)) for value in column if not is_missing(value) and _is_number(value)]
    finite = [value for value in values if value != float("inf")]
    if column.isna().any() and all(value.is_integer() for value in finite):
        return lambda value: write(value, 0)  # whole numbers that a gap turned into floats
    places = decimals(max(finite, default=0.0))
    return lambda value: write(value, places)


def _is_number(value: Any) -> bool:
    # numpy's bool is no Number and pandas' NA was dealt with before
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _other(value: Any) -> str:
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")
    return value.isoformat() if isinstance(value, date) else str(value)
