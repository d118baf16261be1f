"""Batches: a CSV or Parquet file of any size answered part by part, in bounded memory.

Rows keep their order and all their columns. Those that break the contract go to a side file with the reasons. Both
files appear when everything is done, and not before: a killed run leaves nothing that could be taken for a result.
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
from modelbook.scoring.judge import judge

if TYPE_CHECKING:
    from modelbook.contract import Contract

ROWS = 50_000  # of a part
THREADS = min(4, os.cpu_count() or 1)  # parts at work; three more are read, or being written
KINDS = (".csv", ".parquet")
Done = tuple[pa.Table, pa.Table]  # answered and refused rows of a part
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
    with alone(target, "file"), _memory_kept(), ExitStack() as stack:
        answered, refused = _Out(target), _Out(rejects)
        stack.callback(answered.drop)
        stack.callback(refused.drop)
        layout = delimited.look(source, str(source), None, contract.file) if source.suffix == ".csv" else None
        for good, bad in _in_turn(partial(_answered, contract=contract, layout=layout, scorer=scorer, version=version),
                                  _parts(source, layout, contract), THREADS if scorer.compiled else 1):  # fmt: skip
            if len(bad):
                refused.write(bad.set_column(0, "row", pc.add(bad["row"], count)))
            answered.write(good)
            count, wrong = count + len(good) + len(bad), wrong + len(bad)
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


@contextmanager
def _memory_kept() -> Iterator[None]:
    """Let Arrow have its memory from the system, which keeps what a part gave back; Arrow's own pool asks anew."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _answered(part: pa.Table, contract: Contract, layout: delimited.Found | None, scorer: Any, version: int) -> Done:
    """The rows of a part with their answers, and those that break the contract, with their place and the reasons."""
    typed, reasons = judge(part, contract, layout)
    good = reasons == ""
    bad = _refused(part, reasons, ~good)
    if not good.all():
        part, typed = part.filter(pa.array(good)), {name: values[good] for name, values in typed.items()}
    return _answers(part, typed, scorer, version), bad


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


def _refused(part: pa.Table, reasons: np.ndarray, bad: np.ndarray) -> pa.Table:
    rows, left = pa.array(np.flatnonzero(bad)), part.filter(pa.array(bad))
    told = pa.array([text.removesuffix("; ") for text in reasons[bad]], pa.string())
    return left.add_column(0, "reasons", told).add_column(0, "row", rows)


def _in_turn(work: Callable[[pa.Table], Done], parts: Iterable[pa.Table], threads: int) -> Iterator[Done]:
    """What is made of each part, in their order, by several threads: Arrow and models do not hold the interpreter."""
    at_work: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            at_work.append(pool.submit(work, part))
            if len(at_work) > threads:
                yield at_work.popleft().result()
        while at_work:
            yield at_work.popleft().result()


def _parts(source: Path, layout: delimited.Found | None, contract: Contract) -> Iterator[pa.Table]:
    for part in _read(source, layout):
        _columns(part, contract, source)
        yield part


def _read(source: Path, layout: delimited.Found | None) -> Iterator[pa.Table]:
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
