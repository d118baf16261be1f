"""Read a table from any supported source, normalise it, and fingerprint it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.contract.parsing import (
    MISSING_VALUE_TEXTS,
    DecimalMark,
    mask_missing_markers,
    mask_out_of_range_timestamps,
    may_contain_text,
    parse_float_texts,
)
from modelbook.contract.text_layout import clean_column_name
from modelbook.dataset import arrow_text
from modelbook.dataset.source import resolve_source
from modelbook.errors import DataError
from modelbook.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Column, Contract
    from modelbook.contract.file_layout import FileLayout


TEXT_DTYPES = ["object", "string"]
NUMBER_TYPES = ("number", "integer", "boolean")
ROW = "\0row"  # a column name that no table uses


def read_table(table: str, root: Path, contract: Contract | None = None) -> pd.DataFrame:
    """Read a table with its values unchanged.

    Parameters
    ----------
    table : str
        Name of a bundled table; path of a file, relative to ``root``; URL of a file (``https://``,
        ``s3://``); or URL of a database, followed by ``#`` and a query. ``${NAME}`` in a URL is
        replaced by the environment variable.
    contract : Contract, optional
        Provides the file layout (``file``) and the missing-value markers (``missing``).

    Raises
    ------
    DataError
        If the table is absent, unreachable, not a table, or changes during the read.
    """
    from modelbook.contract.file_layout import FileLayout

    if contract is None:
        return read_without_contract(table, root, FileLayout(), [])[0]
    names = None if contract.file.header else list(contract.columns)
    frame, layout = resolve_source(table, root).read(contract.file, names)
    frame = read_text_columns(normalize_columns(frame, table), contract, layout.decimal or ".")
    _check_readable(frame, contract, table)
    return frame


def read_text_columns(
    frame: pd.DataFrame, contract: Contract, decimal: DecimalMark = "."
) -> pd.DataFrame:
    """Read the columns of texts by the contract; others are left."""
    for name in frame.select_dtypes(TEXT_DTYPES):
        cells = frame[name]
        column = contract.columns.get(name)
        if column and not column.number_format and column.type in NUMBER_TYPES and decimal == ".":
            numbers = arrow_text.to_numbers(cells, [*MISSING_VALUE_TEXTS, *contract.missing])
            if numbers is not None:
                frame[name] = numbers
                continue
        cells = cells.astype(object)
        if column:
            cells = read_text_column(cells, column, contract.missing, decimal)
        frame[name] = cells
    return frame


def read_text_column(
    cells: pd.Series, column: Column, missing_markers: list[str], decimal: DecimalMark
) -> pd.Series:
    """Parse a text column by its contract: missing values become NaN, plain numbers numeric.

    Texts that the column's type does not allow are left, to be shown as violations.
    """
    import pandas as pd

    if pd.api.types.infer_dtype(cells, skipna=True) != "string":
        return cells
    cells = mask_missing_markers(column.clean_cells(cells, decimal), missing_markers)
    if column.number_format or column.type not in NUMBER_TYPES:
        return cells
    numbers = parse_float_texts(cells)
    return numbers if numbers.notna().equals(cells.notna()) else cells


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
) -> tuple[pd.DataFrame, FileLayout]:
    """Read a table without a contract; the layout holds what was detected, too.

    A column becomes numeric only if all its texts are numbers that can be read in one way; codes
    with leading zeros and numbers of more digits than a float holds stay text.
    """
    frame, detected_layout = resolve_source(table, root).read(layout, column_names)
    frame = normalize_columns(frame, table)
    for name in frame.select_dtypes(TEXT_DTYPES):
        numbers = (
            arrow_text.to_clear_numbers(frame[name], [*MISSING_VALUE_TEXTS, *missing_markers])
            if detected_layout.decimal == "."
            else None
        )
        frame[name] = (
            _infer_numbers(frame[name].astype(object), missing_markers, detected_layout.decimal)
            if numbers is None
            else numbers
        )
    return frame, detected_layout


def _infer_numbers(cells: pd.Series, missing_markers: list[str], decimal: str | None) -> pd.Series:
    import pandas as pd

    if pd.api.types.infer_dtype(cells, skipna=True) != "string":
        return cells
    texts = cells.str.strip()
    cells = mask_missing_markers(cells.where(~texts.isin(MISSING_VALUE_TEXTS)), missing_markers)
    if decimal is None:
        return cells
    if not cells.notna().any():
        return cells.astype("float64")
    if texts.where(cells.notna()).str.fullmatch(arrow_text.CODE_TEXT).any():
        return cells
    if decimal == ",":
        points = texts.where(cells.notna()).str.replace(",", ".", regex=False)
        is_clear = ~texts.where(cells.notna()).str.contains(".", regex=False, na=False).any()
        numbers = parse_float_texts(points) if is_clear else cells
    else:
        numbers = parse_float_texts(cells)
    return (
        numbers
        if not may_contain_text(numbers) and numbers.notna().equals(cells.notna())
        else cells
    )


def normalize_columns(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Give columns clean, unique names and plain NumPy dtypes.

    Dates out of range become missing, and ``attrs["clipped_dates"]`` counts them by column.

    Raises
    ------
    DataError
        If two columns have one name, or a column holds lists, objects or bytes, or values of a type
        that no reader of rows knows.
    """
    import pandas as pd

    frame.columns = pd.Index([clean_column_name(name) for name in frame.columns])
    if duplicates := frame.columns[frame.columns.duplicated()].unique().tolist():
        raise DataError(
            f"{redact(table)} has more than one column {duplicates[0]!r}",
            expected="a unique name for each column",
            next="rename them in the table, or in the query",
        )
    for name in frame.columns:
        frame[name] = _decode_bytes(frame[name], table)
        _check_values(frame[name], table)
        if frame[name].dtype.kind == "M":
            n_dates = int(frame[name].notna().sum())
            frame[name] = mask_out_of_range_timestamps(frame[name])
            if n_clipped := n_dates - int(frame[name].notna().sum()):
                frame.attrs.setdefault("clipped_dates", {})[str(name)] = n_clipped
        elif frame[name].dtype.name in ("category", "str"):
            frame[name] = frame[name].astype(object)
        elif (
            isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype)
            and frame[name].dtype.kind in "biuf"
        ):
            frame[name] = frame[name].to_numpy("float64", na_value=float("nan"))
    return frame


