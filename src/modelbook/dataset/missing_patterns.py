"""Columns that are missing in the same rows, such as those of a previous year in the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.formatting import format_value

NEARLY_ALL = 0.9  # share of the rows with missing values that one period holds, to be named by it


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
        The period that holds nearly all of these rows, and in which nearly all rows are such ones;
        empty if there is none.
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
    common = find_common_missing(features, features.iloc[:0])
    groups: dict[str, list[str]] = {}
    for name, first in common.items():
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
        counts.iloc[0] >= NEARLY_ALL * counts.sum()
        and missing[(periods == period).to_numpy()].mean() >= NEARLY_ALL
        and periods.nunique() > 1
    )
    return MissingPattern(columns, share, newest, format_value(period) if is_named else "")


def tabulate_patterns(patterns: Sequence[MissingPattern], contract: Contract) -> pd.DataFrame:
    """Return a row for each pattern whose share of the newest period differs from that of all.

    Columns ``columns, share, newest period, only in period``; those that shift most come first.
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
    table = pd.DataFrame(rows, columns=["columns", "share", "newest period", "only in period"])
    change = (table["newest period"] - table["share"]).abs()
    return table.loc[change.sort_values(ascending=False, kind="stable").index].reset_index(
        drop=True
    )


def find_common_missing(reference: pd.DataFrame, batch: pd.DataFrame) -> dict[str, str]:
    """The first column that is missing in the same rows, by column; empty if none is missing.

    Columns that are missing together, such as those of a previous year, have one cause.
    """
    first_columns: dict[bytes, str] = {}
    common: dict[str, str] = {}
    for name in map(str, reference.columns):
        is_missing = np.concatenate([table[name].isna().to_numpy() for table in (reference, batch)])
        key = np.packbits(is_missing).tobytes()
        common[name] = first_columns.setdefault(key, name) if is_missing.any() else ""
    return common
