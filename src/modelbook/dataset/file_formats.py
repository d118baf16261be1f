"""File formats, detected from the content rather than from the file name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

COMPRESSION_SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
SUPPORTED_FORMATS = (
    "CSV, TSV, Parquet, Excel (.xlsx) or JSON lines, optionally compressed by gzip, bz2, xz, "
    "zstd or zip"
)


def read_file(
    path: Path,
    display_name: str,
    layout: FileLayout,
    missing_markers: list[str],
    column_names: list[str] | None,
) -> pd.DataFrame:
    """Read a file of any supported format; ``display_name`` is its name in messages.

    Raises
    ------
    DataError
        If it is empty, damaged, or of no supported format.
    """
    import pandas as pd

    from modelbook.dataset import delimited

    if path.stat().st_size == 0:
        raise DataError(
            f"{display_name} is empty",
            expected="a header and at least one row",
            next="check the table's path",
        )
    try:
        compression = _detect_compression(path)
        start = _read_first_bytes(path, compression, display_name)
        if start.startswith(b"PAR1"):
            return pd.read_parquet(path)
        if start.startswith(b"PK\x03\x04"):
            return _read_excel(path, display_name, layout)
        _reject_unsupported(start, display_name)
        if start.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"[") and _is_json(start):
            return _read_json(path, compression, start)
        return delimited.read_delimited(
            path, display_name, compression, layout, missing_markers, column_names
        )
    except (
        ValueError,
        KeyError,
        EOFError,
        OverflowError,
        zipfile.BadZipFile,
    ) as error:  # ArrowInvalid is a ValueError
        raise DataError(
            f"{display_name} cannot be read: {str(error)[:300]}",
            expected=SUPPORTED_FORMATS,
            next="check the file",
        ) from None


def _detect_compression(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return None if "[Content_Types].xml" in archive.namelist() else "zip"
    return next(
        (
            compression
            for signature, compression in COMPRESSION_SIGNATURES.items()
            if start.startswith(signature)
        ),
        None,
    )


def _read_first_bytes(path: Path, compression: str | None, display_name: str) -> bytes:
    """The first bytes after decompression."""
    from pandas.io.common import get_handle

    try:
        with get_handle(path, "rb", compression=compression, is_text=False) as handles:
            return handles.handle.read(1 << 16)
    except (OSError, EOFError, ValueError, ImportError) as error:
        raise DataError(
            f"{display_name} cannot be decompressed: {error}",
            expected="one complete table",
            next="check the file",
        ) from None


def _reject_unsupported(first_bytes: bytes, display_name: str) -> None:
    problem = ""
    if first_bytes.lstrip()[:200].lower().startswith((b"<!doctype html", b"<html")):
        problem = "is a web page"
    elif first_bytes.startswith(b"\xd0\xcf\x11\xe0"):
        problem = "is an old Excel file (.xls); save it as .xlsx"
    elif first_bytes.startswith(b"%PDF"):
        problem = "is a PDF"
    elif b"\x00" in first_bytes and not first_bytes.startswith((b"\xff\xfe", b"\xfe\xff")):
        problem = "contains no text"
    if problem:
        raise DataError(
            f"{display_name} is not a table: it {problem}",
            expected=SUPPORTED_FORMATS,
            next="check the path or address",
        )


def _is_json(first_bytes: bytes) -> bool:
    text = first_bytes.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith("["):
        return text[1:].lstrip().startswith("{")
    try:
        return isinstance(json.JSONDecoder().raw_decode(text)[0], dict)
    except ValueError:
        return len(first_bytes) == 1 << 16  # the first line is longer than what was read


def _read_json(path: Path, compression: str | None, first_bytes: bytes) -> pd.DataFrame:
    import pandas as pd

    lines = not first_bytes.decode("utf-8-sig", errors="replace").lstrip().startswith("[")
    frame = pd.read_json(
        path,
        lines=lines,
        orient="records",
        compression=compression,
        convert_dates=False,
        dtype=False,
        precise_float=True,
    )
    for column in frame.select_dtypes(object):
        if frame[column].map(lambda value: isinstance(value, dict | list)).any():
            raise ValueError(
                f"the field {column!r} contains lists or objects; a table needs one value per cell"
            )
    return frame


def _read_excel(path: Path, display_name: str, layout: FileLayout) -> pd.DataFrame:
    import pandas as pd

    with pd.ExcelFile(path, engine="openpyxl") as book:
        if layout.sheet is not None and layout.sheet not in book.sheet_names:
            raise DataError(
                f"{display_name} has no sheet {layout.sheet!r}",
                expected=f"one of {', '.join(map(str, book.sheet_names))}",
                next="correct `sheet` under `file` in the contract",
            )
        return book.parse(layout.sheet or 0, header=0 if layout.header else None)
