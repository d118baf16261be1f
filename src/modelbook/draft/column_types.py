"""Infer column types from values: numbers, currency, percentages, dates, codes and categories."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract import dates, parsing
from modelbook.contract.counts import count_values
from modelbook.draft.column_guess import ColumnGuess
from modelbook.formatting import format_count, format_share, natural_sort_key

MAX_SAMPLED_VALUES = 20_000  # distinct values that type inference reads; ranges come from all rows
COMMON_MISSING_MARKERS = (
    "?", "-", "--", ".", "..", "*", "n.a.", "n/a.", "unknown", "missing", "not available", "nil",
    "#div/0!",
)  # fmt: skip
TIME_SUFFIXES = (
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S UTC",
    " %H:%M:%S.%f UTC",
)  # fmt: skip
DAY_FORMATS = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y/%m/%d", "%Y%m%d",
    "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y", "%B %d %Y",
    "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%b-%y",
)  # fmt: skip
WEEKDAY_FORMATS = (
    "%a, %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y", "%A, %d %B %Y", "%A, %B %d, %Y",
    "%a %b %d %H:%M:%S %Y",
)  # fmt: skip
MONTH_FORMATS = (
    "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%m/%Y", "%Y/%m", "%YM%m", "%m.%Y", dates.QUARTER_FORMAT,
    dates.WEEK_FORMAT,
)  # fmt: skip
TIME_FORMATS = ("%H:%M", "%H:%M:%S", "%I:%M %p")  # only the hour is a feature
DATE_FORMATS = [
    "ISO8601", *(f"{day}{suffix}" for suffix in TIME_SUFFIXES for day in DAY_FORMATS),
    *WEEKDAY_FORMATS, *MONTH_FORMATS, *TIME_FORMATS,
]  # fmt: skip
MONTH_NAME = (
    r"(Jan(uary)?|Feb(ruary)?|Mar(ch)?|Apr(il)?|May|June?|July?|Aug(ust)?|Sep(tember)?|Oct(ober)?"
    r"|Nov(ember)?|Dec(ember)?)"
)
DATE_PATTERN = re.compile(
    rf"\d{{1,4}}[-/. ]\w{{1,9}}[-/. ,]+\d{{1,4}}([T ].*)?|{MONTH_NAME} \d{{1,2}},? \d{{4}}.*"
    rf"|\d{{4}}-\d{{2}}|{MONTH_NAME}[ -]\d{{2,4}}|\d{{1,2}}/\d{{4}}"
    r"|\d{4}[/M](0[1-9]|1[0-2])|(0[1-9]|1[0-2])\.(19|20)\d\d|\d{4}[- ]?W\d{1,2}"
    r"|(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? [\w, :]+\d{4}( \d\d:\d\d:\d\d GMT)?"
    r"|(\d{4}[- ]?[Qq][1-4]|[Qq][1-4][- /]?\d{4})"
)
TIME_PATTERN = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?|(0?\d|1[0-2]):[0-5]\d [AaPp][Mm]")
SEASON_PATTERN = re.compile(r"\d\d(\d\d)/(\d\d)")  # e.g. 2010/11, which is not a month
SENTINEL_DATE_PATTERN = re.compile(
    r"0{4}[-/.]?00[-/.]?00.*|9999[-/.]?\d\d[-/.]?\d\d.*|(31|12)/(12|31)/9999.*"
)
FIRST_DAY, LAST_DAY = 19000101, 21001231  # range of dates that are written as numbers
CODE_NAME_PATTERN = re.compile(
    r"(?i)(^|_|\b)(code|type|class|category|zip|zip_?code|post_?code|postal_?code|plz|region|"
    r"channel|group|sector|cluster)$|[a-z](ID|Id)$|_id$"
)
DIGITS = re.compile(r"[0-9]+")  # str.isdigit also accepts ² and ١
LEADING_ZERO = re.compile(r"0[0-9]+")
CURRENCY = re.compile(r"[$£¥€₹₽₩₺₴₪฿₫₱]|\b[A-Z]{3}\b")
LONG_NUMBER = re.compile(r"[-+]?\d{16,}")  # more digits than a float holds
TEXT_FORMATS: dict[parsing.NumberFormat, str] = {
    "percent": "percentages as text",
    "currency": "amounts of money as text",
    "bound": "numbers with < or > (censored values)",
    "unit": "numbers with a unit",
    "range": "ranges, read as their midpoint",
}
DECIMAL_MARKS: tuple[parsing.DecimalMark, ...] = (".", ",")
# Formats that are tried before dates, which never match them.
FORMATS_BEFORE_DATES: tuple[parsing.NumberFormat, ...] = ("percent", "currency")
MAX_UNPARSED_SHARE = 0.05  # share of rows whose text is no number, in a column of numbers
MAX_UNPARSED_WORD_SHARE = 0.2  # the same for words without digits, such as ND
MAX_UNPARSED_TEXTS = 20  # distinct texts that are no numbers, in a column of numbers
MAX_CERTAIN_CATEGORIES = 20  # distinct texts up to which codes and long texts are a category
MAX_CODES = 50  # distinct numbers up to which a column named like a code is a category
MAX_LISTED_CATEGORIES = 100  # categories that a contract lists
MIN_ROWS_PER_CATEGORY = 10  # mean rows for each category that a column with many categories needs
MIN_PROSE_WORDS = 4  # mean words at which text counts as prose
MIN_TITLE_WORDS = 2  # mean words at which unique texts are names or titles, and not ids
NEW_CATEGORY_PROBABILITY = 0.005  # estimated probability above which the reason mentions new ones


def guess_column(
    name: str,
    values: pd.Series,
    *,
    decimal: parsing.DecimalMark | None = None,
    day_first: bool | None = None,
) -> ColumnGuess:
    """Infer a column's type from its values; its role becomes ``feature``, ``id`` or ``dropped``.

    A column that cannot be a feature is dropped with a reason, and a question if the decision may
    be wrong. Unique single words are an ``id``. A column of texts that are too many for categories
    stays a feature of type ``text``, for the draft to decide.

    Parameters
    ----------
    decimal : {".", ","}, optional
        Decimal mark of the file's numbers.
    day_first : bool, optional
        How to read dates such as 01/02/2024; None: by the values.
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
        guess.change_role("dropped", "durations, which are not supported")
    elif present_values.dtype.kind == "M" or all(
        isinstance(value, date) for value in _sample_distinct(present_values)
    ):
        _guess_date(guess, present_values, "ISO8601")
    elif present_values.dtype.kind in "fiub":
        if _holds_days(present_values):
            _guess_date(guess, present_values, "%Y%m%d")
        else:
            _guess_number(guess, present_values)
    else:
        _guess_text(guess, present_values, decimal, day_first)
    if guess.role == "feature" and guess.missing_share:
        guess.reason += f"; {format_share(guess.missing_share, 1)} missing"
    return guess


