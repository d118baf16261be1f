"""Columns that are missing in the same rows, such as lagged columns in the first period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.formatting import format_value

# Share of a pattern's rows that lie in one period, and of that period's rows that have the pattern,
# at which the pattern is reported with the period.
MIN_PERIOD_SHARE = 0.9


@dataclass(frozen=True)
class MissingPattern:
    """Columns that are missing in the same rows, and where these rows are.

    Attributes
    ----------
    missing_rate : float
        Share of all rows in which the columns are missing.
    latest_missing_rate : float
        Share of the latest period's rows; of all rows if there are no periods.
    period : str
        The period with at least 90% of the pattern's rows, if at least 90% of its rows have the
        pattern; otherwise empty.
    """

    columns: list[str]
    missing_rate: float
    latest_missing_rate: float
    period: str = ""


def find_missing_patterns(rows: pd.DataFrame, contract: Contract) -> list[MissingPattern]:
    """Find the groups of features that are missing in the same rows, by period.

    Explore lists them. Monitor resamples the reference to a batch's mix if a pattern's rate falls,
    or equals that of the latest period, while the observed values have not drifted.
    """
    features = contract.select_features(rows)
    first_by_column = map_columns_by_missing_mask(features, features.iloc[:0])
    groups: dict[str, list[str]] = {}
    for name, first in first_by_column.items():
        if first:
            groups.setdefault(first, []).append(name)
    periods = None
    if contract.time and contract.time in rows.columns:
        periods = rows[contract.time].reset_index(drop=True)
    return [
        _describe_pattern(columns, features[columns[0]].isna(), periods)
        for columns in groups.values()
    ]


def _describe_pattern(
    columns: list[str], missing_rows: pd.Series, periods: pd.Series | None
) -> MissingPattern:
    is_missing = missing_rows.to_numpy()
    missing_rate = float(is_missing.mean())
    if periods is None:
        return MissingPattern(columns, missing_rate, missing_rate)
    latest_missing_rate = float(is_missing[(periods == periods.max()).to_numpy()].mean())
    counts = periods[is_missing].value_counts()
    period = counts.index[0]
    has_main_period = (
        counts.iloc[0] >= MIN_PERIOD_SHARE * counts.sum()
        and is_missing[(periods == period).to_numpy()].mean() >= MIN_PERIOD_SHARE
        and periods.nunique() > 1
    )
    main_period = format_value(period) if has_main_period else ""
    return MissingPattern(columns, missing_rate, latest_missing_rate, main_period)


def tabulate_patterns(patterns: Sequence[MissingPattern], contract: Contract) -> pd.DataFrame:
    """Return one row per pattern, the largest change in the latest period first.

    Columns ``columns, missing rate, missing rate in latest period, missing mostly in``: the
    pattern's ``period``.
    """
    rows = [
        (
            ", ".join(map(contract.label, pattern.columns)),
            pattern.missing_rate,
            pattern.latest_missing_rate,
            f"{contract.label(contract.time)} {pattern.period}"
            if contract.time and pattern.period
            else "",
        )
        for pattern in patterns
    ]
    rates = ["missing rate", "missing rate in latest period"]
    table = pd.DataFrame(rows, columns=["columns", *rates, "missing mostly in"])
    change = (table[rates[1]] - table[rates[0]]).abs()
    order = change.sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def map_columns_by_missing_mask(reference: pd.DataFrame, batch: pd.DataFrame) -> dict[str, str]:
    """Map each column to the first with the same missing-value mask; "" without missing values.

    Columns that are missing in the same rows, such as lagged ones, probably share a cause.
    """
    first_by_mask: dict[bytes, str] = {}
    first_by_column: dict[str, str] = {}
    for name in map(str, reference.columns):
        is_missing = np.concatenate([table[name].isna().to_numpy() for table in (reference, batch)])
        mask = np.packbits(is_missing).tobytes()
        first_by_column[name] = first_by_mask.setdefault(mask, name) if is_missing.any() else ""
    return first_by_column
