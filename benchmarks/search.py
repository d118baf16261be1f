"""The search beside others: Modelbook, AutoGluon, FLAML, CatBoost, histogram boosting, LightGBM and compare_models.

All see the same train rows of 18 tables and the same columns, and are judged on the same 30 % of the rows: by log loss,
or by RMSE of a number. Those that search get the same seconds; the others take what they take. Each runs in a process
of its own, AutoGluon and FLAML in environments of their own, which the first run installs below ``.bench``. Modelbook's
size is that of its compiled form.

Each measurement is kept below ``--results`` as it ends, and not repeated: the benchmark can be run in pieces, and the
contenders of a table run one after the other, so that they share what else the machine does.

    python benchmarks/search.py                                          18 tables, 30, 60 and 150 seconds, two splits
    python benchmarks/search.py --budgets 30 --splits 0 --only fair diabetes --contenders modelbook catboost
    python benchmarks/search.py --summary                                what has been measured so far
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

HERE = Path(__file__).parent
BENCH = HERE.parent / ".bench"
PACKAGES = {  # of contenders with an environment of their own; neural networks of AutoGluon's are left out, torch is large
    "flaml": ["flaml[automl]", "lightgbm", "xgboost-cpu", "pyarrow"],
    # Without Ray its trial of stacking runs in the fit's process; one that fails ends the fit.
    "autogluon": ["autogluon.tabular[lightgbm,catboost,xgboost,ray]", "pyarrow"],
}
CONTENDERS = ("modelbook", "autogluon best", "autogluon good", "flaml", "catboost", "histogram", "lightgbm", "pycaret")  # fmt: skip
RESAMPLES = 1000
GRACE = 10  # times the budget, after which a contender is ended
LOG, LOSSES = "measurements.jsonl", "losses"  # below the folder of results
TARGETS = {"log loss": 0.005, "RMSE": 0.01}  # mean distance from the best, at most
MAX_SURELY_BEHIND = 1 / 8  # of the tables


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
    parser.add_argument("--results", type=Path, default=BENCH / "search", metavar="FOLDER")
    parser.add_argument("--environments", type=Path, default=BENCH, metavar="FOLDER")
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    options = parser.parse_args()
    (options.results / LOSSES).mkdir(parents=True, exist_ok=True)
    if not options.summary:
        for name in options.only:
            for split in options.splits:
                run_table(name, split, options)
    print_summary(read_measurements(options.results), options.results)


def read_measurements(results: Path) -> list[Measurement]:
    """What has been measured; of a repeated measurement the last."""
    log = results / LOG
    lines = log.read_text().splitlines() if log.is_file() else []
    measured = [Measurement(**json.loads(line)) for line in lines]
    return list({each.key: each for each in measured}.values())


def run_table(name: str, split: int, options: argparse.Namespace) -> None:
    """What is missing of a split of a table: budget by budget, all contenders in turn."""
    done = {each.key for each in read_measurements(options.results)}
    missing = [
        (budget, contender)
        for budget in options.budgets
        for contender in options.contenders
        if (name, split, budget, contender) not in done
    ]
    if not missing:
        return
    with TemporaryDirectory() as made:
        folder = Path(made)
        outcome, classes = write_table(name, split, folder)
        for budget, contender in missing:
            python = find_python(contender, options.environments)
            measured = Measurement(
                name, split, budget, contender, "log loss" if classes else "RMSE",
                **run_contender(contender, folder, budget, python),
            )  # fmt: skip
            if not measured.error:
                losses = row_losses(np.load(folder / f"{contender}.npy"), outcome, classes)
                np.save(options.results / LOSSES / measured.losses_file, losses)
                measured = Measurement(**{**asdict(measured), "loss": combine(losses, classes)})
            with (options.results / LOG).open("a") as log:
                log.write(json.dumps(asdict(measured)) + "\n")
            print_measurement(measured)


def write_table(name: str, split: int, folder: Path) -> tuple[np.ndarray, list[str]]:
    """Write a split of a table for the contenders; its outcomes to be judged by, and classes."""
    frame = TABLES[name]()
    contract = draft_book(frame, "y", title=name, source="benchmark").contract
    frame = contract.conform(frame)
    classes = list(contract.classes or [])
    train, test = train_test_split(
        frame, test_size=0.3, random_state=split, stratify=frame["y"] if classes else None
    )
    for part, rows in (("train", train), ("test", test)):
        rows.reset_index(drop=True).to_parquet(folder / f"{part}.parquet")
    table = {"classes": classes, "contract": contract.model_dump(mode="json")}
    (folder / "table.json").write_text(json.dumps(table))
    return tasks.get_task(contract).contract.encode_checked_target(test).to_numpy(), classes


def run_contender(name: str, folder: Path, seconds: float, python: Path) -> dict[str, Any]:
    """Seconds, latency and size of a contender; or its error."""
    command = [python, HERE / "contenders.py", name, folder, str(seconds)]
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=GRACE * seconds
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {GRACE * seconds:.0f} s"}
    if ended.returncode:
        return {"error": (ended.stderr.strip().splitlines() or ["failed"])[-1][:200]}
    return json.loads((folder / f"{name}.json").read_text())


def find_python(name: str, environments: Path) -> Path:
    """The interpreter of a contender's environment, which is made where it is missing."""
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


