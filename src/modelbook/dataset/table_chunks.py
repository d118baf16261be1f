"""Read a table in chunks of rows with bounded memory, for scoring: cells as the file has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelbook.contract.parsing import DecimalMark
from modelbook.contract.text_layout import clean_column_name
from modelbook.dataset import delimited, file_formats
from modelbook.dataset.parquet_folder import READ_ERRORS, make_unreadable_error
from modelbook.dataset.reader import normalize_columns
from modelbook.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract import Contract

Chunks = Iterator[pa.Table]


def open_chunks(path: Path, contract: Contract, chunk_rows: int) -> tuple[Chunks, DecimalMark]:
    """Open a file as chunks with clean column names, and find the decimal mark of its texts.

    The same layout as for training applies. Text files and Parquet files are read chunk by chunk,
    Excel and JSON files at once. A file without rows gives one chunk without rows.

    Raises
    ------
    DataError
        When the file does not exist, is of no supported format, or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist", next="check its path")
    layout = contract.file
    names = None if layout.header else list(contract.columns)
    try:
        compression = file_formats.detect_compression(path)
        file_format, _ = file_formats.detect_format(path, compression, str(path), layout)
        if file_format == "parquet":
            return _read_parquet_chunks(path, chunk_rows), "."
        if file_format == "text":
            text_file = delimited.TextFile(path, str(path), compression, layout)
            detected_layout = delimited.detect_layout(text_file, names)
            frames = delimited.read_text_chunks(text_file, detected_layout, chunk_rows)
            return _to_text_tables(frames, detected_layout.columns), detected_layout.decimal
    except (OSError, *file_formats.READ_ERRORS) as error:
        raise make_unreadable_error(path, error) from None
    frame, _ = file_formats.read_file(path, str(path), layout, names)
    frame = normalize_columns(frame, str(path))
    return iter([_to_arrow(frame)]), "."


def _read_parquet_chunks(path: Path, chunk_rows: int) -> Chunks:
    try:
        parquet_file = pq.ParquetFile(path)
        for batch in parquet_file.iter_batches(chunk_rows):
            yield _clean_names(pa.Table.from_batches([batch]))
        if not parquet_file.metadata.num_rows:
            yield _clean_names(parquet_file.schema_arrow.empty_table())
    except READ_ERRORS as error:
        raise make_unreadable_error(path, error) from None


def _clean_names(table: pa.Table) -> pa.Table:
    """Give columns clean names, and read bytes as texts."""
    for position, column in enumerate(table.schema):
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            texts = table.column(position).cast(pa.string())
            table = table.set_column(position, column.name, texts)
    return table.rename_columns([clean_column_name(name) for name in table.column_names])


def _to_text_tables(frames: Iterator[pd.DataFrame], columns: list[str]) -> Chunks:
    schema = pa.schema([(name, pa.string()) for name in columns])
    is_empty = True
    for frame in frames:
        is_empty = False
        yield pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    if is_empty:
        yield schema.empty_table()


def _to_arrow(frame: pd.DataFrame) -> pa.Table:
    """Convert a frame; columns that mix texts and numbers become texts."""
    import pandas as pd

    def to_text(value: Any) -> Any:
        return value if isinstance(value, str) else str(value)

    for name in frame.select_dtypes(["object", "string"]):
        if pd.api.types.infer_dtype(frame[name], skipna=True) not in ("string", "boolean", "date"):
            frame[name] = frame[name].map(to_text, na_action="ignore")
    return pa.Table.from_pandas(frame, preserve_index=False)
