"""A table in a folder of Parquet files, which may be larger than memory: its files, and rows drawn from all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelbook.dataset.read import tidy
from modelbook.errors import DataError

ROWS = 65_536  # that are read at a time


def files(folder: Path) -> list[str]:
    """Names of the partitions, those in folders below, too, in order; those that begin with ``_`` or ``.`` are none.

    Raises
    ------
    DataError
        When there is none.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    names = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
    if not names:
        raise DataError(f"{folder} has no file that ends in .parquet", next="check its path")
    return names


def draw(folder: Path, most: int, seed: int) -> tuple[pd.DataFrame, int]:
    """Rows of all partitions, in their order, and how many there are: all, or of more than ``most`` so many at random.

    Each row is as likely as any other; memory holds what is drawn, and one row group of one file.

    Raises
    ------
    DataError
        When there is no file, no row, or a file cannot be read.
    """
    names = files(folder)
    try:
        counts = [pq.read_metadata(folder / name).num_rows for name in names]
        total = sum(counts)
        if not total:
            raise DataError(f"{folder} has no rows", expected="at least one", next="check its path")
        drawn = np.arange(min(total, most))
        if total > most:
            drawn = np.sort(np.random.default_rng(seed).choice(total, most, replace=False, shuffle=False))
        ends = np.cumsum(counts)
        places = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
        parts = [
            part
            for name, end, count, mine in zip(names, ends, counts, places)
            for part in _taken(folder / name, mine - (end - count))
        ]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{folder} cannot be read: {str(error).splitlines()[0]}", next="mend the file") from None
    return tidy(pd.concat(parts, ignore_index=True), str(folder)), total


def _taken(file: Path, places: np.ndarray) -> list[pd.DataFrame]:
    parts, start = [], 0
    if len(places):
        for batch in pq.ParquetFile(file).iter_batches(ROWS):
            first, last = np.searchsorted(places, [start, start + len(batch)])
            if last > first:
                # A copy of these rows: what pandas would share with the batch would keep all of it in memory.
                parts.append(batch.take(pa.array(places[first:last] - start)).to_pandas())
            start += len(batch)
    return parts
