"""Fit and measure one contender of benchmarks/search.py on one table, in its own process.

Only the contender ``modelbook`` imports Modelbook: others may run in environments without it.

    python contenders.py NAME FOLDER SECONDS

reads ``train.parquet``, ``test.parquet`` and ``table.json`` of the folder, and writes ``NAME.npy``
(probabilities, or predictions of a regression) and ``NAME.json`` (seconds of the fit, milliseconds
per single-row prediction, megabytes of the pickled model).
"""

from __future__ import annotations

import json
import pickle
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SEED = 42
Predict = Callable[[pd.DataFrame], np.ndarray]
Contender = Callable[[pd.DataFrame, dict[str, Any], float, Path], tuple[Predict, Any]]


def main(name: str, folder: Path, seconds: float) -> None:
    warnings.filterwarnings("ignore")
    train, test = (pd.read_parquet(folder / f"{subset}.parquet") for subset in ("train", "test"))
    table = json.loads((folder / "table.json").read_text())
    start = time.perf_counter()
    predict, model = CONTENDERS[name.partition("@")[0]](train, table, seconds, folder)
    elapsed = time.perf_counter() - start
    rows = test.drop(columns="y")
    np.save(folder / f"{name}.npy", np.asarray(predict(rows), dtype=float))
    result = {
        "seconds": elapsed,
        "latency": measure_latency_ms(predict, rows),
        "size": measure_size(model),
    }
    (folder / f"{name}.json").write_text(json.dumps(result))


def measure_latency_ms(predict: Predict, rows: pd.DataFrame) -> float:
    """Median milliseconds of a single-row prediction."""
    times = []
    for index in range(20):
        start = time.perf_counter()
        predict(rows.iloc[[index]])
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def measure_size(model: Any) -> float:
    """Megabytes of a pickled model, or of the files of a folder."""
    if isinstance(model, Path):
        return sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6
    return len(pickle.dumps(model)) / 1e6


def make_predict_function(
    model: Any, table: dict[str, Any], prepare: Callable[[pd.DataFrame], Any]
) -> Predict:
    method = model.predict_proba if table["classes"] else model.predict
    return lambda rows: np.asarray(method(prepare(rows)))