def row_losses(scores: np.ndarray, outcome: np.ndarray, classes: list[str]) -> np.ndarray:
    """Log loss of each row, or its squared error."""
    if not classes:
        return np.square(scores.ravel() - outcome)
    true_class = scores[np.arange(len(outcome)), outcome.astype(int)]
    return -np.log(np.clip(true_class, 1e-15, None))


def combine(losses: np.ndarray, classes: list[str]) -> float:
    """Log loss, or RMSE, of the rows."""
    return float(losses.mean() if classes else np.sqrt(losses.mean()))


def compare(losses: np.ndarray, best: np.ndarray, classes: list[str]) -> tuple[float, float, float]:
    """How far behind the best, as a share of its loss, with a paired 95 % bootstrap interval."""
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(losses), (RESAMPLES, len(losses)))
    shares = [combine(losses[rows], classes) / combine(best[rows], classes) - 1 for rows in drawn]
    low, high = np.quantile(shares, [0.025, 0.975])
    return combine(losses, classes) / combine(best, classes) - 1, float(low), float(high)


def print_measurement(measured: Measurement) -> None:
    place = f"{measured.table}, split {measured.split}, {measured.budget:g} s"
    print(
        f"{place:32} {measured.contender:15} "
        + (
            measured.error
            or f"{measured.metric} {measured.loss:10.4f} {measured.seconds:6.1f} s "
            f"{measured.latency:8.2f} ms {measured.size:8.2f} MB"
        ),
        flush=True,
    )


def print_summary(measured: list[Measurement], results: Path) -> None:
    """By budget: each contender's mean rank, distance from the best, and the targets."""
    failed = [each for each in measured if each.error]
    for each in failed:
        print_measurement(each)
    rows = pd.DataFrame(compare_measurements(measured, results))
    for budget, measured_rows in rows.groupby("budget") if len(rows) else ():
        n_rivals = measured_rows.groupby(["table", "split"])["contender"].transform("count")
        of_budget = measured_rows[n_rivals == n_rivals.max()]  # a rank among fewer is another one
        print(f"\n{budget:g} seconds, {of_budget['table'].nunique()} tables")
        by_metric = of_budget.pivot_table("behind", "contender", "metric")
        summary = of_budget.groupby("contender").agg(
            mean_rank=("rank", "mean"), surely_behind=("surely", "mean"), seconds=("seconds", "median"),
            latency=("latency", "median"), size=("size", "median"),
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
    """Whether the targets are met."""
    print(f"best mean rank: {'met' if summary['mean_rank'] <= ranks.min() else 'missed'}")
    for metric, most in TARGETS.items():
        if metric in behind:
            print(f"behind the best by at most {most:.1%} {metric}: {'met' if behind[metric] <= most else 'missed'}")  # fmt: skip
    is_met = summary["surely_behind"] <= MAX_SURELY_BEHIND
    print(f"surely behind the best on at most one table in eight: {'met' if is_met else 'missed'}")


def compare_measurements(measured: list[Measurement], results: Path) -> Iterator[dict[str, Any]]:
    """Rank, and distance from the best with its interval, of each contender of a split.

    One that failed has the last rank, and is not in the mean distance.
    """
    splits: dict[tuple[str, int, float], list[Measurement]] = {}
    for each in measured:
        splits.setdefault(each.key[:3], []).append(each)
    for rivals in splits.values():
        scored = sorted((each for each in rivals if not each.error), key=lambda each: each.loss)
        if not scored:
            continue
        losses = {each.contender: np.load(results / LOSSES / each.losses_file) for each in scored}
        classes = ["classes"] if scored[0].metric == "log loss" else []
        for rank, each in enumerate(scored, 1):
            best = losses[scored[0].contender]
            behind, low, _ = compare(losses[each.contender], best, classes)
            yield {**asdict(each), "rank": rank, "behind": behind, "surely": low > 0}
        for each in rivals:
            if each.error:
                yield {**asdict(each), "rank": len(rivals), "behind": np.nan, "surely": True}


if __name__ == "__main__":
    main()
