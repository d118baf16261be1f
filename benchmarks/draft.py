"""Time and memory of `modelbook new` and `modelbook check`, relative to pandas.read_csv.

python benchmarks/draft.py                1,000,000 rows, 50 columns
python benchmarks/draft.py --rows 100000
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"times pandas": 4, "GB": 3}
READ_SCRIPT = "import sys, pandas; pandas.read_csv(sys.argv[1])"
INGEST_SCRIPT = """
import sys
from pathlib import Path
from modelbook import dataset
from modelbook.contract import Contract
contract = Contract.load(sys.argv[2])
raw = dataset.read_table(sys.argv[1], Path("."), contract)
contract.check(raw)
frame = dataset.sample_table(contract.conform(raw), contract, 1.0, 42)
dataset.fingerprint(frame)
dataset.split_table(frame, contract, holdout_share=0.2, train_until=202101, seed=42)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the table (default: 1,000,000)"
    )
    parser.add_argument("--make", metavar="PATH", help="write the table and exit")
    args = parser.parse_args()
    if args.make:
        make_table(args.rows).to_csv(args.make, index=False)
        return
    with TemporaryDirectory() as temp_dir:
        project_dir = Path(temp_dir)
        table_path = Path(temp_dir) / "table.csv"
        shutil.copy(ROOT / "pipeline.yaml", project_dir)
        # In another process: ru_maxrss of a child starts at the size of its parent.
        subprocess.run(
            [sys.executable, __file__, "--rows", str(args.rows), "--make", str(table_path)],
            check=True,
        )
        modelbook = str(Path(sys.executable).with_name("modelbook"))
        pandas_seconds = measure_command(
            "pandas", None, [sys.executable, "-c", READ_SCRIPT, str(table_path)], project_dir
        )
        measure_command(
            "modelbook new",
            pandas_seconds,
            [modelbook, "new", str(table_path), "--target", "target", "--yes"],
            project_dir,
        )
        measure_command(
            "modelbook check",
            pandas_seconds,
            [modelbook, "check", str(table_path), "--book", "table"],
            project_dir,
        )
        measure_command(
            "steps of ingest",
            pandas_seconds,
            [sys.executable, "-c", INGEST_SCRIPT, str(table_path), "contracts/table.yaml"],
            project_dir,
        )


def make_table(rows: int) -> pd.DataFrame:
    """Generate a table of 50 columns of different types."""
    random = np.random.default_rng(0)
    offsets = pd.to_timedelta(random.integers(0, 1000, rows), "D")
    columns: dict[str, Any] = {
        "id": np.arange(rows),
        **{f"x{i}": random.normal(size=rows).round(4) for i in range(30)},
    }
    columns |= {f"count{i}": random.integers(0, 100, rows) for i in range(8)}
    columns |= {f"town{i}": random.choice([f"town {j}" for j in range(20)], rows) for i in range(6)}
    columns["price"] = [f"£{value:,.2f}" for value in random.uniform(1, 5000, rows).round(2)]
    columns["date"] = (pd.Timestamp("2019-01-01") + offsets).strftime("%Y-%m-%d")
    columns["gaps"] = np.where(
        random.uniform(size=rows) < 0.2, np.nan, random.normal(size=rows).round(3)
    )
    columns["customer"] = random.integers(0, rows // 4, rows)
    columns["target"] = (columns["x0"] + columns["x1"] + random.normal(size=rows) > 1).astype(int)
    return pd.DataFrame(columns)


def measure_command(
    name: str, pandas_seconds: float | None, command: list[str], folder: Path
) -> float:
    """Run a command, print its time and peak memory, and return its seconds."""
    start_time = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start_time
    if status:
        sys.exit(f"{name} failed")
    comparison = (
        f"{seconds / pandas_seconds:4.1f} times pandas, "
        f"target at most {TARGETS['times pandas']}, {TARGETS['GB']} GB"
        if pandas_seconds
        else ""
    )
    print(
        f"{name:<18} {seconds:6.1f} s  {usage.ru_maxrss * 1024 / 1e9:4.1f} GB  {comparison}",
        flush=True,
    )
    return seconds


if __name__ == "__main__":
    main()
