"""Comparison of Modelbook's search with AutoML tools and boosting libraries.

Contenders are fitted on the same train rows of 18 tables and evaluated on the same 30% of the rows,
by log loss or, for regression, RMSE. Contenders that search have the same time budget; the others
run to the end. Each runs in its own process, AutoGluon and FLAML in their own environments, which
the first run installs below ``.bench``. The size of Modelbook's model is that of the compiled
scorer.

Each measurement is appended to a file in ``--results`` and not repeated, so that the benchmark can
be interrupted. The contenders of a table run one after another, so that background load affects
them equally.

    python benchmarks/search.py               18 tables, 30, 60 and 150 seconds, two splits
    python benchmarks/search.py --budgets 30 --splits 0 --only fair --contenders modelbook catboost
    python benchmarks/search.py --summary     existing measurements
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from tables import TABLES

from modelbook import tasks
from modelbook.draft import draft_book

BENCHMARK_DIR = Path(__file__).parent
WORK_DIR = BENCHMARK_DIR.parent / ".bench"
# Packages of contenders with their own environment; without AutoGluon's neural networks, because
# torch is large.
PACKAGES = {
    "flaml": ["flaml[automl]", "lightgbm", "xgboost-cpu", "pyarrow"],
    # Without Ray, AutoGluon tries stacking in the process of the fit, where a failure ends the fit.
    "autogluon": ["autogluon.tabular[lightgbm,catboost,xgboost,ray]", "pyarrow"],
}
CONTENDERS = (
    "modelbook", "autogluon best", "autogluon good", "flaml",
    "catboost", "histogram", "lightgbm", "pycaret",
)  # fmt: skip
RESAMPLES = 1000
TIMEOUT_FACTOR = 10  # a contender is stopped after this multiple of its budget
LOG_FILE, LOSSES_FOLDER = "measurements.jsonl", "losses"  # below the results folder
TARGETS = {"log loss": 0.005, "RMSE": 0.01}  # maximum mean loss relative to the best, minus 1
# Target: the largest share of tables with a loss that is significantly above the best.
MAX_SIGNIFICANT_LOSS_RATE = 1 / 8


@dataclass(frozen=True)
class Measurement:
    """A contender on one split of a table with a budget; ``error`` is empty unless it failed."""

    table: str
    split: int
    budget: float
    contender: str
    metric: str
    loss: float = np.nan
    seconds: float = np.nan
    latency: float = np.nan
    size: float = np.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, int, float, str]:
        return self.table, self.split, self.budget, self.contender

    @property
    def losses_file(self) -> str:
        return "-".join(map(str, self.key)).replace(" ", "_") + ".npy"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budgets", nargs="*", type=float, default=[30, 60, 150])
    parser.add_argument("--splits", nargs="*", type=int, default=[0, 1], help="seeds")
    parser.add_argument("--only", nargs="*", default=list(TABLES), metavar="TABLE")
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--results", type=Path, default=WORK_DIR / "search", metavar="FOLDER")
    parser.add_argument("--environments", type=Path, default=WORK_DIR, metavar="FOLDER")
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    args = parser.parse_args()
    (args.results / LOSSES_FOLDER).mkdir(parents=True, exist_ok=True)
    if not args.summary:
        for name in args.only:
            for split in args.splits:
                run_table(name, split, args)
    print_summary(read_measurements(args.results), args.results)


def read_measurements(results: Path) -> list[Measurement]:
    """Read all measurements; of repeated ones the last."""
    log_file = results / LOG_FILE
    lines = log_file.read_text().splitlines() if log_file.is_file() else []
    measurements = [Measurement(**json.loads(line)) for line in lines]
    return list({measurement.key: measurement for measurement in measurements}.values())


def run_table(name: str, split: int, args: argparse.Namespace) -> None:
    """Run the missing measurements of one split of a table."""
    finished_keys = {measurement.key for measurement in read_measurements(args.results)}
    missing = [
        (budget, contender)
        for budget in args.budgets
        for contender in args.contenders
        if (name, split, budget, contender) not in finished_keys
    ]
    if not missing:
        return
    with TemporaryDirectory() as temp_dir:
        folder = Path(temp_dir)
        outcomes, classes = write_table(name, split, folder)
        for budget, contender in missing:
            python = find_python(contender, args.environments)
            measurement = Measurement(
                name, split, budget, contender, "log loss" if classes else "RMSE",
                **run_contender(contender, folder, budget, python),
            )  # fmt: skip
            if not measurement.error:
                losses = compute_row_losses(np.load(folder / f"{contender}.npy"), outcomes, classes)
                np.save(args.results / LOSSES_FOLDER / measurement.losses_file, losses)
                measurement = Measurement(
                    **{**asdict(measurement), "loss": aggregate_losses(losses, classes)}
                )
            with (args.results / LOG_FILE).open("a") as log:
                log.write(json.dumps(asdict(measurement)) + "\n")
            print_measurement(measurement)


def write_table(name: str, split: int, folder: Path) -> tuple[np.ndarray, list[str]]:
    """Write a split of a table for the contenders; returns the test outcomes and the classes."""
    frame = TABLES[name]()
    contract = draft_book(frame, "y", title=name, source="benchmark").contract
    frame = contract.conform(frame)
    classes = list(contract.classes or [])
    train, test = train_test_split(
        frame, test_size=0.3, random_state=split, stratify=frame["y"] if classes else None
    )
    for subset, rows in (("train", train), ("test", test)):
        rows.reset_index(drop=True).to_parquet(folder / f"{subset}.parquet")
    table = {"classes": classes, "contract": contract.model_dump(mode="json")}
    (folder / "table.json").write_text(json.dumps(table))
    return tasks.get_task(contract).contract.encode_checked_target(test).to_numpy(), classes


def run_contender(name: str, folder: Path, seconds: float, python: Path) -> dict[str, Any]:
    """Run a contender; returns its seconds, latency and size, or its error."""
    command = [str(python), str(BENCHMARK_DIR / "contenders.py"), name, str(folder), str(seconds)]
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_FACTOR * seconds
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {TIMEOUT_FACTOR * seconds:.0f} s"}
    if result.returncode:
        return {"error": (result.stderr.strip().splitlines() or ["failed"])[-1][:200]}
    return json.loads((folder / f"{name}.json").read_text())


def find_python(name: str, environments: Path) -> Path:
    """Return the Python of a contender's environment, which is created if it does not exist."""
    package = name.split(maxsplit=1)[0]
    if package not in PACKAGES:
        return Path(sys.executable)
    environment = environments / package
    python = environment / "bin/python"
    if not (environment / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[package]], check=True)
        (environment / "done").touch()
    return python


