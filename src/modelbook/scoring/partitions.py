"""Score a folder of Parquet files, each as a batch, in this process or on an engine's workers.

Each input file gives one output file of the same name, with the same code as for a single file.
Results are staged in a temporary folder, which is renamed when the last partition is done. After an
interruption, finished partitions are not scored again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import engine
from modelbook.atomic import atomic_write
from modelbook.dataset import parquet_folder
from modelbook.errors import DataError
from modelbook.scoring import batch
from modelbook.scoring.batch import BatchResult, ChunkResult, ProgressCallback

if TYPE_CHECKING:
    from modelbook.registry.aliases import RegisteredVersion

VERSION_FOLDER, RUN_FILE = "version", "run.json"  # in the staging folder


@dataclass
class PartitionScorer:
    """Scores a partition by its name, and records it as done for a later run."""

    source: Path
    staging_folder: Path
    version: RegisteredVersion
    load_model: Callable[[RegisteredVersion], Any]
    record_chunk: Callable[[str, ChunkResult, int], Any] | None = None

    @cached_property
    def _model(self) -> Any:
        return self.load_model(self.version)

    def __call__(self, name: str) -> BatchResult:
        done_path = self.staging_folder / "done" / f"{name}.json"
        output_path = self.staging_folder / "answers" / name
        rejects_path = (self.staging_folder / "rejects" / name).with_suffix(".csv")
        source_state = [(stat := (self.source / name).stat()).st_size, stat.st_mtime_ns]
        if (
            done_path.is_file()
            and (record := json.loads(done_path.read_text()))["given"] == source_state
        ):
            return BatchResult(record["rows"], record["rejected"], 0.0, rejects_path)
        # Of a dead worker.
        for path in (
            output_path,
            rejects_path,
            output_path.with_name(f"{output_path.stem}.rejects.csv"),
        ):
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        model = self._model
        result = batch.score_file(
            self.source / name,
            output_path,
            model.scorer,
            model.contract,
            model.number,
            on_progress=lambda *_: None,
            allow_empty=True,
            constants=parquet_folder.partition_values(name),
            record_chunk=partial(self.record_chunk, name) if self.record_chunk else None,
        )
        if result.rejected_rows:
            result.rejects_path.replace(rejects_path)
        with atomic_write(done_path) as temporary_path:
            temporary_path.write_text(
                json.dumps(
                    {"rows": result.rows, "rejected": result.rejected_rows, "given": source_state}
                )
            )
        return result


def score_folder(
    input_folder: Path,
    output_folder: Path,
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
    input_folder, output_folder : Path
        Paths that every worker can access.
    version : RegisteredVersion
        Version to score with; its files are copied to the staging folder for the workers.
    load_model : callable
        Loads the version on each worker; raises when its files do not match the registered digest.
    on_progress : callable
        Called after each partition with the rows so far and the seconds.
    engine_name, scheduler : str
        As in ``engine.open_engine``.
    record_chunk : callable, optional
        As in ``batch.score_file``, with the partition's name first; for the engine local.

    Raises
    ------
    DataError
        When there are no rows, a file cannot be read or lacks columns, or the output exists.
    EngineError
        When the engine fails.
    """
    start = time.monotonic()
    input_folder = input_folder.resolve()
    output_folder = output_folder.resolve()
    staging_folder = output_folder.with_name(f".{output_folder.name}.part")
    rejects_folder = output_folder.with_name(f"{output_folder.name}.rejects")
    _check_folders(input_folder, output_folder)
    names = parquet_folder.list_partitions(input_folder)
    output_folder.parent.mkdir(parents=True, exist_ok=True)
    with batch.lock_target(output_folder, "folder"):
        score_partition = _prepare_staging(
            input_folder, staging_folder, rejects_folder, version, load_model
        )
        score_partition.record_chunk = record_chunk
        row_count, rejected_count = _score_partitions(
            score_partition,
            names,
            engine_name,
            scheduler,
            lambda count: on_progress(count, time.monotonic() - start),
        )
        if not row_count:
            raise DataError(f"{input_folder} has no rows", next="check its path")
        _publish_results(staging_folder, output_folder, rejects_folder, names)
    return BatchResult(row_count, rejected_count, time.monotonic() - start, rejects_folder)


def _score_partitions(
    score_partition: PartitionScorer,
    names: list[str],
    engine_name: str,
    scheduler: str | None,
    on_progress: Callable[[int], None],
) -> tuple[int, int]:
    row_count = rejected_count = 0
    with engine.open_engine(engine_name, scheduler, score_partition) as opened_engine:
        for future in (
            as_completed(map(opened_engine.submit, names))
            if engine_name != engine.LOCAL
            else map(opened_engine.submit, names)
        ):
            result = opened_engine.get_result(future)
            row_count = row_count + result.rows
            rejected_count = rejected_count + result.rejected_rows
            on_progress(row_count)
    return row_count, rejected_count


def _prepare_staging(
    input_folder: Path,
    staging_folder: Path,
    rejects_folder: Path,
    version: RegisteredVersion,
    load_model: Callable[[RegisteredVersion], Any],
) -> PartitionScorer:
    """Create the staging folder, or reuse that of an interrupted run of the same version."""
    run_description = json.dumps(
        {"source": str(input_folder), "version": version.number, "tags": version.tags}
    )
    is_finished = (staging_folder / "finished").exists()
    is_resumable = (
        (staging_folder / RUN_FILE).is_file()
        and (staging_folder / RUN_FILE).read_text() == run_description
        and (staging_folder / "answers").exists() >= is_finished
    )
    if rejects_folder.exists() and not (is_resumable and is_finished):
        raise DataError(
            f"{rejects_folder} exists already", next="move it away, or name another folder"
        )
    if not is_resumable:
        version.verify_files()
        shutil.rmtree(staging_folder, ignore_errors=True)
        shutil.copytree(version.artifact_folder, staging_folder / VERSION_FOLDER)
        with atomic_write(staging_folder / RUN_FILE) as temporary_path:
            temporary_path.write_text(run_description)
    return PartitionScorer(
        input_folder,
        staging_folder,
        replace(version, artifact_folder=staging_folder / VERSION_FOLDER, source_uri=""),
        load_model,
    )


def _publish_results(
    staging_folder: Path, output_folder: Path, rejects_folder: Path, names: list[str]
) -> None:
    """Move the results into place, rejects first: an output folder means a complete run."""
    (staging_folder / "finished").touch()
    for subfolder in ("answers", "rejects"):  # of partitions removed between attempts
        for path in [entry for entry in (staging_folder / subfolder).rglob("*") if entry.is_file()]:
            if (
                path.relative_to(staging_folder / subfolder).with_suffix(".parquet").as_posix()
                not in names
            ):
                path.unlink()
    if any(path.is_file() for path in (staging_folder / "rejects").rglob("*")):
        (staging_folder / "rejects").replace(rejects_folder)
    (staging_folder / "answers").replace(output_folder)
    shutil.rmtree(staging_folder)


def _check_folders(input_folder: Path, output_folder: Path) -> None:
    if output_folder.exists():
        raise DataError(
            f"{output_folder} exists already", next="move it away, or name another folder"
        )
    if output_folder.is_relative_to(input_folder):
        raise DataError(
            f"{output_folder} is inside {input_folder}",
            expected="a folder outside it",
            next="name another folder",
        )
