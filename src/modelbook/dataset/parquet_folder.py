"""Tables in a folder of Parquet files, which may exceed memory: list and sample them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelbook.dataset.reader import normalize_columns
from modelbook.errors import DataError

BATCH_ROWS = 65_536  # rows read at a time


def list_partitions(folder: Path) -> list[str]:
    """List the partitions, subfolders included; names that start with ``_`` or ``.`` are skipped.

    Raises
    ------
    DataError
        If there is none.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    names = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
    if not names:
        raise DataError(f"{folder} contains no .parquet file", next="check its path")
    return names


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
            frame
            for name, end, count, positions in zip(names, ends, counts, positions_by_file)
            for frame in _read_rows_at(folder / name, positions - (end - count))
        ]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{folder} cannot be read: {str(error).splitlines()[0]}",
            next="repair or remove the file",
        ) from None
    return normalize_columns(pd.concat(frames, ignore_index=True), str(folder)), total


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
