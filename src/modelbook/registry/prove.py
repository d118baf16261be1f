"""Run in a clean process: ask a model its golden rows. Prints how many, and the largest difference, as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd


def main(model: str) -> None:
    """Compare ``model``, a URI, with the golden rows kept with it, and leave the process."""
    rows, difference = compare_golden(model)
    sys.stdout.write(json.dumps({"rows": rows, "difference": difference}) + "\n")
    sys.stdout.flush()
    # At once: native libraries end their threads at an ordinary exit, which now and then aborts a process that has
    # already given its answer.
    os._exit(0)


def compare_golden(model: str) -> tuple[int, float]:
    """How many golden rows were kept with a model, and the largest difference of its answers to them.

    An answer that is no number and not the same is infinitely far.
    """
    loaded = mlflow.pyfunc.load_model(model)
    golden = pd.read_parquet(Path(mlflow.artifacts.download_artifacts(model)) / "artifacts" / "golden.parquet")
    answers = loaded.predict(golden[loaded.metadata.get_input_schema().input_names()])
    return len(golden), float(np.max([_apart(answers[name], golden[name]) for name in answers.columns]))


def _apart(answers: pd.Series, golden: pd.Series) -> float:
    if pd.api.types.is_numeric_dtype(golden):
        return float(np.abs(answers.to_numpy() - golden.to_numpy()).max())
    return 0.0 if answers.tolist() == golden.tolist() else float("inf")


if __name__ == "__main__":
    main(sys.argv[1])
