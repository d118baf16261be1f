"""Score a folder of Parquet files, each as a batch, in this process or on an engine's workers.

Each input file gives one output file of the same name, with the same code as for a single file.
After an interruption, finished partitions are not scored again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import engine
from modelbook.dataset import parquet_folder
from modelbook.dataset.object_store import RemotePath
from modelbook.errors import DataError
from modelbook.scoring import batch
from modelbook.scoring.batch import BatchResult, ChunkResult, ProgressCallback
from modelbook.scoring.partition_storage import PartitionStorage, open_storage

if TYPE_CHECKING:
    from modelbook.registry.aliases import RegisteredVersion

RowCounts = tuple[int, int]  # rows, and those of them that were rejected


@dataclass
class PartitionScorer:
    """Scores a partition by its name, and records it as done for a later run."""

    storage: PartitionStorage
    version: RegisteredVersion
    load_model: Callable[[RegisteredVersion], Any]
    record_chunk: Callable[[str, ChunkResult, int], Any] | None = None

    @cached_property
    def _model(self) -> Any:
        return self.load_model(self.storage.fetch_version(self.version))

    def __call__(self, name: str) -> RowCounts:
        state = self.storage.describe_state(name)
        record = self.storage.read_record(name)
        if record and record.get("input_state") == state:
            return record["rows"], record["rejected"]
        model = self._model
        with self.storage.open_partition(name) as (input_path, output_path):
            result = batch.score_file(
                input_path,
                output_path,
                model.scorer,
                model.contract,
                model.number,
                on_progress=lambda *_: None,
                allow_empty=True,
                constants=parquet_folder.parse_partition_values(name),
                record_chunk=partial(self.record_chunk, name) if self.record_chunk else None,
            )
        self.storage.write_record(
            name, {"rows": result.rows, "rejected": result.rejected_rows, "input_state": state}
        )
        return result.rows, result.rejected_rows


def score_folder(
    source: Path | RemotePath,
    target: Path | RemotePath,
    version: RegisteredVersion,
    load_model: Callable[[RegisteredVersion], Any],
    *,
    on_progress: ProgressCallback,
    engine_name: str = engine.LOCAL,
    scheduler: str | None = None,
    record_chunk: Callable[[str, ChunkResult, int], Any] | None = None,
) -> BatchResult:
    """Score a folder of Parquet files.

    Parameters
    ----------
    source, target : Path or RemotePath
        Two folders, or two URIs, that every worker can read and write.
    version : RegisteredVersion
        Version to score with; its files are copied to where the workers read them.
    load_model : callable
        Loads the version on each worker; raises when its files do not match the registered digest.
    on_progress : callable
        Called after each partition with the rows so far and the seconds.
    record_chunk : callable, optional
        As in ``batch.score_file``, with the partition's name first; for the local engine.

    Raises
    ------
    DataError
        When there are no rows, a file cannot be read or lacks columns, or the output exists.
    EngineError
        When the engine fails.
    """
    start = time.monotonic()
    storage = open_storage(source, target)
    names = storage.check()
    with storage.lock():
        row_count, rejected_count = _score_partitions(
            PartitionScorer(storage, storage.prepare(version), load_model, record_chunk),
            names,
            engine_name,
            scheduler,
            lambda count: on_progress(count, time.monotonic() - start),
        )
        if not row_count:
            raise DataError(f"{storage.source} has no rows", next="check its path")
        storage.publish(names)
    return BatchResult(row_count, rejected_count, time.monotonic() - start, storage.rejects)


def _score_partitions(
    score_partition: PartitionScorer,
    names: list[str],
    engine_name: str,
    scheduler: str | None,
    on_progress: Callable[[int], None],
) -> RowCounts:
    row_count = rejected_count = 0
    with engine.open_engine(engine_name, scheduler, score_partition) as opened_engine:
        futures = map(opened_engine.submit, names)
        for future in futures if engine_name == engine.LOCAL else as_completed(futures):
            rows, rejected_rows = opened_engine.get_result(future)
            row_count, rejected_count = row_count + rows, rejected_count + rejected_rows
            on_progress(row_count)
    return row_count, rejected_count
