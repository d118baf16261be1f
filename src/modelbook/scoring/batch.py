"""Batch scoring: score a file in chunks.

Text and Parquet files of any size take bounded memory. Excel files, which are read and written at
once, and JSON lines, which are read at once, do not.

Rows keep their order and all their columns. Rows that break the contract go to a separate file with
the reasons. Both files appear only when all rows are done, so a killed run leaves no partial
result.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelbook.contract.parsing import DecimalMark
from modelbook.dataset import table_chunks
from modelbook.errors import DataError
from modelbook.file_lock import acquire_lock
from modelbook.scoring.batch_validation import validate_rows

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.dataset.object_store import RemotePath

CHUNK_ROWS = 50_000
MAX_THREADS = min(4, os.cpu_count() or 1)  # chunks that are scored at the same time
FILE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".xlsx")
MAX_SHEET_ROWS = 1_048_575  # rows of an Excel sheet, without its header
ProgressCallback = Callable[[int, float], None]


class ChunkResult(NamedTuple):
    """Scored and rejected rows of a chunk, and features and scores of the valid rows.

    ``positions`` are the valid rows' places in the chunk, ``scores`` the probabilities or values of
    ``predict_scores``.
    """

    scored: pa.Table
    rejected: pa.Table
    features: dict[str, np.ndarray]
    scores: np.ndarray
    positions: np.ndarray


RecordCallback = Callable[[ChunkResult, int], pa.Table]


@dataclass(frozen=True)
class BatchResult:
    """Result of a batch; ``seconds`` excludes imports."""

    rows: int
    rejected_rows: int
    seconds: float
    rejects_path: Path | RemotePath


def score_file(
    input_path: Path,
    output_path: Path,
    scorer: Any,
    contract: Contract,
    version: int,
    *,
    on_progress: ProgressCallback,
    allow_empty: bool = False,
    constants: Mapping[str, str | None] = MappingProxyType({}),
    record_chunk: RecordCallback | None = None,
) -> BatchResult:
    """Score a file.

    Parameters
    ----------
    on_progress : callable
        Called after each chunk with the rows so far and the seconds.
    allow_empty : bool, optional
        Whether a file without rows, such as an empty partition, gives an output without rows.
    constants : dict, optional
        Columns of one value that are not in the file: those that a partition's folders name.
    record_chunk : callable, optional
        Called with each chunk and the number of rows before it; returns the rows to write.

    Raises
    ------
    DataError
        When the input cannot be read or lacks columns, or the output exists or cannot be written.
    """
    rejects_path = name_rejects(output_path)
    for path in (output_path, rejects_path):
        check_output(path)
    start = time.monotonic()
    row_count = 0
    rejected_count = 0
    with lock_target(output_path, "file"), _use_system_memory_pool(), ExitStack() as stack:
        output_file, rejects_file = _StagedFile(output_path), _StagedFile(rejects_path)
        stack.callback(output_file.discard)
        stack.callback(rejects_file.discard)
        for chunk in _score_chunks(input_path, scorer, contract, version, constants):
            rejected = chunk.rejected
            if len(rejected):
                row_numbers = pc.add(rejected.column(0), row_count)
                rejects_file.write(rejected.set_column(0, rejected.column_names[0], row_numbers))
            output_file.write(record_chunk(chunk, row_count) if record_chunk else chunk.scored)
            row_count += len(chunk.scored) + len(rejected)
            rejected_count += len(rejected)
            on_progress(row_count, time.monotonic() - start)
        if row_count == 0 and not allow_empty:
            raise DataError(f"{input_path} has no rows", next="check its path")
        rejects_file.close()
        output_file.close()
        rejects_file.publish()
        output_file.publish()
    return BatchResult(row_count, rejected_count, time.monotonic() - start, rejects_path)


def name_rejects(output_path: Path) -> Path:
    """Return the path of the rows that violate the contract, next to the output."""
    return output_path.with_name(f"{output_path.stem}.rejects.csv")


@contextmanager
def lock_target(target: Path, target_kind: str) -> Iterator[None]:
    """Lock an output ``file`` or ``folder`` for one run; the lock file is deleted afterwards.

    Raises
    ------
    DataError
        When another run holds the lock.
    """
    path = Path(f"{target}.lock")
    error = DataError(
        f"another run is writing {target}",
        next=f"wait until it ends, or name another {target_kind}",
    )
    with acquire_lock(path, error):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _use_system_memory_pool() -> Iterator[None]:
    """Use the system's memory allocator, which reuses freed memory, instead of Arrow's pool."""
    previous_pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(previous_pool)


def _score_chunks(
    input_path: Path,
    scorer: Any,
    contract: Contract,
    version: int,
    constants: Mapping[str, str | None],
) -> Iterator[ChunkResult]:
    chunks, decimal = table_chunks.open_chunks(input_path, contract, CHUNK_ROWS)
    score_chunk = partial(
        _score_chunk,
        contract=contract,
        decimal=decimal,
        constants=constants,
        scorer=scorer,
        version=version,
    )
    checked_chunks = _check_chunks(chunks, contract, input_path, constants)
    return _map_in_order(score_chunk, checked_chunks, MAX_THREADS if scorer.is_compiled else 1)


def _score_chunk(
    chunk: pa.Table,
    contract: Contract,
    decimal: DecimalMark,
    constants: Mapping[str, str | None],
    scorer: Any,
    version: int,
) -> ChunkResult:
    """Score a chunk; return valid rows with predictions, and rejected rows with reasons."""
    features, reasons = validate_rows(_append_constants(chunk, constants), contract, decimal)
    is_valid = reasons == ""
    rejects = _select_rejects(chunk, reasons, ~is_valid)
    if not is_valid.all():
        chunk = chunk.filter(pa.array(is_valid))
        features = {name: values[is_valid] for name, values in features.items()}
    scores = (
        scorer.predict_scores(features, len(chunk))
        if len(chunk)
        else np.empty((0, scorer.decision_rule.n_outputs))
    )
    scored = _append_predictions(chunk, scores, scorer, version)
    return ChunkResult(scored, rejects, features, scores, np.flatnonzero(is_valid))


def _append_constants(chunk: pa.Table, constants: Mapping[str, str | None]) -> pa.Table:
    for name, value in constants.items():
        if name in chunk.column_names:
            continue
        chunk = chunk.append_column(name, pa.array([value] * len(chunk), pa.string()))
    return chunk


def _append_predictions(chunk: pa.Table, scores: np.ndarray, scorer: Any, version: int) -> pa.Table:
    decision_rule = scorer.decision_rule
    new_columns: dict[str, Any] = {"prediction": decision_rule.predict(scores)}
    for class_index, name in enumerate(decision_rule.classes):
        new_columns[f"probability_{name}"] = scores[:, class_index]
    if scorer.conformal:
        new_columns |= scorer.conformal.make_output_columns(scores)
    new_columns["model_version"] = np.full(len(chunk), version)
    for name, values in new_columns.items():
        chunk = chunk.append_column(name_new_column(name, chunk), pa.array(values))
    return chunk


def name_new_column(name: str, table: pa.Table) -> str:
    """Return the name of a column to add: with underscores at its end if the table has it."""
    while name in table.column_names:
        name += "_"
    return name


def _select_rejects(chunk: pa.Table, reasons: np.ndarray, is_rejected: np.ndarray) -> pa.Table:
    """Return the rejected rows; their numbers and the reasons are the first two columns."""
    row_numbers = pa.array(np.flatnonzero(is_rejected))
    rejects = chunk.filter(pa.array(is_rejected))
    reason_texts = pa.array([text.removesuffix("; ") for text in reasons[is_rejected]], pa.string())
    rejects = rejects.add_column(0, name_new_column("reasons", chunk), reason_texts)
    return rejects.add_column(0, name_new_column("row", chunk), row_numbers)


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


def _check_chunks(
    chunks: Iterator[pa.Table],
    contract: Contract,
    source: Path,
    constants: Mapping[str, str | None],
) -> Iterator[pa.Table]:
    for chunk in chunks:
        _check_columns(_append_constants(chunk.slice(0, 0), constants), contract, source)
        yield chunk


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


def check_output(target: Path) -> None:
    """Check that an output file can be written and read back by its name.

    Raises
    ------
    DataError
        When it has no supported ending, exists, or its folder does not.
    """
    if target.suffix not in FILE_SUFFIXES:
        raise DataError(
            f"{target} is not supported",
            expected=f"a name that ends in {', '.join(FILE_SUFFIXES)}",
            next="name another file",
        )
    if target.exists():
        raise DataError(f"{target} exists already", next="move it away, or name another file")
    if not target.parent.is_dir():
        raise DataError(
            f"there is no folder {target.parent}", next="create it, or name another file"
        )


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert a table; integers with missing values stay integers, as floats would be rounded."""
    return table.to_pandas(integer_object_nulls=True)


