"""What a book costs from 10 million to 10 billion rows: the table of docs/deploy/scale.md.

    python benchmarks/scale.py                        the plan, of the numbers below
    python benchmarks/scale.py --measure --root .     measure them anew on this machine, and print the plan of them
    python benchmarks/scale.py --core-hour 0.04       with other prices

Seconds of the processor are measured, which other work on the machine hardly changes. The book has to be built.
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
HOURS = 1.0  # in which a batch has to be scored
ROWS = (10**7, 10**8, 10**9, 10**10)


@dataclass(frozen=True)
class Measured:
    """Measured numbers that the plan is computed of."""

    score_cpu: float  # seconds of a core for a million rows, read, checked, scored and written
    start_cpu: float  # of a worker, before its first row
    input_bytes: float  # of a row in Parquet
    output_bytes: float  # of a row with its prediction
    count_cpu: float  # seconds of a core for monitor to draw its sample from a million rows
    journal_bytes: float  # of a journaled prediction, in SQLite
    request_cpu: float = 181e-6  # seconds of a core for a request of one row (docs/benchmarks.md)
    training_core_seconds: float = 2 * (145 + 470)  # of 656,260 rows of 50 columns, likewise


@dataclass(frozen=True)
class Prices:
    """In USD: replace them by yours."""

    core_hour: float = 0.05
    gb_month: float = 0.023  # of an object store
    million_requests: float = 5.0  # to an object store that write; those that read cost less


MEASURED = Measured(
    score_cpu=26, start_cpu=4.9, input_bytes=92, output_bytes=110, count_cpu=0.5, journal_bytes=780
)


@dataclass(frozen=True)
class Plan:
    """What a table of so many rows takes to score, to keep and to watch."""

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


def compute_plan(rows: int, measured: Measured, prices: Prices) -> Plan:
    """Compute the plan; docs/deploy/scale.md states these formulas."""
    partitions = math.ceil(rows / PARTITION_ROWS)
    score_hours = rows / 1e6 * measured.score_cpu / 3600
    workers = max(1, math.ceil(score_hours / HOURS))
    core_hours = score_hours + workers * measured.start_cpu / 3600
    stored_gb = rows * (measured.input_bytes + measured.output_bytes) / 1e9
    # A partition is looked up, downloaded, uploaded and recorded: some ten requests.
    requests = 10 * partitions / 1e6 * prices.million_requests
    serve_hours = rows * measured.request_cpu / 3600
    return Plan(
        rows=rows,
        partitions=partitions,
        core_hours=core_hours,
        workers=workers,
        stored_gb=stored_gb,
        batch_usd=core_hours * prices.core_hour + requests,
        month_usd=stored_gb * prices.gb_month,
        monitor_core_hours=rows / 1e6 * measured.count_cpu / 3600,
        serve_core_hours=serve_hours,
        serve_usd=2 * serve_hours * prices.core_hour,  # half of the cores are kept free
        journal_gb=rows * measured.journal_bytes / 1e9,
        training_usd=measured.training_core_seconds / 3600 * prices.core_hour,
    )


def format_number(value: float) -> str:
    """Two significant digits, thousands with commas."""
    if value == 0:
        return "0"
    rounded = round(value, 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"


def make_table(measured: Measured, prices: Prices) -> str:
    """Return the plan as a table of Markdown."""
    plans = [compute_plan(rows, measured, prices) for rows in ROWS]
    lines = ["| | " + " | ".join(f"{plan.rows:,} rows" for plan in plans) + " |"]
    lines.append("|---" * (len(plans) + 1) + "|")
    for name, key in (
        ("partitions of 250,000 rows", "partitions"),
        ("score: hours of a core", "core_hours"),
        (f"workers of one core to end in {HOURS:.0f} hour", "workers"),
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


def run_cpu_seconds(*words: str, root: Path) -> float:
    """Run the command line of a project, and return the seconds of a core that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-W", "ignore", "-m", "modelbook.cli", *words]
    environ = {**os.environ, "MODELBOOK_ROOT": str(root)}
    subprocess.run(command, check=True, cwd=root, env=environ, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(root: Path, book: str, rows: int) -> Measured:
    """Measure on this machine: batches of a built book over and over, scored from a folder."""
    from engines import folder

    from modelbook.dataset.parquet_folder import sample_rows

    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        source = folder(place, root, book, rows)
        (place / "one").mkdir()
        (place / "one/0000.parquet").symlink_to(source / "0000.parquet")
        words = ("--book", book)
        one = run_cpu_seconds("score", str(place / "one"), str(place / "a"), *words, root=root)
        every = run_cpu_seconds("score", str(source), str(place / "b"), *words, root=root)
        each = (every - one) / (rows - PARTITION_ROWS)
        began = time.process_time()
        sample_rows(source, 200_000, 1)
        count_cpu = time.process_time() - began
        sizes, journal = measure_bytes(root, book, place)
    return Measured(
        score_cpu=each * 1e6,
        start_cpu=one - each * PARTITION_ROWS,
        input_bytes=sizes[0],
        output_bytes=sizes[1],
        count_cpu=count_cpu / rows * 1e6,
        journal_bytes=journal,
    )


def measure_bytes(root: Path, book: str, place: Path) -> tuple[list[float], float]:
    """Bytes of a row and of a scored row in Parquet, and of a journaled prediction in SQLite."""
    import pandas as pd

    rows = pd.read_parquet(root / "data" / book / "batches.parquet")
    source, target = place / "few.parquet", place / "few-out.parquet"
    rows.to_parquet(source)  # not those over and over, which compress too well
    os.environ["MODELBOOK_SERVE_JOURNAL__URL"] = f"sqlite:///{place / 'journal.db'}"
    words = ("score", str(source), str(target), "--journal", "--book", book)
    run_cpu_seconds(*words, root=root)
    journal = sum(path.stat().st_size for path in place.glob("journal.db*"))
    sizes = [path.stat().st_size / len(rows) for path in (source, target)]
    return sizes, journal / len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--book", default="rand-hie")
    parser.add_argument("--rows", type=float, default=2e6)
    parser.add_argument("--core-hour", type=float, default=Prices.core_hour)
    given = parser.parse_args()
    numbers = MEASURED
    if given.measure:
        numbers = measure(given.root.resolve(), given.book, int(given.rows))
        print("\n".join(f"{name} = {value:.4g}" for name, value in asdict(numbers).items()))
    print(make_table(numbers, replace(Prices(), core_hour=given.core_hour)))