def count_words(values: Sequence[Any]) -> float:
    """Return the mean number of words of up to 1,000 values."""
    return float(np.mean([str(value).strip().count(" ") + 1 for value in values[:1000]]))


def find_case_variants(values: pd.Series) -> dict[str, str]:
    """Map case variants to the most frequent form, such as YES to yes.

    If all variants have one or two letters, none is replaced: AA and Aa may be codes.
    """
    if not parsing.may_contain_text(values):
        return {}
    counts = count_values(parsing.normalize_texts(values.dropna()))
    if len(counts) > MAX_LISTED_CATEGORIES:
        return {}
    most_frequent: dict[str, str] = {}
    replacements = {}
    for word in map(str, counts.index):
        if word in (word.lower(), word.upper(), word.capitalize(), word.title()):
            spelling = most_frequent.setdefault(word.casefold(), word)
            if spelling != word:
                replacements[word] = spelling
    return replacements if any(sum(map(str.isalpha, word)) > 2 for word in replacements) else {}


def replace_values(values: pd.Series, replacements: Mapping[str, str]) -> pd.Series:
    """Replace texts by others, such as case variants by their most frequent form."""
    if not replacements:
        return values
    texts = parsing.normalize_texts(values)
    return values.mask(texts.isin([*replacements]), texts.map(replacements))


