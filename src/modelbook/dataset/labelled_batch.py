"""Labelled batches: check them against the contract and select the rows to add to a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.dataset.reader import read_table
from modelbook.errors import DataError
from modelbook.formatting import format_count

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


def read_labelled_batch(file: str, root: Path, contract: Contract) -> pd.DataFrame:
    """Read a labelled batch and conform its rows to the contract.

    Raises
    ------
    DataError, ContractViolationError
        If it cannot be read, lacks outcomes, or violates the contract.
    """
    from modelbook.contract import violations

    batch = read_table(file, root, contract)
    n_missing = (
        len(batch)
        if contract.target not in batch
        else int(contract.mask_missing_markers(batch)[contract.target].isna().sum())
    )
    if n_missing:
        raise DataError(
            f"{file} has no outcome ({contract.target}) for {n_missing:,} of its "
            f"{format_count(len(batch), 'row')}",
            expected="an outcome for every row",
            next="add the batch later, or remove the rows without an outcome",
        )
    violations.raise_on_violations(contract.find_violations(batch), file)
    return contract.conform(contract.select_training_rows(batch))


def select_new_rows(
    table: pd.DataFrame, batch: pd.DataFrame, contract: Contract, batch_name: str
) -> pd.DataFrame:
    """Select the rows of a batch that a table does not have yet; both conformed.

    Parameters
    ----------
    batch_name : str
        Name of the batch in messages.

    Raises
    ------
    DataError
        If the table has a row with the same key and different values.
    """
    batch_keys, table_keys = _hash_rows(batch, contract.key), _hash_rows(table, contract.key)
    is_in_table = batch_keys.isin(table_keys)
    is_conflict = is_in_table & ~_hash_rows(batch, []).isin(_hash_rows(table, []))
    if is_conflict.any():
        first_conflict = batch[is_conflict].iloc[0]
        key_text = ", ".join(f"{column} = {first_conflict[column]}" for column in contract.key)
        count_text = format_count(int(is_conflict.sum()), "row that is", "rows that are")
        raise DataError(
            f"{batch_name} has {count_text} already in the table with different values; "
            f"the first: {key_text}",
            expected="new rows, or identical ones",
            next="find out which values are right; then correct the table, or remove the rows "
            "from the batch",
        )
    return batch[~is_in_table]


def drop_rows_in_table(table: pd.DataFrame, rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Drop previously added rows whose key is in the table, which takes precedence."""
    return rows[~_hash_rows(rows, contract.key).isin(_hash_rows(table, contract.key))]


def _hash_rows(rows: pd.DataFrame, key: list[str]) -> pd.Series:
    """Hash each row's key, or all columns if the contract has no key."""
    import pandas as pd

    return pd.util.hash_pandas_object(rows[key] if key else rows, index=False)