class _StagedFile:
    """A file that is written under a temporary name and renamed at the end, unless it is empty.

    A background thread writes one chunk at a time; the next call raises the errors of the last one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._staging_path = path.with_name(f".{path.name}.part")
        self._writer: pq.ParquetWriter | None = None
        self._sheet_chunks: list[pa.Table] = []  # an Excel file is written at once
        self._has_rows = False
        self._pool = ThreadPoolExecutor(1)
        self._pending_write = Future[None]()
        self._pending_write.set_result(None)
        self._staging_path.unlink(missing_ok=True)  # left by a killed run

    def write(self, chunk: pa.Table) -> None:
        """Append a chunk in the background."""
        self._pending_write.result()
        self._pending_write = self._pool.submit(self._append_chunk, chunk)

    def _append_chunk(self, chunk: pa.Table) -> None:
        suffix = self._path.suffix
        if suffix == ".parquet":
            self._writer = self._writer or pq.ParquetWriter(self._staging_path, chunk.schema)
            self._writer.write_table(chunk)
        elif suffix == ".xlsx":
            self._sheet_chunks.append(chunk)
        elif suffix == ".jsonl":
            _to_frame(chunk).to_json(
                self._staging_path,
                mode="a",
                orient="records",
                lines=True,
                date_format="iso",
                double_precision=15,
                force_ascii=False,
            )
        else:
            _to_frame(chunk).to_csv(
                self._staging_path,
                mode="a",
                header=not self._has_rows,
                index=False,
                sep="\t" if suffix == ".tsv" else ",",
            )
        self._has_rows = True

    def _write_sheet(self) -> None:
        frame = _to_frame(pa.concat_tables(self._sheet_chunks))
        if len(frame) > MAX_SHEET_ROWS:
            raise DataError(
                f"{self._path} would have {len(frame):,} rows",
                expected=f"at most {MAX_SHEET_ROWS:,} in an Excel file",
                next="write .csv or .parquet",
            )
        for name, dtype in frame.dtypes.items():
            if isinstance(dtype, pd.DatetimeTZDtype):  # Excel has no time zones
                frame[name] = frame[name].dt.tz_convert("UTC").dt.tz_localize(None)
        with self._staging_path.open("wb") as file:
            frame.to_excel(file, index=False, engine="openpyxl")

    def close(self) -> None:
        """Finish writing; may fail, so all files are closed before any is published."""
        self._pending_write.result()
        if self._writer:
            self._writer.close()
        if self._sheet_chunks:
            self._write_sheet()

    def publish(self) -> None:
        """Rename the file into place."""
        if self._has_rows:
            self._staging_path.replace(self._path)

    def discard(self) -> None:
        """Delete the temporary file, if it was not published."""
        self._pool.shutdown()
        if self._writer:
            self._writer.close()
        self._staging_path.unlink(missing_ok=True)
