"""Messy text as numbers: amounts of money, percentages, and plain numbers.

A value that cannot be read becomes NaN; who calls says what that means. A value that is a number already stays as it
is, so that parsing twice is parsing once.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # a service reads contracts without it

Parse = Literal["currency", "percent"]
Decimal = Literal[".", ","]

# What pandas takes for a gap in CSV: what was trained on from a table of text must be read alike when it is asked.
GAPS = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null"]
)  # fmt: skip
TRUTHS = {word: float(word.lower() == "true") for word in ("True", "TRUE", "true", "False", "FALSE", "false")}
CODE = r"(?:[A-Z]{3}|[A-Z]{1,2}(?=\$)|kr\.?|zł|Kč|Ft|lei|Rs\.?)"  # £ and the like are found by their Unicode category


# What most amounts and percentages look like; the others take a longer way.
USUAL = {
    mark: re.compile(rf"\s*[£$€¥₹]?\s*(\d{{1,3}}(?:\{other}\d{{3}})+|\d+)(?:\{mark}(\d+))?\s*[%£$€¥₹]?\s*")
    for mark, other in ((".", ","), (",", "."))
}


def numbers(values: pd.Series, parse: Parse | None = None, decimal: Decimal = ".") -> pd.Series:
    """Values as float64; NaN where there is a gap, or something that is no number.

    Parameters
    ----------
    parse : {"currency", "percent"}, optional
        How text is written: ``£1,623.85`` or ``(1,623.85)`` is an amount, ``12.5 %`` is 12.5.
    decimal : {".", ","}
        The decimal mark of that text; the other one parts thousands.
    """
    import pandas as pd

    if values.dtype.kind in "fiub":
        return values.astype("float64")
    if values.dtype.kind in "mM":  # a date is no number, though pandas would make one of it
        return pd.Series(np.nan, index=values.index)
    if parse is None:
        return pd.to_numeric(values, errors="coerce").astype("float64")
    return values.map({value: number(value, parse, decimal) for value in values.unique()}).astype("float64")


def truths(values: pd.Series) -> pd.Series:
    """Yes and no as 1 and 0, float64; NaN where there is a gap, or something else. Text is read as pandas reads it."""
    return numbers(values.replace(TRUTHS) if values.dtype == object else values)


def as_text(values: pd.Series) -> pd.Series:
    """Codes as text without blanks around it, gaps as NaN: 11, 11.0, "11" and "11.0 " are one code."""
    return values.map({value: text(value) for value in values.unique()}).astype(object)


def without(values: pd.Series, markers: list[str]) -> pd.Series:
    """Values with a gap for each text that is blank or stands for a gap."""
    if values.dtype != object:
        return values
    gaps = {"", *markers}
    found = [value for value in values.unique() if isinstance(value, str) and value.strip() in gaps]
    return values.where(~values.isin(found), np.nan) if found else values


def number(value: Any, parse: Parse, decimal: Decimal) -> float:
    """One value of ``numbers``."""
    if not isinstance(value, str):
        return float(value) if isinstance(value, int | float | np.number) else np.nan
    if ("%" in value) == (parse == "percent") and (usual := USUAL[decimal].fullmatch(value)):
        return float(f"{usual[1].replace('.', '').replace(',', '')}.{usual[2] or 0}")
    plain = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in value).strip().replace("−", "-")
    if parse == "percent":
        plain = plain.removesuffix("%").strip()
    else:
        plain, negative = _without_money(plain)
        if negative:
            plain = f"-{plain}"
    return _plain(plain, decimal)


def _without_money(text: str) -> tuple[str, bool]:
    """The amount without sign and currency, and whether it is below zero."""
    negative = text.startswith("(") and text.endswith(")")
    text = text[1:-1].strip() if negative else text
    for _ in range(2):  # the sign may stand before or behind the currency
        if not negative and "-" in (text[:1], text[-1:]):
            negative, text = True, (text[1:] if text[0] == "-" else text[:-1]).strip()
        text = re.sub(rf"^{CODE}\s*|\s*{CODE}$", "", text)
        text = "".join(sign for sign in text if unicodedata.category(sign) != "Sc").strip()
    return text, negative


def _plain(text: str, decimal: Decimal) -> float:
    """A number whose thousands may be parted by a blank, an apostrophe or the mark that is not the decimal one."""
    other = "," if decimal == "." else "."
    pattern = rf"-?(\d{{1,3}}([{re.escape(other)} '’]\d{{3}})+|\d+)({re.escape(decimal)}\d+)?|-?{re.escape(decimal)}\d+"
    if not re.fullmatch(pattern, text):
        return np.nan
    return float(re.sub(rf"[{re.escape(other)} '’]", "", text).replace(decimal, "."))


def text(value: Any) -> Any:
    """One value of ``as_text``."""
    if isinstance(value, float):
        return np.nan if np.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        import pandas as pd

        return np.nan if pd.isna(value) else str(value)
    plain = value.strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", plain) if plain else np.nan