def find_missing_markers(frame: pd.DataFrame, declared_markers: list[str]) -> list[str]:
    """Return missing-value markers: declared ones, and common ones in numeric columns."""
    markers = list(declared_markers)
    for name in filter(lambda name: parsing.may_contain_text(frame[name]), frame):
        values = parsing.mask_missing_markers(frame[name], declared_markers)
        texts = _list_distinct_texts(values.dropna())
        column_markers = [text for text in texts if text.lower() in COMMON_MISSING_MARKERS]
        other_texts = [text for text in texts if text not in column_markers]
        formats: tuple[parsing.NumberFormat, ...] = ("number", *FORMATS_BEFORE_DATES)
        is_numeric = bool(other_texts) and any(
            _are_numbers(other_texts, number_format, mark)
            for number_format in formats
            for mark in DECIMAL_MARKS
        )
        if is_numeric:
            markers += column_markers
    return list(dict.fromkeys(markers))


def suggest_bounds(low: float, high: float, is_integer: bool) -> dict[str, float]:
    """Suggest bounds: the observed range, widened by half its width on each side and rounded.

    Numbers from 0 to 1 get the bounds 0 and 1, and a range without negative values no negative
    bound. A range that is too narrow for its numbers gets no bounds.
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


def _holds_days(numbers: pd.Series) -> bool:
    """Whether numbers such as 20230105 are days."""
    if numbers.dtype.kind not in "if" or not numbers.between(FIRST_DAY, LAST_DAY).all():
        return False
    return bool(
        (numbers % 1 == 0).all() and dates.parse_timestamps(numbers, "%Y%m%d").notna().all()
    )


def _guess_number(guess: ColumnGuess, values: pd.Series) -> None:
    numbers = parsing.parse_numbers(
        values, guess.contract_keys.get("number_format"), guess.contract_keys.get("decimal", ".")
    )
    if infinite_count := int(np.isinf(numbers).sum()):
        row = int(numbers.index[np.isinf(numbers)][0])
        guess.contract_keys["type"] = "text"
        guess.change_role(
            "dropped", f"{format_count(infinite_count, 'infinite value')}, the first in row {row}"
        )
        guess.add_question("infinite", count=infinite_count, row=row)
        return
    low, high = float(numbers.min()), float(numbers.max())
    if values.dtype.kind in "iu" and max(abs(low), abs(high)) >= 2**53:
        texts = values.astype(str)
        return _guess_words(guess, texts, _list_distinct_texts(texts))
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
        and guess.n_distinct <= max(MAX_CODES, len(values) / MIN_ROWS_PER_CATEGORY / 2)
    ):
        _guess_category(guess, values, "integer codes, judging by the column name")
    else:
        guess.contract_keys |= {
            "type": "integer" if is_integer else "number",
            **suggest_bounds(low, high, is_integer),
        }
        guess.reason = (
            f"{guess.reason or ('whole numbers' if is_integer else 'numbers')}, {range_text}"
        )


def _guess_text(
    guess: ColumnGuess,
    values: pd.Series,
    decimal: parsing.DecimalMark | None,
    day_first: bool | None,
) -> None:
    if all(isinstance(value, bool | np.bool_) for value in values.unique()):
        _guess_number(guess, values.astype(bool))
        return
    texts = _list_distinct_texts(values)
    date_texts = [text for text in texts if DATE_PATTERN.fullmatch(text)]
    if all(map(DIGITS.fullmatch, texts)) and _holds_days(pd.to_numeric(pd.Series(texts))):
        _guess_date(guess, values, "%Y%m%d")
    elif all(map(DIGITS.fullmatch, texts)) and any(map(LEADING_ZERO.fullmatch, texts)):
        if guess.n_distinct > MAX_LISTED_CATEGORIES:
            _guess_words(guess, values, texts)
        else:
            _guess_category(guess, values, "codes with leading zeros")
    elif _are_dotted_months(texts) or all(map(TIME_PATTERN.fullmatch, texts)):
        _guess_date_text(guess, values, texts, day_first)
    elif _guess_numeric_text(guess, values, texts, decimal, FORMATS_BEFORE_DATES):
        return
    elif len(date_texts) > len(texts) / 2 and not _are_seasons(texts):
        _guess_date_text(guess, values, texts, day_first)
    elif not (
        _guess_numeric_text(guess, values, texts, decimal)
        or _guess_numbers_with_unparsed_texts(guess, values, texts, decimal)
    ):
        _guess_words_or_codes(guess, values, texts)


def _are_dotted_months(texts: list[str]) -> bool:
    """Whether texts such as 03.2024 are months, and not numbers of four decimals."""
    return all(re.fullmatch(r"(0[1-9]|1[0-2])\.(19|20)\d\d", text) for text in texts)


def _are_seasons(texts: list[str]) -> bool:
    """Whether texts such as 2010/11 name two years that follow each other."""
    matches = [SEASON_PATTERN.fullmatch(text) for text in texts]
    return all(match and int(match[2]) == (int(match[1]) + 1) % 100 for match in matches)


def _guess_numbers_with_unparsed_texts(
    guess: ColumnGuess, values: pd.Series, texts: list[str], decimal: parsing.DecimalMark | None
) -> bool:
    """Treat a column as numeric if few of its texts are no numbers; these become missing values."""
    is_numeric, unparsed_texts = _split_unparsed_texts(values, texts)
    if not unparsed_texts:
        return False
    numeric_texts = _list_distinct_texts(values[is_numeric])
    if not _guess_numeric_text(guess, values[is_numeric], numeric_texts, decimal):
        return False
    guess.missing_markers = unparsed_texts
    guess.contract_keys["nullable"] = True
    guess.add_question(
        "unparsed_texts",
        count=int((~is_numeric).sum()),
        examples=", ".join(map(_shorten_value, unparsed_texts[:4])),
    )
    return True


def _guess_words_or_codes(guess: ColumnGuess, values: pd.Series, texts: list[str]) -> None:
    n_numeric = sum(bool(parsing.FLOAT_TEXT.fullmatch(text)) for text in texts)
    has_only_long_numbers = n_numeric == len(texts)  # more digits than a float holds
    if (
        has_only_long_numbers
        or guess.n_distinct <= MAX_CERTAIN_CATEGORIES
        or n_numeric <= len(texts) / 2
    ):
        _guess_words(guess, values, texts)
        return
    examples = [text for text in texts if not parsing.FLOAT_TEXT.fullmatch(text)][:3]
    examples_text = ", ".join(map(_shorten_value, examples))
    guess.reason = f"codes of digits and letters, such as {examples_text}"
    if guess.n_distinct == len(values):  # they name the row, and may number it
        guess.change_role("dropped", guess.reason)
        guess.add_question("codes", examples=examples_text)


def _guess_numeric_text(
    guess: ColumnGuess,
    values: pd.Series,
    texts: list[str],
    decimal: parsing.DecimalMark | None,
    formats: Sequence[parsing.NumberFormat] = (),
) -> bool:
    """Treat texts as numbers if one format reads all of them; return whether one does."""
    if any(LONG_NUMBER.fullmatch(text) for text in texts):
        return False
    found_format = _find_number_format(guess, texts, decimal, formats or tuple(TEXT_FORMATS))
    if found_format is None:
        return False
    parse_keys, reason = found_format
    guess.contract_keys |= {"type": "number"} | parse_keys
    guess.reason = reason
    _guess_number(guess, values)
    return True


def _find_number_format(
    guess: ColumnGuess,
    texts: list[str],
    decimal: parsing.DecimalMark | None,
    formats: Sequence[parsing.NumberFormat],
) -> tuple[dict[str, str], str] | None:
    """Return the contract's keys and the reason of the first format that reads all texts."""
    if all(parsing.FLOAT_TEXT.fullmatch(text) for text in texts) and decimal != ",":
        return {}, ""
    marks = parsing.find_decimal_marks(texts)
    if marks:
        mark = decimal if decimal in marks else marks[0]
        if len(marks) == 2 and decimal is None:
            _add_decimal_question(guess, texts, mark)
        return _make_number_keys("number", mark), "numbers with separators"
    for number_format in formats:
        if number_format == "unit" and len({_find_unit(text) for text in texts}) > 1:
            continue
        for mark in DECIMAL_MARKS:
            if _are_numbers(texts, number_format, mark):
                if number_format in ("unit", "bound", "range"):
                    example = next(text for text in texts if not parsing.FLOAT_TEXT.fullmatch(text))
                    number = parsing.parse_number(example, number_format, mark)
                    guess.add_question(
                        "parsed", example=example, number=number, number_format=number_format
                    )
                if number_format == "currency" and len(currencies := _find_currencies(texts)) > 1:
                    guess.add_question("currencies", examples=", ".join(currencies[:4]))
                return _make_number_keys(number_format, mark), TEXT_FORMATS[number_format]
    return None


