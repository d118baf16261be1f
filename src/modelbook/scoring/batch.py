"""Batch scoring: score a CSV or Parquet file of any size in chunks, with bounded memory.

Rows keep their order and all their columns. Rows that break the contract go to a separate file
with the reasons. Both files appear only when all rows are done, so a killed run leaves no partial
result.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from modelbook.dataset import delimited
from modelbook.errors import DataError
from modelbook.scoring.batch_validation import validate_rows

if TYPE_CHECKING:
    from modelbook.contract import Contract

CHUNK_ROWS = 50_000  # rows of a chunk
MAX_THREADS = min(4, os.cpu_count() or 1)  # chunks that are scored at the same time
FILE_SUFFIXES = (".csv", ".parquet")
ChunkResult = tuple[pa.Table, pa.Table]  # scored and rejected rows of a chunk
ProgressCallback = Callable[[int, float], None]


@dataclass(frozen=True)
class BatchResult:
    """Result of a batch; ``seconds`` excludes imports."""

    rows: int
    rejected_rows: int
    seconds: float
    rejects_path: Path


def score_file(
    input_path: Path,
    output_path: Path,
    scorer: Any,
    contract: Contract,
    version: int,
    *,
    on_progress: ProgressCallback,
    allow_empty: bool = False,
) -> BatchResult:
    """Score a file.

    Parameters
    ----------
    scorer : Scorer or Itself
    on_progress : callable
        Called after each chunk with the rows so far and the seconds.
    allow_empty : bool, optional
        Whether a file without rows, such as an empty partition, gives an output without rows.

    Raises
    ------
    DataError
        When a file is neither CSV nor Parquet, the input cannot be read or lacks columns, or the
        output exists.
    """
    rejects_path = output_path.with_name(f"{output_path.stem}.rejects.csv")
    _check_paths(input_path, output_path, rejects_path)
    start, row_count, rejected_count = time.monotonic(), 0, 0
    with lock_target(output_path, "file"), _use_system_memory_pool(), ExitStack() as stack:
        output_file, rejects_file = _StagedFile(output_path), _StagedFile(rejects_path)
        stack.callback(output_file.discard)
        stack.callback(rejects_file.discard)
        layout = (
            delimited.detect_dialect(input_path, str(input_path), None, contract.file)
            if input_path.suffix == ".csv"
            else None
        )
        for scored, rejected in _map_in_order(
            partial(_score_chunk, contract=contract, layout=layout, scorer=scorer, version=version),
            _read_checked_chunks(input_path, layout, contract),
            MAX_THREADS if scorer.is_compiled else 1,
        ):
            if len(rejected):
                rejects_file.write(
                    rejected.set_column(0, "row", pc.add(rejected["row"], row_count))
                )
            output_file.write(scored)
            row_count, rejected_count = (
                row_count + len(scored) + len(rejected),
                rejected_count + len(rejected),
            )
            on_progress(row_count, time.monotonic() - start)
        if row_count == 0 and not allow_empty:
            raise DataError(f"{input_path} has no rows", next="check its path")
        rejects_file.commit()
        output_file.commit()
    return BatchResult(row_count, rejected_count, time.monotonic() - start, rejects_path)


@contextmanager
def lock_target(target: Path, target_kind: str) -> Iterator[None]:
    """Lock an output ``file`` or ``folder`` for one run; the lock file is deleted afterwards.

    Raises
    ------
    DataError
        When another run holds the lock.
    """
    lock = FileLock(f"{target}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(
            f"another run is writing {target}",
            next=f"wait until it ends, or name another {target_kind}",
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _use_system_memory_pool() -> Iterator[None]:
    """Use the system's memory allocator, which reuses freed memory, instead of Arrow's pool."""
    previous_pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(previous_pool)


def _score_chunk(
    chunk: pa.Table, contract: Contract, layout: delimited.Dialect | None, scorer: Any, version: int
) -> ChunkResult:
    """Score a chunk; return valid rows with predictions, and rejected rows with reasons."""
    features, reasons = validate_rows(chunk, contract, layout)
    is_valid = reasons == ""
    rejects = _select_rejects(chunk, reasons, ~is_valid)
    if not is_valid.all():
        chunk, features = (
            chunk.filter(pa.array(is_valid)),
            {name: values[is_valid] for name, values in features.items()},
        )
    return _append_predictions(chunk, features, scorer, version), rejects


def _append_predictions(
    chunk: pa.Table, features: dict[str, np.ndarray], scorer: Any, version: int
) -> pa.Table:
    new_columns: dict[str, Any] = {}
    decision_rule = scorer.decision_rule
    scores = (
        scorer.predict_scores(features, len(chunk))
        if len(chunk)
        else np.empty((0, decision_rule.n_outputs))
    )
    new_columns["prediction"] = decision_rule.predict(scores)
    for class_index, name in enumerate(decision_rule.classes):
        new_columns[f"probability_{name}"] = scores[:, class_index]
    new_columns["model_version"] = np.full(len(chunk), version)
    for name, values in new_columns.items():
        chunk = chunk.append_column(
            f"{name}_" if name in chunk.column_names else name, pa.array(values)
        )
    return chunk


def _select_rejects(chunk: pa.Table, reasons: np.ndarray, is_rejected: np.ndarray) -> pa.Table:
    row_numbers, rejects = (
        pa.array(np.flatnonzero(is_rejected)),
        chunk.filter(pa.array(is_rejected)),
    )
    reason_texts = pa.array([text.removesuffix("; ") for text in reasons[is_rejected]], pa.string())
    return rejects.add_column(0, "reasons", reason_texts).add_column(0, "row", row_numbers)


def _map_in_order(
    function: Callable[[pa.Table], ChunkResult], chunks: Iterable[pa.Table], threads: int
) -> Iterator[ChunkResult]:
    """Apply a function to chunks in threads, in order; Arrow and the models release the GIL."""
    futures: deque[Future[ChunkResult]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for chunk in chunks:
            futures.append(pool.submit(function, chunk))
            if len(futures) > threads:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def _read_checked_chunks(
    source: Path, layout: delimited.Dialect | None, contract: Contract
) -> Iterator[pa.Table]:
    for chunk in _read_chunks(source, layout):
        _check_columns(chunk, contract, source)
        yield chunk


def _read_chunks(source: Path, layout: delimited.Dialect | None) -> Iterator[pa.Table]:
    try:
        if layout is None:
            parquet_file = pq.ParquetFile(source)
            for batch in parquet_file.iter_batches(CHUNK_ROWS):
                yield pa.Table.from_batches([batch])
            if not parquet_file.metadata.num_rows:
                yield parquet_file.schema_arrow.empty_table()
            return
        csv_options: dict[str, Any] = {
            "dtype": str,
            "keep_default_na": False,
            "chunksize": CHUNK_ROWS,
        }
        for frame in pd.read_csv(
            source, sep=layout.delimiter, encoding=layout.encoding, **csv_options
        ):
            if not isinstance(frame.index, pd.RangeIndex):  # surplus cells become an index
                raise DataError(
                    f"{source} has rows with more cells than its header", next="correct the file"
                )
            schema = pa.schema([(str(name), pa.string()) for name in frame.columns])
            yield pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{source} cannot be read: {str(error).splitlines()[0]}", next="correct the file"
        ) from None


def _check_columns(chunk: pa.Table, contract: Contract, source: Path) -> None:
    missing_columns = [name for name in contract.input_names if name not in chunk.column_names]
    if missing_columns:
        from modelbook.config import suggest_name

        unknown_columns = [name for name in chunk.column_names if name not in contract.columns]
        raise DataError(
            f"{source} has no column {', '.join(missing_columns)}",
            expected=(
                f"a column for each feature; for {unknown_columns[0]!r}: "
                f"{suggest_name(unknown_columns[0], missing_columns)}"
            )
            if unknown_columns
            else "a column for each feature",
            next="rename the columns as in the contract",
        )
    for name in contract.input_names:
        if pa.types.is_nested(arrow_type := chunk[name].type):
            raise DataError(
                f"the column {name} of {source} holds {arrow_type}",
                expected="one value in each row",
                next="split the values into columns of the contract",
            )


def _check_paths(source: Path, target: Path, rejects: Path) -> None:
    for path in (source, target):
        if path.suffix not in FILE_SUFFIXES:
            raise DataError(
                f"{path} is not supported",
                expected=f"a name that ends in {' or '.join(FILE_SUFFIXES)}",
            )
    if not source.is_file():
        raise DataError(f"{source} does not exist", next="check its path")
    for path in (target, rejects):
        if path.exists():
            raise DataError(f"{path} exists already", next="move it away, or name another file")


class _StagedFile:
    """A file that is staged under a temporary name and renamed at the end, unless it is empty.

    A background thread writes one chunk at a time; the next call raises the errors of the last one.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._staging_path = path, path.with_name(f".{path.name}.part")
        self._writer: pq.ParquetWriter | None = None
        self._has_rows = False
        self._pool, self._pending_write = ThreadPoolExecutor(1), Future[None]()
        self._pending_write.set_result(None)
        self._staging_path.unlink(missing_ok=True)  # left by a killed run

    def write(self, chunk: pa.Table) -> None:
        """Append a chunk in the background."""
        self._pending_write.result()
        self._pending_write = self._pool.submit(self._append_chunk, chunk)

    def _append_chunk(self, chunk: pa.Table) -> None:
        if self._path.suffix == ".parquet":
            self._writer = self._writer or pq.ParquetWriter(self._staging_path, chunk.schema)
            self._writer.write_table(chunk)
        else:
            chunk.to_pandas().to_csv(
                self._staging_path, mode="a", header=not self._has_rows, index=False
            )
        self._has_rows = True

    def commit(self) -> None:
        """Finish writing, and rename the file into place."""
        self._pending_write.result()
        if self._writer:
            self._writer.close()
        if self._has_rows:
            self._staging_path.replace(self._path)

    def discard(self) -> None:
        """Delete the staged file unless it was committed."""
        self._pool.shutdown()
        if self._writer:
            self._writer.close()
        self._staging_path.unlink(missing_ok=True)
