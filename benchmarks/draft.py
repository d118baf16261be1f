"""What `modelbook new` and `modelbook check` cost, beside reading the table by pandas: seconds and memory.

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

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"times pandas": 4, "GB": 3}
READ = "import sys, pandas; pandas.read_csv(sys.argv[1])"
INGEST = """
import sys
from pathlib import Path
from modelbook import dataset
from modelbook.contract import Contract
agreed = Contract.load(sys.argv[2])
raw = dataset.read_table(sys.argv[1], Path("."), agreed)
agreed.check(raw)
frame = dataset.sample_table(agreed.conform(raw), agreed, 1.0, 42)
dataset.fingerprint(frame)
dataset.split_table(frame, agreed, holdout_share=0.2, train_until=202101, seed=42)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="rows of the table (default: 1,000,000)"
    )
    parser.add_argument("--make", metavar="PATH", help="only write the table, and measure nothing")
    options = parser.parse_args()
    if options.make:
        make(options.rows).to_csv(options.make, index=False)
        return
    with TemporaryDirectory() as folder:
        place, table = Path(folder), Path(folder) / "table.csv"
        shutil.copy(ROOT / "pipeline.yaml", place)
        # By another process: a child's memory is never counted as less than its parent's.
        subprocess.run(
            [sys.executable, __file__, "--rows", str(options.rows), "--make", str(table)],
            check=True,
        )
        modelbook = str(Path(sys.executable).with_name("modelbook"))
        plain = told("pandas", None, [sys.executable, "-c", READ, str(table)], place)
        told(
            "modelbook new",
            plain,
            [modelbook, "new", str(table), "--target", "answer", "--yes"],
            place,
        )
        told("modelbook check", plain, [modelbook, "check", str(table), "--book", "table"], place)
        told(
            "what ingest does",
            plain,
            [sys.executable, "-c", INGEST, str(table), "contracts/table.yaml"],
            place,
        )


def make(rows: int) -> pd.DataFrame:
    """A table of 50 columns of all kinds, drawn by a seeded generator."""
    random = np.random.default_rng(0)
    days = pd.to_timedelta(random.integers(0, 1000, rows), "D")
    table = {
        "id": np.arange(rows),
        **{f"x{i}": random.normal(size=rows).round(4) for i in range(30)},
    }
    table |= {f"count{i}": random.integers(0, 100, rows) for i in range(8)}
    table |= {f"town{i}": random.choice([f"town {j}" for j in range(20)], rows) for i in range(6)}
    table["price"] = [f"£{value:,.2f}" for value in random.uniform(1, 5000, rows).round(2)]
    table["date"] = (pd.Timestamp("2019-01-01") + days).strftime("%Y-%m-%d")
    table["gaps"] = np.where(
        random.uniform(size=rows) < 0.2, np.nan, random.normal(size=rows).round(3)
    )
    table["customer"] = random.integers(0, rows // 4, rows)
    table["answer"] = (table["x0"] + table["x1"] + random.normal(size=rows) > 1).astype(int)
    return pd.DataFrame(table)


def told(what: str, plain: float | None, command: list[str], place: Path) -> float:
    """Run a command, print its seconds and memory, return the seconds."""
    began = time.monotonic()
    child = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    if status:
        sys.exit(f"{what} failed")
    times = (
        f"{seconds / plain:4.1f} times pandas, target at most {TARGETS['times pandas']}, {TARGETS['GB']} GB"
        if plain
        else ""
    )
    print(
        f"{what:<18} {seconds:6.1f} s  {usage.ru_maxrss * 1024 / 1e9:4.1f} GB  {times}", flush=True
    )
    return seconds


if __name__ == "__main__":
    main()