def to_categories(train: pd.DataFrame) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a function that converts text columns to the categories of the train rows."""
    dtypes = {
        name: pd.CategoricalDtype(sorted(train[name].dropna().unique()))
        for name in train.select_dtypes(exclude="number")
    }
    return lambda rows: rows.astype(dtypes)


def modelbook(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
    """The model of compare and finalize within the time budget."""
    from modelbook import tasks
    from modelbook.config import Finalize
    from modelbook.contract import Contract
    from modelbook.scoring.compilation import compile_pipeline
    from modelbook.training import comparison, final_model, leaderboard
    from modelbook.training.experiment import Experiment

    start = time.monotonic()
    contract = Contract.model_validate(table["contract"])
    task = tasks.get_task(contract)
    experiment = Experiment(train, contract, folds=5, seed=SEED)
    metric = task.resolve_metric("auto")
    candidates = comparison.compare_families(
        experiment, task.resolve_families(["auto"], len(train)), comparison.COMPARE_SHARE * seconds,
        report_progress=ignore_progress, log_candidate=ignore_progress,
    )  # fmt: skip
    board = leaderboard.build_leaderboard(candidates, metric)
    families = leaderboard.best_families(board, len(board), task.baseline_metric)
    fitted = final_model.fit_final_model(
        experiment, Finalize(time_budget=seconds), families, metric,
        report_progress=ignore_progress, spent_seconds=time.monotonic() - start,
    )  # fmt: skip
    compiled = folder / "compiled"
    threshold = 0.5 if task.name == "binary" else None
    compile_pipeline(fitted.pipeline, contract, threshold, train.head(200), compiled)
    return make_predict_function(fitted.pipeline, table, contract.select_features), compiled


def ignore_progress(*_: Any, **__: Any) -> None:
    """Progress callback that does nothing."""


def catboost(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
    """CatBoost with default parameters and ``cat_features``."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    categorical_columns = train.drop(columns="y").select_dtypes(exclude="number").columns.tolist()

    def prepare(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(
            **{name: rows[name].fillna("missing").astype(str) for name in categorical_columns}
        )

    model = (CatBoostClassifier if table["classes"] else CatBoostRegressor)(
        cat_features=categorical_columns, random_seed=SEED, verbose=0, allow_writing_files=False
    )
    model.fit(prepare(train.drop(columns="y")), train["y"])
    return make_predict_function(model, table, prepare), model


def histogram(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
    """scikit-learn's histogram gradient boosting with default parameters."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    prepare = to_categories(train.drop(columns="y"))
    estimator_class = (
        HistGradientBoostingClassifier if table["classes"] else HistGradientBoostingRegressor
    )
    model = estimator_class(categorical_features="from_dtype", random_state=SEED)
    model.fit(prepare(train.drop(columns="y")), train["y"])
    return make_predict_function(model, table, prepare), model


def lightgbm(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
    """LightGBM with default parameters."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    prepare = to_categories(train.drop(columns="y"))
    model = (LGBMClassifier if table["classes"] else LGBMRegressor)(verbosity=-1, random_state=SEED)
    model.fit(prepare(train.drop(columns="y")), train["y"])
    return make_predict_function(model, table, prepare), model


def pycaret(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
    """The best model of PyCaret's compare_models with its defaults, fitted on all train rows."""
    from pycaret.classification import ClassificationExperiment
    from pycaret.regression import RegressionExperiment

    experiment = (ClassificationExperiment if table["classes"] else RegressionExperiment)()
    experiment.setup(
        data=train, target="y", session_id=SEED, n_jobs=1, verbose=False, html=False,
        system_log=False,
    )  # fmt: skip
    best = experiment.compare_models(
        sort="AUC" if table["classes"] else "RMSE", budget_time=seconds / 60, verbose=False
    )
    model = experiment.finalize_model(best)

    def predict(rows: pd.DataFrame) -> np.ndarray:
        if not table["classes"]:
            return np.asarray(model.predict(rows))
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(rows))
        return np.eye(len(table["classes"]))[np.asarray(model.predict(rows)).astype(int)]

    return predict, model


def flaml(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
    """FLAML's AutoML with this time budget."""
    from flaml import AutoML

    model = AutoML()
    model.fit(
        dataframe=train, label="y", time_budget=seconds, seed=SEED, verbose=0,
        task="classification" if table["classes"] else "regression",
        metric="log_loss" if table["classes"] else "rmse",
    )  # fmt: skip
    return make_predict_function(model, table, lambda rows: rows), model


def autogluon(preset: str) -> Contender:
    """AutoGluon with a preset and this time budget."""

    def fit(train: pd.DataFrame, table: dict[str, Any], seconds: float, folder: Path) -> Any:
        from autogluon.tabular import TabularPredictor

        path = folder / f"autogluon-{preset}"
        metric = "log_loss" if table["classes"] else "root_mean_squared_error"
        # For a count target with few values AutoGluon would infer multiclass.
        problem_type = {0: "regression", 2: "binary"}.get(len(table["classes"]), "multiclass")
        model = TabularPredictor(
            label="y", path=str(path), eval_metric=metric, problem_type=problem_type, verbosity=0
        )
        model.fit(train, time_limit=seconds, presets=f"{preset}_quality")
        method = model.predict_proba if table["classes"] else model.predict
        return (lambda rows: np.asarray(method(rows))), path

    return fit


CONTENDERS: dict[str, Contender] = {
    "modelbook": modelbook,
    "catboost": catboost,
    "histogram": histogram,
    "lightgbm": lightgbm,
    "pycaret": pycaret,
    "flaml": flaml,
    "autogluon best": autogluon("best"),
    "autogluon good": autogluon("good"),
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
