"""What the search is worth: ten tables, each answered by Modelbook, a default LightGBM, and PyCaret's compare_models.

All three see the same train rows and the same columns, and are judged on the same rows, which none has seen: by
ROC AUC (of several classes, the mean of each against the rest), or by RMSE of a number. Modelbook searches as with
``strategy: best``, half of the budget for families and half for tuning. compare_models ranks by the same metric, and
gets the seconds that Modelbook's whole search has taken, answers out of fold among them; the default LightGBM takes
what it takes. The last column is what Modelbook is ahead of the better of the two, with its paired 95 % interval: of
RMSE, the share that is saved.

    python benchmarks/search.py                            180 seconds a table
    python benchmarks/search.py --budget 30 --only fair diabetes
    python benchmarks/search.py --split 1                  other rows to be judged by
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import datasets
from sklearn.model_selection import train_test_split

from modelbook import tasks
from modelbook.config import Finalize
from modelbook.draft import draft_book
from modelbook.evaluation.metrics_ci import paired_difference
from modelbook.tasks.base import Task
from modelbook.tasks.metric_format import LOWER_IS_BETTER
from modelbook.tasks.scored_rows import ScoredRows
from modelbook.training import final_model, leaderboard
from modelbook.training.comparison import compare_families
from modelbook.training.experiment import EXPERIMENT_CLASSES, Experiment

SEED = 42
MEASURE = {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "rmse"}
SORT = {"classification": "AUC", "regression": "RMSE"}  # PyCaret's names of these


def bundled(load: Callable[..., Any]) -> pd.DataFrame:
    """A table of scikit-learn's, its answer named y."""
    found = load(as_frame=True)
    return found.frame.rename(columns={"target": "y"})


def shipped(
    name: str, answer: Callable[[pd.DataFrame], pd.Series], *without: str, rows: int = 4000
) -> pd.DataFrame:
    """A table of statsmodels', at most so many rows of it, with an answer instead of the columns that tell it."""
    table = getattr(sm.datasets, name).load_pandas().data
    table = table.assign(y=answer(table)).drop(columns=[*without])
    return table.sample(min(rows, len(table)), random_state=SEED).reset_index(drop=True)


