"""Boosted trees: category codes and missing values as inputs, early stopping in a search.

XGBoost reads the codes as numbers, the most frequent category first.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.metrics import log_loss, mean_squared_error

from modelbook.training.preprocessing import text_columns

BOOSTERS = {  # module, class (for classes, for a number), parameter of the category columns if any
    "lightgbm": (
        "modelbook.training.lightgbm",
        ("CategoricalLGBMClassifier", "CategoricalLGBMRegressor"),
        "categorical_feature",
    ),
    "catboost": (
        "modelbook.training.catboost",
        ("CategoricalCatBoostClassifier", "CategoricalCatBoostRegressor"),
        "cat_features",
    ),
    "hgb": (
        "sklearn.ensemble",
        ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
        "categorical_features",
    ),
    "xgboost": ("xgboost", ("XGBClassifier", "XGBRegressor"), ""),
}
BOOSTER_PARAMETERS: dict[str, dict[str, Any]] = {
    "lightgbm": {"verbosity": -1, "n_jobs": 1},
    "catboost": {
        "iterations": 300, "verbose": 0, "thread_count": 1, "allow_writing_files": False,
        "one_hot_max_size": 255,  # statistics of categories need CatBoost itself to predict
    },
    "hgb": {"early_stopping": False},  # scikit-learn's splits the rows of an entity
    "xgboost": {"n_estimators": 100, "verbosity": 0, "n_jobs": 1},
}  # fmt: skip
MULTICLASS_PARAMETERS: dict[str, dict[str, Any]] = {  # each iteration has a tree for each class
    "lightgbm": {"max_bin": 63},
    "catboost": {"border_count": 64},
}  # with 2 classes or a number CatBoost's 254 are more accurate
SEED_PARAMETERS = {"catboost": "random_seed"}  # others: random_state
ITERATION_PARAMETERS = {
    "lightgbm": "n_estimators", "catboost": "iterations", "hgb": "max_iter",
    "xgboost": "n_estimators",
}  # fmt: skip
MAX_CATEGORIES = 250  # scikit-learn takes codes below 255
MAX_ITERATIONS = {"lightgbm": 1000, "catboost": 1000, "hgb": 300, "xgboost": 1000}
PATIENCE = 30  # iterations without a gain after which a fit stops
STEP = 60  # iterations of scikit-learn's boosting between two evaluations of the loss


class CategoryCodes(BaseEstimator):
    """Codes of categories, the most frequent first; missing and unseen ones become NaN.

    The rarest share a code where there are more than 250. Numbers stay as they are.
    """

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> CategoryCodes:
        self.codes_ = {name: _assign_codes(X[name]) for name in text_columns(X)}
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        coded = {name: X[name].map(codes) for name, codes in self.codes_.items()}
        return X.assign(**coded).astype("float64")


def _assign_codes(values: pd.Series) -> dict[str, int]:
    counts = values.value_counts()
    ordered = sorted(counts.index, key=lambda value: (-counts[value], value))
    return {value: min(code, MAX_CATEGORIES - 1) for code, value in enumerate(ordered)}


def make_booster(family: str, *, n_classes: int, category_columns: list[int], seed: int) -> Any:
    """An unfitted booster that takes the codes of categories in these columns; 0 classes: a number.

    With several classes thresholds are chosen among fewer values, in up to a third of the time.
    """
    module, class_names, parameter = BOOSTERS[family]
    estimator_class = getattr(import_module(module), class_names[not n_classes])
    categories = {parameter: category_columns} if parameter and category_columns else {}
    seeds = {SEED_PARAMETERS.get(family, "random_state"): seed}
    multiclass = MULTICLASS_PARAMETERS.get(family, {}) if n_classes > 2 else {}
    return estimator_class(**BOOSTER_PARAMETERS[family], **multiclass, **categories, **seeds)


def find_iterations(
    family: str, estimator: Any, X: pd.DataFrame, y: pd.Series, is_stop_row: np.ndarray
) -> int:
    """The number of iterations with the least loss on the rows for early stopping.

    Parameters
    ----------
    is_stop_row : ndarray of bool
        Rows that are held back from the fit, and are not the rows that evaluate it.
    """
    limited = clone(estimator).set_params(**{ITERATION_PARAMETERS[family]: MAX_ITERATIONS[family]})
    rows = X.to_numpy()
    split_rows = (rows[~is_stop_row], y[~is_stop_row], rows[is_stop_row], y[is_stop_row])
    return max(1, FINDERS[family](limited, *split_rows))


def _find_by_lightgbm(estimator: Any, X: Any, y: Any, X_stop: Any, y_stop: Any) -> int:
    from lightgbm import early_stopping

    callbacks = [early_stopping(PATIENCE, verbose=False)]
    estimator.fit(X, y, eval_set=[(X_stop, y_stop)], callbacks=callbacks)
    return int(estimator.best_iteration_)


def _find_by_catboost(estimator: Any, X: Any, y: Any, X_stop: Any, y_stop: Any) -> int:
    estimator.fit(X, y, eval_set=(X_stop, y_stop), early_stopping_rounds=PATIENCE)
    return int(estimator.get_best_iteration()) + 1


def _find_by_xgboost(estimator: Any, X: Any, y: Any, X_stop: Any, y_stop: Any) -> int:
    estimator.set_params(early_stopping_rounds=PATIENCE)
    estimator.fit(X, y, eval_set=[(X_stop, y_stop)], verbose=False)
    return int(estimator.best_iteration) + 1


def _find_by_steps(estimator: Any, X: Any, y: Any, X_stop: Any, y_stop: Any) -> int:
    """scikit-learn's own early stopping takes no rows to stop by, so it is fitted step by step."""
    estimator.set_params(warm_start=True)
    best_iterations, iterations = 0, 0
    while iterations < MAX_ITERATIONS["hgb"] and iterations - best_iterations < PATIENCE:
        iterations = min(iterations + STEP, MAX_ITERATIONS["hgb"])
        estimator.set_params(max_iter=iterations).fit(X, y)
        best_iterations = int(np.argmin(_compute_staged_losses(estimator, X_stop, y_stop))) + 1
    return best_iterations


def _compute_staged_losses(estimator: Any, X: Any, y: Any) -> list[float]:
    """Loss after each iteration."""
    if is_classifier(estimator):
        stages = estimator.staged_predict_proba(X)
        return [log_loss(y, stage, labels=estimator.classes_) for stage in stages]
    return [mean_squared_error(y, stage) for stage in estimator.staged_predict(X)]


FINDERS: dict[str, Callable[..., int]] = {
    "lightgbm": _find_by_lightgbm,
    "catboost": _find_by_catboost,
    "hgb": _find_by_steps,
    "xgboost": _find_by_xgboost,
}
