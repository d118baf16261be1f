"""Columns that are missing in the same rows, such as lagged columns in the first period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.formatting import format_value

MIN_PERIOD_SHARE = 0.9  # of a pattern's rows in one period, and of that period's rows, to name it


@dataclass(frozen=True)
class MissingPattern:
    """Columns that are missing in the same rows, and where these rows are.

    Attributes
    ----------
    share : float
        Share of all rows in which they are missing.
    newest_share : float
        The same in the newest period; that of all rows if there are no periods.
    period : str
        The period that holds 90% of these rows or more, and in which 90% of the rows or more are
        such ones; empty if there is none.
    """

    columns: list[str]
    share: float
    newest_share: float
    period: str = ""


def find_missing_patterns(rows: pd.DataFrame, contract: Contract) -> list[MissingPattern]:
    """Find the groups of features that are missing in the same rows, by period.

    Explore shows them as the shifts that later batches are expected to have.
    """
    features = contract.select_features(rows)
    first_columns = map_to_first_missing_column(features, features.iloc[:0])
    groups: dict[str, list[str]] = {}
    for name, first in first_columns.items():
        if first:
            groups.setdefault(first, []).append(name)
    periods = _periods(rows, contract)
    return [
        _describe_pattern(columns, features[columns[0]].isna(), periods)
        for columns in groups.values()
    ]


def _periods(rows: pd.DataFrame, contract: Contract) -> pd.Series | None:
    name = contract.time
    return None if not name or name not in rows.columns else rows[name].reset_index(drop=True)


def _describe_pattern(
    columns: list[str], is_missing: pd.Series, periods: pd.Series | None
) -> MissingPattern:
    share, missing = float(is_missing.mean()), is_missing.to_numpy()
    if periods is None:
        return MissingPattern(columns, share, share)
    newest = float(missing[(periods == periods.max()).to_numpy()].mean())
    counts = periods[missing].value_counts()
    period = counts.index[0]
    is_named = (
        counts.iloc[0] >= MIN_PERIOD_SHARE * counts.sum()
        and missing[(periods == period).to_numpy()].mean() >= MIN_PERIOD_SHARE
        and periods.nunique() > 1
    )
    return MissingPattern(columns, share, newest, format_value(period) if is_named else "")


def tabulate_patterns(patterns: Sequence[MissingPattern], contract: Contract) -> pd.DataFrame:
    """Return one row per pattern, the largest change in the newest period first.

    Columns ``columns, share, share in newest period, mostly in period``.
    """
    rows = [
        (
            ", ".join(map(contract.label, pattern.columns)),
            pattern.share,
            pattern.newest_share,
            pattern.period,
        )
        for pattern in patterns
    ]
    newest = "share in newest period"
    table = pd.DataFrame(rows, columns=["columns", "share", newest, "mostly in period"])
    change = (table[newest] - table["share"]).abs()
    return table.loc[change.sort_values(ascending=False, kind="stable").index].reset_index(
        drop=True
    )


def map_to_first_missing_column(reference: pd.DataFrame, batch: pd.DataFrame) -> dict[str, str]:
    """Map each column to the first one with the same missing rows; to "" if it has none.

    Columns that are missing in the same rows, such as lagged ones, probably share a cause.
    """
    first_columns: dict[bytes, str] = {}
    first_by_column: dict[str, str] = {}
    for name in map(str, reference.columns):
        is_missing = np.concatenate([table[name].isna().to_numpy() for table in (reference, batch)])
        key = np.packbits(is_missing).tobytes()
        first_by_column[name] = first_columns.setdefault(key, name) if is_missing.any() else ""
    return first_by_column