def _make_number_keys(number_format: str, mark: str) -> dict[str, str]:
    return {"number_format": number_format} | ({"decimal": mark} if mark == "," else {})


def _add_decimal_question(guess: ColumnGuess, texts: list[str], mark: parsing.DecimalMark) -> None:
    other_mark: parsing.DecimalMark = "." if mark == "," else ","
    example = next(text for text in texts if "." in text or "," in text)
    guess.add_question(
        "decimal",
        example=example,
        number=parsing.parse_number(example, "number", mark),
        other=parsing.parse_number(example, "number", other_mark),
        other_mark=other_mark,
    )


def _find_currencies(texts: list[str]) -> list[str]:
    """The signs and codes of currencies of amounts, such as $ and EUR."""
    return sorted({match[0] for text in texts if (match := CURRENCY.search(text))})


def _find_unit(text: str) -> str:
    match = parsing.UNIT.search(text)
    return match[0].strip().lower() if match else ""


def _split_unparsed_texts(values: pd.Series, texts: list[str]) -> tuple[pd.Series, list[str]]:
    """Find the few texts that are not numbers: a mask of the other rows, and the texts."""
    unparsed_texts = [
        text
        for text in texts
        if all(
            np.isnan(parsing.parse_number(text, number_format, "."))
            for number_format in ("number", *TEXT_FORMATS)
        )
    ]
    stripped = values.map(lambda value: str(value).strip())
    is_numeric = ~stripped.isin(unparsed_texts)
    is_rare = (
        0 < len(unparsed_texts) <= MAX_UNPARSED_TEXTS
        and 1 - is_numeric.mean()
        <= max(MAX_UNPARSED_SHARE, MAX_UNPARSED_WORD_SHARE if _are_words(unparsed_texts) else 0)
        and is_numeric.any()
    )
    return is_numeric, unparsed_texts if is_rare else []


