"""Delimited text files: detect the dialect from the beginning, then check every line against it."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

DELIMITERS = ",;\t|^~"
SAMPLE_BYTES = 1 << 20  # bytes from which the dialect is detected
SAMPLE_LINES = 200
CANDIDATE_ENCODINGS = [
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
]
NUMBER_PATTERN = r"[-+]?\d+{mark}\d+"


@dataclass(frozen=True)
class Dialect:
    """Encoding, delimiter, decimal mark and header of a file."""

    encoding: str
    delimiter: str
    decimal: str
    header: list[str]
    zero_padded_columns: list[str]  # columns with leading zeros: identifiers, read as text


def read_delimited(
    path: Path,
    display_name: str,
    compression: str | None,
    layout: FileLayout,
    missing_markers: list[str],
    column_names: list[str] | None,
) -> pd.DataFrame:
    """Read a delimited text file.

    Parameters
    ----------
    compression : str or None
        Compression by pandas' name.
    column_names : list of str or None
        Column names of a file without a header. None: from the header, or numbered.
    """
    import pandas as pd

    dialect = detect_dialect(path, display_name, compression, layout)
    columns = _resolve_column_names(dialect, display_name, layout, column_names)
    _check_field_counts(path, display_name, compression, dialect)
    try:
        frame = pd.read_csv(
            path,
            sep=dialect.delimiter,
            encoding=dialect.encoding,
            decimal=dialect.decimal,
            compression=compression,
            header=0 if layout.header else None,
            names=columns,
            index_col=False,
            na_values=missing_markers or None,
            dtype=dict.fromkeys(
                [columns[dialect.header.index(name)] for name in dialect.zero_padded_columns], str
            ),
            low_memory=False,
        )
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{display_name} is empty",
            expected="a header and at least one row",
            next="check the file",
        ) from None
    frame.attrs["encoding"] = dialect.encoding
    return frame


def detect_dialect(
    path: Path, display_name: str, compression: str | None, layout: FileLayout
) -> Dialect:
    """Detect the dialect of a file; settings in ``layout`` take precedence."""
    encoding = layout.encoding or _detect_encoding(path, display_name, compression)
    try:
        with _open_decompressed(path, compression) as file:
            start = file.read(SAMPLE_BYTES)
        text = start.decode(encoding, errors="ignore" if len(start) == SAMPLE_BYTES else "strict")
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f"{display_name} is not in the encoding {encoding}: {error}",
            next="correct it in the contract",
        ) from None
    lines = [line for line in text.splitlines()[:SAMPLE_LINES] if line.strip()]
    if not lines:
        raise DataError(
            f"{display_name} is empty",
            expected="a header and at least one row",
            next="check the file",
        )
    delimiter = layout.delimiter or _detect_delimiter(lines)
    header, *rows = csv.reader(lines, delimiter=delimiter)
    fields = [field.strip() for row in rows for field in row]
    zero_padded_columns = [
        header[index]
        for index in range(len(header))
        if any(re.fullmatch(r"0\d+", row[index].strip()) for row in rows if index < len(row))
    ]
    return Dialect(
        encoding,
        delimiter,
        layout.decimal or _detect_decimal_mark(fields, delimiter),
        header,
        zero_padded_columns,
    )


def _detect_encoding(path: Path, display_name: str, compression: str | None) -> str:
    """UTF-8 if every line decodes, otherwise the best guess from the lines that do not."""
    undecodable_lines = []
    with _open_decompressed(path, compression) as file:
        start = file.read(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
    with _open_decompressed(path, compression) as file:
        for line in file:
            if not line.isascii():
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    undecodable_lines.append(line)
                    if len(undecodable_lines) == SAMPLE_LINES:
                        break
    if not undecodable_lines:
        return "utf-8-sig"  # also reads files without a byte order mark
    from charset_normalizer import from_bytes

    best = from_bytes(
        b"".join(undecodable_lines), cp_isolation=CANDIDATE_ENCODINGS, threshold=0.5
    ).best()
    if best is None:
        raise DataError(
            (
                f"{display_name} is not UTF-8, and its encoding cannot be detected: "
                f"{undecodable_lines[0][:60]!r}"
            ),
            expected="text in UTF-8",
            next="save it as UTF-8, or name its encoding in the contract (file: {encoding: ...})",
        )
    return best.encoding


def _detect_delimiter(lines: list[str]) -> str:
    """The delimiter that gives the most consistent number of fields; a comma if none does."""
    best = (0.0, 0, ",")
    for delimiter in DELIMITERS:
        counts = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter))
        fields, frequency = max(counts.items(), key=lambda item: (item[1], item[0]))
        if fields > 1:
            best = max(best, (round(frequency / sum(counts.values()), 1), fields, delimiter))
    return best[2]


def _detect_decimal_mark(fields: list[str], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    points, commas = (
        sum(bool(re.fullmatch(NUMBER_PATTERN.format(mark=mark), field)) for field in fields)
        for mark in (r"\.", ",")
    )
    return "," if commas > points else "."


def _resolve_column_names(
    dialect: Dialect, display_name: str, layout: FileLayout, column_names: list[str] | None
) -> list[str]:
    header = [field.strip() for field in dialect.header]
    if layout.header:
        counts = Counter(field for field in header if field)
        if duplicates := [field for field, count in counts.items() if count > 1]:
            raise DataError(
                f"{display_name} has more than one column {duplicates[0]!r}",
                expected="a unique name for each column",
                next="rename them in the file",
            )
        return [field or f"column {position}" for position, field in enumerate(header, 1)]
    if column_names and len(column_names) != len(header):
        raise DataError(
            f"{display_name} has {len(header)} columns, and {len(column_names)} names were given",
            next="name each, in the file's order",
        )
    return column_names or [f"column {position}" for position in range(1, len(header) + 1)]


def _check_field_counts(
    path: Path, display_name: str, compression: str | None, dialect: Dialect
) -> None:
    """Raise if a line has another number of fields: pandas would pad short and cut long lines."""
    from pyarrow import ArrowInvalid
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    ragged_rows: list[Any] = []

    def collect_ragged_row(row: Any) -> str:
        ragged_rows.append(row)
        return "skip" if len(ragged_rows) < 5 else "error"

    read_options = ReadOptions(
        encoding=dialect.encoding.removesuffix("-sig"),
        use_threads=False,
        autogenerate_column_names=True,
    )
    parse_options = ParseOptions(
        delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=collect_ragged_row
    )
    convert_options = ConvertOptions(
        include_columns=["f0"], column_types={"f0": "string"}, check_utf8=False
    )
    with _open_decompressed(path, compression) as file:
        try:
            for _ in open_csv(file, read_options, parse_options, convert_options):
                if ragged_rows:
                    break
        except ArrowInvalid:
            if not ragged_rows:
                raise
    if ragged_rows:
        lines = ", ".join(f"{row.number} has {row.actual_columns}" for row in ragged_rows[:3])
        raise DataError(
            (
                f"{display_name} is ragged: the first line has {len(dialect.header)} fields, "
                f"line {lines}"
            ),
            expected=f"the same number of fields in each line, separated by {dialect.delimiter!r}",
            next="fix these lines; quote fields that contain the delimiter",
        )


def _open_decompressed(path: Path, compression: str | None) -> IO[bytes]:
    from pandas.io.common import get_handle

    return get_handle(path, "rb", compression=compression, is_text=False).handle
