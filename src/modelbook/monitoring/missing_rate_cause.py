"""How much of a change of a column's missing rate comes from the shares of groups of rows.

Where one group of rows misses a column and its share of the rows changes, the column's missing rate
changes though no group of rows has changed. The part that the shares of a column's groups account
for is the change that these shares would make with the missing rates of the reference (Oaxaca
1973); the rest is a change of the missing rates within groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from modelbook.formatting import format_code

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_REST = 0.25  # part of a change that the groups' shares may leave, up to which they are named


class MissingRateCause(NamedTuple):
    """The column whose groups' shares account for most of a change, and its main group.

    Attributes
    ----------
    column, group : str
        Labels of the column, and of its group that contributes most.
    missing_rate : float
        Missing rate of the group in the reference.
    reference_share, batch_share : float
        Share of the rows that are of the group.
    change, explained : float
        Change of the missing rate of all rows, and what the groups' shares account for of it.
    rest_reference, rest_batch : float
        Missing rate of the rows of all other groups; NaN if there are none.
    """

    column: str
    group: str
    missing_rate: float
    reference_share: float
    batch_share: float
    change: float
    explained: float
    rest_reference: float
    rest_batch: float


def find_missing_rate_cause(
    column: str, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> MissingRateCause | None:
    """Find the slice whose groups' shares account for a change of the missing rate.

    Returns
    -------
    MissingRateCause or None
        None if they leave more than ``MAX_REST`` of the change for each slice of the contract.
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
        rest = abs(explained.sum() - 1)
        if rest > MAX_REST or pd.isna(value):
            continue
        causes[rest] = MissingRateCause(
            contract.label(name),
            contract.label_group(name, format_code(value)),
            float(rates[value]),
            float(before[value]),
            float(now.get(value, 0)),
            float(change),
            float(explained.sum() * change),
            float(is_missing[(groups != value).to_numpy()].mean()),
            float(is_missing_now[(batch[name] != value).to_numpy()].mean()),
        )
    return causes[min(causes)] if causes else None
