"""Size of the report pages for a wide and long table.

Half of the columns are numbers, some with missing values, the others are categories; the target
depends on three columns. All rows are read and checked; models are trained on a sample of the
entities (`sample`).

    python benchmarks/wide.py                          1,000,000 rows, 200 columns, 2% sample
    python benchmarks/wide.py --rows 4000 --share 1

Exits with 1 if a page is larger than the target.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import yaml
from build import copy_project, run

TARGET = 3.0  # MB, per page
PERIODS = 3
CODES = 12  # values per category
FAST_PARAMETERS = {
    "families": "lr lightgbm",
    "folds": 2,
    "n_trials": 1,
    "resamples": 100,
    "time_budget": 7200,
    "train_until": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument(
        "--share",
        type=float,
        default=0.02,
        help="fraction of the entities to train on (default: 0.02)",
    )
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = copy_project(Path(folder))
        write_project(root, args.rows, args.columns, args.share)
        run(root, "env.wide.yaml", "ploomber", "build")
        sizes = {
            page.name: page.stat().st_size / 1e6
            for page in sorted(root.glob("reports/wide/0?_*.html"))
            if "evidently" not in page.name  # linked, rendered by Evidently
        }
        for name, size in sizes.items():
            receipt = json.loads((root / f"models/wide/{name[3:-5]}.json").read_text())
            print(
                f"{name:<20} {size:6.3f} MB   target at most {TARGET:g} MB   "
                f"stage took {receipt['facts']['seconds']:,.0f} s",
                flush=True,
            )
    sys.exit(max(sizes.values()) > TARGET)


def write_project(root: Path, rows: int, columns: int, sample_fraction: float) -> None:
    """Write a table, its contract and its env file into a project."""
    table = make_table(rows, columns)
    table.to_parquet(root / "wide.parquet", index=False)
    (root / "contracts/wide.yaml").write_text(yaml.safe_dump(make_contract(table), sort_keys=False))
    parameters = yaml.safe_load((root / "env.yaml").read_text()) | FAST_PARAMETERS
    book = {
        "book": "wide",
        "table": "wide.parquet",
        "contract": "contracts/wide.yaml",
        "sample": sample_fraction,
    }
    (root / "env.wide.yaml").write_text(yaml.safe_dump(parameters | book))


def make_table(rows: int, columns: int) -> pd.DataFrame:
    """Generate four rows per entity, three periods, and a target that depends on three columns."""
    rng = np.random.default_rng(1)
    values: dict[str, object] = {
        "entity": np.arange(rows) // 4,
        "period": rng.integers(1, PERIODS + 1, rows),
    }
    for index in range(columns):
        if index % 2:
            values[f"code_{index:03}"] = rng.integers(0, CODES, rows).astype(str)
            continue
        number = rng.normal(size=rows)
        values[f"number_{index:03}"] = np.where(
            rng.random(rows) < index / columns / 2, np.nan, number
        )
    frame = pd.DataFrame(values)
    signal = frame["number_000"] + 0.5 * frame["number_002"].fillna(0) + (frame["code_001"] == "3")
    return frame.assign(y=(signal + rng.normal(size=rows) > 1.2).astype(int))


def make_contract(table: pd.DataFrame) -> dict[str, object]:
    """Return the contract of the table, as YAML values."""
    special_columns = {
        "entity": {"role": "entity", "type": "integer", "meaning": "entity"},
        "period": {"role": "time", "type": "integer", "meaning": "period"},
        "y": {"role": "target", "type": "boolean", "meaning": "the outcome"},
    }
    number = {"role": "feature", "type": "number", "nullable": True, "meaning": "a number"}
    code = {
        "role": "feature",
        "type": "category",
        "categories": [*map(str, range(CODES))],
        "meaning": "a code",
    }
    return {
        "title": "Wide", "question": "Is the outcome positive?", "source": "generated",
        "licence": "none", "task": "binary", "key": [], "slices": ["code_001"],
        "columns": {
            name: special_columns.get(name, code if name.startswith("code") else number)
            for name in table.columns
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
