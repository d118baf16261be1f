"""Delimited text files: read every cell as text, after checking every line's number of fields."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from modelbook.contract.text_layout import SAMPLE_LINES, TextLayout, find_text_layout
from modelbook.dataset.encodings import detect_encoding
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

SAMPLE_BYTES = 1 << 20  # bytes from which the layout is detected


def read_delimited(
    path: Path,
    display_name: str,
    compression: str | None,
    layout: FileLayout,
    column_names: list[str] | None,
) -> tuple[pd.DataFrame, TextLayout]:
    """Read a delimited text file; every cell is text, an empty one too.

    Texts are Arrow's, which take a fraction of the memory of Python's; the reader converts one
    column at a time.

    Parameters
    ----------
    compression : str or None
        Compression by pandas' name.
    column_names : list of str or None
        Column names of a file without a header. None: from the header, or numbered.
    """
    import pandas as pd

    text_layout = detect_layout(path, display_name, compression, layout, column_names)
    if layout.comment:  # Arrow knows no comments
        chunks = read_text_chunks(path, display_name, compression, layout, text_layout, None)
        frame = next(iter(chunks), pd.DataFrame(columns=text_layout.columns, dtype=object))
        return frame, text_layout
    batches, n_rows = _parse_lines(path, display_name, compression, layout, text_layout)
    table = pa.Table.from_batches(batches).rename_columns(text_layout.columns)
    table = table.slice(layout.header, n_rows)
    return table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get), text_layout


def read_text_chunks(
    path: Path,
    display_name: str,
    compression: str | None,
    layout: FileLayout,
    text_layout: TextLayout,
    chunk_rows: int | None,
) -> Iterator[pd.DataFrame]:
    """Read a text file in chunks of rows (None: one chunk); every cell is text.

    Raises
    ------
    DataError
        When a line has another number of fields than the header.
    """
    import pandas as pd

    _, n_rows = _parse_lines(
        path, display_name, compression, layout, text_layout, include_columns=["f0"]
    )
    if not n_rows:
        return
    with open_decompressed(path, compression, layout.member) as file:
        chunks = pd.read_csv(
            file,
            sep=text_layout.delimiter,
            encoding=text_layout.encoding,
            header=0 if layout.header else None,
            names=text_layout.columns,
            skiprows=text_layout.skip_rows,
            comment=layout.comment,
            nrows=n_rows,
            chunksize=chunk_rows or n_rows,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            low_memory=False,
        )
        yield from chunks


def detect_layout(
    path: Path,
    display_name: str,
    compression: str | None,
    layout: FileLayout,
    column_names: list[str] | None = None,
) -> TextLayout:
    """Detect a file's layout; settings in ``layout`` take precedence."""
    with open_decompressed(path, compression, layout.member) as file:
        encoding = detect_encoding(file, layout.encoding, display_name)
    with open_decompressed(path, compression, layout.member) as file:
        start = file.read(SAMPLE_BYTES)
    try:
        text = start.decode(encoding, errors="ignore" if len(start) == SAMPLE_BYTES else "strict")
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f"{display_name} is not in the encoding {encoding}: {error}",
            next="correct it in the contract",
        ) from None
    return find_text_layout(text, encoding, layout, display_name, column_names)


def _parse_lines(
    path: Path,
    display_name: str,
    compression: str | None,
    layout: FileLayout,
    text_layout: TextLayout,
    include_columns: list[str] | None = None,
) -> tuple[list[pa.RecordBatch], int]:
    """Parse all lines into columns of text named f0, f1, ..., and count the rows.

    The header is the first of the lines, and not counted.

    Raises
    ------
    DataError
        When a line has another number of fields than the header: pandas would pad short lines and
        cut long ones.
    """
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    ragged_rows: list[Any] = []
    limit = layout.skip_footer + SAMPLE_LINES

    def collect_ragged_row(row: Any) -> str:
        if layout.comment and row.text.lstrip().startswith(layout.comment):
            return "skip"
        ragged_rows.append(row)
        return "skip" if len(ragged_rows) < limit else "error"

    read_options = ReadOptions(
        encoding=text_layout.encoding.removesuffix("-sig"),
        use_threads=False,
        skip_rows=text_layout.skip_rows,
        autogenerate_column_names=True,
    )
    parse_options = ParseOptions(
        delimiter=text_layout.delimiter,
        newlines_in_values=True,
        invalid_row_handler=collect_ragged_row,
    )
    names = [f"f{position}" for position in range(len(text_layout.columns))]
    convert_options = ConvertOptions(
        include_columns=include_columns, column_types=dict.fromkeys(names, pa.string())
    )
    batches: list[pa.RecordBatch] = []
    with open_decompressed(path, compression, layout.member) as file:
        try:
            batches.extend(open_csv(file, read_options, parse_options, convert_options))
        except pa.ArrowInvalid:
            if not ragged_rows:
                raise
    n_rows = sum(map(len, batches)) + len(ragged_rows) - layout.header - layout.skip_footer
    if len(ragged_rows) > layout.skip_footer:
        _raise_on_ragged_rows(ragged_rows, display_name, text_layout)
    return batches, max(n_rows, 0)


def _raise_on_ragged_rows(
    ragged_rows: list[Any], display_name: str, text_layout: TextLayout
) -> None:
    delimiter = text_layout.delimiter
    numbers = ", ".join(
        f"{row.number + text_layout.skip_rows} has {row.actual_columns}" for row in ragged_rows[:3]
    )
    raise DataError(
        (
            f"{display_name} is ragged: the first line has {len(text_layout.columns)} fields, "
            f"line {numbers}"
        ),
        expected=f"the same number of fields in each line, separated by {delimiter!r}",
        next="fix these lines; quote fields that contain the delimiter; leave out lines before "
        "and after the table (--skip-rows, --skip-footer; in a contract, under file)",
    )


def open_decompressed(path: Path, compression: str | None, member: str | None = None) -> IO[bytes]:
    """Open a file, decompressed; ``member`` names the file of a zip archive that holds several."""
    if compression == "zip":
        return _open_member(path, member)
    from pandas.io.common import get_handle

    return get_handle(path, "rb", compression=compression, is_text=False).handle


def _open_member(path: Path, member: str | None) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        names = [
            name
            for name in archive.namelist()
            if not name.endswith("/") and not name.startswith("__MACOSX/")
        ]
        if member is None and len(names) == 1:
            member = names[0]
        if member not in names:
            raise DataError(
                f"{path.name} holds {len(names)} files"
                + (f", and not {member!r}" if member else ""),
                expected=f"one of {', '.join(names[:20])}",
                next="name it: --member (in a contract, file: {member: ...})",
            )
        return io.BytesIO(archive.read(member))
