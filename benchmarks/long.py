"""Time and peak memory from a raw file to a monitored model, for a long table.

The table of `draft.py` goes through `modelbook new` and the six stages. Families, settings and
threshold are chosen on `search_rows` of its rows; final models are fitted on all rows.

    python benchmarks/long.py              1,000,000 rows, 50 columns, search on 100,000
    python benchmarks/long.py --rows 100000 --search-rows 20000
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import draft
import yaml
from build import copy_project, measure_seconds, run

FAST_PARAMETERS = {
    "families": "lr lightgbm",
    "folds": 3,
    "n_trials": 4,
    "resamples": 200,
    "time_budget": 3600,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--search-rows", type=int, default=100_000)
    args = parser.parse_args()
    with TemporaryDirectory() as temp_dir:
        root = copy_project(Path(temp_dir))
        make_table = f"{draft.__file__} --rows {args.rows} --make {root / 'long.csv'}".split()
        run(root, "env.yaml", "python", *make_table)
        new_command = ["modelbook", "new", "long.csv", "--target", "target", "--yes"]
        new_command += ["--role", "date=time"]  # later periods become batches
        new_seconds = measure_seconds(lambda: run(root, "env.yaml", *new_command))
        env_file = root / "env.long.yaml"
        parameters = yaml.safe_load(env_file.read_text()) | FAST_PARAMETERS
        env_file.write_text(yaml.safe_dump(parameters | {"search_rows": args.search_rows}))
        build_seconds = measure_seconds(lambda: run(root, env_file.name, "ploomber", "build"))
        print(f"{'modelbook new':<14} {new_seconds:7.0f} s")
        for path in sorted(root.glob("models/long/*.json")):
            receipt = json.loads(path.read_text())
            if "facts" in receipt:
                seconds = receipt["facts"]["seconds"]
                print(f"{path.stem:<14} {seconds:7.0f} s   {receipt['sentences'][0]}")
        print(f"{'whole build':<14} {build_seconds:7.0f} s")
        finalize_receipt = json.loads((root / "models/long/finalize.json").read_text())
        sentences = finalize_receipt["sentences"]
        print("\n".join(sentence for sentence in sentences if "search_rows" in sentence))
    # RUSAGE_CHILDREN covers all waited-for descendants: this is the peak of the largest kernel.
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{'peak memory':<14} {peak_gb:7.1f} GB, largest process")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
