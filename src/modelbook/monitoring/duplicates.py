"""Duplicate rows: rows of a batch that repeat an earlier row in every feature, beyond chance.

Two rows of the reference agree in every feature with some probability (Simpson's index of its
rows). From it and the number of rows follows how many duplicates to expect by chance: almost none
if features are finely measured, many if they are a few codes. If a file is sent twice, half of its
rows are duplicates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.contract import Contract


class DuplicateShare(NamedTuple):
    """Share of a batch's rows that repeat an earlier row, and the largest share due to chance."""

    share: float = 0.0
    expected_max: float = 1.0


NOT_MEASURED = DuplicateShare()  # value for a batch that was not evaluated


def measure_duplicates(
    batch: pd.DataFrame, reference: pd.DataFrame, contract: Contract
) -> DuplicateShare:
    """Measure the share of duplicate rows in a batch; neither table may be empty."""
    names = contract.input_names
    batch_counts, reference_counts = (
        np.unique(pd.util.hash_pandas_object(table[names], index=False), return_counts=True)[1]
        for table in (batch, reference)
    )
    reference_rows, batch_rows = len(reference), len(batch)
    pairs = float((reference_counts * (reference_counts - 1) / 2).sum())
    max_pair_rate = (pairs + 3 * np.sqrt(pairs) + 5) / max(
        reference_rows * (reference_rows - 1) / 2, 1
    )  # beyond Poisson's 99.8 %
    return DuplicateShare(
        1 - len(batch_counts) / batch_rows, float(min(1.0, max_pair_rate * (batch_rows - 1) / 2))
    )
