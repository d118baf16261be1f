"""Dates: read by one format, cut into periods, and told to a model as numbers."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # a service reads contracts without it

Part = Literal["days", "year", "month", "day", "weekday", "hour"]
Period = Literal["year", "month", "day"]

PARTS: tuple[Part, ...] = ("days", "month", "weekday")  # of a date feature that names none
LARGEST: dict[Part, tuple[int, int]] = {"month": (1, 12), "day": (1, 31), "weekday": (0, 6), "hour": (0, 23)}
MEANINGS: dict[Part, str] = {
    "days": "days since 1 January 1970", "year": "year", "month": "month, 1 to 12", "day": "day of the month, 1 to 31",
    "weekday": "day of the week, 0 Monday to 6 Sunday", "hour": "hour of the day, 0 to 23",
}  # fmt: skip
DIGITS = {"year": 4, "month": 6, "day": 8}


def moments(values: pd.Series, format: str) -> pd.Series:
    """Values as moments in UTC without a zone; NaT where there is a gap, or something the format does not read.

    Parameters
    ----------
    format : str
        As ``strptime`` reads it, or ``ISO8601``. Whole numbers such as 20210304 are read by their digits; values that
        are dates already stay what they are.
    """
    import pandas as pd

    if values.dtype.kind == "M":
        return (values.dt.tz_convert("UTC").dt.tz_localize(None) if values.dt.tz else values).astype("datetime64[ns]")
    known = values.unique()
    texts = pd.Series([_written(value) for value in known], dtype=object)
    read = pd.to_datetime(texts, format=format, errors="coerce", utc=True).dt.tz_localize(None).astype("datetime64[ns]")
    # Values that are dates already are written as ISO 8601 whatever the format is.
    dates = pd.Series([isinstance(value, date) for value in known], dtype=bool)
    if dates.any():
        iso = pd.to_datetime(texts[dates], format="ISO8601", errors="coerce", utc=True)
        read[dates] = iso.dt.tz_localize(None).astype("datetime64[ns]")
    return values.map(dict(zip(known, read, strict=True))).astype("datetime64[ns]")


def periods(values: pd.Series, format: str, period: Period) -> pd.Series:
    """The period of each moment as a number that sorts: 2021, 202103 or 20210304; NaN for what is no date.

    A number with as many digits as the period's is that period already.
    """
    import pandas as pd

    given = pd.to_numeric(values, errors="coerce") if values.dtype.kind in "fiu" else pd.Series(np.nan, values.index)
    low = 10 ** (DIGITS[period] - 1)
    ready = given.between(low, 10 * low - 1)
    at = moments(values.where(~ready, np.nan), format).dt
    number = at.year.astype("float64")
    for more in {"year": [], "month": [at.month], "day": [at.month, at.day]}[period]:
        number = number * 100 + more
    return number.where(~ready, given)


def part(at: pd.Series, name: Part) -> pd.Series:
    """A part of each moment as float64; NaN for a gap."""
    import pandas as pd

    if name == "days":
        return (at - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    return getattr(at.dt, name).astype("float64")


@lru_cache(maxsize=20_000)  # the days that requests name are few
def one(value: str | float, format: str, wanted: Period | tuple[Part, ...]) -> Any:
    """One date as its period, int, or as its parts, a tuple of floats; None for what the format does not read."""
    import pandas as pd

    given = pd.Series([value])
    if isinstance(wanted, str):
        period = periods(given, format, wanted)[0]
        return None if np.isnan(period) else int(period)
    at = moments(given, format)
    return None if at.isna()[0] else tuple(float(part(at, name)[0]) for name in wanted)


def _written(value: Any) -> Any:
    import pandas as pd

    if isinstance(value, int | float | np.number):
        return str(int(value)) if np.isfinite(value) and float(value).is_integer() else None
    return None if pd.isna(value) else str(value).strip()
