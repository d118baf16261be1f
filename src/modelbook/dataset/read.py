"""Read a table from wherever it stands, and tell what it is known by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.dataset.source import find
from modelbook.errors import DataError
from modelbook.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract
    from modelbook.contract.layout import Layout


ROW = "\0row"  # a column's name that no table has


def read(table: str, root: Path, contract: Contract | None = None) -> pd.DataFrame:
    """Read a table, every value as it stands there.

    Parameters
    ----------
    table : str
        Name of a bundled table; path of a file, relative to ``root``; address of one (``https://``, ``s3://``); or
        URL of a database with a query behind ``#``. ``${NAME}`` in an address stands for an environment variable.
    root : Path
        The project's folder.
    contract : Contract, optional
        Its ``file`` says how the file is read, and its ``missing`` which texts are gaps.

    Raises
    ------
    DataError
        When the table is absent, cannot be reached, is none, or changes while it is read.
    """
    from modelbook.contract.layout import Layout

    layout, missing = (contract.file, contract.missing) if contract else (Layout(), [])
    names = list(contract.columns) if contract and not layout.header else None
    frame = load(table, root, layout, missing, names)
    if contract:
        _check(frame, contract, table)
    return frame


def _check(frame: pd.DataFrame, contract: Contract, table: str) -> None:
    """Raise where there is nothing that a contract could be held against."""
    first = str(frame.columns[0]) if len(frame.columns) else ""
    if len(frame.columns) < 2 < len(contract.columns) and first not in contract.columns:
        raise DataError(
            f"{redact(table)} has one column only, {first[:100]!r}",
            expected=f"the {len(contract.columns)} columns of the contract",
            next="check the table; name what parts its fields in the contract (file: {delimiter: ...})",
        )
    if frame.empty:
        raise DataError(f"{redact(table)} has no rows", expected="at least one", next="check the table, or the query")


def load(table: str, root: Path, layout: Layout, missing: list[str], names: list[str] | None = None) -> pd.DataFrame:
    """Read a table that no contract describes yet; ``names`` are those of a file without a header."""
    return tidy(find(table, root).read(layout, missing, names), table)


def tidy(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Columns named by text without blanks around it, each once, of pandas' ordinary types."""
    import pandas as pd

    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    if twice := frame.columns[frame.columns.duplicated()].unique().tolist():
        raise DataError(
            f"{redact(table)} has more than one column {twice[0]!r}",
            expected="a name of its own for each column", next="rename them in the table, or in the query",
        )  # fmt: skip
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype | pd.StringDtype):
            frame[name] = frame[name].astype(object)
        elif isinstance(frame[name].dtype, pd.api.extensions.ExtensionDtype) and frame[name].dtype.kind in "biuf":
            frame[name] = frame[name].to_numpy("float64", na_value=float("nan"))
    return frame


def state(table: str, root: Path) -> str:
    """What tells cheaply whether a table has changed: a version, a digest, or what its server says of it."""
    return find(table, root).state()


def sort_rows(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Rows in the order of the contract's key; by all that they hold where keys are equal or none.

    Fits depend on the order of their rows. So sorted, a table gives the same models in any order.
    """
    import pandas as pd

    key = [name for name in contract.key if name in frame]
    hashed = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    by = [*key, ROW]
    ordered = frame.assign(**{ROW: hashed}).sort_values(by, kind="stable", ignore_index=True)
    return ordered.drop(columns=ROW)


def fingerprint(frame: pd.DataFrame) -> str:
    """SHA-256 over column names and types in order, and rows in any order."""
    import numpy as np
    import pandas as pd

    columns = [(name, str(kind)) for name, kind in frame.dtypes.items()]
    rows = np.sort(pd.util.hash_pandas_object(frame, index=False).to_numpy())
    return hashlib.sha256(repr(columns).encode() + rows.tobytes()).hexdigest()
