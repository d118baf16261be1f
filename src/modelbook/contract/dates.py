"""Dates: parse them by a format, assign periods, and extract date parts as numeric features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modelbook.contract.parsing import mask_out_of_range_timestamps

if TYPE_CHECKING:
    import pandas as pd  # not at run time: the service image reads contracts without pandas

DatePart = Literal["days", "year", "month", "day", "weekday", "hour"]
PeriodUnit = Literal["year", "month", "day"]

DEFAULT_DATE_PARTS: tuple[DatePart, ...] = ("days", "month", "weekday")
DATE_PART_MEANINGS: dict[DatePart, str] = {
    "days": "days since 1 January 1970",
    "year": "year",
    "month": "month, 1 to 12",
    "day": "day of the month, 1 to 31",
    "weekday": "day of the week, 0 Monday to 6 Sunday",
    "hour": "hour of the day, 0 to 23",
}
ISO_FORMAT = "ISO8601"
QUARTER_FORMAT = "quarter"  # 2024Q1, 2024-Q1, Q1 2024: the first day of the quarter
QUARTER_TEXT = re.compile(r"(\d{4})[- ]?[Qq]([1-4])|[Qq]([1-4])[- /]?(\d{4})")
WEEK_FORMAT = "week"  # 2024-W05: the Monday of the week of ISO 8601
WEEK_TEXT = re.compile(r"(\d{4})[- ]?W(\d{1,2})")
PERIOD_DIGITS = {"year": 4, "month": 6, "day": 8}


def find_format_error(date_format: str) -> str:
    """Return why no text can be parsed by a format; empty if texts can be."""
    if date_format in (ISO_FORMAT, *_START_FINDERS):
        return ""
    example = datetime(2024, 1, 29, 13, 45, tzinfo=UTC).strftime(date_format)
    try:
        datetime.strptime(example, date_format)
    except ValueError as error:
        return str(error)
    return ""


def parse_timestamps(values: pd.Series, date_format: str) -> pd.Series:
    """Parse values as UTC timestamps without a time zone; NaT for missing or unparsable values.

    Parameters
    ----------
    date_format : str
        A ``strptime`` format, ``ISO8601``, ``quarter`` or ``week``. Integers such as 20210304 are
        read by their digits; values that are dates already are kept.
    """
    import pandas as pd

    if values.dtype.kind == "M":
        return _to_naive_utc(values)
    if values.empty:  # pandas maps no values to float
        return values.astype("datetime64[ns]")
    distinct_values = values.unique()
    texts = pd.Series([_to_date_text(value) for value in distinct_values], dtype=object)
    if (find_start := _START_FINDERS.get(date_format)) is not None:
        texts = texts.map(find_start, na_action="ignore")
        date_format = ISO_FORMAT
    timestamps = _to_naive_utc(pd.to_datetime(texts, format=date_format, errors="coerce", utc=True))
    # Values that are dates already become ISO 8601 texts, whatever the format is.
    is_date = pd.Series([isinstance(value, date) for value in distinct_values], dtype=bool)
    if is_date.any():
        parsed = pd.to_datetime(texts.where(is_date), format=ISO_FORMAT, errors="coerce", utc=True)
        timestamps = timestamps.where(~is_date, _to_naive_utc(parsed))
    timestamps.index = pd.Index(distinct_values, dtype=object)  # None and NaN are different keys
    return values.map(timestamps).astype("datetime64[ns]")


def is_plausible_format(texts: Sequence[str], date_format: str) -> bool:
    """Check whether a format fits any of a few texts; a tenth of ``parse_timestamps``'s time."""
    import pandas as pd

    cells = np.array([text.strip() for text in texts], dtype=object)
    if (find_start := _START_FINDERS.get(date_format)) is not None:
        return any(map(find_start, cells))
    return bool(pd.to_datetime(cells, format=date_format, errors="coerce", utc=True).notna().any())


def _to_naive_utc(timestamps: pd.Series) -> pd.Series:
    """Timestamps in UTC as nanoseconds without a time zone; NaT beyond their range."""
    timestamps = mask_out_of_range_timestamps(timestamps)
    if timestamps.dt.tz is None:
        return timestamps
    return timestamps.dt.tz_convert("UTC").dt.tz_localize(None)


def parse_periods(values: pd.Series, date_format: str, period: PeriodUnit) -> pd.Series:
    """Return the period of each date as a sortable number, such as 2021, 202103 or 20210304.

    Values that are not dates become NaN. Numbers with as many digits as the period are periods
    already, and are kept.
    """
    import pandas as pd

    numbers = (
        pd.to_numeric(values, errors="coerce")
        if values.dtype.kind in "fiu"
        else pd.Series(np.nan, values.index)
    )
    smallest_period = 10 ** (PERIOD_DIGITS[period] - 1)
    is_period = numbers.between(smallest_period, 10 * smallest_period - 1)
    date_fields = parse_timestamps(values.where(~is_period, np.nan), date_format).dt
    periods = date_fields.year.astype("float64")
    for field in {
        "year": [],
        "month": [date_fields.month],
        "day": [date_fields.month, date_fields.day],
    }[period]:
        periods = periods * 100 + field
    return periods.where(~is_period, numbers)


def extract_date_part(timestamps: pd.Series, name: DatePart) -> pd.Series:
    """Extract one part of each timestamp as float64; NaN for a missing value."""
    import pandas as pd

    if name == "days":
        return (timestamps - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    return getattr(timestamps.dt, name).astype("float64")


@lru_cache(maxsize=20_000)  # requests repeat the same few dates
def parse_date(
    value: str | float, date_format: str, unit_or_parts: PeriodUnit | tuple[DatePart, ...]
) -> Any:
    """Parse one date to its period (int) or its parts (tuple of float); None when unparsable."""
    import pandas as pd

    values = pd.Series([value])
    if isinstance(unit_or_parts, str):
        period = parse_periods(values, date_format, unit_or_parts)[0]
        return None if np.isnan(period) else int(period)
    timestamps = parse_timestamps(values, date_format)
    if timestamps.isna()[0]:
        return None
    return tuple(float(extract_date_part(timestamps, name)[0]) for name in unit_or_parts)


def format_date(timestamp: pd.Timestamp, date_format: str) -> str:
    """Write a timestamp as ``parse_timestamps`` reads it."""
    if date_format == QUARTER_FORMAT:
        return f"{timestamp.year}Q{timestamp.quarter}"
    if date_format == WEEK_FORMAT:
        year, week, _ = timestamp.isocalendar()
        return f"{year}-W{week:02d}"
    return timestamp.isoformat() if date_format == ISO_FORMAT else timestamp.strftime(date_format)


def _find_quarter_start(text: str) -> str | None:
    match = QUARTER_TEXT.fullmatch(text)
    if not match:
        return None
    year, quarter = (match[1], match[2]) if match[1] else (match[4], match[3])
    return f"{year}-{3 * int(quarter) - 2:02d}-01"


def _find_week_start(text: str) -> str | None:
    match = WEEK_TEXT.fullmatch(text)
    try:
        return date.fromisocalendar(int(match[1]), int(match[2]), 1).isoformat() if match else None
    except ValueError:  # a week 53 that the year does not have
        return None


_START_FINDERS = {QUARTER_FORMAT: _find_quarter_start, WEEK_FORMAT: _find_week_start}


def _to_date_text(value: Any) -> Any:
    import pandas as pd

    if isinstance(value, int | float | np.number):
        return str(int(value)) if np.isfinite(value) and float(value).is_integer() else None
    return None if pd.isna(value) else str(value).strip()
