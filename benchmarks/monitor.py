"""Time and memory to monitor 1,000,000 rows and 20 columns: Modelbook and Evidently's drift preset.

Each measurement runs in its own process on the same generated rows, five columns of which have
drifted. Measured are the time of the evaluation (without reading), the peak memory of the process
and the columns that are found to have drifted.

    python benchmarks/monitor.py [--rounds 3]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

ROWS, REFERENCE = 1_000_000, 200_000
SIZES = (250_000, 500_000, ROWS)
NUMBERS = [f"number{index}" for index in range(14)]
CODES = [f"code{index}" for index in range(6)]
DRIFTED_COLUMNS = ["number0", "number1", "number2", "code0", "code1"]
THRESHOLD = 0.1  # distance at which a column counts as drifted, in both


def generate_rows(n_rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Generate normal and skewed numbers, some missing, and categories of 3 to 8 values.

    ``shift`` moves ``DRIFTED_COLUMNS``, in standard deviations of the numbers.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {name: rng.normal(shift * (name in DRIFTED_COLUMNS), 1, n_rows) for name in NUMBERS}
    )
    frame[NUMBERS[7:]] = np.exp(frame[NUMBERS[7:]])
    frame[NUMBERS[::3]] = frame[NUMBERS[::3]].where(
        rng.uniform(size=(n_rows, len(NUMBERS[::3]))) > 0.1
    )
    for index, name in enumerate(CODES):
        categories = np.array(list("abcdefgh")[: 3 + index], dtype=object)
        weights = np.ones(len(categories)) + shift * 3 * (name in DRIFTED_COLUMNS) * (
            np.arange(len(categories)) == 0
        )
        frame[name] = rng.choice(categories, n_rows, p=weights / weights.sum())
    return frame


def modelbook(batch: pd.DataFrame, reference: pd.DataFrame, outcomes: bool = False) -> Any:
    """A function that evaluates a batch as the monitor stage does."""
    from modelbook.config import Monitor
    from modelbook.contract import Contract
    from modelbook.monitoring import batch_evaluation, rules

    features: dict[str, Any] = {name: {"type": "number", "nullable": True} for name in NUMBERS}
    features |= {name: {"type": "category", "categories": list("abcdefgh")} for name in CODES}
    contract = Contract.model_validate({
        "title": "Generated", "question": "Is it positive?", "source": "generated",
        "licence": "none", "task": "binary",
        "columns": {
            "y": {"role": "target", "type": "boolean", "meaning": "the outcome"},
            **{
                name: {"role": "feature", "meaning": "generated", **definition}
                for name, definition in features.items()
            },
        },
    })  # fmt: skip
    batch_scores, reference_scores = (
        1 / (1 + np.exp(-rows["number1"].to_numpy())) for rows in (batch, reference)
    )
    reference_outcomes = (
        np.random.default_rng(0).uniform(size=len(reference_scores)) < reference_scores
    ).astype(int)
    reference = contract.conform(reference.assign(y=reference_outcomes)).assign(
        score=reference_scores
    )
    if outcomes:
        batch_outcomes = np.random.default_rng(1).uniform(size=len(batch_scores)) < batch_scores
        batch = batch.assign(y=batch_outcomes.astype(int))
    params = Monitor()
    importance = dict.fromkeys([*NUMBERS, *CODES], 1.0)

    def run() -> list[str]:
        evaluation = batch_evaluation.evaluate_batch(
            "1", batch, batch_scores, reference, contract,
            metrics={"importance": importance, "threshold": 0.5}, params=params,
        )  # fmt: skip
        rules.apply_rules(evaluation, params)
        return sorted(evaluation.feature_drift.loc[evaluation.feature_drift["drifted"], "column"])

    return run


def evidently(batch: pd.DataFrame, reference: pd.DataFrame) -> Any:
    """A function that runs Evidently's drift preset with its defaults."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    data_definition = DataDefinition(numerical_columns=NUMBERS, categorical_columns=CODES)

    def run() -> list[str]:
        datasets = [
            Dataset.from_pandas(rows, data_definition=data_definition)
            for rows in (batch, reference)
        ]
        result = Report([DataDriftPreset()]).run(*datasets).dict()["metrics"]
        columns = [
            (metric["config"]["column"], metric["value"])
            for metric in result
            if "column" in metric.get("config", {})
        ]
        return sorted(name for name, distance in columns if distance >= THRESHOLD)

    return run


