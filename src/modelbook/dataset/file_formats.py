"""File formats, detected from the content rather than from the file name."""

from __future__ import annotations

import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelbook.contract.text_layout import UTF16_BOMS
from modelbook.dataset import excel
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

FileFormat = Literal["text", "parquet", "excel", "json"]
COMPRESSION_SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# First bytes of other kinds of files: what they are, and how to make a table of them.
UNSUPPORTED_SIGNATURES = {
    b"\xd0\xcf\x11\xe0": ("is an old Excel file (.xls)", "save it as .xlsx"),
    b"%PDF": ("is a PDF", "ask for the table as CSV"),
    b"SQLite format 3": ("is an SQLite database", "name a table: sqlite:///PATH --query TABLE"),
    b"\x89HDF": ("is an HDF5 file", "write the table as Parquet"),
    b"<stata_dta>": (
        "is a Stata file",
        "write it as Parquet: pandas.read_stata(...).to_parquet(...)",
    ),
    b"$FL2": ("is an SPSS file", "write it as Parquet: pandas.read_spss(...).to_parquet(...)"),
    b"\x80\x04": ("is a pickle", "write the table as Parquet: frame.to_parquet(...)"),
    b"\x80\x05": ("is a pickle", "write the table as Parquet: frame.to_parquet(...)"),
    b"PK\x05\x06": ("is an empty zip archive", "check the path or URL"),
    b"\xff\xfe\x00\x00": ("is encoded in UTF-32", "save it as UTF-8"),
    b"\x00\x00\xfe\xff": ("is encoded in UTF-32", "save it as UTF-8"),
}
# Signatures that a header could also begin with: only used if the file has control bytes.
AMBIGUOUS_SIGNATURES = {
    b"ARROW1": (
        "is a Feather file",
        "write it as Parquet: pandas.read_feather(...).to_parquet(...)",
    ),
    b"FEA1": ("is a Feather file", "write it as Parquet: pandas.read_feather(...).to_parquet(...)"),
    b"ORC": ("is an ORC file", "write it as Parquet: pandas.read_orc(...).to_parquet(...)"),
}
TAR_SIGNATURE = (257, b"ustar")
# What readers raise for a damaged file; ArrowInvalid is a ValueError.
READ_ERRORS = (
    ValueError,
    KeyError,
    EOFError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
FIRST_BYTES = 1 << 16  # bytes from which the format is detected
SUPPORTED_FORMATS = (
    "CSV, TSV or JSON (lines, or an array of records), optionally compressed by gzip, bz2, xz, "
    "zstd or zip; Parquet; or Excel (.xlsx)"
)


def read_file(
    path: Path, display_name: str, layout: FileLayout, column_names: list[str] | None
) -> tuple[pd.DataFrame, FileLayout]:
    """Read a file of any supported format; ``display_name`` is its name in messages.

    Returns
    -------
    DataFrame, FileLayout
        The table as the file has it (cells of a text file are text), and the layout with what was
        detected.

    Raises
    ------
    DataError
        If it is empty, damaged, or of no supported format.
    """
    if path.stat().st_size == 0:
        raise DataError(
            f"{display_name} is empty",
            expected="a header and at least one row",
            next="check the table's path",
        )
    try:
        return _read_by_format(path, display_name, layout, column_names)
    except READ_ERRORS as error:
        raise DataError(
            f"{display_name} cannot be read: {str(error)[:300]}",
            expected=SUPPORTED_FORMATS,
            next="check the file",
        ) from None


def _read_by_format(
    path: Path, display_name: str, layout: FileLayout, column_names: list[str] | None
) -> tuple[pd.DataFrame, FileLayout]:
    import pandas as pd

    from modelbook.dataset import delimited

    compression = detect_compression(path)
    file_format, first_bytes = detect_format(path, compression, display_name, layout)
    if file_format == "parquet":
        return reset_named_index(pd.read_parquet(path)), layout
    if file_format == "excel":
        return excel.read_sheet(path, display_name, layout, column_names)
    if file_format == "json":
        return _read_json(path, compression, first_bytes, layout), layout
    text_file = delimited.TextFile(path, display_name, compression, layout)
    frame, detected = delimited.read_delimited(text_file, column_names)
    names = ("delimiter", "encoding", "decimal", "skip_rows")
    return frame, layout.model_copy(update={name: getattr(detected, name) for name in names})


def detect_format(
    path: Path, compression: str | None, display_name: str, layout: FileLayout
) -> tuple[FileFormat, bytes]:
    """Detect a file's format from its content; returns it with the first bytes.

    Raises
    ------
    DataError
        If the format is not supported.
    """
    first_bytes = _read_first_bytes(path, compression, display_name, layout.member)
    is_parquet = first_bytes.startswith(b"PAR1") and _has_control_bytes(first_bytes)
    is_excel = first_bytes.startswith(b"PK\x03\x04")
    if compression and (is_parquet or is_excel):
        raise DataError(
            f"{display_name} holds a compressed {'Parquet' if is_parquet else 'Excel or zip'} file",
            expected="a Parquet or Excel file that is not compressed, or a compressed text file",
            next="unpack it",
        )
    if is_parquet:
        return "parquet", first_bytes
    if is_excel:
        return "excel", first_bytes
    _reject_unsupported(first_bytes, display_name)
    if first_bytes.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"[") and _is_json(first_bytes):
        return "json", first_bytes
    return "text", first_bytes


