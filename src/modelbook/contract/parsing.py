"""Parse and normalise column values: numbers, booleans, codes, missing markers and timestamps.

A value that cannot be parsed becomes NaN, and the caller decides what that means. Values that are
numbers already are unchanged, so parsing is idempotent.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # not at run time: the service image reads contracts without pandas

NumberFormat = Literal["number", "currency", "percent", "unit", "bound", "range"]
DecimalMark = Literal[".", ","]

# Texts that pandas reads as missing in CSV: requests must be read like the training table.
MISSING_VALUE_TEXTS = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
BOOLEAN_TEXTS = {
    word: float(word.lower() == "true")
    for word in ("True", "TRUE", "true", "False", "FALSE", "false")
}
# Currencies in letters; symbols such as £ are recognised by their Unicode category.
CURRENCY_CODE = r"(?:[A-Z]{3}|[A-Z]{1,2}(?=\$)|kr\.?|zł|Kč|Ft|lei|Rs\.?)"
MAGNITUDES = {"K": 1e3, "M": 1e6, "B": 1e9}  # suffixes of amounts, e.g. €30K
MAX_NUMBER_LENGTH = 100  # characters; longer texts are not tried as numbers
FLOAT_TEXT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
UNIT = re.compile(r"(?<=[\d.,])\s*[^\W\d_][^\d,]*$|\s*[°µ]\S*$")  # the text after the number
RANGE_MARK = re.compile(r"(?<=\d)\s*(?:-|–|—|to)\s*(?=\d)")

# Common forms of amounts and percentages; the others are parsed by slower, general code.
COMMON_NUMBER_PATTERNS = {
    mark: re.compile(
        rf"\s*[£$€¥₹]?\s*([1-9]\d{{0,2}}(?:\{thousands_mark}\d{{3}})+|\d+)"
        rf"(?:\{mark}(\d+))?\s*[%£$€¥₹]?\s*"
    )
    for mark, thousands_mark in ((".", ","), (",", "."))
}


def parse_numbers(
    values: pd.Series, number_format: NumberFormat | None = None, decimal: DecimalMark = "."
) -> pd.Series:
    """Parse values as float64; NaN for missing values and for what is not a number.

    Parameters
    ----------
    number_format : NumberFormat, optional
        Format of texts: see ``parse_number``. None: numbers as Python writes them.
    decimal : {".", ","}
        Decimal mark of texts; the other one separates thousands.
    """
    import pandas as pd

    if values.dtype.kind in "fiub":
        return values.astype("float64")
    if values.dtype.kind in "mM":  # a date is not a number, although pandas would convert it
        return pd.Series(np.nan, index=values.index)
    if number_format is None:
        return parse_float_texts(values).astype("float64")
    numbers = {value: parse_number(value, number_format, decimal) for value in values.unique()}
    return _map_values(values, numbers).astype("float64")


def parse_float_texts(values: pd.Series) -> pd.Series:
    """Parse texts as ``float`` does, to the nearest float; NaN for missing values and others.

    pandas' own conversion of a text with 16 or 17 digits may differ in the last one.
    """
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.dtype.kind != "f" or not may_contain_text(values):
        return numbers
    exact_numbers = numbers.to_numpy(copy=True)
    is_number = ~np.isnan(exact_numbers)
    exact_numbers[is_number] = [float(value) for value in values.to_numpy()[is_number]]
    return pd.Series(exact_numbers, index=values.index, name=values.name)


def parse_float_text(text: str) -> float:
    """Read a number as Python writes it, to the nearest float; NaN for any other text."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    # float also reads 1_000, digits of other scripts, inf and nan.
    is_plain = text.isascii() and "_" not in text and math.isfinite(number)
    return number if is_plain or FLOAT_TEXT.fullmatch(text) else math.nan


def may_contain_text(values: pd.Series | pd.Index) -> bool:
    """Whether values may be texts: any objects before pandas 3, of the type ``str`` since.

    Arrow's texts (``string``) are excluded: see ``dataset.arrow_text``.
    """
    return bool(values.dtype == object or values.dtype.name == "str")


def parse_booleans(values: pd.Series) -> pd.Series:
    """Parse booleans as 1.0 and 0.0, with texts as pandas reads them; NaN for anything else."""
    return parse_numbers(values.replace(BOOLEAN_TEXTS) if may_contain_text(values) else values)


def normalize_texts(values: pd.Series) -> pd.Series:
    """Convert codes to stripped text, NaN when missing: 11, 11.0, "11" and "11.0 " are equal."""
    texts = {value: normalize_text(value) for value in values.unique()}
    # Most texts are normalized already; mapping takes longer than looking.
    if all(text is value or _are_nan(text, value) for value, text in texts.items()):
        return values.astype(object)
    return _map_values(values, texts).astype(object)


def _map_values(values: pd.Series, mapping: dict[Any, Any]) -> pd.Series:
    """Replace values by those of a dict."""
    import pandas as pd

    # Of objects: pandas would convert keys such as None and 10**18 to floats, which may be equal.
    keys = pd.Index([*mapping], dtype=object)
    return values.map(pd.Series([*mapping.values()], index=keys, dtype=object))


def _are_nan(*values: Any) -> bool:
    return all(isinstance(value, float) and math.isnan(value) for value in values)


