"""Check a model's golden rows in a clean process; print their number and the largest difference."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd


def main(model_uri: str) -> None:
    """Compare the model at ``model_uri`` with its golden rows, print JSON, and exit."""
    rows, difference = compare_golden_rows(model_uri)
    sys.stdout.write(json.dumps({"rows": rows, "difference": difference}) + "\n")
    sys.stdout.flush()
    # Exit at once: at an ordinary exit, threads of native libraries sometimes abort a process that
    # has already printed its result.
    os._exit(0)


def compare_golden_rows(model_uri: str) -> tuple[int, float]:
    """Return the number of golden rows, and the largest difference from their predictions.

    It is relative for numbers above 1. A non-numeric prediction that differs counts as infinitely
    different.
    """
    # Comparing all installed packages for warnings takes seconds, and nobody reads them here.
    model = mlflow.pyfunc.load_model(model_uri, suppress_warnings=True)
    golden = pd.read_parquet(
        Path(mlflow.artifacts.download_artifacts(model_uri)) / "artifacts" / "golden.parquet"
    )
    predictions = model.predict(golden[model.metadata.get_input_schema().input_names()])
    differences = [
        _compute_max_difference(predictions[name], golden[name]) for name in predictions.columns
    ]
    return len(golden), float(np.max(differences))  # NaN if one is


def _compute_max_difference(predictions: pd.Series, golden: pd.Series) -> float:
    if pd.api.types.is_numeric_dtype(golden):
        expected = golden.to_numpy()
        differences = np.abs(predictions.to_numpy() - expected)
        return float((differences / np.maximum(1.0, np.abs(expected))).max())
    return 0.0 if predictions.tolist() == golden.tolist() else float("inf")


if __name__ == "__main__":
    main(sys.argv[1])
