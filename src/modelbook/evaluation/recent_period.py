"""A recent period: its number of rows, and how the holdout differs from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from modelbook.contract import Contract
from modelbook.evaluation.row_mix import find_mix_difference

RECENT_PERIODS = 3  # latest periods; the median of their numbers of rows is the size of a period


@dataclass(frozen=True)
class Period:
    """Number of rows of a period, and the noun for them.

    Attributes
    ----------
    rows : int
        Median rows of the latest periods; rows of the whole table if it has no time column.
    label : str
        Display label of the time column (``contract.label``); empty without one.
    noun : str
        Noun for the rows, in the plural: the entity's if each has one row in a period.
    mix : dict
        ``column`` and ``recent_missing_rate``: the feature whose missing rate differs most between
        the holdout and the latest periods, and its rate in these; empty if it differs little, see
        ``find_mix_difference``.
    span : str
        The first and the last of the latest periods; empty without a time column.
    counts : tuple of int
        Rows of each of the latest periods; empty without a time column.
    """

    rows: int
    label: str
    noun: str
    mix: dict[str, Any] = field(default_factory=dict)
    span: str = ""
    counts: tuple[int, ...] = ()


def describe_period(
    contract: Contract, train: pd.DataFrame, holdout: pd.DataFrame, batches: pd.DataFrame
) -> Period:
    """Describe a recent period: of the rows of a model, and of the batches that came later."""
    rows = pd.concat([train, holdout])
    latest = rows[rows[contract.time] == rows[contract.time].max()] if contract.time else rows
    time_label = contract.label(contract.time) if contract.time else ""
    has_one_row_each = bool(contract.entity) and latest[contract.entity].is_unique
    noun = contract.entity_label_plural if has_one_row_each else "rows"
    if not contract.time:
        return Period(len(latest), time_label, noun)
    rows = pd.concat([rows, batches])
    counts = rows[contract.time].value_counts().sort_index().tail(RECENT_PERIODS)
    first_and_last = (str(time).removesuffix(" 00:00:00") for time in counts.index[[0, -1]])
    return Period(
        rows=round(counts.median()),
        label=time_label,
        noun=noun,
        mix=find_mix_difference(contract, holdout, rows[rows[contract.time].isin(counts.index)]),
        span=" to ".join(dict.fromkeys(first_and_last)),
        counts=tuple(counts.tolist()),
    )