def _decode_bytes(values: pd.Series, table: str) -> pd.Series:
    """Read bytes as UTF-8: older writers of Parquet store texts so."""
    import pandas as pd

    if values.dtype != object or pd.api.types.infer_dtype(values, skipna=True) != "bytes":
        return values
    try:
        return values.map(bytes.decode, na_action="ignore")
    except UnicodeDecodeError:
        raise DataError(
            f"the column {values.name!r} of {redact(table)} has bytes that are not valid UTF-8",
            expected="numbers, texts, dates or booleans",
            next="convert it, or remove it from the table",
        ) from None


def _check_values(values: pd.Series, table: str) -> None:
    import numpy as np
    import pandas as pd

    if isinstance(values.dtype, pd.PeriodDtype | pd.IntervalDtype):
        raise DataError(
            f"the column {values.name!r} of {redact(table)} has the type {values.dtype}",
            expected="numbers, texts, dates or booleans",
            next="convert it, such as periods to dates: frame[column].dt.to_timestamp()",
        )
    if values.dtype != object:
        return
    if values.map(lambda value: isinstance(value, dict | list | tuple | set | np.ndarray)).any():
        raise DataError(
            f"the column {values.name!r} of {redact(table)} contains lists or objects",
            expected="one value in each cell",
            next="split it into columns of one value each, or remove it from the table",
        )


def compute_source_digest(table: str, root: Path) -> str:
    """Cheap change detection: a version, a digest, or the server's metadata (ETag, size, mtime)."""
    return resolve_source(table, root).compute_source_digest()


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
