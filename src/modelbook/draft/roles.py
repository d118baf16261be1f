"""Assign roles to columns: ids, entity, time, duplicates and sensitive columns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from modelbook.contract import Column, dates
from modelbook.draft.column_guess import ColumnGuess
from modelbook.formatting import format_count

ID_NAME_PATTERN = re.compile(
    r"(?i)(^|[_\s.-])(id|uuid|guid|key|no|nr|num|number|index|ref|unnamed: 0|column \d+)$"
    r"|[a-z](ID|Id|No|Nr)$"
)
ENTITY_NOUNS = (
    r"(customer|client|user|member|patient|person|household|family|student|employee|account|device|"
    r"machine|subject|policy|driver|player)s?"
)
# An entity, or its id: not an attribute of it, such as Customer_Age or family_size.
ENTITY_NAME_PATTERN = re.compile(
    rf"(?i)({ENTITY_NOUNS}[\s_.-]*(id|no|nr|num|number|key|code|uuid|name|ref)?|id|who|\w*zper)"
)
TIME_NAME_PATTERN = re.compile(
    r"(?i)date|time|created|ordered|when|^year|"
    r"(^|_)(at|on|day|week|month|year|period|quarter|wave)$"
)
# Dates that describe a row, not the time at which it was observed.
NON_EVENT_DATE_NAME_PATTERN = re.compile(
    r"(?i)birth|born|dob|hire|join|signup|start|since|expir|end|due|built|open"
)
SENSITIVE_NAME_PATTERN = re.compile(
    r"(?i)(^|_|\b)(race|ethnic\w*|religion|colou?r_of_skin|sexual\w*|orientation|"
    r"disab\w*|national\w*|caste)(_|\b|$)"
)
# Protected attributes that are also common features: the user decides.
POSSIBLY_SENSITIVE_NAME_PATTERN = re.compile(
    r"(?i)^(sex|gender|age|marital\w*|female|male|married)$"
)
ORDERED_SHARE = 0.95  # minimum share of period changes in one direction in a table in time order
MIN_ROWS_FOR_BATCHES = 200  # fewest rows of a table whose later periods become batches
TRAIN_SHARE = 0.8  # share of training rows when later periods become batches
# Distinct periods of a column that is found to be the time; --role accepts any number.
MIN_DATE_PERIODS, MIN_INTEGER_PERIODS, MAX_PERIODS = 4, 3, 60


def assign_ids_and_entity(frame: pd.DataFrame, guesses: list[ColumnGuess]) -> None:
    """Assign the roles ``id`` and ``entity``."""
    has_entity = False
    for guess in guesses:
        if guess.role not in ("feature", "id", "dropped") or guess.n_distinct < 2:
            continue
        if guess.missing_share:
            _assign_id_with_missing_values(guess, int(frame[guess.name].notna().sum()), len(frame))
            continue
        is_integer = guess.contract_keys["type"] == "integer"
        is_named_as_entity = ENTITY_NAME_PATTERN.fullmatch(guess.name)
        if guess.n_distinct == len(frame) and is_integer:
            column = Column(meaning="values", **guess.contract_keys)
            values = column.parse_values(frame[guess.name])
            is_consecutive = values.max() - values.min() == len(frame) - 1
            if is_consecutive or ID_NAME_PATTERN.search(guess.name) or is_named_as_entity:
                note = "consecutive" if is_consecutive else "and named like an id"
                guess.change_role("id", f"a different number in each row, {note}")
        elif (
            is_named_as_entity
            and not has_entity
            and guess.contract_keys["type"] in ("integer", "text", "category")
            and _has_several_rows_per_entity(guess, len(frame))
        ):
            guess.add_question("entity")
            has_entity = True
            guess.contract_keys = {"role": "entity", "type": "integer" if is_integer else "text"}
            guess.reason = (
                f"entity by its name: {guess.n_distinct:,} entities, "
                f"{len(frame) / guess.n_distinct:.1f} rows each"
            )


def _assign_id_with_missing_values(guess: ColumnGuess, n_present: int, n_rows: int) -> None:
    """Assign the role ``id``; drop an entity with missing values, which cannot group the rows."""
    if guess.role != "feature":
        return
    is_entity = ENTITY_NAME_PATTERN.fullmatch(guess.name)
    is_integer = guess.contract_keys["type"] == "integer"
    if guess.n_distinct == n_present:
        if is_integer and (is_entity or ID_NAME_PATTERN.search(guess.name)):
            guess.change_role("id", "a different number in each row that has one, named like an id")
    elif is_entity and _has_several_rows_per_entity(guess, n_present):
        guess.change_role(
            "dropped",
            f"an entity by its name, missing in {format_count(n_rows - n_present, 'row')}",
        )
        guess.add_question("entity_missing", count=n_rows - n_present, total=n_rows)


def find_time_column(
    frame: pd.DataFrame, guesses: list[ColumnGuess]
) -> tuple[ColumnGuess, pd.Series, dict[str, object]] | None:
    """Find the time column: by its name, if it orders the table.

    Returns
    -------
    tuple or None
        The column's guess, the period of each row, and the contract's keys.
    """
    entity = next((guess.name for guess in guesses if guess.role == "entity"), None)
    for guess in sorted(guesses, key=lambda candidate: candidate.contract_keys["type"] != "date"):
        if (
            guess.role != "feature"
            or guess.missing_share
            or not TIME_NAME_PATTERN.search(guess.name)
            or NON_EVENT_DATE_NAME_PATTERN.search(guess.name)
        ):
            continue
        parsed = _parse_candidate_periods(frame[guess.name], guess)
        if parsed is None:
            continue
        if _is_ordered(parsed[0], frame[entity] if entity else None):
            return guess, *parsed
        guess.add_question("not_time")
    return None


def assign_time(
    guess: ColumnGuess, numbers: pd.Series, time_keys: dict[str, object], reason: str
) -> int | None:
    """Assign the role ``time``; return the last training period, or None when all rows train."""
    guess.contract_keys = {"role": "time", **time_keys}
    guess.reason = (
        f"{reason}: {numbers.nunique()} periods, {numbers.min():.0f} to {numbers.max():.0f}"
        if numbers.nunique() > 1
        else f"{reason}: only one period, {numbers.min():.0f}"
    )
    if numbers.nunique() < 2:
        return None
    if len(numbers) < MIN_ROWS_FOR_BATCHES:
        guess.reason += "; too few rows to hold later periods back as batches"
        return None
    cumulative_share = numbers.value_counts().sort_index().cumsum() / len(numbers)
    train_until = int(
        min(cumulative_share.index[cumulative_share >= TRAIN_SHARE][0], cumulative_share.index[-2])
    )
    guess.reason += f"; rows after {train_until} arrive as batches"
    return train_until


def _is_ordered(periods: pd.Series, entities: pd.Series | None) -> bool:
    """Whether the rows, or those of each entity, are in the order of the periods."""
    steps = periods.diff()
    if entities is not None and (entities == entities.shift()).mean() > 1 - ORDERED_SHARE:
        steps = steps[entities == entities.shift()]
    steps = steps[steps.notna() & (steps != 0)]
    return len(steps) > 0 and max((steps > 0).mean(), (steps < 0).mean()) >= ORDERED_SHARE


def drop_duplicate_columns(frame: pd.DataFrame, guesses: list[ColumnGuess]) -> None:
    """Drop features whose values equal those of an earlier column."""
    first_column_by_hash: dict[int, str] = {}
    for guess in guesses:
        if guess.role not in ("feature", "target"):
            continue
        column_hash = hash(
            pd.util.hash_pandas_object(frame[guess.name], index=False).to_numpy().tobytes()
        )
        if column_hash in first_column_by_hash and guess.role == "feature":
            guess.change_role("dropped", f"a copy of {first_column_by_hash[column_hash]}")
        first_column_by_hash.setdefault(column_hash, guess.name)


def mark_sensitive_columns(guesses: list[ColumnGuess]) -> list[str]:
    """Mark category and boolean columns named like race or religion as sensitive.

    Returns
    -------
    list of str
        Notes on columns that stay features although they may be sensitive, such as sex and age, or
        a race that is an integer.
    """
    notes = []
    for guess in guesses:
        if guess.role != "feature":
            continue
        is_named_sensitive = SENSITIVE_NAME_PATTERN.search(guess.name)
        column_type = guess.contract_keys["type"]
        if is_named_sensitive and column_type in ("category", "boolean"):
            guess.change_role(
                "sensitive", f"sensitive by its name: a slice, not a feature; {guess.reason}"
            )
        elif POSSIBLY_SENSITIVE_NAME_PATTERN.search(guess.name) or (
            is_named_sensitive and column_type == "integer"
        ):
            notes.append(
                f"{guess.name} may be sensitive: make it `role: sensitive` if the model must "
                "not see it."
            )
    return notes


def parse_periods(
    values: pd.Series, guess: ColumnGuess
) -> tuple[pd.Series, dict[str, object]] | None:
    """Return the periods of the column of ``--role COLUMN=time``, and the contract's keys."""
    if (parsed := _parse_candidate_periods(values, guess)) is not None:
        return parsed
    if guess.contract_keys["type"] == "date":
        date_format = guess.contract_keys["format"]
        keys: dict[str, object] = {"type": "date", "format": date_format, "period": "month"}
        return dates.parse_periods(values, date_format, "month"), keys
    if guess.contract_keys["type"] == "integer":
        return values.astype("float64"), {"type": "integer"}
    return None