METHODS: dict[str, Callable[..., Any]] = {
    "modelbook": modelbook,
    "evidently": evidently,
    "outcomes": partial(modelbook, outcomes=True),
}
COMPARED_METHODS = ("modelbook", "evidently")


def measure_in_process(method: str, n_rows: int) -> dict[str, Any]:
    """Measure a method in this process: seconds, CPU seconds, peak memory, drifted columns."""
    run = METHODS[method](generate_rows(n_rows, 1, shift=0.6), generate_rows(REFERENCE, 2))
    start_time, start_cpu = time.perf_counter(), time.process_time()
    drifted = run()
    result = {"seconds": time.perf_counter() - start_time, "cpu": time.process_time() - start_cpu}
    return {**result, "peak": get_peak_memory_gb(), "drifted": drifted}


def get_peak_memory_gb() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_in_subprocess(method: str, n_rows: int) -> dict[str, Any]:
    """Measure a method in a new process."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", method, str(n_rows)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(result.splitlines()[-1])


def main(rounds: int) -> None:
    """Measure the methods in turn, and print the tables of docs/benchmarks.md."""
    measurements: dict[str, list[dict[str, Any]]] = {method: [] for method in COMPARED_METHODS}
    for _ in range(rounds):
        for method in COMPARED_METHODS:
            measurements[method].append(measure_in_subprocess(method, ROWS))
            sys.stderr.write(f"{method}: {measurements[method][-1]}\n")
    print(
        "| 1,000,000 rows × 20 columns | seconds | CPU seconds | relative to Modelbook | peak, GB |"
        "\n|---|---|---|---|---|"
    )
    for method, result in measurements.items():
        ratio = compute_median(result, "seconds") / compute_median(
            measurements["modelbook"], "seconds"
        )
        print(
            f"| {method} | {format_times(result)} | {ratio:.1f} × | {format_peak_memory(result)} |"
        )
    modelbook_columns, evidently_columns = (
        set(measurements[method][0]["drifted"]) for method in COMPARED_METHODS
    )
    both = ", ".join(sorted(modelbook_columns & evidently_columns))
    only_one = ", ".join(sorted(modelbook_columns ^ evidently_columns)) or "none"
    print(f"\nDrifted by both: {both}; by only one of them: {only_one}\n")
    print("| Modelbook alone | seconds | CPU seconds | peak, GB |\n|---|---|---|---|")
    for rows in SIZES:
        result = [measure_in_subprocess("modelbook", rows) for _ in range(rounds)]
        print(f"| {rows:,} rows | {format_times(result)} | {format_peak_memory(result)} |")
    with_outcomes = [measure_in_subprocess("outcomes", ROWS)]
    print(
        f"| {ROWS:,} rows with all outcomes | {format_times(with_outcomes)} | "
        f"{format_peak_memory(with_outcomes)} |"
    )


def compute_median(measurements: list[dict[str, Any]], key: str) -> float:
    """Median of a key of the measurements."""
    return median(measurement[key] for measurement in measurements)


def format_times(measurements: list[dict[str, Any]]) -> str:
    """Median seconds and CPU seconds, as cells of a table."""
    return (
        f"{compute_median(measurements, 'seconds'):.1f} | {compute_median(measurements, 'cpu'):.1f}"
    )


def format_peak_memory(measurements: list[dict[str, Any]]) -> str:
    """Largest peak memory of the measurements, in GB."""
    return f"{max(measurement['peak'] for measurement in measurements):.1f}"


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(measure_in_process(sys.argv[2], int(sys.argv[3]))))
    else:
        main(int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 3)
