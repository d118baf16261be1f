"""What a long table costs from file to watched model: each stage's seconds, and the most memory that a process took.

The table of `draft.py` goes through `modelbook new` and the six stages. Families, settings and threshold are chosen on
`search_rows` of its rows, the final fits take all; the reports say so.

    python benchmarks/long.py                                    1,000,000 rows, 50 columns, chosen on 100,000
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
from build import project, run, timed

FEW = {
    "families": "lr lightgbm",
    "folds": 3,
    "tune_rounds": 4,
    "resamples": 200,
    "time_budget": 3600,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--search-rows", type=int, default=100_000)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = project(Path(folder))
        run(
            root,
            "env.yaml",
            "python",
            draft.__file__,
            "--rows",
            str(options.rows),
            "--make",
            str(root / "long.csv"),
        )
        new = timed(
            lambda: run(
                root, "env.yaml", "modelbook", "new", "long.csv", "--target", "answer", "--yes"
            )
        )
        env = root / "env.long.yaml"
        env.write_text(
            yaml.safe_dump(
                yaml.safe_load(env.read_text()) | FEW | {"search_rows": options.search_rows}
            )
        )
        build = timed(lambda: run(root, env.name, "ploomber", "build"))
        print(f"{'modelbook new':<14} {new:7.0f} s")
        for path in sorted(root.glob("models/long/*.json")):
            receipt = json.loads(path.read_text())
            if "facts" in receipt:
                print(
                    f"{path.stem:<14} {receipt['facts']['seconds']:7.0f} s   {receipt['sentences'][0]}"
                )
        print(f"{'whole build':<14} {build:7.0f} s")
        output = json.loads((root / "models/long/finalize.json").read_text())["sentences"]
        print("\n".join(sentence for sentence in output if "search_rows" in sentence))
    # By another process: what is waited for counts with all that it waited for, so this is the largest of all kernels.
    print(
        f"{'most memory':<14} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6:7.1f} GB of one process"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
