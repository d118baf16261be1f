"""Batches: a CSV or Parquet file of any size answered part by part, in bounded memory.

Rows keep their order and all their columns. Those that break the contract go to a side file with the reasons. Both
files appear when everything is done, and not before: a killed run leaves nothing that could be taken for a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from modelbook.dataset import delimited
from modelbook.errors import DataError
from modelbook.scoring.judge import judge

if TYPE_CHECKING:
    from modelbook.contract import Contract

ROWS = 100_000  # of a part; four of them are in memory at the most
KINDS = (".csv", ".parquet")
Judged = tuple[pa.Table, dict[str, np.ndarray], np.ndarray]  # a part, its features, and why rows are refused
Tell = Callable[[int, float], None]


@dataclass(frozen=True)
class Scored:
    """What came of a batch; ``seconds`` without imports."""

    rows: int
    rejected: int
    seconds: float
    rejects: Path


def score(
    source: Path, target: Path, scorer: Any, contract: Contract, version: int, *, tell: Tell, may_be_empty: bool = False
) -> Scored:
    """Answer a file.

    Parameters
    ----------
    scorer : Scorer or Itself
    tell : callable
        Called with rows so far and seconds after each part.
    may_be_empty : bool, optional
        Whether a file without rows, as writers of partitions leave, gets an answer without rows.

    Raises
    ------
    DataError
        When a file is of another kind, the source cannot be read or lacks columns, or the target is there already.
    """
    rejects = target.with_name(f"{target.stem}.rejects.csv")
    _check(source, target, rejects)
    began, count, wrong = time.monotonic(), 0, 0
    with alone(target, "file"), ExitStack() as stack:
        answered, refused = _Out(target), _Out(rejects)
        stack.callback(answered.drop)
        stack.callback(refused.drop)
        layout = delimited.look(source, str(source), None, contract.file) if source.suffix == ".csv" else None
        for part, typed, reasons in _ahead(_judged(source, contract, layout)):
            good = reasons == ""
            kept, read = part, typed
            if not good.all():
                refused.write(_refused(part, reasons, good, count))
                kept, read = part.filter(pa.array(good)), {name: values[good] for name, values in typed.items()}
            answered.write(_answers(kept, read, scorer, version))
            count, wrong = count + len(good), wrong + int((~good).sum())
            tell(count, time.monotonic() - began)
        if count == 0 and not may_be_empty:
            raise DataError(f"{source} has no rows", next="check its path")
        refused.keep()
        answered.keep()
    return Scored(count, wrong, time.monotonic() - began, rejects)


@contextmanager
def alone(target: Path, kind: str) -> Iterator[None]:
    """Hold a target, a ``file`` or a ``folder``, for one run; the lock beside it goes when the run ends.

    Raises
    ------
    DataError
        When another run holds it.
    """
    lock = FileLock(f"{target}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(f"another run is writing {target}", next=f"wait for it, or name another {kind}") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _answers(part: pa.Table, typed: dict[str, np.ndarray], scorer: Any, version: int) -> pa.Table:
    made: dict[str, Any] = {}
    answers = scorer.answering
    numbers = scorer.numbers(typed, len(part)) if len(part) else np.empty((0, answers.width))
    made["prediction"] = answers.predictions(numbers)
    for place, name in enumerate(answers.classes):
        made[f"probability_{name}"] = numbers[:, place]
    made["model_version"] = np.full(len(part), version)
    for name, values in made.items():
        part = part.append_column(f"{name}_" if name in part.column_names else name, pa.array(values))
    return part


def _refused(part: pa.Table, reasons: np.ndarray, good: np.ndarray, start: int) -> pa.Table:
    rows = pa.array(np.flatnonzero(~good) + start)
    left = part.filter(pa.array(~good))
    told = pa.array([text.removesuffix("; ") for text in reasons[~good]])
    return left.add_column(0, "reasons", told).add_column(0, "row", rows)


def _parts(source: Path, layout: delimited.Found | None) -> Iterator[pa.Table]:
    try:
        if layout is None:
            file = pq.ParquetFile(source)
            for batch in file.iter_batches(ROWS):
                yield pa.Table.from_batches([batch])
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table()
            return
        given: dict[str, Any] = {"dtype": str, "keep_default_na": False, "chunksize": ROWS}
        for frame in pd.read_csv(source, sep=layout.delimiter, encoding=layout.encoding, **given):
            if not isinstance(frame.index, pd.RangeIndex):  # pandas makes an index of cells that no header names
                raise DataError(f"{source} has rows with more cells than its header", next="mend the file")
            text = pa.schema([(str(name), pa.string()) for name in frame.columns])
            yield pa.Table.from_pandas(frame, schema=text, preserve_index=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{source} cannot be read: {str(error).splitlines()[0]}", next="mend the file") from None


def _judged(source: Path, contract: Contract, layout: delimited.Found | None) -> Iterator[Judged]:
    for part in _parts(source, layout):
        _columns(part, contract, source)
        yield part, *judge(part, contract, layout)


def _ahead(parts: Iterator[Judged]) -> Iterator[Judged]:
    """Parts, of which the next is read while one is answered: Arrow and models do not hold the interpreter."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _columns(part: pa.Table, contract: Contract, source: Path) -> None:
    absent = [name for name in contract.inputs_ if name not in part.column_names]
    if absent:
        from modelbook.config import nearest

        strangers = [name for name in part.column_names if name not in contract.columns]
        raise DataError(
            f"{source} has no column {', '.join(absent)}",
            expected=f"a column for each feature; {strangers[0]!r}: {nearest(strangers[0], absent)}" if strangers
            else "a column for each feature",
            next="name the columns as the contract does",
        )  # fmt: skip
    for name in contract.inputs_:
        if pa.types.is_nested(kind := part[name].type):
            raise DataError(
                f"the column {name} of {source} holds {kind}", expected="one value in each row",
                next="take the values apart into columns that the contract names",
            )  # fmt: skip


