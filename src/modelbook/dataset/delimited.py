"""Text with a delimiter: how it is laid out is found out from its beginning, then every line is held to that."""

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

    from modelbook.contract.layout import Layout

DELIMITERS = ",;\t|^~"
BYTES = 1 << 20  # of the file, by which its layout is found out
LINES = 200
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "shift_jis", "gb18030", "big5", "euc_kr"]
NUMBER = r"[-+]?\d+{mark}\d+"


@dataclass(frozen=True)
class Found:
    """How a file is laid out."""

    encoding: str
    delimiter: str
    decimal: str
    header: list[str]
    codes: list[str]  # columns with leading zeros: numbers to look at, but not to reckon with


def load(
    path: Path, name: str, packing: str | None, layout: Layout, missing: list[str], names: list[str] | None
) -> pd.DataFrame:
    """Read a text file.

    Parameters
    ----------
    packing : str or None
        How it is packed, as pandas calls it.
    names : list of str or None
        Names of the columns of a file without a header; none, and the first line names them, or numbers do.
    """
    import pandas as pd

    found = look(path, name, packing, layout)
    columns = _named(found, name, layout, names)
    _check_lines(path, name, packing, found)
    try:
        return pd.read_csv(
            path, sep=found.delimiter, encoding=found.encoding, decimal=found.decimal, compression=packing,
            header=0 if layout.header else None, names=columns, index_col=False, na_values=missing or None,
            dtype=dict.fromkeys([columns[found.header.index(code)] for code in found.codes], str), low_memory=False,
        )  # fmt: skip
    except pd.errors.EmptyDataError:
        raise DataError(f"{name} is empty", expected="a header and at least one row", next="check the file") from None


def look(path: Path, name: str, packing: str | None, layout: Layout) -> Found:
    """Find out how a file is laid out; what ``layout`` says is taken as said."""
    encoding = layout.encoding or _encoding(path, name, packing)
    try:
        with _opened(path, packing) as file:
            start = file.read(BYTES)
        text = start.decode(encoding, errors="ignore" if len(start) == BYTES else "strict")
    except (LookupError, UnicodeError) as error:
        raise DataError(
            f"{name} is not in the encoding {encoding}: {error}", next="correct it in the contract"
        ) from None
    lines = [line for line in text.splitlines()[:LINES] if line.strip()]
    if not lines:
        raise DataError(f"{name} is empty", expected="a header and at least one row", next="check the file")
    delimiter = layout.delimiter or _delimiter(lines)
    header, *rows = csv.reader(lines, delimiter=delimiter)
    fields = [field.strip() for row in rows for field in row]
    codes = [
        header[place]
        for place in range(len(header))
        if any(re.fullmatch(r"0\d+", row[place].strip()) for row in rows if place < len(row))
    ]
    return Found(encoding, delimiter, layout.decimal or _decimal(fields, delimiter), header, codes)


def _encoding(path: Path, name: str, packing: str | None) -> str:
    """UTF-8 where all of it is, else what the lines that are not look like."""
    odd = []
    with _opened(path, packing) as file:
        start = file.read(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16"
    with _opened(path, packing) as file:
        for line in file:
            if not line.isascii():
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    odd.append(line)
                    if len(odd) == LINES:
                        break
    if not odd:
        return "utf-8-sig"  # reads what has no mark at its beginning as well
    from charset_normalizer import from_bytes

    best = from_bytes(b"".join(odd), cp_isolation=ENCODINGS, threshold=0.5).best()
    if best is None:
        raise DataError(
            f"{name} is not UTF-8, and what it is cannot be told: {odd[0][:60]!r}",
            expected="text in UTF-8",
            next="save it as UTF-8, or name its encoding in the contract (file: {encoding: ...})",
        )
    return best.encoding


def _delimiter(lines: list[str]) -> str:
    """The delimiter that cuts most lines into as many fields as the first; a comma where none does."""
    best = (0.0, 0, ",")
    for delimiter in DELIMITERS:
        counts = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter))
        fields, times = max(counts.items(), key=lambda item: (item[1], item[0]))
        if fields > 1:
            best = max(best, (round(times / sum(counts.values()), 1), fields, delimiter))
    return best[2]


def _decimal(fields: list[str], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    points, commas = (
        sum(bool(re.fullmatch(NUMBER.format(mark=mark), field)) for field in fields) for mark in (r"\.", ",")
    )
    return "," if commas > points else "."


def _named(found: Found, name: str, layout: Layout, names: list[str] | None) -> list[str]:
    header = [field.strip() for field in found.header]
    if layout.header:
        counts = Counter(field for field in header if field)
        if twice := [field for field, times in counts.items() if times > 1]:
            raise DataError(
                f"{name} has more than one column {twice[0]!r}",
                expected="a name of its own for each column", next="rename them in the file",
            )  # fmt: skip
        return [field or f"column {place}" for place, field in enumerate(header, 1)]
    if names and len(names) != len(header):
        raise DataError(
            f"{name} has {len(header)} columns, and {len(names)} names were given",
            next="name each, in the file's order",
        )
    return names or [f"column {place}" for place in range(1, len(header) + 1)]


def _check_lines(path: Path, name: str, packing: str | None, found: Found) -> None:
    """Every line has as many fields as the first: pandas would fill short ones with gaps, and cut long ones."""
    from pyarrow import ArrowInvalid
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "skip" if len(ragged) < 5 else "error"

    read = ReadOptions(encoding=found.encoding.removesuffix("-sig"), use_threads=False, autogenerate_column_names=True)
    parse = ParseOptions(delimiter=found.delimiter, newlines_in_values=True, invalid_row_handler=note)
    convert = ConvertOptions(include_columns=["f0"], column_types={"f0": "string"}, check_utf8=False)
    with _opened(path, packing) as file:
        try:
            for _ in open_csv(file, read, parse, convert):
                if ragged:
                    break
        except ArrowInvalid:
            if not ragged:
                raise
    if ragged:
        lines = ", ".join(f"{row.number} has {row.actual_columns}" for row in ragged[:3])
        raise DataError(
            f"{name} is ragged: the first line has {len(found.header)} fields, line {lines}",
            expected=f"as many fields in each line, parted by {found.delimiter!r}",
            next="mend these lines; a field that holds the delimiter stands in quotes",
        )


def _opened(path: Path, packing: str | None) -> IO[bytes]:
    from pandas.io.common import get_handle

    return get_handle(path, "rb", compression=packing, is_text=False).handle
