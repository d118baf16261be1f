"""Columns that are missing in the same rows, such as lagged columns in the first period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.formatting import format_value

# Share of a pattern's rows that lie in one period, and of that period's rows that have the pattern,
# from which the pattern is reported with the period.
MIN_PERIOD_SHARE = 0.9


@dataclass(frozen=True)
class MissingPattern:
    """Columns that are missing in the same rows, and where these rows are.

    Attributes
    ----------
    share : float
        Share of all rows in which the columns are missing.
    newest_share : float
        Share of the newest period's rows; of all rows if there are no periods.
    period : str
        The period with at least 90% of the pattern's rows, if at least 90% of its rows have the
        pattern; otherwise empty.
    """

    columns: list[str]
    share: float
    newest_share: float
    period: str = ""


def find_missing_patterns(rows: pd.DataFrame, contract: Contract) -> list[MissingPattern]:
    """Find the groups of features that are missing in the same rows, by period.

    Explore shows them as patterns whose share may fall in later batches without counting as drift.
    """
    features = contract.select_features(rows)
    first_by_column = group_by_missing_rows(features, features.iloc[:0])
    groups: dict[str, list[str]] = {}
    for name, first in first_by_column.items():
        if first:
            groups.setdefault(first, []).append(name)
    periods = _select_periods(rows, contract)
    return [
        _describe_pattern(columns, features[columns[0]].isna(), periods)
        for columns in groups.values()
    ]


def _select_periods(rows: pd.DataFrame, contract: Contract) -> pd.Series | None:
    name = contract.time
    return None if not name or name not in rows.columns else rows[name].reset_index(drop=True)


def _describe_pattern(
    columns: list[str], missing_rows: pd.Series, periods: pd.Series | None
) -> MissingPattern:
    is_missing = missing_rows.to_numpy()
    share = float(is_missing.mean())
    if periods is None:
        return MissingPattern(columns, share, share)
    newest = float(is_missing[(periods == periods.max()).to_numpy()].mean())
    counts = periods[is_missing].value_counts()
    period = counts.index[0]
    has_main_period = (
        counts.iloc[0] >= MIN_PERIOD_SHARE * counts.sum()
        and is_missing[(periods == period).to_numpy()].mean() >= MIN_PERIOD_SHARE
        and periods.nunique() > 1
    )
    return MissingPattern(columns, share, newest, format_value(period) if has_main_period else "")


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


def group_by_missing_rows(reference: pd.DataFrame, batch: pd.DataFrame) -> dict[str, str]:
    """Map each column to the first with the same missing rows; to "" without missing values.

    Columns that are missing in the same rows, such as lagged ones, probably share a cause.
    """
    first_by_mask: dict[bytes, str] = {}
    first_by_column: dict[str, str] = {}
    for name in map(str, reference.columns):
        is_missing = np.concatenate([table[name].isna().to_numpy() for table in (reference, batch)])
        mask = np.packbits(is_missing).tobytes()
        first_by_column[name] = first_by_mask.setdefault(mask, name) if is_missing.any() else ""
    return first_by_column
