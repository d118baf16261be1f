"""Read a table from any supported source, normalise it, and fingerprint it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.dataset.source import resolve_source
from modelbook.errors import DataError
from modelbook.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract
    from modelbook.contract.file_layout import FileLayout


ROW = "\0row"  # a column name that no table uses


def read_table(table: str, root: Path, contract: Contract | None = None) -> pd.DataFrame:
    """Read a table with its values unchanged.

    Parameters
    ----------
    table : str
        Name of a bundled table; path of a file, relative to ``root``; URL of a file (``https://``,
        ``s3://``); or URL of a database, followed by ``#`` and a query. ``${NAME}`` in a URL is
        replaced by the environment variable.
    root : Path
        The project's folder.
    contract : Contract, optional
        Provides the file layout (``file``) and the missing-value markers (``missing``).

    Raises
    ------
    DataError
        If the table is absent, unreachable, not a table, or changes during the read.
    """
    from modelbook.contract.file_layout import FileLayout

    layout, missing = (contract.file, contract.missing) if contract else (FileLayout(), [])
    names = list(contract.columns) if contract and not layout.header else None
    frame = read_without_contract(table, root, layout, missing, names)
    if contract:
        _check_readable(frame, contract, table)
    return frame


def _check_readable(frame: pd.DataFrame, contract: Contract, table: str) -> None:
    """Raise if the frame has no rows, or a single column that suggests a wrong delimiter."""
    first_column = str(frame.columns[0]) if len(frame.columns) else ""
    if len(frame.columns) < 2 < len(contract.columns) and first_column not in contract.columns:
        raise DataError(
            f"{redact(table)} has only one column, {first_column[:100]!r}",
            expected=f"the {len(contract.columns)} columns of the contract",
            next="check the table; name its delimiter in the contract (file: {delimiter: ...})",
        )
    if frame.empty:
        raise DataError(
            f"{redact(table)} has no rows",
            expected="at least one",
            next="check the table, or the query",
        )


def read_without_contract(
    table: str,
    root: Path,
    layout: FileLayout,
    missing_markers: list[str],
    column_names: list[str] | None = None,
) -> pd.DataFrame:
    """Read a table without a contract; ``column_names`` are for a file without a header."""
    return normalize_columns(
        resolve_source(table, root).read(layout, missing_markers, column_names), table
    )


def normalize_columns(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Give columns stripped, unique names and plain NumPy dtypes."""
    import pandas as pd

    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    if duplicates := frame.columns[frame.columns.duplicated()].unique().tolist():
        raise DataError(
            f"{redact(table)} has more than one column {duplicates[0]!r}",
            expected="a unique name for each column",
            next="rename them in the table, or in the query",
        )
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype | pd.StringDtype):
            frame[name] = frame[name].astype(object)
        elif (
            isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype)
            and frame[name].dtype.kind in "biuf"
        ):
            frame[name] = frame[name].to_numpy("float64", na_value=float("nan"))
    return frame


def quick_fingerprint(table: str, root: Path) -> str:
    """Cheap change detection: a version, a digest, or the server's metadata (ETag, size, mtime)."""
    return resolve_source(table, root).quick_fingerprint()


def sort_rows(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Sort rows by the contract's key, with ties broken by a hash of the whole row.

    Fits depend on row order. Sorting makes them independent of the order in the table.
    """
    import pandas as pd

    key_columns = [name for name in contract.key if name in frame]
    row_hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    sort_columns = [*key_columns, ROW]
    ordered = frame.assign(**{ROW: row_hashes}).sort_values(
        sort_columns, kind="stable", ignore_index=True
    )
    return ordered.drop(columns=ROW)


def fingerprint(frame: pd.DataFrame) -> str:
    """SHA-256 over column names and types in order, and rows in any order."""
    import numpy as np
    import pandas as pd

    columns = [(name, str(dtype)) for name, dtype in frame.dtypes.items()]
    rows = np.sort(pd.util.hash_pandas_object(frame, index=False).to_numpy())
    return hashlib.sha256(repr(columns).encode() + rows.tobytes()).hexdigest()