def _are_words(texts: list[str]) -> bool:
    return not any(any(map(str.isdigit, text)) for text in texts)


def _guess_words(guess: ColumnGuess, values: pd.Series, texts: list[str]) -> None:
    mean_words = count_words(texts)
    example = f"such as {_shorten_value(texts[0])}"
    if guess.n_distinct > MAX_CERTAIN_CATEGORIES and mean_words >= MIN_PROSE_WORDS:
        guess.reason = f"free text of {mean_words:.0f} words on average, {example}"
    elif guess.n_distinct == len(values) and not guess.missing_share:
        guess.reason = f"a different text in each row, {example}"
        if mean_words < MIN_TITLE_WORDS:
            guess.change_role("id", guess.reason)
    elif (
        guess.n_distinct > MAX_LISTED_CATEGORIES
        and len(values) / guess.n_distinct < MIN_ROWS_PER_CATEGORY
    ):
        rows_per_text = len(values) / guess.n_distinct
        guess.reason = (
            f"{guess.n_distinct:,} distinct texts, {rows_per_text:.1f} rows each on average, "
            f"{example}"
        )
    else:
        _guess_category(guess, values, "words")


def _guess_category(guess: ColumnGuess, values: pd.Series, reason: str) -> None:
    if replacements := find_case_variants(values):
        guess.add_question("case_variants", replacements=replacements)
        guess.contract_keys["replacements"] = replacements
        values = replace_values(values, replacements)
    counts = count_values(parsing.normalize_texts(values))
    guess.n_distinct = len(counts)
    if len(counts) == 1:
        guess.change_role("dropped", f"constant: always {_shorten_value(counts.index[0])}")
        return
    singleton_count = int((counts == 1).sum())
    guess.contract_keys |= {"type": "category", "allow_unseen": True}
    guess.reason = f"{reason}, {len(counts)} distinct"
    if len(counts) <= MAX_LISTED_CATEGORIES:
        guess.contract_keys["categories"] = sorted(counts.index, key=natural_sort_key)
    else:
        guess.reason += ", too many to list"
    # Good-Turing estimate (Good, 1953): the share of values that occur once estimates the
    # probability that the next value is new.
    if singleton_count / len(values) > NEW_CATEGORY_PROBABILITY:
        guess.reason += f"; {singleton_count} occur once, so new ones are likely"


