"""Run in a clean process: ask a model its golden rows. Prints how many, and the largest difference, as JSON."""

import json
import sys
from pathlib import Path

import mlflow
import pandas as pd

from modelbook.registry.versions import compare_golden


def main(model: str) -> None:
    """Compare ``model``, a URI, with the golden rows kept with it."""
    golden = pd.read_parquet(Path(mlflow.artifacts.download_artifacts(model)) / "artifacts" / "golden.parquet")
    sys.stdout.write(json.dumps({"rows": len(golden), "difference": compare_golden(model)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
