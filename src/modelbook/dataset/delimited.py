"""Delimited text files: read every cell as text, after checking every line's number of fields."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from modelbook.contract.text_layout import SAMPLE_LINES, TextLayout, find_text_layout
from modelbook.dataset import footers
from modelbook.dataset.encodings import detect_encoding
from modelbook.dataset.footers import MAX_FOOTER_LINES
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

SAMPLE_BYTES = 1 << 20  # bytes from which the layout is detected


@dataclass(frozen=True)
class TextFile:
    """A delimited text file.

    Attributes
    ----------
    display_name : str
        Its name in messages.
    compression : str or None
        By pandas' name.
    layout : FileLayout
        What is known of its layout; the rest is detected.
    """

    path: Path
    display_name: str
    compression: str | None
    layout: FileLayout

    def open(self) -> IO[bytes]:
        """Open the file, decompressed."""
        return open_decompressed(self.path, self.compression, self.layout.member)


def read_delimited(
    file: TextFile, column_names: list[str] | None
) -> tuple[pd.DataFrame, TextLayout]:
    """Read a delimited text file; every cell is a string, empty cells too.

    Strings are backed by Arrow, which takes a fraction of the memory of Python's; the reader
    converts one column at a time.

    Parameters
    ----------
    column_names : list of str or None
        Column names of a file without a header. None: from the header, or numbered.
    """
    import pandas as pd

    detected_layout = detect_layout(file, column_names)
    if file.layout.comment:  # Arrow has no comments
        chunks = read_text_chunks(file, detected_layout, None)
        frame = next(iter(chunks), pd.DataFrame(columns=detected_layout.columns, dtype=object))
        return frame, detected_layout
    batches, n_rows, footer = _parse_lines(file, detected_layout)
    table = pa.Table.from_batches(batches).rename_columns(detected_layout.columns)
    table = table.slice(int(file.layout.header), n_rows)
    frame = table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    frame.attrs["footer"] = footer
    return frame, detected_layout


def read_text_chunks(
    file: TextFile, detected_layout: TextLayout, chunk_rows: int | None
) -> Iterator[pd.DataFrame]:
    """Read a text file in chunks of rows (None: one chunk); every cell is a string.

    Raises
    ------
    DataError
        When a line has another number of fields than the header.
    """
    import pandas as pd

    _, n_rows, _ = _parse_lines(file, detected_layout, include_columns=["f0"])
    if not n_rows:
        return
    with file.open() as lines:
        chunks = pd.read_csv(
            lines,
            sep=detected_layout.delimiter,
            encoding=detected_layout.encoding,
            header=0 if file.layout.header else None,
            names=detected_layout.columns,
            skiprows=detected_layout.skip_rows,
            comment=file.layout.comment,
            nrows=n_rows,
            chunksize=chunk_rows or n_rows,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            low_memory=False,
        )
        yield from chunks


def detect_layout(file: TextFile, column_names: list[str] | None = None) -> TextLayout:
    """Detect a file's layout; what is known of it takes precedence."""
    with file.open() as lines:
        encoding = detect_encoding(lines, file.layout.encoding, file.display_name)
    with file.open() as lines:
        start = lines.read(SAMPLE_BYTES)
    try:
        text = start.decode(encoding, errors="ignore" if len(start) == SAMPLE_BYTES else "strict")
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f"{file.display_name} is not in the encoding {encoding}: {error}",
            next="correct it in the contract",
        ) from None
    return find_text_layout(text, encoding, file.layout, file.display_name, column_names)


def _parse_lines(
    file: TextFile, detected_layout: TextLayout, include_columns: list[str] | None = None
) -> tuple[list[pa.RecordBatch], int, list[str]]:
    """Parse all lines into columns of text named f0, f1, ...; count the rows; find the footer.

    The header is the first of the lines, and not counted.

    Raises
    ------
    DataError
        When a line has another number of fields than the header: pandas would pad short lines and
        cut long ones.
    """
    layout = file.layout
    batches, ragged_rows, n_comments = _read_batches(file, detected_layout, include_columns)
    if include_columns and _needs_all_columns(batches, layout):
        return _parse_lines(file, detected_layout)
    n_parsed = sum(map(len, batches))
    n_lines = detected_layout.skip_rows + n_parsed + len(ragged_rows) + n_comments
    last_numbers = [*range(n_lines - len(ragged_rows) + 1, n_lines + 1)]
    is_at_end = [row.number for row in ragged_rows] == last_numbers
    lines = [row.text for row in ragged_rows]
    if not _is_allowed_footer(lines, is_at_end, layout):
        _raise_on_ragged_rows(ragged_rows, file.display_name, detected_layout)
    totals = _find_total_rows(batches, file, len(lines))
    footer = [*(detected_layout.delimiter.join(cells) for cells in totals), *lines]
    return batches, max(n_parsed - int(layout.header) - len(totals), 0), footer


