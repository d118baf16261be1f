"""The group whose share explains why more or fewer values of a column are missing.

Where one group of rows misses a column and its share of the rows changes, the column's missing rate
changes though no group of rows has changed. The part that the shares of a column's groups explain
is the change that these shares would make with the missing rates of the reference (Oaxaca 1973).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from modelbook.formatting import format_code

if TYPE_CHECKING:
    from modelbook.contract import Contract

MIN_EXPLAINED = 0.75  # part of a change that the groups' shares explain, from which they are named


class MissingRateCause(NamedTuple):
    """The group that contributes most, with its missing rate and its shares of the rows."""

    group: str
    missing_rate: float
    reference_share: float
    batch_share: float


def find_missing_rate_cause(
    column: str, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> MissingRateCause | None:
    """Find the slice whose groups' shares explain most of a change of the missing rate.

    Returns
    -------
    MissingRateCause or None
        None if no slice of the contract explains ``MIN_EXPLAINED`` of the change.
    """
    is_missing, is_missing_now = (
        contract.select_features(rows)[column].isna() for rows in (reference, batch)
    )
    change = is_missing_now.mean() - is_missing.mean()
    if change == 0:
        return None
    causes: dict[float, MissingRateCause] = {}
    for name in contract.slices:
        if name == column or name not in reference.columns or name not in batch.columns:
            continue
        groups = reference[name]
        before, now = (
            rows[name].value_counts(normalize=True, dropna=False) for rows in (reference, batch)
        )
        rates = is_missing.groupby(groups.to_numpy(), dropna=False).mean()
        share_changes = now.sub(before, fill_value=0).reindex(rates.index, fill_value=0)
        explained = share_changes * (rates - is_missing.mean()) / change
        value = explained.idxmax()
        if explained.sum() < MIN_EXPLAINED or pd.isna(value):
            continue
        label = contract.label_group(name, format_code(value))
        causes[abs(explained.sum() - 1)] = MissingRateCause(
            label, float(rates[value]), float(before[value]), float(now.get(value, 0))
        )
    return causes[min(causes)] if causes else None