def _guess_date(guess: ColumnGuess, values: pd.Series, date_format: str) -> None:
    timestamps = dates.parse_timestamps(values, date_format)
    if timestamps.isna().all():
        guess.change_role("dropped", "dates before 1677 or after 2262, which are not supported")
        return
    if date_format in TIME_FORMATS:
        guess.contract_keys |= {"type": "date", "format": date_format, "date_parts": ["hour"]}
        guess.reason = f"times of day as {date_format}, of which only the hour is a feature"
        return
    part_names: list[str] = ["days"]
    part_names += [
        part
        for part in ("month", "weekday")
        if dates.extract_date_part(timestamps, part).nunique() > 1
    ]
    if timestamps.dt.hour.nunique() > 1:
        part_names.append("hour")
    guess.contract_keys |= {"type": "date", "format": date_format, "date_parts": part_names}
    guess.reason = (
        f"dates as {date_format}, {timestamps.min():%Y-%m-%d} to {timestamps.max():%Y-%m-%d}"
    )


def _guess_date_text(
    guess: ColumnGuess, values: pd.Series, texts: list[str], day_first: bool | None
) -> None:
    sentinel_dates = [text for text in texts if SENTINEL_DATE_PATTERN.fullmatch(text)]
    texts = [text for text in texts if text not in sentinel_dates]
    if not texts:
        finding = f"only placeholders of dates: {', '.join(map(repr, sentinel_dates[:3]))}"
        guess.change_role("dropped", finding)
        return
    date_format = _find_date_format(guess, texts, day_first)
    if date_format is None:
        return
    if sentinel_dates:
        is_sentinel = values.map(lambda value: str(value).strip()).isin(sentinel_dates)
        examples = ", ".join(sentinel_dates[:3])
        guess.add_question("sentinel_dates", examples=examples, count=int(is_sentinel.sum()))
        guess.missing_markers = sentinel_dates
        values = values[~is_sentinel]
        guess.contract_keys["nullable"] = True
    _guess_date(guess, values, date_format)


