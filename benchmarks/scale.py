"""Resources and prices for 10 million to 10 billion rows: the table of docs/deploy/scale.md.

    python benchmarks/scale.py                        the plan, from the costs below
    python benchmarks/scale.py --measure --root .     the plan, from costs measured on this machine
    python benchmarks/scale.py --core-hour 0.04       with another price

CPU time is measured, which other work on the machine hardly changes. The book must be built.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

PARTITION_ROWS = 250_000
MAX_BATCH_HOURS = 1.0  # to score a batch
ROWS = (10**7, 10**8, 10**9, 10**10)


@dataclass(frozen=True)
class MeasuredCosts:
    """Measured costs from which the plan is computed."""

    score_cpu: float  # seconds of a core for a million rows, read, checked, scored and written
    start_cpu: float  # of a worker, before its first row
    input_bytes: float  # of a row in Parquet
    output_bytes: float  # of a row with its prediction
    count_cpu: float  # seconds of a core for monitor to draw its sample from a million rows
    journal_bytes: float  # of a journaled prediction, in SQLite
    request_cpu: float = 153e-6  # seconds of a core for a request of one row (docs/benchmarks.md)
    training_core_seconds: float = 2 * (145 + 470)  # of 656,260 rows of 50 columns, likewise


@dataclass(frozen=True)
class Prices:
    """Prices in USD: examples to be replaced by those of your provider."""

    core_hour: float = 0.05
    gb_month: float = 0.023  # of an object store
    million_requests: float = 5.0  # writes to an object store; reads cost less


MEASURED_COSTS = MeasuredCosts(
    score_cpu=26, start_cpu=4.9, input_bytes=92, output_bytes=110, count_cpu=0.5, journal_bytes=780
)


@dataclass(frozen=True)
class Plan:
    """Resources to score, store and monitor a table of ``rows`` rows."""

    rows: int
    partitions: int
    core_hours: float
    workers: int
    stored_gb: float
    batch_usd: float
    month_usd: float
    monitor_core_hours: float
    serve_core_hours: float
    serve_usd: float
    journal_gb: float
    training_usd: float


def compute_plan(rows: int, costs: MeasuredCosts, prices: Prices) -> Plan:
    """Compute the plan; docs/deploy/scale.md states these formulas."""
    partitions = math.ceil(rows / PARTITION_ROWS)
    score_hours = rows / 1e6 * costs.score_cpu / 3600
    workers = max(1, math.ceil(score_hours / MAX_BATCH_HOURS))
    core_hours = score_hours + workers * costs.start_cpu / 3600
    stored_gb = rows * (costs.input_bytes + costs.output_bytes) / 1e9
    # A partition is looked up, downloaded, uploaded and recorded: some ten requests.
    requests = 10 * partitions / 1e6 * prices.million_requests
    serve_hours = rows * costs.request_cpu / 3600
    return Plan(
        rows=rows,
        partitions=partitions,
        core_hours=core_hours,
        workers=workers,
        stored_gb=stored_gb,
        batch_usd=core_hours * prices.core_hour + requests,
        month_usd=stored_gb * prices.gb_month,
        monitor_core_hours=rows / 1e6 * costs.count_cpu / 3600,
        serve_core_hours=serve_hours,
        serve_usd=2 * serve_hours * prices.core_hour,  # half of the cores are kept free
        journal_gb=rows * costs.journal_bytes / 1e9,
        training_usd=costs.training_core_seconds / 3600 * prices.core_hour,
    )


def format_number(value: float) -> str:
    """Two significant digits, thousands with commas."""
    if value == 0:
        return "0"
    rounded = round(value, 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"


def make_table(costs: MeasuredCosts, prices: Prices) -> str:
    """Return the plan as a table of Markdown."""
    plans = [compute_plan(rows, costs, prices) for rows in ROWS]
    lines = ["| | " + " | ".join(f"{plan.rows:,} rows" for plan in plans) + " |"]
    lines.append("|---" * (len(plans) + 1) + "|")
    for name, key in (
        ("partitions of 250,000 rows", "partitions"),
        ("score: hours of a core", "core_hours"),
        (f"workers of one core to end in {MAX_BATCH_HOURS:.0f} hour", "workers"),
        ("score: USD a batch", "batch_usd"),
        ("rows and scores in the bucket, GB", "stored_gb"),
        ("bucket: USD a month", "month_usd"),
        ("monitor: hours of a core to draw its sample", "monitor_core_hours"),
        ("the same rows as single requests: hours of a core", "serve_core_hours"),
        ("requests: USD, half of the cores idle", "serve_usd"),
        ("journal of these requests, GB", "journal_gb"),
        ("a training on rows that are drawn: USD", "training_usd"),
    ):
        cells = " | ".join(format_number(getattr(plan, key)) for plan in plans)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def run_cpu_seconds(*args: str, root: Path) -> float:
    """Run Modelbook's command line in a project, and return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-W", "ignore", "-m", "modelbook.cli", *args]
    environment = {**os.environ, "MODELBOOK_ROOT": str(root)}
    subprocess.run(command, check=True, cwd=root, env=environment, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(root: Path, book: str, rows: int) -> MeasuredCosts:
    """Measure costs on this machine, with repeated batches of a built book."""
    from engines import write_partitions

    from modelbook.dataset.parquet_folder import sample_rows

    with tempfile.TemporaryDirectory() as temp_dir:
        work_dir = Path(temp_dir)
        source = write_partitions(work_dir, root, book, rows)
        (work_dir / "single").mkdir()
        (work_dir / "single/0000.parquet").symlink_to(source / "0000.parquet")
        options = ("--book", book)
        single_cpu = run_cpu_seconds(
            "score", str(work_dir / "single"), str(work_dir / "single-out"), *options, root=root
        )
        total_cpu = run_cpu_seconds(
            "score", str(source), str(work_dir / "out"), *options, root=root
        )
        cpu_per_row = (total_cpu - single_cpu) / (rows - PARTITION_ROWS)
        start_cpu = time.process_time()
        sample_rows(source, 200_000, 1)
        count_cpu = time.process_time() - start_cpu
        row_bytes, journal_bytes = measure_bytes(root, book, work_dir)
    return MeasuredCosts(
        score_cpu=cpu_per_row * 1e6,
        start_cpu=single_cpu - cpu_per_row * PARTITION_ROWS,
        input_bytes=row_bytes[0],
        output_bytes=row_bytes[1],
        count_cpu=count_cpu / rows * 1e6,
        journal_bytes=journal_bytes,
    )


def measure_bytes(root: Path, book: str, work_dir: Path) -> tuple[list[float], float]:
    """Bytes of a row and of a scored row in Parquet, and of a journaled prediction in SQLite."""
    import pandas as pd

    rows = pd.read_parquet(root / "data" / book / "batches.parquet")
    source, target = work_dir / "few.parquet", work_dir / "few-out.parquet"
    rows.to_parquet(source)  # without repeated rows, which compress better
    os.environ["MODELBOOK_SERVE_JOURNAL__URL"] = f"sqlite:///{work_dir / 'journal.db'}"
    args = ("score", str(source), str(target), "--journal", "--book", book)
    run_cpu_seconds(*args, root=root)
    journal = sum(path.stat().st_size for path in work_dir.glob("journal.db*"))
    row_bytes = [path.stat().st_size / len(rows) for path in (source, target)]
    return row_bytes, journal / len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--book", default="rand-hie")
    parser.add_argument("--rows", type=float, default=2e6)
    parser.add_argument("--core-hour", type=float, default=Prices.core_hour)
    args = parser.parse_args()
    costs = MEASURED_COSTS
    if args.measure:
        costs = measure(args.root.resolve(), args.book, int(args.rows))
        print("\n".join(f"{name} = {value:.4g}" for name, value in asdict(costs).items()))
    print(make_table(costs, replace(Prices(), core_hour=args.core_hour)))
