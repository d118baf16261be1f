"""Violations: every place where a frame breaks a contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.errors import ViolationError

if TYPE_CHECKING:
    from modelbook.contract.document import Contract

SHOWN = 10  # that an error message lists; the rest is counted
COLUMNS = ["row", "column", "value", "rule"]
Found = tuple[Any, Any, str]  # rows, values and rule of one column


def find(contract: Contract, frame: pd.DataFrame, *, target: bool = True) -> pd.DataFrame:
    """Every violation, as a table.

    Parameters
    ----------
    frame : DataFrame
        The rows to check, one column for each of the contract's; the parts of dates may stand beside them.
    target : bool
        Whether the target must be there (a batch may come before its outcomes).

    Returns
    -------
    DataFrame
        Columns ``row`` (0-based position; missing for a whole column), ``column``, ``value``, ``rule``; by row.
    """
    # Positions as index make "row" mean the same whatever the frame's own index is.
    frame = contract.known(frame.reset_index(drop=True))
    whole = [(pd.NA, name, None, rule) for name, rule in _columns(contract, frame, target)]
    told = [pd.DataFrame(whole, columns=COLUMNS)]
    for name in contract.columns:
        if name in frame.columns:
            for rows, values, rule in _values(contract, name, frame[name]):
                told.append(pd.DataFrame({"row": rows, "column": name, "value": values, "rule": rule}))
    told.append(_keys(contract, frame))
    found = [table for table in told if len(table)] or told[:1]
    table = pd.concat([table.astype({"value": object}) for table in found], ignore_index=True).astype({"row": "Int64"})
    return table.sort_values(["row", "column"], na_position="first", ignore_index=True)


def sentence(violation: Any) -> str:
    """One violation in words."""
    if pd.isna(violation.row):
        return f"column {violation.column}: {violation.rule}"
    return f"row {violation.row}: {violation.column} = {violation.value!r}: {violation.rule}"


def refuse(found: pd.DataFrame, table: str) -> None:
    """Raise ViolationError where something was found; ``table`` is what the message calls it."""
    if found.empty:
        return
    lines = [f"    {sentence(violation)}" for violation in found.head(SHOWN).itertuples()]
    more = f"\n    and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    raise ViolationError(
        f"{table} breaks its contract in {len(found):,} places\n" + "\n".join(lines) + more,
        next="mend the table, or, if the table is right, change the contract and have the change reviewed",
    )


def _columns(contract: Contract, frame: pd.DataFrame, target: bool) -> Iterator[tuple[str, str]]:
    for name, column in contract.columns.items():
        if name not in frame.columns and (target or column.role != "target"):
            yield name, "the contract wants this column"
    for name in frame.columns:
        if name not in contract.columns and name not in contract.seen:
            yield name, "not in the contract"


def _values(contract: Contract, name: str, values: pd.Series) -> Iterator[Found]:
    column = contract.columns[name]
    if not column.nullable:
        rows = np.flatnonzero(values.isna())
        yield rows, values.iloc[rows], "must not be missing"
    rows = np.flatnonzero(~column.holds(values))
    yield rows, values.iloc[rows], f"must be {column.rule()}"


def _keys(contract: Contract, frame: pd.DataFrame) -> pd.DataFrame:
    key = contract.key if set(contract.key) <= set(frame.columns) else []  # a part of a key may well occur twice
    rows: Any = np.flatnonzero(frame.duplicated(key, keep=False)) if key else []
    rule = f"({', '.join(contract.key)}) must not occur twice"
    values = frame[key[0]].iloc[rows] if key else []
    return pd.DataFrame({"row": rows, "column": key[0] if key else "", "value": values, "rule": rule})