def drawn(X: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{place}" for place in range(X.shape[1])]).assign(y=y)


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "breast cancer": lambda: bundled(datasets.load_breast_cancer),
    "wine": lambda: bundled(datasets.load_wine),
    "digits": lambda: bundled(datasets.load_digits),
    "diabetes": lambda: bundled(datasets.load_diabetes),
    "fair": lambda: shipped("fair", lambda t: (t["affairs"] > 0).astype(int), "affairs"),
    "anes96": lambda: shipped("anes96", lambda t: t["vote"].astype(int), "vote"),
    "modechoice": lambda: shipped("modechoice", lambda t: t["choice"].astype(int), "choice", "individual"),
    "randhie": lambda: shipped("randhie", lambda t: t["mdvis"].astype(float), "mdvis"),
    "lopsided": lambda: drawn(*datasets.make_classification(
        2500, 30, n_informative=8, n_redundant=6, weights=[0.93], flip_y=0.03, class_sep=0.7, random_state=SEED)),
    "friedman": lambda: drawn(*datasets.make_friedman1(1500, 12, noise=2.0, random_state=SEED)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--budget", type=float, default=180, help="seconds of Modelbook's search (default: 180)"
    )
    parser.add_argument(
        "--only", nargs="*", default=list(TABLES), metavar="TABLE", help="some of the tables"
    )
    parser.add_argument(
        "--split", type=int, default=SEED, help="seed of the rows to be judged by (default: 42)"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    names = "table, rows, measured by, Modelbook, default LightGBM, compare_models, Modelbook chose, seconds, ahead by"
    print(f"| {names.replace(', ', ' | ')} |\n{'|---' * 9}|")
    for name in options.only:
        print(line(name, options.budget, options.split), flush=True)


def line(name: str, budget: float, split: int) -> str:
    """One table's row of the result: the best number in bold, seconds of the two searches."""
    frame = TABLES[name]()
    contract = draft_book(frame, "y", title=name, source="benchmark").contract
    task, frame = tasks.get_task(contract), contract.conform(frame)
    train, test = train_test_split(
        frame, test_size=0.3, random_state=split, stratify=frame["y"] if task.classes else None
    )
    train, test = train.reset_index(drop=True), test.reset_index(drop=True)
    began = time.perf_counter()
    model, chosen = searched(train, task, budget)
    seconds = time.perf_counter() - began
    ours, plain = scored(task, model, test), scored(task, lightgbm(train, task), test)
    began = time.perf_counter()
    theirs = scored(task, compared(train, task, seconds), test)
    spent = time.perf_counter() - began
    measure = MEASURE[task.name]
    judge, sign = task.metric_functions()[measure], -1 if measure in LOWER_IS_BETTER else 1
    values = [
        float(judge(one.outcome, one.score, np.ones(len(one)))) for one in (ours, plain, theirs)
    ]
    best = max(values, key=lambda value: sign * value)
    told = [f"**{value:.4f}**" if value == best else f"{value:.4f}" for value in values]
    rival = plain if sign * values[1] > sign * values[2] else theirs
    ahead, low, high = paired_difference(task, ours, rival, measure, resamples=1000, seed=SEED)
    took = f"{seconds:.0f} / {spent:.0f}"
    lead = f"{ahead:+.4f} ({low:+.4f} to {high:+.4f})"
    return (
        f"| {name} | {len(frame):,} | {measure} | {' | '.join(told)} | {chosen} | {took} | {lead} |"
    )


def searched(train: pd.DataFrame, task: Task, budget: float) -> tuple[Any, str]:
    """What compare and finalize come to."""
    trial = Experiment(train, task.contract, folds=5, seed=SEED)
    families, metric = task.resolve_families(["auto"]), task.resolve_metric("auto")
    board = leaderboard.build_leaderboard(
        compare_families(
            trial,
            families,
            budget / 2,
            report_progress=lambda *_, **__: None,
            log_candidate=lambda _: None,
        ),
        metric,
    )
    params = Finalize(strategy="best", tune_rounds=500, budget=budget / 2)
    fitted = final_model.fit_final_model(
        trial, params, leaderboard.best_families(board, params.blend_size), metric, report_progress=lambda *_, **__: None
    )  # fmt: skip
    return fitted.pipeline, fitted.name


def lightgbm(train: pd.DataFrame, task: Task) -> Any:
    """LightGBM as it comes, told which columns are categories."""
    model = (LGBMClassifier if task.classes else LGBMRegressor)(
        verbosity=-1, random_state=SEED, n_jobs=1
    )
    words = task.contract.categorical_features
    kinds = {name: pd.CategoricalDtype(sorted(train[name].dropna().unique())) for name in words}

    class Typed:
        def __getattr__(self, method: str) -> Any:
            return lambda rows: getattr(model, method)(rows.astype(kinds))

    model.fit(
        task.contract.select_features(train).astype(kinds),
        task.contract.encode_checked_target(train),
    )
    return Typed()


def compared(train: pd.DataFrame, task: Task, seconds: float) -> Any:
    """What PyCaret's compare_models finds with its own defaults, fitted on all train rows."""
    data = task.contract.select_features(train).assign(y=task.contract.encode_checked_target(train))
    experiment = EXPERIMENT_CLASSES[task.experiment_type]()
    experiment.setup(
        data=data,
        target="y",
        session_id=SEED,
        n_jobs=1,
        verbose=False,
        html=False,
        system_log=False,
    )
    return experiment.finalize_model(
        experiment.compare_models(
            sort=SORT[task.experiment_type], budget_time=seconds / 60, verbose=False
        )
    )


def scored(task: Task, model: Any, test: pd.DataFrame) -> ScoredRows:
    """A model's answers to rows it has not seen."""
    rows, contract = task.contract.select_features(test), task.contract
    try:
        score = task.predict_scores(model, rows)
    except AttributeError:  # a classifier without probabilities: 1 for what it says
        said = np.asarray(model.predict(rows)).astype(int)
        score = np.eye(len(task.classes))[said] if len(task.classes) > 2 else said.astype(float)
    return ScoredRows.from_arrays(
        contract.encode_checked_target(test), score, contract.entity_ids(test)
    )


if __name__ == "__main__":
    main()
