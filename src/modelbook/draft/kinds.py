"""Kinds of values: numbers, money, percentages, dates, codes, words; told by what all of a column have in common."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract import dates, parsing
from modelbook.contract.counts import count_values
from modelbook.draft.guess import Guess
from modelbook.errors import DataError

LOOKED_AT = 20_000  # different values of a column that are read to find out what it is; ranges are those of all rows
MARKS = ("?", "-", "--", ".", "..", "*", "n.a.", "n/a.", "unknown", "missing", "not available", "nil", "#DIV/0!")
FORMATS = [
    "ISO8601",
    *(
        f"{day}{clock}"
        for clock in ("", " %H:%M", " %H:%M:%S")
        for day in (
            "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y",
            "%d %B %Y", "%B %d, %Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%b-%y",
        )
    ),
]  # fmt: skip
DATELIKE = re.compile(r"\d{1,4}[-/. ]\w{1,9}[-/. ,]+\d{1,4}([T ].*)?|[A-Z][a-z]+ \d{1,2}, \d{4}.*")
CODE = re.compile(
    r"(?i)(^|_|\b)(code|type|class|category|zip|postcode|region|channel|group|sector|cluster)$|[a-z](ID|Id)$|_id$"
)
FEW = 20  # different values up to which words among numbers make a category rather than a mistake
LISTED = 100  # categories that a contract lists
CROWD = 10  # rows that a category of many needs on average
WORDS = 4  # words on average from which text is prose
RARE = 0.005  # chance of a category not seen yet, from which unseen ones are allowed


def guess(name: str, values: pd.Series) -> Guess:
    """What a column is, by its values alone; its role is ``feature`` or ``dropped``.

    Raises
    ------
    DataError
        When it holds infinite values, values of mixed kinds, or dates in two formats.
    """
    known = values.dropna()
    some = Guess(name, {"role": "feature", "type": "text"}, "", gaps=1 - len(known) / max(len(values), 1))
    some.keys["nullable"] = bool(len(known) < len(values))
    some.distinct = int(known.nunique())
    if some.distinct < 2:
        told = "empty" if not some.distinct else f"constant: always {_short(known.iloc[0])}"
        some.keys["type"] = "number" if known.dtype.kind in "fiub" else "text"
        some.become("dropped", told)
    elif known.dtype.kind == "m":
        some.become("dropped", "spans of time, which no model reads")
    elif known.dtype.kind == "M" or all(isinstance(value, date) for value in _some(known)):
        _date(some, known, "ISO8601")
    elif known.dtype.kind in "fiub":
        _number(some, known)
    else:
        _text(some, known)
    if some.role == "feature":
        some.why += f"; {_share(some.gaps)} missing" if some.gaps else ""
    return some


def markers(frame: pd.DataFrame, given: list[str]) -> list[str]:
    """Texts that stand for a gap: those given, and usual ones in columns that otherwise hold numbers."""
    found = list(given)
    for name in frame.select_dtypes(object):
        texts = _texts(parsing.without(frame[name], given).dropna())
        marks = [text for text in MARKS if text in texts or text.title() in texts]
        rest = [text for text in texts if text.lower() not in marks]
        if marks and rest and any(_all(rest, kind) for kind in ("number", "currency", "percent")):
            found += [text for text in texts if text.lower() in marks]
    return list(dict.fromkeys(found))


def allowed(low: float, high: float, whole: bool) -> dict[str, float]:
    """Bounds half as wide again as what was seen, on either side, in round numbers; never below zero without need."""
    if low >= 0 and high <= 1 and not whole:
        return {"min": 0, "max": 1}
    room = (high - low) / 2
    if not 1e-100 < room < 1e100 or max(abs(low), abs(high)) > 1e15 * room:  # no room that a double could tell
        return {}
    step = 10.0 ** (math.floor(math.log10(room)) - 1)
    if step < 1 and whole:
        step = 1.0
    bounds = (math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step)
    least, most = (float(f"{bound:.6g}") for bound in bounds)
    if not (math.isfinite(least) and math.isfinite(most)) or least > low or most < high:
        return {}
    return {"min": 0 if low >= 0 > least else _tidy(least), "max": _tidy(most)}


def _number(some: Guess, known: pd.Series) -> None:
    numbers = parsing.numbers(known, some.keys.get("parse"), some.keys.get("decimal", "."))
    if infinite := int(np.isinf(numbers).sum()):
        row = int(numbers.index[np.isinf(numbers)][0])
        raise DataError(
            f"{some.name} holds {infinite:,} infinite values, the first in row {row}",
            expected="finite numbers, or gaps", next=_mend(some.name),
        )  # fmt: skip
    low, high = float(numbers.min()), float(numbers.max())
    whole = bool((numbers % 1 == 0).all()) and abs(low) < 2**53 and abs(high) < 2**53
    seen = f"{_figure(low)} to {_figure(high)}"
    if set(numbers.unique()) == {0.0, 1.0}:
        some.keys = {"role": "feature", "type": "boolean", "nullable": some.keys["nullable"]}
        some.why = f"0 and 1; {numbers.mean():.0%} are 1"
    elif whole and CODE.search(some.name) and some.distinct <= max(FEW, len(known) / CROWD / 2, 50):
        _category(some, known, "numbers that are codes by their name")
    else:
        some.keys |= {"type": "integer" if whole else "number", **allowed(low, high, whole)}
        some.why = f"{some.why or ('whole numbers' if whole else 'numbers')}, {seen}"


def _text(some: Guess, known: pd.Series) -> None:
    texts = _texts(known)
    if all(isinstance(value, bool | np.bool_) for value in known.unique()):
        return _number(some, known.astype(bool))
    for kind, why in (("number", ""), ("percent", "percentages as text"), ("currency", "amounts of money as text")):
        if _all(texts, kind):
            marks = {} if kind == "number" else {"parse": kind} | ({"decimal": ","} if _comma(texts, kind) else {})
            some.keys, some.why = some.keys | {"type": "number"} | marks, why
            return _number(some, known)
    dated = sum(bool(DATELIKE.fullmatch(text)) for text in texts)
    if dated > len(texts) / 2:
        return _date(some, known, _format(some.name, texts))
    numeric = sum(_all([text], "number") for text in texts)
    if some.distinct > FEW and numeric > len(texts) / 2:
        odd = [text for text in texts if not _all([text], "number")]
        rows = known.index[known.astype(str).str.strip() == odd[0]]
        raise DataError(
            f"{some.name} holds numbers and other text: {', '.join(map(repr, odd[:3]))}"
            + (f", the first in row {rows[0]}" if len(rows) else ""),
            expected="values of one kind", next=_mend(some.name, odd[0]),
        )  # fmt: skip
    _words(some, known, texts)


def _words(some: Guess, known: pd.Series, texts: list[str]) -> None:
    words = float(np.mean([text.count(" ") + 1 for text in texts[:1000]]))
    example = f"such as {_short(texts[0])}"
    if some.distinct > FEW and words >= WORDS:
        some.become("dropped", f"free text of {words:.0f} words on average, {example}; no model here reads it")
    elif some.distinct == len(known) and not some.gaps:
        some.become("id", f"a different text in each row, {example}")
    elif some.distinct > LISTED and len(known) / some.distinct < CROWD:
        rows = len(known) / some.distinct
        some.become("dropped", f"{some.distinct:,} categories of {rows:.1f} rows each: too few to learn from")
    else:
        _category(some, known, "words")


def _category(some: Guess, known: pd.Series, why: str) -> None:
    counts = count_values(parsing.as_text(known))
    once = int((counts == 1).sum())
    some.keys |= {"type": "category"}
    some.why = f"{why}, {len(counts)} of them"
    if len(counts) <= LISTED:
        some.keys["categories"] = sorted(counts.index, key=_in_order)
    # Good (1953): the share of values seen once estimates the chance that the next one is new.
    if len(counts) > LISTED or once / len(known) > RARE:
        some.keys["unseen"] = True
        some.why += f"; {once} seen once, so that new ones must be expected" if once else ", too many to list"


def _date(some: Guess, known: pd.Series, format: str) -> None:
    at = dates.moments(known, format)
    parts: list[str] = ["days"]
    parts += [part for part in ("month", "weekday") if dates.part(at, part).nunique() > 1]
    if at.dt.hour.nunique() > 1:
        parts.append("hour")
    some.keys |= {"type": "date", "format": format, "parts": parts}
    some.why = f"dates as {format}, {at.min():%Y-%m-%d} to {at.max():%Y-%m-%d}"


def _format(name: str, texts: list[str]) -> str:
    """The one format that reads all dates.

    Raises
    ------
    DataError
        When there is none.
    """
    series = pd.Series(texts, dtype=object)
    read = {format: dates.moments(series, format).notna() for format in FORMATS}
    for format, right in read.items():
        if right.all():
            return format
    best = max(read, key=lambda format: int(read[format].sum()))
    rest = series[~read[best]]
    other = max(read, key=lambda format: int(read[format][rest.index].sum()))
    also = f", and {other}, as {rest[read[other][rest.index]].iloc[0]!r}" if read[other][rest.index].any() else ""
    first = series[read[best]].iloc[0] if read[best].any() else ""
    raise DataError(
        f"{name} holds dates as {best}, as {first!r}{also or f', and what is no such date: {rest.iloc[0]!r}'}",
        expected="dates in one format", next=_mend(name),
    )  # fmt: skip


def _all(texts: list[str], kind: str) -> bool:
    """Whether all texts are of a kind; amounts and percentages count only where a sign or a mark tells them."""
    if kind == "number":
        return bool(parsing.numbers(pd.Series(texts, dtype=object)).notna().all())
    if kind == "percent" and not any("%" in text for text in texts):
        return False
    series = pd.Series(texts, dtype=object)
    return any(parsing.numbers(series, kind, mark).notna().all() for mark in (".", ","))  # type: ignore[arg-type]


def _comma(texts: list[str], kind: Any) -> bool:
    return not parsing.numbers(pd.Series(texts, dtype=object), kind, ".").notna().all()


def _texts(known: pd.Series) -> list[str]:
    return [text for value in _some(known) if (text := str(value).strip())]


def _some(known: pd.Series) -> np.ndarray:
    """The different values, or a part of them where there are many."""
    found = pd.unique(known)
    return found if len(found) <= LOOKED_AT else np.random.default_rng(0).choice(found, LOOKED_AT, replace=False)


def _mend(name: str, odd: str = "") -> str:
    gap = f", say that it means a gap (--missing {odd!r})" if odd else ""
    return f"mend the table{gap}, or leave the column out (--drop {name!r})"


def _in_order(text: str) -> tuple[float, str]:
    try:
        number = float(text)
    except ValueError:
        return math.inf, text
    return (number if math.isfinite(number) else math.inf), text


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def _tidy(number: float) -> float:
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 30 else f"{text[:27]}...")