def _check(source: Path, target: Path, rejects: Path) -> None:
    for path in (source, target):
        if path.suffix not in KINDS:
            raise DataError(f"{path} is of another kind", expected=f"a name that ends in {' or '.join(KINDS)}")
    if not source.is_file():
        raise DataError(f"there is no {source}", next="check its path")
    for path in (target, rejects):
        if path.exists():
            raise DataError(f"{path} is there already", next="move it away, or name another file")


class _Out:
    """A file that grows aside and takes its place at the end; one that nothing was written to never appears.

    It is written by a thread of its own, one part at a time; the next call tells what that has failed at.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._aside = path, path.with_name(f".{path.name}.part")
        self._writer: pq.ParquetWriter | None = None
        self._begun = False
        self._pool, self._last = ThreadPoolExecutor(1), Future[None]()
        self._last.set_result(None)
        self._aside.unlink(missing_ok=True)  # of a run that was killed

    def write(self, part: pa.Table) -> None:
        """Add rows."""
        self._last.result()
        self._last = self._pool.submit(self._append, part)

    def _append(self, part: pa.Table) -> None:
        if self._path.suffix == ".parquet":
            self._writer = self._writer or pq.ParquetWriter(self._aside, part.schema)
            self._writer.write_table(part)
        else:
            part.to_pandas().to_csv(self._aside, mode="a", header=not self._begun, index=False)
        self._begun = True

    def keep(self) -> None:
        """Take the place."""
        self._last.result()
        if self._writer:
            self._writer.close()
        if self._begun:
            self._aside.replace(self._path)

    def drop(self) -> None:
        """Leave nothing, where the place was not taken."""
        self._pool.shutdown()
        if self._writer:
            self._writer.close()
        self._aside.unlink(missing_ok=True)
