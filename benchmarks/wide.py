"""What a wide and long table does to the pages: builds a generated book, and tells the size of each page.

Half of the columns are numbers, some of them with gaps, the others are categories; three decide the answer. All rows
are read and checked; models learn from a share of the entities (`sample`), and the report of ingest says so.

    python benchmarks/wide.py                            1,000,000 rows, 200 columns, learning from 2 % of the entities
    python benchmarks/wide.py --rows 4000 --share 1

It ends with 1 when a page is heavier than the target.
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
from build import project, run

TARGET = 3.0  # MB of a stage's page
PERIODS = 3
CODES = 12  # values of a category
FEW = {
    "families": "lr lightgbm",
    "folds": 2,
    "tune_rounds": 1,
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
        "--share", type=float, default=0.02, help="of the entities, to learn from (default: 0.02)"
    )
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = project(Path(folder))
        write(root, options.rows, options.columns, options.share)
        run(root, "env.wide.yaml", "ploomber", "build")
        sizes = {
            page.name: page.stat().st_size / 1e6
            for page in sorted(root.glob("reports/wide/0?_*.html"))
        }
        sizes = {
            name: size for name, size in sizes.items() if "evidently" not in name
        }  # linked, and not ours
        for name, size in sizes.items():
            seconds = json.loads((root / f"models/wide/{name[3:-5]}.json").read_text())["facts"][
                "seconds"
            ]
            print(
                f"{name:<20} {size:6.3f} MB   target at most {TARGET:g} MB   stage took {seconds:,.0f} s",
                flush=True,
            )
    sys.exit(max(sizes.values()) > TARGET)


def write(root: Path, rows: int, columns: int, share: float) -> None:
    """A table, its contract and its env file in a project."""
    frame = table(rows, columns)
    frame.to_parquet(root / "wide.parquet", index=False)
    (root / "contracts/wide.yaml").write_text(yaml.safe_dump(contract(frame), sort_keys=False))
    values = yaml.safe_load((root / "env.yaml").read_text()) | FEW
    book = {
        "book": "wide",
        "table": "wide.parquet",
        "contract": "contracts/wide.yaml",
        "sample": share,
    }
    (root / "env.wide.yaml").write_text(yaml.safe_dump(values | book))


def table(rows: int, columns: int) -> pd.DataFrame:
    """Four rows an entity, three periods, an answer that three columns decide."""
    random = np.random.default_rng(1)
    made: dict[str, object] = {
        "who": np.arange(rows) // 4,
        "period": random.integers(1, PERIODS + 1, rows),
    }
    for place in range(columns):
        if place % 2:
            made[f"code_{place:03}"] = random.integers(0, CODES, rows).astype(str)
            continue
        number = random.normal(size=rows)
        made[f"number_{place:03}"] = np.where(
            random.random(rows) < place / columns / 2, np.nan, number
        )
    frame = pd.DataFrame(made)
    pull = frame["number_000"] + 0.5 * frame["number_002"].fillna(0) + (frame["code_001"] == "3")
    return frame.assign(answer=(pull + random.normal(size=rows) > 1.2).astype(int))


def contract(frame: pd.DataFrame) -> dict[str, object]:
    """The contract of such a table."""
    expected_values = {
        "who": {"role": "entity", "type": "integer", "meaning": "entity"},
        "period": {"role": "time", "type": "integer", "meaning": "period"},
        "answer": {"role": "target", "type": "boolean", "meaning": "the answer"},
    }
    number = {"role": "feature", "type": "number", "nullable": True, "meaning": "a number"}
    code = {
        "role": "feature",
        "type": "category",
        "categories": [*map(str, range(CODES))],
        "meaning": "a code",
    }
    return {
        "title": "Wide", "question": "Is the answer yes?", "source": "a seeded generator", "licence": "none",
        "task": "binary", "key": [], "slices": ["code_001"],
        "columns": {name: expected_values.get(name, code if name.startswith("code") else number) for name in frame.columns},
    }  # fmt: skip


if __name__ == "__main__":
    main()