def _has_several_rows_per_entity(guess: ColumnGuess, n_rows: int) -> bool:
    return guess.n_distinct >= 5 and n_rows / guess.n_distinct >= 1.2


def _parse_candidate_periods(
    values: pd.Series, guess: ColumnGuess
) -> tuple[pd.Series, dict[str, object]] | None:
    if guess.contract_keys["type"] == "date":
        for period in ("month", "year", "day"):
            numbers = dates.parse_periods(values, guess.contract_keys["format"], period)
            if MIN_DATE_PERIODS <= numbers.nunique() <= MAX_PERIODS:
                return numbers, {
                    "type": "date",
                    "format": guess.contract_keys["format"],
                    "period": period,
                }
    elif guess.contract_keys["type"] == "integer" and values.dtype.kind in "iuf":
        numbers = values.astype("float64")
        is_calendar = numbers.between(1900, 2100).all() or numbers.between(190001, 210012).all()
        is_counter = (
            re.search(r"(?i)(^|_)(year|period|wave)$", guess.name)
            and np.ptp(numbers.to_numpy()) < MAX_PERIODS
        )
        has_periods = MIN_INTEGER_PERIODS <= numbers.nunique() <= MAX_PERIODS
        if (is_calendar or is_counter) and has_periods:
            return numbers, {"type": "integer"}
    return None
