"""Tables in a folder of Parquet files, which may exceed memory: list, read and sample them.

Folders named ``column=value``, as Hive and Spark write them, hold the values of a column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelbook.contract.parsing import may_contain_text
from modelbook.dataset.object_store import RemotePath
from modelbook.dataset.reader import normalize_columns
from modelbook.errors import DataError, get_first_line

READ_CHUNK_ROWS = 65_536  # rows read at a time
READ_ERRORS = (OSError, ValueError, pa.ArrowException)
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
DELTA_LOG = "_delta_log"  # folder that makes a folder a Delta table
SUPPORTED_DELTA_FEATURES = {"timestampNtz"}  # features of a table whose files can be read alone
COLUMN_MAPPING_VERSION = 2  # Delta's reader version: names in the files may not be the table's


def list_parquet_files(folder: Path) -> list[str]:
    """List the Parquet files of a folder and its subfolders, or of a Delta table's last version.

    Files and subfolders whose names start with ``_`` or ``.`` are skipped.

    Raises
    ------
    DataError
        If there are none, deltalake is not installed, or the Delta table has unsupported features.
    """
    if (folder / DELTA_LOG).is_dir():
        return _list_delta_files(folder)
    return _select_parquet_files(
        folder, (path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    )


def list_remote_parquet_files(folder: RemotePath) -> list[str]:
    """List the Parquet files of a folder in an object store.

    Raises
    ------
    DataError
        If there are none, it is a Delta table, or another program is writing the folder.
    """
    names = folder.list_files()
    if is_delta_table(names):
        raise DataError(
            f"{folder} is a Delta table",
            expected="Parquet files that workers can read one by one",
            next="leave out --scheduler: the table is copied to this machine",
        )
    return _select_parquet_files(folder, (name for name in names if name.endswith(".parquet")))


def is_delta_table(names: Iterable[str]) -> bool:
    """Whether files of these names, relative to their folder, are a Delta table."""
    return any(name.startswith(f"{DELTA_LOG}/") for name in names)


def _select_parquet_files(folder: Path | RemotePath, names: Iterable[str]) -> list[str]:
    selected = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
    if not selected:
        raise DataError(f"the folder {folder} contains no .parquet file", next="check its path")
    return sorted(selected)


def parse_partition_values(name: str) -> dict[str, str | None]:
    """Return the column values in the names of a file's folders: ``year=2024/part.parquet``."""
    pairs = [part.partition("=") for part in name.split("/")[:-1]]
    return {
        column: None if value == HIVE_NULL else unquote(value)
        for column, equals, value in pairs
        if equals
    }


def read_folder(folder: Path, display_name: str = "") -> pd.DataFrame:
    """Read all files as one table, with the columns that the folders name.

    Raises
    ------
    DataError
        If there is no file, or one cannot be read; as ``list_parquet_files``.
    """
    names = list_parquet_files(folder)
    frames = []
    for name in names:
        try:
            frame = pd.read_parquet(folder / name)
        except READ_ERRORS as error:
            raise make_unreadable_error(f"{display_name or folder}/{name}", error) from None
        frames.append(_add_partition_values(frame, name))
    return _cast_partition_columns(pd.concat(frames, ignore_index=True), names)


def hash_file_stats(folder: Path) -> str:
    """Hash the names, sizes and times of modification of all files; their content is not read."""
    stats = [(name, (folder / name).stat()) for name in list_parquet_files(folder)]
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
    features = {*(protocol.reader_features or ())} - SUPPORTED_DELTA_FEATURES
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
    """Add the columns that the folders name, except columns of the file."""
    values = parse_partition_values(name)
    return frame.assign(**{column: values[column] for column in values if column not in frame})


def _cast_partition_columns(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Convert integer partition values to numbers; codes with leading zeros stay text."""
    for column in {column for name in names for column in parse_partition_values(name)}:
        values = frame[column].dropna()
        if may_contain_text(values) and all(
            re.fullmatch(r"-?(0|[1-9]\d{0,14})", value) for value in values.unique()
        ):
            frame[column] = pd.to_numeric(frame[column])
    return frame


def make_unreadable_error(path: Path | RemotePath | str, error: Exception) -> DataError:
    """Return the error for a file that a library cannot read."""
    message = get_first_line(error)
    return DataError(f"{path} cannot be read: {message}", next="repair or remove the file")


def sample_rows(folder: Path | RemotePath, max_rows: int, seed: int) -> tuple[pd.DataFrame, int]:
    """Draw at most ``max_rows`` rows uniformly from all files, and count all rows.

    Rows keep the order of the files. Memory holds the sample and one row group of one file; nothing
    is written to disk.

    Raises
    ------
    DataError
        If there is no file, no row, or a file cannot be read.
    """
    names = (
        list_parquet_files(folder)
        if isinstance(folder, Path)
        else list_remote_parquet_files(folder)
    )
    counts = [_count_rows(folder, name) for name in names]
    total = sum(counts)
    if not total:
        raise DataError(f"{folder} has no rows", expected="at least one", next="check its path")
    sample_index = np.arange(total)
    if total > max_rows:
        rng = np.random.default_rng(seed)
        sample_index = np.sort(rng.choice(total, max_rows, replace=False, shuffle=False))
    ends = np.cumsum(counts)
    positions_by_file = np.split(sample_index, np.searchsorted(sample_index, ends[:-1]))
    frames = [
        _add_partition_values(frame, name)
        for name, end, count, positions in zip(names, ends, counts, positions_by_file)
        for frame in _read_rows_at(folder, name, positions - (end - count))
    ]
    rows = _cast_partition_columns(pd.concat(frames, ignore_index=True), names)
    return normalize_columns(rows, str(folder)), total


@contextmanager
def _open_parquet(folder: Path | RemotePath, name: str) -> Iterator[pq.ParquetFile]:
    """Open a file of a folder; errors of opening and reading it name the file."""
    path = folder / name if isinstance(folder, Path) else folder.child(name)
    try:
        with ExitStack() as stack:
            file = path if isinstance(path, Path) else stack.enter_context(path.open())
            yield stack.enter_context(pq.ParquetFile(file))
    except READ_ERRORS as error:
        raise make_unreadable_error(path, error) from None


def _count_rows(folder: Path | RemotePath, name: str) -> int:
    with _open_parquet(folder, name) as parquet:
        return parquet.metadata.num_rows


def _read_rows_at(
    folder: Path | RemotePath, name: str, positions: np.ndarray
) -> list[pd.DataFrame]:
    if not len(positions):
        return []
    frames = []
    start = 0
    with _open_parquet(folder, name) as parquet:
        for batch in parquet.iter_batches(READ_CHUNK_ROWS):
            first, last = np.searchsorted(positions, [start, start + len(batch)])
            if last > first:
                # Copy these rows: a view would keep the whole batch in memory.
                frames.append(batch.take(pa.array(positions[first:last] - start)).to_pandas())
            start += len(batch)
    return frames
