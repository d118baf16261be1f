"""Infer column types from values: numbers, currency, percentages, dates, codes and categories."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract import dates, parsing
from modelbook.contract.counts import count_values
from modelbook.draft.column_guess import ColumnGuess
from modelbook.errors import DataError

MAX_SAMPLED_VALUES = 20_000  # distinct values that type inference reads; ranges come from all rows
COMMON_MISSING_MARKERS = (
    "?",
    "-",
    "--",
    ".",
    "..",
    "*",
    "n.a.",
    "n/a.",
    "unknown",
    "missing",
    "not available",
    "nil",
    "#DIV/0!",
)
DATE_FORMATS = [
    "ISO8601",
    *(
        f"{day}{clock}"
        for clock in ("", " %H:%M", " %H:%M:%S")
        for day in (
            "%d/%m/%Y",
            "%m/%d/%Y",
            "%d.%m.%Y",
            "%d-%m-%Y",
            "%m-%d-%Y",
            "%Y/%m/%d",
            "%d %b %Y",
            "%d-%b-%Y",
            "%b %d, %Y",
            "%d %B %Y",
            "%B %d, %Y",
            "%d/%m/%y",
            "%m/%d/%y",
            "%d.%m.%y",
            "%d-%b-%y",
        )
    ),
]
DATE_PATTERN = re.compile(
    r"\d{1,4}[-/. ]\w{1,9}[-/. ,]+\d{1,4}([T ].*)?|[A-Z][a-z]+ \d{1,2}, \d{4}.*"
)
CODE_NAME_PATTERN = re.compile(
    r"(?i)(^|_|\b)(code|type|class|category|zip|postcode|region|channel|group|sector|cluster)$|[a-z](ID|Id)$|_id$"
)
MAX_MIXED_CATEGORIES = 20  # most distinct values of a category that mixes words and numbers
MAX_LISTED_CATEGORIES = 100  # categories that a contract lists
MIN_ROWS_PER_CATEGORY = 10  # mean rows for each category that a column with many categories needs
MIN_PROSE_WORDS = 4  # mean words from which text counts as prose
UNSEEN_CHANCE = 0.005  # estimated probability of a new category from which unseen ones are allowed


def guess_column(name: str, values: pd.Series) -> ColumnGuess:
    """Infer a column's type from its values; its role is ``feature`` or ``dropped``.

    Raises
    ------
    DataError
        When it holds infinite values, values of mixed types, or dates in two formats.
    """
    present_values = values.dropna()
    guess = ColumnGuess(
        name,
        {"role": "feature", "type": "text"},
        "",
        missing_share=1 - len(present_values) / max(len(values), 1),
    )
    guess.contract_keys["nullable"] = bool(len(present_values) < len(values))
    guess.n_distinct = int(present_values.nunique())
    if guess.n_distinct < 2:
        reason = (
            "empty"
            if not guess.n_distinct
            else f"constant: always {_shorten_value(present_values.iloc[0])}"
        )
        guess.contract_keys["type"] = "number" if present_values.dtype.kind in "fiub" else "text"
        guess.change_role("dropped", reason)
    elif present_values.dtype.kind == "m":
        guess.change_role("dropped", "durations, which models cannot use")
    elif present_values.dtype.kind == "M" or all(
        isinstance(value, date) for value in _sample_distinct(present_values)
    ):
        _guess_date(guess, present_values, "ISO8601")
    elif present_values.dtype.kind in "fiub":
        _guess_number(guess, present_values)
    else:
        _guess_text(guess, present_values)
    if guess.role == "feature":
        guess.reason += (
            f"; {_format_share(guess.missing_share)} missing" if guess.missing_share else ""
        )
    return guess


def find_missing_markers(frame: pd.DataFrame, declared_markers: list[str]) -> list[str]:
    """Return missing-value markers: declared ones, and common ones in numeric columns."""
    markers = list(declared_markers)
    for name in frame.select_dtypes(object):
        texts = _distinct_texts(
            parsing.mask_missing_markers(frame[name], declared_markers).dropna()
        )
        column_markers = [
            text for text in COMMON_MISSING_MARKERS if text in texts or text.title() in texts
        ]
        other_texts = [text for text in texts if text.lower() not in column_markers]
        if (
            column_markers
            and other_texts
            and any(_all_of_kind(other_texts, kind) for kind in ("number", "currency", "percent"))
        ):
            markers += [text for text in texts if text.lower() in column_markers]
    return list(dict.fromkeys(markers))


def suggest_bounds(low: float, high: float, is_integer: bool) -> dict[str, float]:
    """Suggest bounds: the observed range, widened by half its width on each side and rounded.

    The lower bound stays at zero when no value is negative.
    """
    if low >= 0 and high <= 1 and not is_integer:
        return {"min": 0, "max": 1}
    margin = (high - low) / 2
    if not 1e-100 < margin < 1e100 or max(abs(low), abs(high)) > 1e15 * margin:  # too narrow
        return {}
    step = 10.0 ** (math.floor(math.log10(margin)) - 1)
    if step < 1 and is_integer:
        step = 1.0
    bounds = (math.floor((low - margin) / step) * step, math.ceil((high + margin) / step) * step)
    lower, upper = (float(f"{bound:.6g}") for bound in bounds)
    if not (math.isfinite(lower) and math.isfinite(upper)) or lower > low or upper < high:
        return {}
    return {"min": 0 if low >= 0 > lower else _int_if_whole(lower), "max": _int_if_whole(upper)}


def _guess_number(guess: ColumnGuess, values: pd.Series) -> None:
    numbers = parsing.parse_numbers(
        values, guess.contract_keys.get("parse"), guess.contract_keys.get("decimal", ".")
    )
    if infinite_count := int(np.isinf(numbers).sum()):
        row = int(numbers.index[np.isinf(numbers)][0])
        raise DataError(
            f"{guess.name} holds {infinite_count:,} infinite values, the first in row {row}",
            expected="finite numbers, or missing values",
            next=_next_step(guess.name),
        )
    low, high = float(numbers.min()), float(numbers.max())
    is_integer = bool((numbers % 1 == 0).all()) and abs(low) < 2**53 and abs(high) < 2**53
    range_text = f"{_format_number(low)} to {_format_number(high)}"
    if set(numbers.unique()) == {0.0, 1.0}:
        guess.contract_keys = {
            "role": "feature",
            "type": "boolean",
            "nullable": guess.contract_keys["nullable"],
        }
        guess.reason = f"0 and 1; {numbers.mean():.0%} are 1"
    elif (
        is_integer
        and CODE_NAME_PATTERN.search(guess.name)
        and guess.n_distinct
        <= max(MAX_MIXED_CATEGORIES, len(values) / MIN_ROWS_PER_CATEGORY / 2, 50)
    ):
        _guess_category(guess, values, "numbers that are codes, by the column's name")
    else:
        guess.contract_keys |= {
            "type": "integer" if is_integer else "number",
            **suggest_bounds(low, high, is_integer),
        }
        guess.reason = (
            f"{guess.reason or ('whole numbers' if is_integer else 'numbers')}, {range_text}"
        )


def _guess_text(guess: ColumnGuess, values: pd.Series) -> None:
    texts = _distinct_texts(values)
    if all(isinstance(value, bool | np.bool_) for value in values.unique()):
        return _guess_number(guess, values.astype(bool))
    for kind, reason in (
        ("number", ""),
        ("percent", "percentages as text"),
        ("currency", "amounts of money as text"),
    ):
        if _all_of_kind(texts, kind):
            parse_keys = (
                {}
                if kind == "number"
                else {"parse": kind}
                | ({"decimal": ","} if _uses_decimal_comma(texts, kind) else {})
            )
            guess.contract_keys, guess.reason = (
                guess.contract_keys | {"type": "number"} | parse_keys,
                reason,
            )
            return _guess_number(guess, values)
    date_count = sum(bool(DATE_PATTERN.fullmatch(text)) for text in texts)
    if date_count > len(texts) / 2:
        return _guess_date(guess, values, _find_date_format(guess.name, texts))
    numeric_count = sum(_all_of_kind([text], "number") for text in texts)
    if guess.n_distinct > MAX_MIXED_CATEGORIES and numeric_count > len(texts) / 2:
        non_numeric_texts = [text for text in texts if not _all_of_kind([text], "number")]
        rows = values.index[values.astype(str).str.strip() == non_numeric_texts[0]]
        raise DataError(
            (
                f"{guess.name} holds numbers and other text: "
                f"{', '.join(map(repr, non_numeric_texts[:3]))}"
            )
            + (f", the first in row {rows[0]}" if len(rows) else ""),
            expected="values of one type",
            next=_next_step(guess.name, non_numeric_texts[0]),
        )
    _guess_words(guess, values, texts)


def _guess_words(guess: ColumnGuess, values: pd.Series, texts: list[str]) -> None:
    mean_words = float(np.mean([text.count(" ") + 1 for text in texts[:1000]]))
    example = f"such as {_shorten_value(texts[0])}"
    if guess.n_distinct > MAX_MIXED_CATEGORIES and mean_words >= MIN_PROSE_WORDS:
        guess.change_role(
            "dropped",
            f"free text of {mean_words:.0f} words on average, {example}; models cannot use it",
        )
    elif guess.n_distinct == len(values) and not guess.missing_share:
        guess.change_role("id", f"a different text in each row, {example}")
    elif (
        guess.n_distinct > MAX_LISTED_CATEGORIES
        and len(values) / guess.n_distinct < MIN_ROWS_PER_CATEGORY
    ):
        rows_per_category = len(values) / guess.n_distinct
        guess.change_role(
            "dropped",
            (
                f"{guess.n_distinct:,} categories of {rows_per_category:.1f} rows each: too few "
                "to learn from"
            ),
        )
    else:
        _guess_category(guess, values, "words")


def _guess_category(guess: ColumnGuess, values: pd.Series, reason: str) -> None:
    counts = count_values(parsing.normalize_texts(values))
    singleton_count = int((counts == 1).sum())
    guess.contract_keys |= {"type": "category"}
    guess.reason = f"{reason}, {len(counts)} distinct"
    if len(counts) <= MAX_LISTED_CATEGORIES:
        guess.contract_keys["categories"] = sorted(counts.index, key=_numeric_sort_key)
    # Good-Turing estimate (Good, 1953): the share of values that occur once estimates the
    # probability that the next value is new.
    if len(counts) > MAX_LISTED_CATEGORIES or singleton_count / len(values) > UNSEEN_CHANCE:
        guess.contract_keys["unseen"] = True
        guess.reason += (
            f"; {singleton_count} occur once, so new ones are likely"
            if singleton_count
            else ", too many to list"
        )


def _guess_date(guess: ColumnGuess, values: pd.Series, date_format: str) -> None:
    timestamps = dates.parse_timestamps(values, date_format)
    part_names: list[str] = ["days"]
    part_names += [
        part
        for part in ("month", "weekday")
        if dates.extract_date_part(timestamps, part).nunique() > 1
    ]
    if timestamps.dt.hour.nunique() > 1:
        part_names.append("hour")
    guess.contract_keys |= {"type": "date", "format": date_format, "parts": part_names}
    guess.reason = (
        f"dates as {date_format}, {timestamps.min():%Y-%m-%d} to {timestamps.max():%Y-%m-%d}"
    )


def _find_date_format(name: str, texts: list[str]) -> str:
    """Return the format that parses all dates.

    Raises
    ------
    DataError
        When no format does.
    """
    series = pd.Series(texts, dtype=object)
    is_parsed_by_format = {
        date_format: dates.parse_timestamps(series, date_format).notna()
        for date_format in DATE_FORMATS
    }
    for date_format, is_parsed in is_parsed_by_format.items():
        if is_parsed.all():
            return date_format
    best_format = max(
        is_parsed_by_format, key=lambda date_format: int(is_parsed_by_format[date_format].sum())
    )
    unparsed_texts = series[~is_parsed_by_format[best_format]]
    second_format = max(
        is_parsed_by_format,
        key=lambda date_format: int(is_parsed_by_format[date_format][unparsed_texts.index].sum()),
    )
    second_example = (
        (
            f", and {second_format}, as "
            f"{unparsed_texts[is_parsed_by_format[second_format][unparsed_texts.index]].iloc[0]!r}"
        )
        if is_parsed_by_format[second_format][unparsed_texts.index].any()
        else ""
    )
    first_example = (
        series[is_parsed_by_format[best_format]].iloc[0]
        if is_parsed_by_format[best_format].any()
        else ""
    )
    raise DataError(
        (
            f"{name} holds dates as {best_format}, as "
            f"{first_example!r}{second_example or f', and not as {unparsed_texts.iloc[0]!r}'}"
        ),
        expected="dates in one format",
        next=_next_step(name),
    )


def _all_of_kind(texts: list[str], kind: str) -> bool:
    """Return whether all texts are numbers, percentages (with a % sign) or currency amounts."""
    if kind == "number":
        return bool(parsing.parse_numbers(pd.Series(texts, dtype=object)).notna().all())
    if kind == "percent" and not any("%" in text for text in texts):
        return False
    series = pd.Series(texts, dtype=object)
    return any(parsing.parse_numbers(series, kind, mark).notna().all() for mark in (".", ","))  # type: ignore[arg-type]


def _uses_decimal_comma(texts: list[str], kind: Any) -> bool:
    return not parsing.parse_numbers(pd.Series(texts, dtype=object), kind, ".").notna().all()


def _distinct_texts(values: pd.Series) -> list[str]:
    return [text for value in _sample_distinct(values) if (text := str(value).strip())]


def _sample_distinct(values: pd.Series) -> np.ndarray:
    """Return the distinct values, or a sample of them when there are many."""
    distinct_values = pd.unique(values)
    return (
        distinct_values
        if len(distinct_values) <= MAX_SAMPLED_VALUES
        else np.random.default_rng(0).choice(distinct_values, MAX_SAMPLED_VALUES, replace=False)
    )


def _next_step(name: str, example: str = "") -> str:
    missing_hint = f", or mark the text as missing (--missing {example!r})" if example else ""
    return f"correct the table{missing_hint}, or drop the column (--drop {name!r})"


def _numeric_sort_key(text: str) -> tuple[float, str]:
    try:
        number = float(text)
    except ValueError:
        return math.inf, text
    return (number if math.isfinite(number) else math.inf), text


def _format_share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def _int_if_whole(number: float) -> float:
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _format_number(number: float) -> str:
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"


def _shorten_value(value: Any) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 30 else f"{text[:27]}...")
