"""The rows of the demo: the first years are its table; later years arrive live, damaged."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from modelbook.dataset.bundled import TRAINING_YEARS, load_rand_hie

WRONG_ZERO = 9999  # within the contract, so that the service accepts the rows
DAMAGED_COLUMNS = ["prev_meddol", "prev_outpdol", "prev_drugdol"]
DAMAGE = f"damaged: last year's spending of 0 arrives as {WRONG_ZERO:,}"


def write_training_table(path: Path) -> pd.DataFrame:
    """Write the rows of the training years as a table, and return the later rows, damaged."""
    rows = load_rand_hie()
    is_training_row = rows["year"].isin(TRAINING_YEARS)
    rows[is_training_row].to_parquet(path, index=False)
    return damage_rows(rows[~is_training_row])


def damage_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ``WRONG_ZERO`` in place of each 0 of the damaged columns."""
    return rows.assign(**{name: rows[name].replace(0, WRONG_ZERO) for name in DAMAGED_COLUMNS})
