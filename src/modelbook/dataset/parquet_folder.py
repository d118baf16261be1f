"""Tables in a folder of Parquet files, which may exceed memory: list, read and sample them.

Folders named ``column=value``, as Hive and Spark write them, hold the values of a column.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelbook.contract.parsing import holds_texts
from modelbook.dataset.reader import normalize_columns
from modelbook.errors import DataError

BATCH_ROWS = 65_536  # rows read at a time
HIVE_GAP = "__HIVE_DEFAULT_PARTITION__"
DELTA_LOG = "_delta_log"  # folder that makes a folder a Delta table
PLAIN_DELTA_FEATURES = {"timestampNtz"}  # features of a table whose files can be read alone
COLUMN_MAPPING_VERSION = 2  # Delta's reader version for files of other column names


def list_partitions(folder: Path) -> list[str]:
    """List the partitions, subfolders included; names that start with ``_`` or ``.`` are skipped.

    Of a Delta table, those of its last version.

    Raises
    ------
    DataError
        If there is none; for a Delta table without its library, or of features unknown here.
    """
    if (folder / DELTA_LOG).is_dir():
        return _list_delta_files(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    names = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
    if not names:
        raise DataError(f"the folder {folder} contains no .parquet file", next="check its path")
    return names


def partition_values(name: str) -> dict[str, str | None]:
    """Return the column values that a partition's folders name: ``year=2024/part.parquet``."""
    pairs = [part.partition("=") for part in name.split("/")[:-1]]
    return {
        column: None if value == HIVE_GAP else unquote(value)
        for column, equals, value in pairs
        if equals
    }


def read_folder(folder: Path, display_name: str = "") -> pd.DataFrame:
    """Read all partitions as one table, with the columns that the folders name.

    Raises
    ------
    DataError
        If there is no file, or one cannot be read; as ``list_partitions``.
    """
    names = list_partitions(folder)
    try:
        frames = [_add_partition_values(pd.read_parquet(folder / name), name) for name in names]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(display_name or folder, error) from None
    return _type_partition_columns(pd.concat(frames, ignore_index=True), names)


def fingerprint_folder(folder: Path) -> str:
    """A value that changes when a partition does: names, sizes and times of all files."""
    stats = [(name, (folder / name).stat()) for name in list_partitions(folder)]
    entries = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr(entries).encode()).hexdigest()


def _list_delta_files(folder: Path) -> list[str]:
    try:
        from deltalake import DeltaTable
    except ImportError:
        raise DataError(
            f"{folder} is a Delta table, and the library deltalake is not installed",
            next="make extras (it installs modelbook[delta])",
        ) from None
    base = folder.resolve()
    table = DeltaTable(str(base))
    protocol = table.protocol()
    features = {*(protocol.reader_features or ())} - PLAIN_DELTA_FEATURES
    if features or protocol.min_reader_version == COLUMN_MAPPING_VERSION:
        raise DataError(
            f"{folder} is a Delta table with {', '.join(sorted(features)) or 'column mapping'}",
            expected="a Delta table whose files hold its rows and columns as they are",
            next="write a plain copy of it",
        )
    paths = [Path(uri.removeprefix("file://")) for uri in table.file_uris()]
    if not paths:
        raise DataError(f"{folder} has no rows", expected="at least one", next="check its path")
    return sorted(path.relative_to(base).as_posix() for path in paths)


def _add_partition_values(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Add the columns that the folders name, but for those that the file has itself."""
    values = partition_values(name)
    return frame.assign(**{column: values[column] for column in values if column not in frame})


def _type_partition_columns(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Make whole numbers of partition values that are; codes with leading zeros stay text."""
    for column in {column for name in names for column in partition_values(name)}:
        values = frame[column].dropna()
        if holds_texts(values) and all(
            re.fullmatch(r"-?(0|[1-9]\d{0,14})", value) for value in values.unique()
        ):
            frame[column] = pd.to_numeric(frame[column])
    return frame


def _unreadable(folder: Path | str, error: Exception) -> DataError:
    return DataError(
        f"{folder} cannot be read: {str(error).splitlines()[0]}", next="repair or remove the file"
    )


def sample_rows(folder: Path, max_rows: int, seed: int) -> tuple[pd.DataFrame, int]:
    """Draw at most ``max_rows`` rows uniformly from all partitions, and count all rows.

    Rows keep the order of the partitions. Memory holds the sample and one row group of one file.

    Raises
    ------
    DataError
        If there is no file, no row, or a file cannot be read.
    """
    names = list_partitions(folder)
    try:
        counts = [pq.read_metadata(folder / name).num_rows for name in names]
        total = sum(counts)
        if not total:
            raise DataError(f"{folder} has no rows", expected="at least one", next="check its path")
        sampled_positions = np.arange(min(total, max_rows))
        if total > max_rows:
            sampled_positions = np.sort(
                np.random.default_rng(seed).choice(total, max_rows, replace=False, shuffle=False)
            )
        ends = np.cumsum(counts)
        positions_by_file = np.split(
            sampled_positions, np.searchsorted(sampled_positions, ends[:-1])
        )
        frames = [
            _add_partition_values(frame, name)
            for name, end, count, positions in zip(names, ends, counts, positions_by_file)
            for frame in _read_rows_at(folder / name, positions - (end - count))
        ]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(folder, error) from None
    rows = _type_partition_columns(pd.concat(frames, ignore_index=True), names)
    return normalize_columns(rows, str(folder)), total


def _read_rows_at(file: Path, positions: np.ndarray) -> list[pd.DataFrame]:
    frames, start = [], 0
    if len(positions):
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
            first, last = np.searchsorted(positions, [start, start + len(batch)])
            if last > first:
                # Copy these rows: a view would keep the whole batch in memory.
                frames.append(batch.take(pa.array(positions[first:last] - start)).to_pandas())
            start += len(batch)
    return frames
