"""Violations: every place where a frame breaks a contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pandera.pandas as pa

if TYPE_CHECKING:
    from modelbook.contract.document import Contract

WHOLE = {"column_in_dataframe": "the contract wants this column", "column_in_schema": "not in the contract"}


def find(contract: Contract, frame: pd.DataFrame, *, target: bool = True) -> pd.DataFrame:
    """Every violation, as a table.

    Parameters
    ----------
    frame : DataFrame
        The rows to check, one column for each of the contract's.
    target : bool
        Whether the target must be there (a batch may come before its outcomes).

    Returns
    -------
    DataFrame
        Columns ``row`` (0-based position; missing for a whole column), ``column``, ``value``, ``rule``.
    """
    # Positions as index make "row" mean the same whatever the frame's own index is.
    frame = frame.reset_index(drop=True)
    try:
        _schema(contract, frame, target).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        return _table(contract, error.failure_cases)
    return pd.DataFrame(columns=["row", "column", "value", "rule"])


def sentence(violation: Any) -> str:
    """One violation in words."""
    if pd.isna(violation.row):
        return f"column {violation.column}: {violation.rule}"
    return f"row {violation.row}: {violation.column} = {violation.value!r}: {violation.rule}"


def _schema(contract: Contract, frame: pd.DataFrame, target: bool) -> pa.DataFrameSchema:
    required = {
        name: column
        for name, column in contract.columns.items()
        if target or column.role != "target" or name in frame.columns
    }
    columns = {
        name: pa.Column(nullable=column.nullable, checks=pa.Check(column.holds, name="rule", ignore_na=False))
        for name, column in required.items()
    }
    unique = [name for name in contract.key if name in frame.columns]
    return pa.DataFrameSchema(columns, strict=True, unique=unique or None)


def _table(contract: Contract, cases: pd.DataFrame) -> pd.DataFrame:
    told = []
    for case in cases.itertuples():
        if case.check in WHOLE:
            told.append((case.index, case.failure_case, None, WHOLE[case.check]))
        elif case.check == "not_nullable":
            told.append((case.index, case.column, case.failure_case, "must not be missing"))
        elif case.check != "multiple_fields_uniqueness":
            rule = f"must be {contract.columns[case.column].rule()}"
            told.append((case.index, case.column, case.failure_case, rule))
        elif case.column == contract.key[0]:  # pandera tells a row once for each column of the key
            rule = f"({', '.join(contract.key)}) must not occur twice"
            told.append((case.index, case.column, case.failure_case, rule))
    table = pd.DataFrame(told, columns=["row", "column", "value", "rule"]).astype({"row": "Int64"})
    return table.sort_values(["row", "column"], na_position="first", ignore_index=True)
