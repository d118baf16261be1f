"""Columns of a batch that are empty or constant, though the reference has several values.

A dead feed affects the verdict regardless of importance: the importance of one of several
correlated columns is close to zero. Columns are checked before date parts are derived: a batch of
one month has a constant month. A result that is likely under the reference is not a finding: all of
``n`` rows hold a value of share ``p`` with probability ``p ** n``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from modelbook.scoring.drift_measure import FAMILY_WISE_ALPHA, MIN_VALUES, EffectiveFractions

if TYPE_CHECKING:
    from modelbook.contract import Contract


class DegenerateColumn(NamedTuple):
    """A column of one value; ``value`` is NaN where all are missing.

    ``reference_share`` is the share of that value in the reference: of all rows where it is
    missing, else of the rows with a value.
    """

    column: str
    value: object
    reference_share: float


def find_degenerate_columns(
    reference: pd.DataFrame,
    batch: pd.DataFrame,
    contract: Contract,
    effective_fractions: EffectiveFractions,
) -> list[DegenerateColumn]:
    """Find the columns of the model's inputs that are empty or constant in the batch alone."""
    names = contract.input_names
    max_probability = FAMILY_WISE_ALPHA / max(1, len(names))
    findings = []
    for name, values in contract.select_inputs(batch).items():
        reference_values = contract.columns[name].parse_values(reference[name])
        degenerate, n_values = _inspect_column(name, reference_values, values)
        if (
            degenerate
            and degenerate.reference_share ** (n_values * effective_fractions.batch)
            < max_probability
        ):
            findings.append(degenerate)
    return findings


def _inspect_column(
    name: str, reference: pd.Series, batch: pd.Series
) -> tuple[DegenerateColumn | None, int]:
    """Return the column if the batch holds one value of it, and how many rows hold it."""
    if batch.isna().all():
        return DegenerateColumn(name, np.nan, float(reference.isna().mean())), len(batch)
    values = batch.dropna()
    if len(values) < MIN_VALUES or values.nunique() > 1:
        return None, len(values)
    share = float((reference.dropna() == values.iloc[0]).mean()) if reference.notna().any() else 1.0
    return DegenerateColumn(name, values.iloc[0], share), len(values)