def _read_batches(
    file: TextFile, detected_layout: TextLayout, include_columns: list[str] | None
) -> tuple[list[pa.RecordBatch], list[Any], int]:
    """Read all lines: those of the table, those with another number of fields, and comments."""
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    ragged_rows: list[Any] = []
    n_comments = 0
    comment = file.layout.comment
    limit = (file.layout.skip_footer or 0) + SAMPLE_LINES

    def collect_ragged_row(row: Any) -> str:
        nonlocal n_comments
        if comment and row.text.lstrip().startswith(comment):
            n_comments += 1
            return "skip"
        ragged_rows.append(row)
        return "skip" if len(ragged_rows) < limit else "error"

    read_options = ReadOptions(
        encoding=detected_layout.encoding.removesuffix("-sig"),
        use_threads=False,
        skip_rows=detected_layout.skip_rows,
        autogenerate_column_names=True,
    )
    parse_options = ParseOptions(
        delimiter=detected_layout.delimiter,
        newlines_in_values=True,
        invalid_row_handler=collect_ragged_row,
    )
    names = [f"f{position}" for position in range(len(detected_layout.columns))]
    convert_options = ConvertOptions(
        include_columns=include_columns, column_types=dict.fromkeys(names, pa.string())
    )
    batches: list[pa.RecordBatch] = []
    with file.open() as lines:
        try:
            batches.extend(open_csv(lines, read_options, parse_options, convert_options))
        except pa.ArrowInvalid:
            if not ragged_rows:
                raise
    return batches, ragged_rows, n_comments


def _is_allowed_footer(lines: list[str], is_at_end: bool, layout: FileLayout) -> bool:
    """Whether lines with another number of fields than the header are the file's footer."""
    if not lines:
        return True
    if layout.skip_footer is None:
        return is_at_end and footers.is_footer(lines)
    return is_at_end and len(lines) <= layout.skip_footer


def _find_total_rows(
    batches: list[pa.RecordBatch], file: TextFile, n_ragged: int
) -> list[list[str]]:
    """The footer's last rows with all fields, in addition to ``n_ragged`` ragged ones."""
    skip_footer = file.layout.skip_footer
    if skip_footer is None:
        return _read_last_cells(
            batches, footers.count_total_rows(_read_last_cells(batches, MAX_FOOTER_LINES))
        )
    rows = _read_last_cells(batches, skip_footer - n_ragged)
    _check_footer(rows, file.display_name)
    return rows


def _needs_all_columns(batches: list[pa.RecordBatch], layout: FileLayout) -> bool:
    """Whether all columns must be read to recognise the footer."""
    first_cells = [cells[0] for cells in _read_last_cells(batches, MAX_FOOTER_LINES)]
    return bool(layout.skip_footer) or any(map(footers.may_be_total, first_cells))


def _read_last_cells(batches: list[pa.RecordBatch], count: int) -> list[list[str]]:
    """Return the cells of the last rows."""
    if not batches or count <= 0:
        return []
    table = pa.Table.from_batches(batches)
    columns = table.slice(max(len(table) - count, 0)).to_pydict().values()
    return [list(cells) for cells in zip(*columns, strict=True)]


def _check_footer(rows: list[list[str]], display_name: str) -> None:
    """Raise when a line that is skipped as a footer has a value in each field."""
    for cells in rows:
        if footers.has_value_in_each_cell(cells):
            raise DataError(
                f"{display_name} ends with what looks like a row, not like a footer: "
                f"{', '.join(cells)[:100]}",
                expected="skip_footer: the number of lines of the footer",
                next="omit skip_footer: footers are detected in each file",
            )


def _raise_on_ragged_rows(
    ragged_rows: list[Any], display_name: str, detected_layout: TextLayout
) -> None:
    delimiter = detected_layout.delimiter
    numbers = ", ".join(f"{row.number} has {row.actual_columns}" for row in ragged_rows[:3])
    raise DataError(
        f"{display_name} is ragged: the table has {len(detected_layout.columns)} columns, "
        f"line {numbers}",
        expected=f"the same number of fields in each line, separated by {delimiter!r}",
        next="fix these lines; quote fields that contain the delimiter; skip lines before "
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