def compute_row_losses(scores: np.ndarray, outcomes: np.ndarray, classes: list[str]) -> np.ndarray:
    """Log loss of each row, or squared error for regression."""
    if not classes:
        return np.square(scores.ravel() - outcomes)
    true_class = scores[np.arange(len(outcomes)), outcomes.astype(int)]
    return -np.log(np.clip(true_class, 1e-15, None))


def aggregate_losses(losses: np.ndarray, classes: list[str]) -> float:
    """Log loss, or RMSE for regression, from the losses of rows."""
    return float(losses.mean() if classes else np.sqrt(losses.mean()))


def compute_relative_loss(
    losses: np.ndarray, best_losses: np.ndarray, classes: list[str]
) -> tuple[float, float, float]:
    """Loss relative to the best, minus 1, with a paired 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    samples = rng.integers(0, len(losses), (RESAMPLES, len(losses)))
    relative_losses = [
        aggregate_losses(losses[rows], classes) / aggregate_losses(best_losses[rows], classes) - 1
        for rows in samples
    ]
    low, high = np.quantile(relative_losses, [0.025, 0.975])
    relative_loss = aggregate_losses(losses, classes) / aggregate_losses(best_losses, classes) - 1
    return relative_loss, float(low), float(high)


def print_measurement(measurement: Measurement) -> None:
    split = f"{measurement.table}, split {measurement.split}, {measurement.budget:g} s"
    print(
        f"{split:32} {measurement.contender:15} "
        + (
            measurement.error
            or f"{measurement.metric} {measurement.loss:10.4f} {measurement.seconds:6.1f} s "
            f"{measurement.latency:8.2f} ms {measurement.size:8.2f} MB"
        ),
        flush=True,
    )


def print_summary(measurements: list[Measurement], results: Path) -> None:
    """Print mean ranks, losses relative to the best and whether targets are met, by budget."""
    failed = [measurement for measurement in measurements if measurement.error]
    for measurement in failed:
        print_measurement(measurement)
    rows = pd.DataFrame(compare_measurements(measurements, results))
    for budget, budget_rows in rows.groupby("budget") if len(rows) else ():
        n_contenders = budget_rows.groupby(["table", "split"])["contender"].transform("count")
        # Ranks among fewer contenders are not comparable.
        complete_rows = budget_rows[n_contenders == n_contenders.max()]
        print(f"\n{budget:g} seconds, {complete_rows['table'].nunique()} tables")
        by_metric = complete_rows.pivot_table("behind", "contender", "metric")
        summary = complete_rows.groupby("contender").agg(
            mean_rank=("rank", "mean"), significantly_worse=("is_significant", "mean"),
            seconds=("seconds", "median"), latency=("latency", "median"), size=("size", "median"),
        )  # fmt: skip
        print(
            summary.join(by_metric.add_prefix("behind, "))
            .sort_values("mean_rank")
            .round(4)
            .to_string()
        )
        if "modelbook" in summary.index:
            print_targets(
                summary.loc["modelbook"], by_metric.loc["modelbook"], summary["mean_rank"]
            )


def print_targets(summary: pd.Series, behind: pd.Series, ranks: pd.Series) -> None:
    """Print whether Modelbook meets the targets."""
    print(f"best mean rank: {'met' if summary['mean_rank'] <= ranks.min() else 'missed'}")
    for metric, max_relative_loss in TARGETS.items():
        if metric in behind:
            is_met = behind[metric] <= max_relative_loss
            print(
                f"behind the best by at most {max_relative_loss:.1%} {metric}: "
                f"{'met' if is_met else 'missed'}"
            )
    is_met = summary["significantly_worse"] <= MAX_SIGNIFICANT_LOSS_RATE
    print(
        "significantly worse than the best on at most one table in eight: "
        f"{'met' if is_met else 'missed'}"
    )


def compare_measurements(
    measurements: list[Measurement], results: Path
) -> Iterator[dict[str, Any]]:
    """Yield each measurement with its rank and its loss relative to the best of its split.

    Contenders that failed have the last rank, and no relative loss.
    """
    splits: dict[tuple[str, int, float], list[Measurement]] = {}
    for measurement in measurements:
        splits.setdefault(measurement.key[:3], []).append(measurement)
    for contenders in splits.values():
        scored = sorted(
            (measurement for measurement in contenders if not measurement.error),
            key=lambda measurement: measurement.loss,
        )
        if not scored:
            continue
        losses = {
            measurement.contender: np.load(results / LOSSES_FOLDER / measurement.losses_file)
            for measurement in scored
        }
        classes = ["classes"] if scored[0].metric == "log loss" else []
        for rank, measurement in enumerate(scored, 1):
            best_losses = losses[scored[0].contender]
            behind, low, _ = compute_relative_loss(
                losses[measurement.contender], best_losses, classes
            )
            yield {**asdict(measurement), "rank": rank, "behind": behind, "is_significant": low > 0}
        for measurement in contenders:
            if measurement.error:
                yield {
                    **asdict(measurement),
                    "rank": len(contenders),
                    "behind": np.nan,
                    "is_significant": True,
                }


if __name__ == "__main__":
    main()
