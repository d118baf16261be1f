"""Text files: find delimiter, header line, decimal mark and column names, without pandas.

The service reads uploads with it, and so do ingest, ``check``, ``score`` and ``new``.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from modelbook.contract.file_layout import FileLayout
from modelbook.contract.parsing import DecimalMark
from modelbook.errors import DataError
from modelbook.formatting import format_count

DELIMITERS = ",;\t|^~"
SAMPLE_LINES = 200  # lines from which delimiter and header line are found
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
NUMBER_TEXT = re.compile(r"[-+]?\d+([.,]\d+)?")


@dataclass(frozen=True)
class TextLayout:
    """Encoding, delimiter, decimal mark, lines before the header, and clean column names."""

    encoding: str
    delimiter: str
    decimal: DecimalMark
    skip_rows: int
    columns: list[str]


def clean_column_name(name: object) -> str:
    """Convert blank-like characters (no-break spaces, newlines) to blanks, and strip them."""
    text = "".join(
        " " if unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc") else character
        for character in str(name)
        if unicodedata.category(character) != "Cf"  # byte order marks and zero-width characters
    )
    return " ".join(text.split())


def clean_column_names(names: Iterable[object]) -> list[str]:
    """Clean column names; a column without a name gets its position, as ``column 2``."""
    return [
        clean_column_name(name) or f"column {position}" for position, name in enumerate(names, 1)
    ]


def name_columns_without_header(
    n_columns: int, names: list[str] | None, display_name: str
) -> list[str]:
    """Return the names of the columns, numbered ones if ``names`` has none.

    Raises
    ------
    DataError
        If ``names`` and columns differ in number.
    """
    if names and len(names) != n_columns:
        raise DataError(
            f"{display_name} has {format_count(n_columns, 'column')}, and "
            f"{format_count(len(names), 'name was', 'names were')} given",
            next="name each column, in the order of the file",
        )
    return names or clean_column_names([""] * n_columns)


def find_text_layout(
    start: str,
    encoding: str,
    layout: FileLayout,
    display_name: str,
    column_names: list[str] | None = None,
    required_columns: Collection[str] = (),
) -> TextLayout:
    """Find how a text is laid out from its beginning.

    Settings in ``layout`` are used where they fit the text: ``skip_rows`` is 0 if the first line
    has the required columns, a delimiter that is in no line is detected instead, and so is the
    decimal mark if the delimiter is a comma that ``layout`` does not set. A first line such as
    ``sep=;`` takes precedence.

    Parameters
    ----------
    start : str
        The first lines of the text.
    column_names : list of str, optional
        Column names of a text without a header.
    required_columns : collection of str, optional
        If the first line contains all of these, it is the header, and no line is skipped.

    Raises
    ------
    DataError
        If there is no line to read, or the names of the columns are not unique or differ from them
        in number.
    """
    lines = _read_first_lines(start)
    if not any(line.strip() for line in lines):
        raise DataError(
            f"{display_name} is empty",
            expected="a header and at least one row",
            next="check the file",
        )
    separator = SEPARATOR_LINE.fullmatch(lines[0].strip("\ufeff\r\n"))
    data_lines = lines[1:] if separator else lines
    delimiter = _choose_delimiter(data_lines, layout, separator[1] if separator else None)
    skip_rows = layout.skip_rows
    first_cells = next(iter(read_cells(lines[:1], delimiter, layout.comment)), [])
    if required_columns and set(required_columns) <= set(clean_column_names(first_cells)):
        skip_rows = 0
    if skip_rows is None:
        skip_rows = bool(separator) + _count_preamble(data_lines, delimiter)
    rows = read_cells(lines[skip_rows:], delimiter, layout.comment)
    if not rows:
        raise DataError(
            f"{display_name} has no line after the first {skip_rows}",
            next="correct the number of skipped lines (--skip-rows; file: {skip_rows: ...})",
        )
    names = _name_columns(rows, display_name, layout, column_names)
    body = rows[1:] if layout.header else rows
    decimal = layout.decimal
    if decimal is None or delimiter == "," != layout.delimiter:
        decimal = detect_decimal_mark([cell for row in body for cell in row], delimiter)
    return TextLayout(encoding, delimiter, decimal, skip_rows, names)


def read_cells(lines: Iterable[str], delimiter: str, comment: str | None) -> list[list[str]]:
    """Split lines into cells; blank lines and comments are ignored."""
    if comment:
        lines = (line.partition(comment)[0] for line in lines)
    return [row for row in csv.reader(lines, delimiter=delimiter) if any(map(str.strip, row))]


def detect_decimal_mark(cells: list[str], delimiter: str) -> DecimalMark:
    """Return the comma if a cell is a number only with a decimal comma, and none only with a point.

    Otherwise the point.
    """
    if delimiter == ",":
        return "."
    numbers = [cell.strip() for cell in cells if NUMBER_TEXT.fullmatch(cell.strip())]
    with_comma, with_point = (
        any(mark in number and not _fits_thousands(number, mark) for number in numbers)
        for mark in ",."
    )
    return "," if with_comma and not with_point else "."


def _fits_thousands(number: str, mark: str) -> bool:
    return bool(re.fullmatch(rf"[-+]?[1-9]\d{{0,2}}\{mark}\d{{3}}", number))


def _read_first_lines(text: str) -> list[str]:
    lines = io.StringIO(text, newline=None)
    return [line for line, _ in zip(lines, range(SAMPLE_LINES))]


def _choose_delimiter(lines: list[str], layout: FileLayout, declared_delimiter: str | None) -> str:
    """Return the file's declared delimiter, the layout's if a line has it, or the detected one."""
    if declared_delimiter:
        return declared_delimiter
    if layout.delimiter and any(layout.delimiter in line for line in lines):
        return layout.delimiter
    return _detect_delimiter(lines) or layout.delimiter or ","


def _detect_delimiter(lines: list[str]) -> str | None:
    """Return the delimiter with the most consistent number of fields; None if none has two."""
    best: tuple[float, int, str | None] = (0.0, 0, None)
    for delimiter in DELIMITERS:
        counts = Counter(map(len, read_cells(lines, delimiter, None)))
        fields, frequency = max(counts.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
        if fields > 1:
            best = max(best, (round(frequency / sum(counts.values()), 1), fields, delimiter))
    return best[2]


def _count_preamble(lines: list[str], delimiter: str) -> int:
    """Count the lines before the table: titles and remarks of fewer fields than its rows have."""
    counts = Counter(len(row) for row in read_cells(lines, delimiter, None))
    common = max(counts, key=lambda fields: (counts[fields], fields), default=0)
    reader = csv.reader(lines, delimiter=delimiter)
    n_skipped = 0
    for row in reader:
        n_filled = sum(bool(cell.strip()) for cell in row)
        is_comment = row[:1] != [] and row[0].startswith("#") and len(row) != common
        if is_comment:
            n_skipped = reader.line_num
            continue
        if common < 3 or n_filled > common / 2 or (len(row) == common and n_filled > 1):
            break
        n_skipped = reader.line_num
    return n_skipped if n_skipped < len(lines) - 1 else 0


def _name_columns(
    rows: list[list[str]], display_name: str, layout: FileLayout, column_names: list[str] | None
) -> list[str]:
    if not layout.header:
        return name_columns_without_header(len(rows[0]), column_names, display_name)
    names = clean_column_names(rows[0])
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates and all(NUMBER_TEXT.fullmatch(name) for name in duplicates):
        raise DataError(
            f"the header line of {display_name} looks like data: {', '.join(names[:6])}",
            expected="names of columns",
            next='name the columns: --columns "first second ..."',
        )
    if duplicates:
        raise DataError(
            f"{display_name} has more than one column {duplicates[0]!r}",
            expected="a unique name for each column",
            next="rename them in the file",
        )
    return names
