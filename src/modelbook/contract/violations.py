"""Find and describe violations of a contract in a frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.contract.parsing import normalize_texts
from modelbook.errors import ContractViolationError
from modelbook.formatting import format_count

if TYPE_CHECKING:
    from modelbook.contract.contract import Contract

MAX_LISTED = 10  # violations that an error message lists; the rest are counted
COLUMNS = ["row", "column", "value", "rule"]


def find_violations(
    contract: Contract, frame: pd.DataFrame, *, require_target: bool = True
) -> pd.DataFrame:
    """Return every violation as a table.

    Parameters
    ----------
    frame : DataFrame
        Rows to check, with the contract's columns; features derived from them may be present, too.
    require_target : bool
        Whether the target column is required; a batch may arrive before its outcomes.

    Returns
    -------
    DataFrame
        Columns ``row`` (0-based position; missing for a column-level violation), ``column``,
        ``value`` and ``rule``, sorted by row.
    """
    # Reset the index, so that "row" is a position whatever the frame's index is.
    frame = contract.mask_missing_markers(frame.reset_index(drop=True))
    column_violations = [
        (pd.NA, name, None, rule)
        for name, rule in _find_column_violations(contract, frame, require_target)
    ]
    tables = [pd.DataFrame(column_violations, columns=COLUMNS)]
    for name in contract.columns:
        if name in frame.columns:
            for rows, values, rule in _find_value_violations(contract, name, frame[name]):
                tables.append(
                    pd.DataFrame({"row": rows, "column": name, "value": values, "rule": rule})
                )
    tables.append(_find_duplicate_keys(contract, frame))
    nonempty_tables = [table for table in tables if len(table)] or tables[:1]
    table = pd.concat(
        [table.astype({"value": object}) for table in nonempty_tables], ignore_index=True
    ).astype({"row": "Int64"})
    return table.sort_values(["row", "column"], na_position="first", ignore_index=True)


def describe_violation(violation: Any) -> str:
    """Describe one violation."""
    if pd.isna(violation.row):
        return f"column {violation.column}: {violation.rule}"
    return f"row {violation.row}: {violation.column} = {violation.value!r}: {violation.rule}"


def raise_on_violations(violations: pd.DataFrame, table_name: str) -> None:
    """Raise ContractViolationError when there are violations of ``table_name``."""
    if violations.empty:
        return
    lines = [
        f"    {describe_violation(violation)}"
        for violation in violations.head(MAX_LISTED).itertuples()
    ]
    remainder = (
        f"\n    and {len(violations) - MAX_LISTED:,} more" if len(violations) > MAX_LISTED else ""
    )
    raise ContractViolationError(
        f"{table_name} violates its contract in {format_count(len(violations), 'place')}\n"
        + "\n".join(lines)
        + remainder,
        next="correct the table; if the table is right, change the contract and have it reviewed",
    )


def _find_column_violations(
    contract: Contract, frame: pd.DataFrame, require_target: bool
) -> Iterator[tuple[str, str]]:
    for name, column in contract.columns.items():
        if name not in frame.columns and (require_target or column.role != "target"):
            yield name, "required by the contract, but missing"
    for name in frame.columns:
        if name not in contract.columns and name not in contract.model_features:
            yield name, "not in the contract"


def _find_value_violations(
    contract: Contract, name: str, values: pd.Series
) -> Iterator[tuple[pd.Index, pd.Series, str]]:
    """Yield the rows and values that break a rule of one column, and the rule."""
    column = contract.columns[name]
    is_target = name == contract.target
    if is_target and contract.excluded_classes:
        values = values[~normalize_texts(values).isin(contract.excluded_classes)]
    if not (column.nullable or (is_target and contract.missing_target == "exclude")):
        missing = values[values.isna()]
        yield missing.index, missing, "must not be missing"
    invalid = values[~column.find_valid(values)]
    yield invalid.index, invalid, f"must be {column.describe_allowed_values()}"


def _find_duplicate_keys(contract: Contract, frame: pd.DataFrame) -> pd.DataFrame:
    # Single columns of a composite key may repeat, so all of them are needed.
    key = contract.key if set(contract.key) <= set(frame.columns) else []
    rows: Any = np.flatnonzero(frame.duplicated(key, keep=False)) if key else []
    rule = f"the key ({', '.join(contract.key)}) must be unique"
    values = frame[key[0]].iloc[rows] if key else []
    return pd.DataFrame(
        {"row": rows, "column": key[0] if key else "", "value": values, "rule": rule}
    )
