"""Two Dask workers beside one process, and beside the same work split by hand; and what monitor holds of a folder.

    python benchmarks/engines.py compare              all families of a book: in one process, and on 2 workers
    python benchmarks/engines.py score --rows 1e7     the champion on a folder: on 2 workers, and in 2 processes
    python benchmarks/engines.py monitor --rows 1e7   seconds and peak memory of rows drawn and judged, from a folder

Scheduler and workers are processes of their own on this machine; that they start is not measured. Beside other work
on the same cores none of it tells anything.
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

from dask_clusters import Cluster, cluster

from modelbook.serving import served_models

WORKERS = 2
FILE = 250_000  # rows of a partition


def silent(*_: Any, **__: Any) -> None:
    """Nothing is told while it is measured."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def folder(place: Path, root: Path, book: str, rows: int) -> Path:
    """The book's batches over and over, in partitions."""
    inputs = pd.read_parquet(root / "data" / book / "batches.parquet")
    part = pd.concat([inputs] * (FILE // len(inputs) + 1), ignore_index=True).head(min(FILE, rows))
    (place / "rows").mkdir()
    part.to_parquet(place / "rows/0000.parquet")
    for number in range(1, -(-rows // FILE)):
        shutil.copy(place / "rows/0000.parquet", place / f"rows/{number:04d}.parquet")
    return place / "rows"


def by_hand(root: Path, book: str, source: Path, target: Path, share: int) -> None:
    """Every ``WORKERS``-th partition, one after another, in this process."""
    from modelbook.scoring import batch

    item = served_models.load_champion(root, book)
    for path in sorted(source.iterdir())[share::WORKERS]:
        batch.score_file(
            path, target / path.name, item.scorer, item.contract, item.number, on_progress=silent
        )


def scored(it: Cluster, root: Path, book: str, rows: int) -> None:
    """The same rows on workers, and split over as many processes of one's own."""
    from modelbook.scoring import partitions

    with tempfile.TemporaryDirectory() as made:
        source = folder(Path(made), root, book, rows)
        run = partial(
            partitions.score_folder, source, version=served_models.require_champion(root, book), load_model=partial(served_models.load_model, max_rows=1),
            on_progress=silent, engine_name="dask", scheduler=it.address,
        )  # fmt: skip
        there, result = timed(lambda: run(Path(made) / "out"))
        (hand := Path(made) / "hand").mkdir()
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "hand",
            "--root",
            str(root),
            "--book",
            book,
        ]
        each = [
            [*command, "--share", str(n), "--source", str(source), "--target", str(hand)]
            for n in range(WORKERS)
        ]
        here, _ = timed(
            lambda: [item.wait() for item in [subprocess.Popen(words) for words in each]]
        )
    print(
        f"{result.rows:,} rows | {WORKERS} workers of Dask {there:.1f} s | {WORKERS} processes by hand {here:.1f} s"
    )
    print(f"{there / here:.2f} × (target: at most 1.3); by hand with the imports of each process")


def compared(it: Cluster, root: Path, book: str, folds: int) -> None:
    """All families of the book's task on the same folds, in this process and on workers."""
    from modelbook.config import Compare
    from modelbook.contract import Contract
    from modelbook.training.comparison import compare_families
    from modelbook.training.experiment import Experiment

    contract = Contract.load(root / "contracts" / f"{book}.yaml")
    trial = Experiment(
        pd.read_parquet(root / "data" / book / "train.parquet"), contract, folds=folds, seed=42
    )
    families = trial.task.resolve_families(Compare().families)
    run = partial(
        compare_families, trial, families, 3600, report_progress=silent, log_candidate=silent
    )
    trial.cross_validate(families[0])  # what the first fit imports
    here, single = timed(run)
    print(f"{len(single)} candidates, {folds} folds | one process {here:.1f} s")
    for kind in ("new", "that have imported all"):
        there, shared = timed(lambda: run(engine_name="dask", scheduler=it.address))
        same = {item.family: item.mean for item in single} == {
            item.family: item.mean for item in shared
        }
        result = f"{WORKERS} workers of Dask, {kind} {there:.1f} s | {here / there:.2f} × (target: at least 1.6)"
        print(f"{result}; the same numbers: {same}")


def monitored(root: Path, book: str, rows: int) -> None:
    """What monitor does with a folder, without importing MLflow."""
    from modelbook.config import Monitor
    from modelbook.dataset.parquet_folder import sample_rows
    from modelbook.monitoring import drift
    from modelbook.monitoring.batch_sources import MAX_SAMPLED_ROWS

    version = served_models.require_champion(root, book)
    contract = served_models.load_model(version, 1).contract
    reference = pd.read_parquet(version.artifact_folder / "reference.parquet")
    with tempfile.TemporaryDirectory() as made:
        source = folder(Path(made), root, book, rows)
        params = Monitor()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        seconds, (batch, total) = timed(lambda: sample_rows(source, MAX_SAMPLED_ROWS, 1))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        evaluated, _ = timed(
            lambda: drift.measure_feature_drift(
                reference,
                batch,
                contract,
                threshold=params.drift,
                missing_rate_change=params.missing_rate_change,
            )
        )
    print(
        f"{len(batch):,} of {total:,} rows drawn in {seconds:.1f} s, drift judged in {evaluated:.1f} s"
    )
    print(f"peak {before:.2f} GB before, {after:.2f} GB once drawn")


def main() -> None:
    """Parse, measure, print."""
    requests = argparse.ArgumentParser()
    requests.add_argument("what", choices=["compare", "score", "monitor", "hand"])
    requests.add_argument("--rows", type=lambda told: int(float(told)))
    requests.add_argument("--folds", type=int, default=10)
    requests.add_argument("--root", type=Path, default=Path())
    requests.add_argument("--book", default="rand-hie")
    for name, kind in (("--share", int), ("--source", Path), ("--target", Path)):
        requests.add_argument(name, type=kind, help=argparse.SUPPRESS)
    inputs = requests.parse_args()
    root = inputs.root.resolve()
    if inputs.what == "hand":
        by_hand(root, inputs.book, inputs.source, inputs.target, inputs.share)
    elif inputs.what == "monitor":
        monitored(root, inputs.book, inputs.rows or 10_000_000)
    else:
        with cluster(WORKERS) as it:
            if inputs.what == "compare":
                compared(it, root, inputs.book, inputs.folds)
            else:
                scored(it, root, inputs.book, inputs.rows or 10_000_000)


if __name__ == "__main__":
    main()
