"""Labelled batches join a table, through the contract that the table keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.dataset.read import read
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract


def batch(file: str, root: Path, contract: Contract) -> pd.DataFrame:
    """The rows of a labelled batch, conformed.

    Raises
    ------
    DataError, ViolationError
        When it cannot be read, has no outcomes, or breaks the contract.
    """
    from modelbook.contract import violations

    found = read(file, root, contract)
    gaps = len(found) if contract.target not in found else int(contract.known(found)[contract.target].isna().sum())
    if gaps:
        raise DataError(
            f"{file} has no outcome ({contract.target}) for {gaps:,} of its {len(found):,} rows",
            expected="a batch whose outcomes are known", next="join it later, or take out the rows without an outcome",
        )  # fmt: skip
    violations.refuse(contract.violations(found), file)
    return contract.conform(found)


def join(table: pd.DataFrame, rows: pd.DataFrame, contract: Contract, name: str) -> pd.DataFrame:
    """The rows of a batch that a table does not have yet; both conformed.

    Parameters
    ----------
    name : str
        What a message calls the batch.

    Raises
    ------
    DataError
        When the table has a row of the same key and other values: one of the two is wrong.
    """
    key, there = _marks(rows, contract.key), _marks(table, contract.key)
    known = key.isin(there)
    other = known & ~_marks(rows, []).isin(_marks(table, []))
    if other.any():
        first = rows[other].iloc[0]
        told = ", ".join(f"{column} = {first[column]}" for column in contract.key)
        raise DataError(
            f"{name} has {int(other.sum()):,} rows that the table has already, with other values; the first: {told}",
            expected="new rows, or the very same",
            next="see which is right; mend the table, or take them out of the batch",
        )  # fmt: skip
    return rows[~known]


def missing(table: pd.DataFrame, rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Those of ``rows``, which joined before, whose key the table has not: where it has it by now, it is right."""
    return rows[~_marks(rows, contract.key).isin(_marks(table, contract.key))]


def _marks(rows: pd.DataFrame, key: list[str]) -> pd.Series:
    """A hash of each row's key; without a key, of all that it holds."""
    import pandas as pd

    return pd.util.hash_pandas_object(rows[key] if key else rows, index=False)
