"""Fraction of models that compile, on the tables of benchmarks/search.py.

Final models are fitted with a time budget and compiled as finalize does, with the parity check on
test rows. Models that do not compile are served by the pipeline; the last column states the reason.
Target: at least 90%.

    python benchmarks/compiled.py                           40 seconds per table
    python benchmarks/compiled.py --only fair diabetes --split 1
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from sklearn.model_selection import train_test_split
from tables import SEED, TABLES

from modelbook import tasks
from modelbook.config import Finalize
from modelbook.draft import draft_book
from modelbook.scoring.compilation import CompilationResult, compile_pipeline
from modelbook.training import final_model
from modelbook.training.experiment import Experiment

TARGET = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=40, help="seconds per search")
    parser.add_argument("--only", nargs="*", default=list(TABLES), metavar="TABLE")
    parser.add_argument("--split", type=int, default=SEED, help="seed of the train-test split")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("| table | champion | scorer | maximum difference | reason |\n|---|---|---|---|---|")
    results = []
    for name in args.only:
        champion, result = compile_champion(name, args.budget, args.split)
        difference = f"{result.parity.max_difference:.1e}" if result.parity else ""
        print(
            f"| {name} | {champion} | {result.scorer_name} | {difference} | {result.reason} |",
            flush=True,
        )
        results.append(result)
    compiled = sum(result.parity is not None for result in results)
    print(f"\n{compiled} of {len(results)} champions compile (target: {TARGET:.0%})")


def compile_champion(
    table_name: str, budget: float, split_seed: int
) -> tuple[str, CompilationResult]:
    """Fit the final model on a table and compile it; returns the model's name and the result."""
    frame = TABLES[table_name]()
    contract = draft_book(frame, "y", title=table_name, source="benchmark").contract
    task, frame = tasks.get_task(contract), contract.conform(frame)
    train, test = train_test_split(
        frame, test_size=0.3, random_state=split_seed, stratify=frame["y"] if task.classes else None
    )
    experiment = Experiment(train.reset_index(drop=True), contract, folds=5, seed=SEED)
    fitted = final_model.fit_final_model(
        experiment, Finalize(time_budget=budget), task.resolve_families(["auto"]), "auto",
        report_progress=lambda *_, **__: None,
    )  # fmt: skip
    threshold = 0.5 if task.name == "binary" else None
    with TemporaryDirectory() as temp_dir:
        test_rows = test.reset_index(drop=True)
        return fitted.name, compile_pipeline(
            fitted.pipeline, contract, threshold, test_rows, Path(temp_dir) / "scorer"
        )


if __name__ == "__main__":
    main()