def reset_named_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Make a column of each index that has a name, as a Parquet file may have."""
    names = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=names).reset_index(drop=True) if names else frame


def detect_compression(path: Path) -> str | None:
    """Detect the compression from the content, as pandas names it; None if uncompressed, or Excel.

    Raises BadZipFile for a damaged zip archive.
    """
    with path.open("rb") as file:
        first_bytes = file.read(6)
    if first_bytes.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return None if "[Content_Types].xml" in archive.namelist() else "zip"
    return next(
        (
            compression
            for signature, compression in COMPRESSION_SIGNATURES.items()
            if first_bytes.startswith(signature)
        ),
        None,
    )


def _read_first_bytes(
    path: Path, compression: str | None, display_name: str, member: str | None
) -> bytes:
    """The first bytes after decompression."""
    from modelbook.dataset.delimited import open_decompressed

    try:
        with open_decompressed(path, compression, member) as file:
            return file.read(FIRST_BYTES)
    except (OSError, ImportError, *READ_ERRORS) as error:
        raise DataError(
            f"{display_name} cannot be decompressed: {str(error)[:300]}",
            expected="a complete file, if compressed by gzip, bz2, xz, zstd or zip",
            next="check the file",
        ) from None


def _reject_unsupported(first_bytes: bytes, display_name: str) -> None:
    """Raise DataError if the first bytes are those of an unsupported format, or of no text."""
    problem, remedy = "", "check the path or URL"
    tar_offset, tar_signature = TAR_SIGNATURE
    signatures = {
        **UNSUPPORTED_SIGNATURES,
        **(AMBIGUOUS_SIGNATURES if _has_control_bytes(first_bytes) else {}),
    }
    if first_bytes.lstrip()[:200].lower().startswith((b"<!doctype html", b"<html")):
        problem = "is a web page"
    elif first_bytes[tar_offset:].startswith(tar_signature):
        problem, remedy = "is a tar archive", "unpack it"
    elif first_bytes.startswith(tuple(signatures)):
        problem, remedy = next(
            text for signature, text in signatures.items() if first_bytes.startswith(signature)
        )
    elif b"\x00" in first_bytes and not first_bytes.startswith(UTF16_BOMS):
        problem, remedy = _describe_null_bytes(first_bytes)
    if problem:
        raise DataError(
            f"{display_name} cannot be read as a table: it {problem}",
            expected=SUPPORTED_FORMATS,
            next=remedy,
        )


def _has_control_bytes(first_bytes: bytes) -> bool:
    """Whether there are control bytes that 8-bit text (UTF-8, Latin-1) does not contain."""
    return bool(re.search(rb"[\x00-\x08]", first_bytes))


def _describe_null_bytes(first_bytes: bytes) -> tuple[str, str]:
    """What a file with null bytes is, and what to do."""
    nulls = [first_bytes[offset::2].count(0) / (len(first_bytes) / 2) for offset in (0, 1)]
    if max(nulls) > 0.6 and min(nulls) < 0.1:
        return "is encoded in UTF-16 without a byte order mark", "save it as UTF-8"
    if not re.search(rb"[\x01-\x08]", first_bytes):
        line = first_bytes[: first_bytes.index(0)].count(b"\n") + 1
        return f"contains a null byte in line {line}", "remove the null bytes"
    return "contains no text", "check the path or URL"


def _is_json(first_bytes: bytes) -> bool:
    text = first_bytes.decode("utf-8-sig", errors="replace").lstrip()
    if text.startswith("["):
        return text[1:].lstrip().startswith("{")
    try:
        return isinstance(json.JSONDecoder().raw_decode(text)[0], dict)
    except ValueError:
        return len(first_bytes) == FIRST_BYTES  # the first line is longer than what was read


def _read_json(
    path: Path, compression: str | None, first_bytes: bytes, layout: FileLayout
) -> pd.DataFrame:
    import pandas as pd

    from modelbook.dataset.delimited import open_decompressed

    is_json_lines = not first_bytes.decode("utf-8-sig", errors="replace").lstrip().startswith("[")
    try:
        with open_decompressed(path, compression, layout.member) as file:
            return pd.read_json(
                file,
                lines=is_json_lines,
                orient="records",
                convert_dates=False,
                dtype=False,
                precise_float=True,
            )
    except ValueError:
        if not is_json_lines:
            raise
        with open_decompressed(path, compression, layout.member) as file:
            _raise_at_invalid_line(file)
        raise


def _raise_at_invalid_line(lines: Iterable[bytes]) -> None:
    """Raise ValueError with the first line that is not JSON."""
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line.strip() or b"null")  # pandas skips blank lines
        except ValueError:
            text = line.decode("utf-8", "replace").strip()
            raise ValueError(f"line {number} is not a JSON object: {text[:80]!r}") from None
