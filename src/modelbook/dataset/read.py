"""Where a table comes from, and what it is known by."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = ("rand-hie",)


def read(table: str, root: Path) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    table : str
        Name of a bundled table, or path of a ``.csv`` or ``.parquet`` file, relative to ``root``.
    root : Path
        The project's folder.

    Raises
    ------
    DataError
        When the file is absent, is neither of the two, or cannot be read.
    """
    import pandas as pd

    if table in BUNDLED:
        from modelbook.dataset.bundled import TABLES

        return TABLES[table]()
    path = locate(table, root)
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path} is empty", expected="a header and at least one row", next="check the table's path"
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", expected=f"a {path.suffix} table", next="check the file"
        ) from None


def locate(table: str, root: Path) -> Path:
    """The file that a table's name means; raises DataError where there is none."""
    path = root / table
    if path.suffix not in {".csv", ".parquet"}:
        close = get_close_matches(table, BUNDLED, n=1)
        raise DataError(
            f"{table!r} is no table" + (f"; did you mean {close[0]!r}?" if close else ""),
            expected=f"a bundled table ({', '.join(BUNDLED)}) or a path that ends in .csv or .parquet",
            next="name it with the parameter `table` (env.yaml)",
        )
    if not path.is_file():
        raise DataError(f"there is no file {path}", next="check the path; in a build, the parameter `table` (env.yaml)")
    return path


def state(table: str, root: Path) -> str:
    """What tells cheaply whether a table has changed: the bundled source's version, or the file's digest."""
    if table in BUNDLED:
        return f"statsmodels {version('statsmodels')}"
    with locate(table, root).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(frame: pd.DataFrame) -> str:
    """SHA-256 over column names, types and values, in order; the index does not count."""
    import pandas as pd

    digest = hashlib.sha256(repr([(name, str(kind)) for name, kind in frame.dtypes.items()]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()
