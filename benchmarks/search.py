"""The search beside others: Modelbook, AutoGluon, FLAML, CatBoost, histogram boosting, LightGBM and compare_models.

All see the same train rows of 18 tables and the same columns, and are judged on the same 30 % of the rows: by log loss,
or by RMSE of a number. Those that search get the same seconds; the others take what they take. Each runs in a process
of its own, AutoGluon and FLAML in environments of their own, which the first run installs below ``.bench``. Modelbook's
size is that of its compiled form.

    python benchmarks/search.py                                          18 tables, 30, 60 and 150 seconds, two splits
    python benchmarks/search.py --budgets 30 --splits 0 --only fair diabetes --contenders modelbook catboost
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
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
ENVIRONMENTS = HERE.parent / ".bench"
PACKAGES = {  # of contenders with an environment of their own
    "flaml": ["flaml[automl]", "lightgbm", "xgboost", "pyarrow"],
    "autogluon": ["autogluon.tabular[lightgbm,catboost,xgboost,fastai]", "pyarrow"],
}
CONTENDERS = ("modelbook", "autogluon best", "autogluon good", "flaml", "catboost", "histogram", "lightgbm", "pycaret")  # fmt: skip
RESAMPLES = 1000
GRACE = 10  # times the budget, after which a contender is ended


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budgets", nargs="*", type=float, default=[30, 60, 150])
    parser.add_argument("--splits", nargs="*", type=int, default=[0, 1], help="seeds")
    parser.add_argument("--only", nargs="*", default=list(TABLES), metavar="TABLE")
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), metavar="NAME")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in options.only:
        for split in options.splits:
            results += run_table(name, split, options.budgets, options.contenders)
    print_summary(pd.DataFrame(results), options.budgets)


def run_table(
    name: str, split: int, budgets: list[float], contenders: list[str]
) -> list[dict[str, Any]]:
    """All contenders on one split of a table, at each budget; prints a row for each budget."""
    frame = TABLES[name]()
    contract = draft_book(frame, "y", title=name, source="benchmark").contract
    frame = contract.conform(frame)
    classes = list(contract.classes or [])
    train, test = train_test_split(
        frame, test_size=0.3, random_state=split, stratify=frame["y"] if classes else None
    )
    results = []
    with TemporaryDirectory() as made:
        folder = Path(made)
        for part, rows in (("train", train), ("test", test)):
            rows.reset_index(drop=True).to_parquet(folder / f"{part}.parquet")
        outcome = tasks.get_task(contract).contract.encode_checked_target(test).to_numpy()
        table = {"classes": classes, "contract": contract.model_dump(mode="json")}
        (folder / "table.json").write_text(json.dumps(table))
        for budget in budgets:
            losses = {}
            for contender in contenders:
                measured = run_contender(contender, folder, budget)
                if measured is not None:
                    losses[contender] = row_losses(
                        np.load(folder / f"{contender}.npy"), outcome, classes
                    )
                    results.append({"contender": contender, **measured, "budget": budget})
            expected_values = results[-len(losses) :] if losses else []
            for row in expected_values:
                loss = losses[row["contender"]]
                row.update(table=name, split=split, loss=combine(loss, classes))
                best = min(losses, key=lambda other: combine(losses[other], classes))
                row["behind"], row["low"], row["high"] = compare(loss, losses[best], classes)
            print_table(name, split, budget, expected_values)
    return results


def run_contender(name: str, folder: Path, seconds: float) -> dict[str, Any] | None:
    """Seconds, latency and size of a contender; None if it fails."""
    command = [find_python(name), HERE / "contenders.py", name, folder, str(seconds)]
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=GRACE * seconds
        )
    except subprocess.TimeoutExpired:
        print(f"  {name}: not done after {GRACE * seconds:.0f} s", flush=True)
        return None
    if ended.returncode:
        print(
            f"  {name}: {(ended.stderr.strip().splitlines() or ['failed'])[-1][:200]}", flush=True
        )
        return None
    return json.loads((folder / f"{name}.json").read_text())


def find_python(name: str) -> Path:
    """The interpreter of a contender's environment, which is made where it is missing."""
    packages = PACKAGES.get(name.split(maxsplit=1)[0])
    if packages is None:
        return Path(sys.executable)
    environment = ENVIRONMENTS / name.split(maxsplit=1)[0]
    python = environment / "bin/python"
    if not (environment / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
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


def print_table(name: str, split: int, budget: float, rows: list[dict[str, Any]]) -> None:
    """A line for each contender, best first."""
    print(f"\n{name}, split {split}, {budget:g} s")
    for row in sorted(rows, key=lambda one: one["loss"]):
        interval = f"{row['behind']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})"
        print(
            f"  {row['contender']:15} {row['loss']:10.4f}  {interval:30} {row['seconds']:6.1f} s"
            f" {row['latency']:8.2f} ms {row['size']:8.2f} MB",
            flush=True,
        )


def print_summary(results: pd.DataFrame, budgets: list[float]) -> None:
    """Mean rank, mean distance from the best and tables surely behind it, by budget."""
    for budget in budgets:
        rows = results[results["budget"] == budget]
        ranks = rows.groupby(["table", "split"])["loss"].rank()
        rows = rows.assign(rank=ranks, surely=rows["low"] > 0)
        summary = rows.groupby("contender").agg(
            mean_rank=("rank", "mean"), behind=("behind", "mean"), surely_behind=("surely", "mean"),
            seconds=("seconds", "median"), latency=("latency", "median"), size=("size", "median"),
        )  # fmt: skip
        print(f"\n{budget:g} seconds, {rows['table'].nunique()} tables")
        print(summary.sort_values("mean_rank").round(3).to_string())


if __name__ == "__main__":
    main()
