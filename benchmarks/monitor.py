"""A window of 1,000,000 rows and 20 columns, watched by Modelbook and by Evidently's own drift preset.

Each is measured in processes of its own, in turn, on the same rows of a seeded generator, of which five columns have
moved: time of the judgement alone (no reading), the process's peak memory, and which columns have drifted.

    python benchmarks/monitor.py [--rounds 3]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

ROWS, REFERENCE = 1_000_000, 200_000
SIZES = (250_000, 500_000, ROWS)
NUMBERS = [f"number{place}" for place in range(14)]
CODES = [f"code{place}" for place in range(6)]
MOVED = ["number0", "number1", "number2", "code0", "code1"]
THRESHOLD = 0.1  # of a column, in Modelbook and in the preset


def drawn(rows: int, seed: int, by: float = 0.0) -> pd.DataFrame:
    """Rows of half normal and half skewed numbers, some with gaps, and codes of 3 to 8 values."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.normal(by * (name in MOVED), 1, rows) for name in NUMBERS})
    frame[NUMBERS[7:]] = np.exp(frame[NUMBERS[7:]])
    frame[NUMBERS[::3]] = frame[NUMBERS[::3]].where(
        random.uniform(size=(rows, len(NUMBERS[::3]))) > 0.1
    )
    for place, name in enumerate(CODES):
        kinds = np.array(list("abcdefgh")[: 3 + place], dtype=object)
        share = np.ones(len(kinds)) + by * 3 * (name in MOVED) * (np.arange(len(kinds)) == 0)
        frame[name] = random.choice(kinds, rows, p=share / share.sum())
    return frame


def modelbook(batch: pd.DataFrame, reference: pd.DataFrame, outcomes: bool = False) -> Any:
    """All that monitor does with a window: contract, copies, drift, expected performance, and what came of it."""
    from modelbook.config import Monitor
    from modelbook.contract import Contract
    from modelbook.monitoring import batch_evaluation, rules

    features: dict[str, Any] = {name: {"type": "number", "nullable": True} for name in NUMBERS}
    features |= {name: {"type": "category", "categories": list("abcdefgh")} for name in CODES}
    contract = Contract.model_validate({
        "title": "Drawn", "question": "Does it happen?", "source": "a seeded generator", "licence": "none",
        "task": "binary",
        "columns": {
            "happened": {"role": "target", "type": "boolean", "meaning": "1 when it happened"},
            **{name: {"role": "feature", "meaning": "drawn", **result} for name, result in features.items()},
        },
    })  # fmt: skip
    score, past = (1 / (1 + np.exp(-side["number1"].to_numpy())) for side in (batch, reference))
    happened = (np.random.default_rng(0).uniform(size=len(past)) < past).astype(int)
    reference = contract.conform(reference.assign(happened=happened)).assign(score=past)
    if outcomes:
        turned = np.random.default_rng(1).uniform(size=len(score)) < score
        batch = batch.assign(happened=turned.astype(int))
    params, importance = Monitor(), dict.fromkeys([*NUMBERS, *CODES], 1.0)

    def run() -> list[str]:
        result = batch_evaluation.evaluate_batch(
            "1", batch, score, reference, contract, metrics={"importance": importance, "threshold": 0.5},
            params=params,
        )  # fmt: skip
        rules.find_issues(result, params)
        return sorted(result.feature_drift.loc[result.feature_drift["drifted"], "column"])

    return run


def evidently(batch: pd.DataFrame, reference: pd.DataFrame) -> Any:
    """Evidently's preset as its documentation calls it."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    described = DataDefinition(numerical_columns=NUMBERS, categorical_columns=CODES)

    def run() -> list[str]:
        sides = [
            Dataset.from_pandas(side, data_definition=described) for side in (batch, reference)
        ]
        result = Report([DataDriftPreset()]).run(*sides).dict()["metrics"]
        columns = [
            (one["config"]["column"], one["value"])
            for one in result
            if "column" in one.get("config", {})
        ]
        return sorted(name for name, distance in columns if distance >= THRESHOLD)

    return run


WAYS = {
    "modelbook": modelbook,
    "evidently": evidently,
    "outcomes": partial(modelbook, outcomes=True),
}
RIVALS = ("modelbook", "evidently")


def one(way: str, rows: int) -> dict[str, Any]:
    """One measurement, of this process."""
    run = WAYS[way](drawn(rows, 1, by=0.6), drawn(REFERENCE, 2))
    began, used = time.perf_counter(), time.process_time()
    drifted = run()
    result = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
    return {**result, "peak": peak(), "drifted": drifted}


def peak() -> float:
    """Most memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measured(way: str, rows: int) -> dict[str, Any]:
    """One measurement, of a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", way, str(rows)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(result.splitlines()[-1])


def main(rounds: int) -> None:
    """Measure in turn, and print the tables of docs/benchmarks.md."""
    match: dict[str, list[dict[str, Any]]] = {way: [] for way in RIVALS}
    for _ in range(rounds):
        for way in RIVALS:
            match[way].append(measured(way, ROWS))
            sys.stderr.write(f"{way}: {match[way][-1]}\n")
    print(
        "| 1,000,000 rows × 20 columns | seconds | CPU seconds | beside Modelbook | peak, GB |\n|---|---|---|---|---|"
    )
    for way, result in match.items():
        ratio = middle(result, "seconds") / middle(match["modelbook"], "seconds")
        print(f"| {way} | {row(result)} | {ratio:.1f} × | {most(result)} |")
    ours, theirs = (set(match[way][0]["drifted"]) for way in RIVALS)
    print(
        f"\nDrifted by both: {', '.join(sorted(ours & theirs))}; by one alone: {', '.join(ours ^ theirs) or 'none'}\n"
    )
    print("| Modelbook alone | seconds | CPU seconds | peak, GB |\n|---|---|---|---|")
    for rows in SIZES:
        result = [measured("modelbook", rows) for _ in range(rounds)]
        print(f"| {rows:,} rows | {row(result)} | {most(result)} |")
    late = [measured("outcomes", ROWS)]
    print(f"| {ROWS:,} rows, all outcomes in | {row(late)} | {most(late)} |")


def middle(told: list[dict[str, Any]], what: str) -> float:
    """Median of several measurements."""
    return median(one[what] for one in told)


def row(told: list[dict[str, Any]]) -> str:
    """Cells of a table: seconds, and seconds of CPU, which do not count what other work takes."""
    return f"{middle(told, 'seconds'):.1f} | {middle(told, 'cpu'):.1f}"


def most(told: list[dict[str, Any]]) -> str:
    """Most memory of several measurements."""
    return f"{max(one['peak'] for one in told):.1f}"


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]))))
    else:
        main(int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 3)
