"""Two Dask workers compared with one process and with two independent processes.

    python benchmarks/engines.py compare              all families of a book
    python benchmarks/engines.py score --rows 1e7     predictions of the champion for a folder
    python benchmarks/engines.py monitor --rows 1e7   time and memory to sample and evaluate one

Scheduler and workers are processes on this machine; their start is not measured. Results are
meaningless if other work runs on the same cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)

from dask_clusters import Cluster, start_cluster

from modelbook.registry import aliases
from modelbook.serving import served_models

WORKERS = 2
PARTITION_ROWS = 250_000  # rows of a partition


def ignore_progress(*_: Any, **__: Any) -> None:
    """Progress callback that does nothing."""


def measure_seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    start_time = time.perf_counter()
    result = function()
    return time.perf_counter() - start_time, result


def write_partitions(target_folder: Path, root: Path, book: str, rows: int) -> Path:
    """Write partitions of the book's batches, repeated up to a number of rows."""
    batches = pd.read_parquet(root / "data" / book / "batches.parquet")
    partition = pd.concat([batches] * (PARTITION_ROWS // len(batches) + 1), ignore_index=True).head(
        min(PARTITION_ROWS, rows)
    )
    (target_folder / "rows").mkdir()
    partition.to_parquet(target_folder / "rows/0000.parquet")
    for number in range(1, -(-rows // PARTITION_ROWS)):
        shutil.copy(
            target_folder / "rows/0000.parquet", target_folder / f"rows/{number:04d}.parquet"
        )
    return target_folder / "rows"


def score_partitions_in_process(
    root: Path, book: str, source: Path, target: Path, worker_index: int
) -> None:
    """Score every ``WORKERS``-th partition, one after another, in this process."""
    from modelbook.scoring import batch

    served_model = served_models.load_model(aliases.require_champion(root, book))
    for path in sorted(source.iterdir())[worker_index::WORKERS]:
        batch.score_file(
            path,
            target / path.name,
            served_model.scorer,
            served_model.contract,
            served_model.number,
            on_progress=ignore_progress,
        )


def benchmark_scoring(cluster: Cluster, root: Path, book: str, rows: int) -> None:
    """Score the same rows on Dask workers, and in as many independent processes."""
    from modelbook.scoring import partitions

    with tempfile.TemporaryDirectory() as temp_dir:
        source = write_partitions(Path(temp_dir), root, book, rows)
        run = partial(
            partitions.score_folder, source,
            version=aliases.require_champion(root, book),
            load_model=served_models.load_model,
            on_progress=ignore_progress, engine_name="dask", scheduler=cluster.address,
        )  # fmt: skip
        dask_seconds, result = measure_seconds(lambda: run(Path(temp_dir) / "out"))
        (local_output := Path(temp_dir) / "local").mkdir()
        command = [sys.executable, "-W", "ignore", __file__, "score-partitions"]
        command += ["--root", str(root), "--book", book]
        command += ["--source", str(source), "--target", str(local_output)]
        commands = [[*command, "--worker-index", str(index)] for index in range(WORKERS)]
        local_seconds, _ = measure_seconds(lambda: run_in_parallel(commands))
    print(
        f"{result.rows:,} rows | {WORKERS} Dask workers {dask_seconds:.1f} s | "
        f"{WORKERS} independent processes, with their imports, {local_seconds:.1f} s"
    )
    print(f"{dask_seconds / local_seconds:.2f} × (target: at most 1.3)")


def run_in_parallel(commands: list[list[str]]) -> None:
    """Run commands at the same time, and wait until all have ended."""
    for process in [subprocess.Popen(command) for command in commands]:
        process.wait()


def benchmark_comparison(cluster: Cluster, root: Path, book: str, folds: int) -> None:
    """Cross-validate all families of the book's task, in this process and on Dask workers."""
    from modelbook.config import Compare
    from modelbook.contract import Contract
    from modelbook.training.comparison import compare_families
    from modelbook.training.experiment import Experiment

    contract = Contract.load(root / "contracts" / f"{book}.yaml")
    experiment = Experiment(
        pd.read_parquet(root / "data" / book / "train.parquet"), contract, folds=folds, seed=42
    )
    families = experiment.task.resolve_families(Compare().families)
    run = partial(
        compare_families,
        experiment,
        families,
        3600,
        report_progress=ignore_progress,
        log_candidate=ignore_progress,
    )
    experiment.cross_validate(families[0])  # imports what the first fit needs
    local_seconds, local_candidates = measure_seconds(run)
    print(f"{len(local_candidates)} candidates, {folds} folds | one process {local_seconds:.1f} s")
    for state in ("new", "with all modules imported"):
        dask_seconds, dask_candidates = measure_seconds(
            lambda: run(engine_name="dask", scheduler=cluster.address)
        )
        local_means, dask_means = (
            {candidate.family: candidate.mean for candidate in candidates}
            for candidates in (local_candidates, dask_candidates)
        )
        print(
            f"{WORKERS} Dask workers, {state} {dask_seconds:.1f} s | "
            f"{local_seconds / dask_seconds:.2f} × (target: at least 1.6); "
            f"the same means: {local_means == dask_means}"
        )


def benchmark_monitoring(root: Path, book: str, rows: int) -> None:
    """Sample a folder and measure drift as the monitor stage does, without importing MLflow."""
    from modelbook.config import Monitor
    from modelbook.dataset.parquet_folder import sample_rows
    from modelbook.monitoring import drift
    from modelbook.monitoring.batch_sources import MAX_SAMPLED_ROWS

    version = aliases.require_champion(root, book)
    contract = served_models.load_model(version).contract
    reference = pd.read_parquet(version.artifact_folder / "reference.parquet")
    with tempfile.TemporaryDirectory() as temp_dir:
        source = write_partitions(Path(temp_dir), root, book, rows)
        params = Monitor()
        before_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        sampling_seconds, (batch, total) = measure_seconds(
            lambda: sample_rows(source, MAX_SAMPLED_ROWS, 1)
        )
        after_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        drift_seconds, _ = measure_seconds(
            lambda: drift.measure_feature_drift(
                reference,
                batch,
                contract,
                threshold=params.drift_threshold,
                missing_rate_change=params.missing_rate_change,
            )
        )
    print(
        f"{len(batch):,} of {total:,} rows sampled in {sampling_seconds:.1f} s, "
        f"drift measured in {drift_seconds:.1f} s"
    )
    print(f"peak {before_gb:.2f} GB before, {after_gb:.2f} GB after sampling")


def main() -> None:
    """Run a benchmark and print its results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("benchmark", choices=["compare", "score", "monitor", "score-partitions"])
    parser.add_argument("--rows", type=lambda text: int(float(text)))
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--book", default="rand-hie")
    for name, value_type in (("--worker-index", int), ("--source", Path), ("--target", Path)):
        parser.add_argument(name, type=value_type, help=argparse.SUPPRESS)
    args = parser.parse_args()
    root = args.root.resolve()
    if args.benchmark == "score-partitions":
        score_partitions_in_process(root, args.book, args.source, args.target, args.worker_index)
    elif args.benchmark == "monitor":
        benchmark_monitoring(root, args.book, args.rows or 10_000_000)
    else:
        with start_cluster(WORKERS) as cluster:
            if args.benchmark == "compare":
                benchmark_comparison(cluster, root, args.book, args.folds)
            else:
                benchmark_scoring(cluster, root, args.book, args.rows or 10_000_000)


if __name__ == "__main__":
    main()
