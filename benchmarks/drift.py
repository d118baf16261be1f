"""False-alarm and detection rates of monitor, by simulation.

A model is fitted to rows of a known distribution. Windows of the same distribution, or of one that
has drifted by a known amount, are evaluated with default parameters. The rates are in
docs/monitor.md:

    python benchmarks/drift.py            # print the table
    python benchmarks/drift.py --write    # write it to the page, too
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.monitoring import batch_evaluation, rules, windows

PAGE = Path(__file__).resolve().parents[1] / "docs/monitor.md"
ROWS = 1000  # per window
N_NULL_WINDOWS = 200  # windows without drift
N_RUNS = 6  # runs per change
RUN_WINDOWS = 3  # windows per run
NUMBERS = [f"number{index}" for index in range(8)]
CODES = [f"code{index}" for index in range(4)]
CATEGORIES = ["a", "b", "c", "d", "e"]
PROBABILITIES = [0.4, 0.3, 0.15, 0.1, 0.05]
PARAMS = Monitor(resamples=100)
CONTRACT = Contract.model_validate({
    "title": "Generated", "question": "Is it positive?", "source": "generated", "licence": "none",
    "task": "binary",
    "columns": {
        "y": {"role": "target", "type": "boolean", "meaning": "the outcome"},
        "entity": {"role": "entity", "type": "integer", "meaning": "number of the entity"},
        **{
            name: {"role": "feature", "type": "number", "nullable": True, "meaning": "a number"}
            for name in NUMBERS
        },
        **{
            name: {
                "role": "feature", "type": "category", "categories": [*CATEGORIES, "new"],
                "meaning": "a category",
            }
            for name in CODES
        },
    },
})  # fmt: skip


@dataclass(frozen=True)
class Distribution:
    """Distribution that rows are drawn from; drift is a different distribution."""

    shift: float = 0.0  # of number0, the strongest feature, in standard deviations
    scale: float = 1.0  # of number0
    new_category_rate: float = 0.0  # of a category that is not in the train rows, in code0
    missing_rate: float = 0.05  # of number0
    intercept: float = -1.4  # log odds of the outcome if all effects are zero
    reversed_fraction: float = 0.0  # of the effect of number0; 0.5 removes the effect

    def draw(self, rng: np.random.Generator, n_rows: int) -> pd.DataFrame:
        numbers = {name: rng.normal(size=n_rows) for name in NUMBERS}
        numbers["number0"] = numbers["number0"] * self.scale + self.shift
        frame = pd.DataFrame(
            {**numbers, **{name: rng.choice(CATEGORIES, n_rows, p=PROBABILITIES) for name in CODES}}
        )
        effect = (
            (1 - 2 * self.reversed_fraction) * 1.2 * frame["number0"]
            + 0.6 * frame["number1"]
            + 0.8 * (frame["code0"] == "a")
        )
        probability = 1 / (1 + np.exp(-self.intercept - effect))
        frame["y"] = (rng.uniform(size=n_rows) < probability).astype(int)
        frame["number0"] = frame["number0"].where(rng.uniform(size=n_rows) >= self.missing_rate)
        is_known = rng.uniform(size=n_rows) >= self.new_category_rate
        frame["code0"] = frame["code0"].where(is_known, "new")
        return frame.assign(entity=np.arange(n_rows))


CHANGES = {
    "shift of the strongest column by 0.5 standard deviations": Distribution(shift=0.5),
    "scale of that column multiplied by 1.6": Distribution(scale=1.6),
    "a new category in 10% of the rows": Distribution(new_category_rate=0.1),
    "missing in 25% instead of 5%": Distribution(missing_rate=0.25),
    "outcomes from 31% to 47%": Distribution(intercept=-0.5),
    "strongest effect halved": Distribution(reversed_fraction=0.25),
    "sign of the strongest effect reversed": Distribution(reversed_fraction=1.0),
}
SMALLER = {
    "shift by 0.25 standard deviations": Distribution(shift=0.25),
    "scale multiplied by 1.3": Distribution(scale=1.3),
    "a new category in 3%": Distribution(new_category_rate=0.03),
    "missing in 15%": Distribution(missing_rate=0.15),
    "outcomes to 38%": Distribution(intercept=-0.95),
    "strongest effect reduced by 25%": Distribution(reversed_fraction=0.125),
}


@dataclass
class DriftSimulation:
    """A model, its reference rows, and a generator of evaluated windows."""

    seed: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        self.random = np.random.default_rng(self.seed)
        train = Distribution().draw(self.random, 8000)
        holdout = Distribution().draw(self.random, 4000)
        self.model = make_pipeline(
            FunctionTransformer(extract_features), LogisticRegression(max_iter=500)
        )
        self.model.fit(train, train["y"])
        scores = self.model.predict_proba(holdout)[:, 1]
        self.reference = CONTRACT.conform(holdout).assign(score=scores)
        coefficients = np.abs(self.model[-1].coef_[0])
        self.importance = dict.fromkeys([*NUMBERS, *CODES], 0.01)
        self.importance |= {
            "number0": coefficients[0],
            "number1": coefficients[1],
            "code0": coefficients[-1],
        }

    def draw_window(
        self, name: str, distribution: Distribution, n_rows: int = ROWS, *, outcomes: bool = True
    ) -> windows.Window:
        rows = distribution.draw(self.random, n_rows)
        scores = self.model.predict_proba(rows)[:, 1]
        frame = CONTRACT.conform(rows if outcomes else rows.drop(columns="y"))
        evaluation = batch_evaluation.evaluate_batch(
            name,
            frame,
            scores,
            self.reference,
            CONTRACT,
            metrics={"importance": self.importance, "threshold": None},
            params=PARAMS,
        )
        return windows.evaluate_window(evaluation, PARAMS)


def extract_features(frame: pd.DataFrame) -> np.ndarray:
    """Features of the model: numbers with missing values as 0, and an indicator of code0."""
    return np.column_stack([frame[NUMBERS].fillna(0).to_numpy(), frame["code0"] == "a"])


def compute_verdicts(
    simulation: DriftSimulation, distributions: list[Distribution], outcomes: bool = True
) -> list[str]:
    """Verdicts after each of several consecutive windows."""
    evaluated_windows, verdicts = [], []
    for index, distribution in enumerate(distributions):
        window = simulation.draw_window(str(index), distribution, outcomes=outcomes)
        evaluated_windows.append(window)
        verdicts.append(
            rules.find_worst_verdict(windows.combine_windows(evaluated_windows, PARAMS))
        )
    return verdicts


def measure_false_alarms(
    simulation: DriftSimulation, n_windows: int = N_NULL_WINDOWS, *, outcomes: bool = True
) -> dict[str, float]:
    """Fractions of consecutive windows without drift with the verdicts watch and retrain."""
    verdicts = compute_verdicts(simulation, [Distribution()] * n_windows, outcomes)
    return {
        verdict: verdicts.count(verdict) / n_windows for verdict in (rules.WATCH, rules.RETRAIN)
    }


def measure_detection(
    simulation: DriftSimulation,
    distribution: Distribution,
    n_runs: int = N_RUNS,
    *,
    outcomes: bool = True,
) -> dict[str, float]:
    """Fractions of runs with drift from the start that alarm in the first window or in the run."""
    runs = [
        compute_verdicts(simulation, [distribution] * RUN_WINDOWS, outcomes) for _ in range(n_runs)
    ]

    def compute_rate(n_windows: int, verdicts: set[str]) -> float:
        return float(np.mean([bool(verdicts & set(run[:n_windows])) for run in runs]))

    any_alarm = {rules.WATCH, rules.RETRAIN}
    return {
        "first window": compute_rate(1, any_alarm),
        "any window": compute_rate(RUN_WINDOWS, any_alarm),
        "retrain": compute_rate(RUN_WINDOWS, {rules.RETRAIN}),
    }


def make_table() -> str:
    """Measure the rates and return them as a Markdown table; prints each row to stderr."""
    simulation = DriftSimulation()
    rows = [
        f"| change, {N_RUNS} runs each | alarm in the first window | within {RUN_WINDOWS} windows "
        "| retrain within them |",
        "|---|---|---|---|",
    ]
    for outcomes, suffix in ((True, ""), (False, ", no outcomes yet")):
        rates = measure_false_alarms(simulation, outcomes=outcomes)
        rows.append(
            f"| no change, {N_NULL_WINDOWS} windows{suffix} | {sum(rates.values()):.1%} | "
            f"| {rates['retrain']:.1%} |"
        )
        sys.stderr.write(f"{rows[-1]}\n")
    for name, distribution in {**CHANGES, **SMALLER}.items():
        rates = measure_detection(simulation, distribution)
        rows.append(
            f"| {name} | {rates['first window']:.0%} | {rates['any window']:.0%} "
            f"| {rates['retrain']:.0%} |"
        )
        sys.stderr.write(f"{rows[-1]}\n")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    result = make_table()
    sys.stdout.write(result)
    if "--write" in sys.argv:
        page = PAGE.read_text(encoding="utf-8")
        updated_page = re.sub(
            r"(<!-- rates -->\n\n).*?(\n<!-- /rates -->)",
            lambda m: m[1] + result + m[2],
            page,
            flags=re.S,
        )
        PAGE.write_text(updated_page, encoding="utf-8")
