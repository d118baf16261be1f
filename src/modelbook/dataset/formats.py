"""Kinds of files, told apart by what is in them rather than by their names."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.layout import Layout

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
READ = "CSV, TSV, Parquet, Excel (.xlsx) or JSON lines, also packed by gzip, bz2, xz, zstd or zip"


def load(path: Path, name: str, layout: Layout, missing: list[str], names: list[str] | None) -> pd.DataFrame:
    """Read a file; ``name`` is what messages call it.

    Raises
    ------
    DataError
        When it is empty, of none of the kinds, or damaged.
    """
    import pandas as pd

    from modelbook.dataset import delimited

    if path.stat().st_size == 0:
        raise DataError(f"{name} is empty", expected="a header and at least one row", next="check the table's path")
    try:
        packing = _packing(path)
        start = _start(path, packing, name)
        if start.startswith(b"PAR1"):
            return pd.read_parquet(path)
        if start.startswith(b"PK\x03\x04"):
            return _excel(path, name, layout)
        _refuse(start, name)
        if start.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"[") and _is_json(start):
            return _json(path, packing, start)
        return delimited.load(path, name, packing, layout, missing, names)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"{name} cannot be read: {str(error)[:300]}", expected=READ, next="check the file") from None


def _packing(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return None if "[Content_Types].xml" in archive.namelist() else "zip"
    return next((packing for mark, packing in PACKED.items() if start.startswith(mark)), None)


def _start(path: Path, packing: str | None, name: str) -> bytes:
    """The first bytes of what is packed."""
    from pandas.io.common import get_handle

    try:
        with get_handle(path, "rb", compression=packing, is_text=False) as handles:
            return handles.handle.read(1 << 16)
    except (OSError, EOFError, ValueError, ImportError) as error:
        raise DataError(
            f"{name} cannot be unpacked: {error}", expected="one table, packed whole", next="check the file"
        ) from None


def _refuse(start: bytes, name: str) -> None:
    told = ""
    if start.lstrip()[:200].lower().startswith((b"<!doctype html", b"<html")):
        told = "is a web page"
    elif start.startswith(b"\xd0\xcf\x11\xe0"):
        told = "is an Excel file of the old kind (.xls); save it as .xlsx"
    elif b"\x00" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        told = "holds no text"
    if told:
        raise DataError(f"{name} is no table: it {told}", expected=READ, next="check the path or address")


def _is_json(start: bytes) -> bool:
    first = start.decode("utf-8-sig", errors="replace").lstrip()
    if first.startswith("["):
        return first[1:].lstrip().startswith("{")
    try:
        return isinstance(json.JSONDecoder().raw_decode(first)[0], dict)
    except ValueError:
        return len(start) == 1 << 16  # a first line that is longer than what was read


def _json(path: Path, packing: str | None, start: bytes) -> pd.DataFrame:
    import pandas as pd

    lines = not start.decode("utf-8-sig", errors="replace").lstrip().startswith("[")
    frame = pd.read_json(
        path, lines=lines, orient="records", compression=packing, convert_dates=False, dtype=False, precise_float=True
    )
    for column in frame.select_dtypes(object):
        if frame[column].map(lambda value: isinstance(value, dict | list)).any():
            raise ValueError(f"the field {column!r} holds lists or objects; a table has one value in a cell")
    return frame


def _excel(path: Path, name: str, layout: Layout) -> pd.DataFrame:
    import pandas as pd

    with pd.ExcelFile(path, engine="openpyxl") as book:
        if layout.sheet is not None and layout.sheet not in book.sheet_names:
            raise DataError(
                f"{name} has no sheet {layout.sheet!r}", expected=f"one of {', '.join(map(str, book.sheet_names))}",
                next="correct `sheet` under `file` in the contract",
            )  # fmt: skip
        return book.parse(layout.sheet or 0, header=0 if layout.header else None)