def mask_missing_markers(values: pd.Series, markers: list[str]) -> pd.Series:
    """Replace blank texts and missing-value markers with NaN, and dates out of range with NaT."""
    if values.dtype.kind == "M":
        return mask_out_of_range_timestamps(values)
    if not may_contain_text(values):
        return values
    missing_texts = {"", *markers}
    missing_values = [
        value
        for value in values.unique()
        if isinstance(value, str) and value.strip() in missing_texts
    ]
    return values.where(~values.isin(missing_values), np.nan) if missing_values else values


def mask_markers_in_table(table: pd.DataFrame, markers: list[str]) -> pd.DataFrame:
    """Replace blank texts and missing-value markers with NaN, in the columns that have texts."""
    names = [name for name in table.columns if may_contain_text(table[name])]
    return table.assign(**{name: mask_missing_markers(table[name], markers) for name in names})


def mask_out_of_range_timestamps(values: pd.Series) -> pd.Series:
    """Convert timestamps to nanoseconds; NaT for years beyond their range, such as 9999."""
    import pandas as pd

    if values.dt.unit == "ns":
        return values
    bounds = [
        pd.Timestamp(bound).tz_localize(values.dt.tz).as_unit(values.dt.unit)
        for bound in ("1678-01-01", "2262-01-01")
    ]
    return values.where(values.between(*bounds)).dt.as_unit("ns")


def parse_number(value: Any, number_format: NumberFormat | None, decimal: DecimalMark) -> float:
    """Parse one value, like ``parse_numbers`` for a series; NaN if it is not a number.

    ``number`` reads ``1,623.85``, ``currency`` ``£1,623.85``, ``(1,623.85)`` and ``€30K``,
    ``percent`` ``12.5 %`` as 12.5, ``unit`` ``23.4 kmpl`` as 23.4, ``bound`` ``<0.5`` as 0.5, and
    ``range`` ``2100 - 2850`` as its midpoint, 2475.
    """
    if not isinstance(value, str):
        return float(value) if isinstance(value, int | float | np.number) else np.nan
    if number_format is None:
        return parse_float_text(value.strip())
    if len(value) > MAX_NUMBER_LENGTH:
        return np.nan
    is_common_format = number_format == ("percent" if "%" in value else "currency")
    if is_common_format and (match := COMMON_NUMBER_PATTERNS[decimal].fullmatch(value)):
        return float(f"{match[1].replace('.', '').replace(',', '')}.{match[2] or 0}")
    text = (
        "".join(
            " " if unicodedata.category(character) == "Zs" else character for character in value
        )
        .strip()
        .replace("−", "-")
    )
    if number_format == "range":
        ends = [_parse_grouped_number(end, decimal) for end in RANGE_MARK.split(text)]
        return sum(ends) / len(ends) if len(ends) <= 2 and ends[0] <= ends[-1] else np.nan
    factor = 1.0
    if number_format == "percent":
        text = text.removesuffix("%").strip()
    elif number_format == "unit":
        text = UNIT.sub("", text)
    elif number_format == "bound":
        text = text.lstrip("<>≤≥=~ ")
    elif number_format == "currency":
        text, is_negative = _strip_sign_and_currency(text)
        if text[-1:].upper() in MAGNITUDES and text[-2:-1].isdigit():
            text, factor = text[:-1], MAGNITUDES[text[-1:].upper()]
        if is_negative:
            text = f"-{text}"
    return factor * _parse_grouped_number(text, decimal)


def _strip_sign_and_currency(text: str) -> tuple[str, bool]:
    """Return the amount without sign and currency, and whether it is negative."""
    is_negative = text.startswith("(") and text.endswith(")")
    text = text[1:-1].strip() if is_negative else text
    for _ in range(2):  # the sign may come before or after the currency
        if not is_negative and "-" in (text[:1], text[-1:]):
            is_negative = True
            text = (text[1:] if text[0] == "-" else text[:-1]).strip()
        text = re.sub(rf"^{CURRENCY_CODE}\s*|\s*{CURRENCY_CODE}$", "", text)
        text = "".join(
            character for character in text if unicodedata.category(character) != "Sc"
        ).strip()
    return text, is_negative


def _parse_grouped_number(text: str, decimal: DecimalMark) -> float:
    """Parse a number with thousands separated by a blank, an apostrophe, a comma or a point."""
    thousands_mark = "," if decimal == "." else "."
    separators = rf"[{re.escape(thousands_mark)} '’]"
    mark = re.escape(decimal)
    integer_pattern = rf"([1-9]\d{{0,2}}({separators}\d{{3}})+|\d+)"
    if not re.fullmatch(rf"[-+]?({integer_pattern}({mark}\d*)?|{mark}\d+)", text):
        return np.nan
    return float(re.sub(separators, "", text).replace(decimal, "."))


def normalize_text(value: Any) -> Any:
    """Normalize one value, like ``normalize_texts`` for a series."""
    if isinstance(value, float):
        return np.nan if np.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        import pandas as pd

        return np.nan if pd.isna(value) else str(value)
    text = value.strip()
    if not text:
        return np.nan
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text) if text.endswith("0") else text


def find_decimal_marks(texts: list[str]) -> list[DecimalMark]:
    """Return the decimal marks by which all texts are numbers; both if two readings differ.

    ``1,234`` is 1234 or 1.234; ``0,234`` and ``50,3`` can only have a decimal comma.
    """
    marks: tuple[DecimalMark, DecimalMark] = (".", ",")
    fitting = [
        mark
        for mark in marks
        if not any(np.isnan(parse_number(text, "number", mark)) for text in texts)
    ]
    is_ambiguous = len(fitting) == 2 and any(mark in text for text in texts for mark in ".,")
    return fitting if is_ambiguous else fitting[:1]