def _find_date_format(guess: ColumnGuess, texts: list[str], day_first: bool | None) -> str | None:
    """Return the format that parses all dates; None, and the column is dropped, if none does."""
    series = pd.Series(texts, dtype=object)
    parsed_by_format = {
        date_format: dates.parse_timestamps(series, date_format)
        for date_format in _find_plausible_formats(texts)
    }
    fitting_formats = [
        date_format for date_format, parsed in parsed_by_format.items() if parsed.notna().all()
    ]
    if fitting_formats:
        return _choose_date_order(guess, fitting_formats, parsed_by_format, texts, day_first)
    finding = _describe_mixed_dates(series, parsed_by_format)
    guess.change_role("dropped", finding)
    guess.add_question("mixed_dates", finding=finding)
    return None


def _find_plausible_formats(texts: list[str]) -> list[str]:
    """The formats that read one of a few texts: trying each on all takes long."""
    sample = texts[:: max(1, len(texts) // 20)]
    values = pd.Series(sample, dtype=object)
    formats = [
        date_format
        for date_format in DATE_FORMATS
        if dates.is_plausible_format(sample, date_format)
        and dates.parse_timestamps(values, date_format).notna().any()
    ]
    return formats or ["ISO8601"]


def _choose_date_order(
    guess: ColumnGuess,
    fitting_formats: list[str],
    parsed_by_format: dict[str, pd.Series],
    texts: list[str],
    day_first: bool | None,
) -> str:
    """Choose between day first and month first where both fit; raise a question unless set."""
    first_format = fitting_formats[0]
    swapped_format = first_format.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")
    if swapped_format == first_format or swapped_format not in fitting_formats:
        return first_format
    # DATE_FORMATS has each day-first format before its month-first one.
    day_first_format = first_format
    month_first_format = swapped_format
    if day_first is not None:
        return day_first_format if day_first else month_first_format
    n_months = {
        date_format: parsed_by_format[date_format].dt.to_period("M").nunique()
        for date_format in (day_first_format, month_first_format)
    }
    # Dates read in the wrong order crowd into few months, such as the first of each in January.
    is_month_first = n_months[month_first_format] > n_months[day_first_format]
    chosen_format = month_first_format if is_month_first else day_first_format
    guess.add_question(
        "date_order",
        example=texts[min(1, len(texts) - 1)],
        date_format=chosen_format,
        other_format=day_first_format if is_month_first else month_first_format,
        other_order="day-first" if is_month_first else "month-first",
    )
    return chosen_format


def _describe_mixed_dates(series: pd.Series, parsed_by_format: dict[str, pd.Series]) -> str:
    best_format = max(parsed_by_format, key=lambda name: int(parsed_by_format[name].count()))
    is_parsed = parsed_by_format[best_format].notna()
    unparsed = _shorten_value(series[~is_parsed].iloc[0])
    if not is_parsed.any():
        return f"dates in no known format, such as {unparsed}"
    parsed = _shorten_value(series[is_parsed].iloc[0])
    return f"dates as {best_format}, such as {parsed}, and others, such as {unparsed}"


def _are_numbers(
    texts: list[str], number_format: parsing.NumberFormat, mark: parsing.DecimalMark
) -> bool:
    """Whether a format reads all texts as numbers; percentages need a % sign in one of them."""
    if number_format == "percent" and not any("%" in text for text in texts):
        return False
    return not any(np.isnan(parsing.parse_number(text, number_format, mark)) for text in texts)


def _list_distinct_texts(values: pd.Series) -> list[str]:
    return [text for value in _sample_distinct(values) if (text := str(value).strip())]


def _sample_distinct(values: pd.Series) -> np.ndarray:
    """Return the distinct values, or a sample of them when there are many."""
    distinct_values = pd.unique(values)
    if len(distinct_values) <= MAX_SAMPLED_VALUES:
        return distinct_values
    return np.random.default_rng(0).choice(distinct_values, MAX_SAMPLED_VALUES, replace=False)


def _int_if_whole(number: float) -> float:
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _format_number(number: float) -> str:
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"


def _shorten_value(value: Any) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 30 else f"{text[:27]}...")
