"""Roles that columns have for one another: whose row it is, when, copies, and what must not be a feature."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from modelbook.contract import dates
from modelbook.draft.guess import Guess

ID = re.compile(r"(?i)(^|[_\s.-])(id|uuid|guid|key|no|nr|number|index|ref|unnamed: 0)$|[a-z](ID|Id|No|Nr)$")
WHO = re.compile(
    r"(?i)customer|client|user|member|patient|person|household|family|student|employee|account|device|machine|subject|policy|"
    r"driver|player|^id$|^who$|zper"
)  # fmt: skip
WHEN = re.compile(r"(?i)date|time|created|ordered|when|(^|_)(at|on|day|month|year|period|quarter|wave)$|^year")
EARLIER = re.compile(r"(?i)birth|born|dob|hire|join|signup|start|since|expir|end|due|built|open")
PROTECTED = re.compile(
    r"(?i)(^|_|\b)(race|ethnic\w*|religion|colou?r_of_skin|sexual\w*|orientation|disab\w*|national\w*|caste)(_|\b|$)"
)
PERSONAL = re.compile(r"(?i)^(sex|gender|age|marital\w*|female|male|married)$")
FEWEST = 200  # rows of a table from which later periods are set aside
TRAINED = 0.8  # share of the rows that train, when later periods are set aside
PERIODS = (4, 60)  # fewest and most periods of a time column


def identify(frame: pd.DataFrame, guesses: list[Guess]) -> None:
    """Find ids, and the column that tells whose row it is."""
    found = False
    for some in guesses:
        if some.role not in ("feature", "id", "dropped") or some.gaps or some.distinct < 2:
            continue
        values = frame[some.name]
        whole = some.keys["type"] in ("integer", "text", "category")
        if some.distinct == len(frame) and some.keys["type"] == "integer":
            running = float(values.astype("float64").max() - values.astype("float64").min()) == len(frame) - 1
            if running or ID.search(some.name):
                some.become("id", f"a different number in each row{', without a gap' if running else ', and named so'}")
        elif whole and WHO.search(some.name) and _repeats(some, len(frame)) and not found:
            kind = "integer" if some.keys["type"] == "integer" else "text"
            each = len(frame) / some.distinct
            why = f"whose row it is, by its name: {some.distinct:,} of them, {each:.1f} rows each"
            some.keys, some.why, found = {"role": "entity", "type": kind}, why, True


def period(frame: pd.DataFrame, guesses: list[Guess]) -> int | None:
    """Find the column that tells when; returns the last period that trains, or None where all do."""
    for some in sorted(guesses, key=lambda one: one.keys["type"] != "date"):
        if some.role != "feature" or some.gaps or not WHEN.search(some.name) or EARLIER.search(some.name):
            continue
        found = _periods(frame[some.name], some)
        if found is None:
            continue
        numbers, keys = found
        some.keys = {"role": "time", **keys}
        some.why = f"when, by its name: {numbers.nunique()} periods, {numbers.min():.0f} to {numbers.max():.0f}"
        counts = numbers.value_counts().sort_index().cumsum() / len(numbers)
        border = int(min(counts.index[counts >= TRAINED][0], counts.index[-2]))
        if len(frame) < FEWEST:
            some.why += "; too few rows to set later ones aside"
            return None
        some.why += f"; rows after {border} arrive as batches"
        return border
    return None


def copies(frame: pd.DataFrame, guesses: list[Guess]) -> None:
    """Drop features that are equal to an earlier column, row by row."""
    first: dict[int, str] = {}
    for some in guesses:
        if some.role not in ("feature", "target"):
            continue
        mark = hash(pd.util.hash_pandas_object(frame[some.name], index=False).to_numpy().tobytes())
        if mark in first and some.role == "feature":
            some.become("dropped", f"a copy of {first[mark]}")
        first.setdefault(mark, some.name)


def protect(guesses: list[Guess]) -> list[str]:
    """Take columns that law or decency keep from models out of the features; returns notes on others."""
    notes = []
    for some in guesses:
        if some.role == "feature" and PROTECTED.search(some.name) and some.keys["type"] in ("category", "boolean"):
            some.become("sensitive", f"sensitive by its name: no feature, but a slice; {some.why}")
        elif some.role == "feature" and PERSONAL.search(some.name):
            notes.append(f"{some.name} may be sensitive: make it `role: sensitive` if the model must not see it.")
    return notes


def _repeats(some: Guess, rows: int) -> bool:
    return some.distinct >= 5 and 1.2 <= rows / some.distinct <= rows / 5


def _periods(values: pd.Series, some: Guess) -> tuple[pd.Series, dict[str, object]] | None:
    if some.keys["type"] == "date":
        for period in ("month", "year", "day"):
            numbers = dates.periods(values, some.keys["format"], period)
            if PERIODS[0] <= numbers.nunique() <= PERIODS[1]:
                return numbers, {"type": "date", "format": some.keys["format"], "period": period}
    elif some.keys["type"] == "integer" and values.dtype.kind in "iuf":
        numbers = values.astype("float64")
        calendar = numbers.between(1900, 2100).all() or numbers.between(190001, 210012).all()
        counted = re.search(r"(?i)(^|_)(year|period|wave)$", some.name) and np.ptp(numbers.to_numpy()) < PERIODS[1]
        if (calendar or counted) and PERIODS[0] - 1 <= numbers.nunique() <= PERIODS[1]:
            return numbers, {"type": "integer"}
    return None
