"""Tables for benchmarks/search.py, from installed packages or generated; their target is ``y``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn import datasets

SEED = 42


def load_sklearn_table(load: Callable[..., Any]) -> pd.DataFrame:
    """Load a table of scikit-learn."""
    return load(as_frame=True).frame.rename(columns={"target": "y"})


def load_statsmodels_table(
    name: str,
    target: Callable[[pd.DataFrame], pd.Series],
    *dropped_columns: str,
    max_rows: int = 4000,
) -> pd.DataFrame:
    """Load a table of statsmodels, without columns that leak the target."""
    table = getattr(sm.datasets, name).load_pandas().data
    table = table.assign(y=target(table)).drop(columns=[*dropped_columns])
    return table.sample(min(max_rows, len(table)), random_state=SEED).reset_index(drop=True)


def make_frame(X: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{index}" for index in range(X.shape[1])]).assign(y=y)


def make_mixed_table(rows: int, levels: int, target_type: str) -> pd.DataFrame:
    """Generate categories with effects, numbers with missing values, a jump and an interaction."""
    rng = np.random.default_rng(SEED)
    frame = pd.DataFrame(rng.normal(size=(rows, 6)), columns=[f"n{index}" for index in range(6)])
    names = np.array([f"level {index}" for index in range(levels)])
    codes = rng.integers(0, levels, rows)
    frame["group"] = names[codes]
    frame["grade"] = rng.choice(["low", "mid", "high"], rows)
    grade = frame["grade"].map({"low": -0.7, "mid": 0.0, "high": 0.5})
    signal = (
        0.5 * frame["n0"]
        + 0.4 * np.sin(2 * frame["n1"])
        + 0.5 * (frame["n2"] > 0) * frame["n0"]
        + rng.normal(0, 0.7, levels)[codes]
        + grade
    )
    if target_type == "binary":
        target = (rng.uniform(size=rows) < 1 / (1 + np.exp(-2 * signal))).astype(int)
    elif target_type == "three classes":
        noisy = signal + rng.logistic(0, 0.5, rows)
        target = pd.cut(noisy, [-np.inf, -0.6, 0.6, np.inf], labels=["a", "b", "c"]).astype(str)
    else:
        target = np.exp(6 + signal + rng.normal(0, 0.3, rows))
    is_missing = rng.uniform(size=(rows, 2)) < 0.15
    frame[["n0", "n3"]] = frame[["n0", "n3"]].mask(is_missing)
    return frame.assign(y=target)


def make_classes(n_rows: int, n_features: int, **options: Any) -> pd.DataFrame:
    X, y = datasets.make_classification(n_rows, n_features, random_state=SEED, **options)
    return make_frame(X, y)


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "breast cancer": lambda: load_sklearn_table(datasets.load_breast_cancer),
    "wine": lambda: load_sklearn_table(datasets.load_wine),
    "digits": lambda: load_sklearn_table(datasets.load_digits),
    "diabetes": lambda: load_sklearn_table(datasets.load_diabetes),
    "fair": lambda: load_statsmodels_table(
        "fair", lambda t: (t["affairs"] > 0).astype(int), "affairs"
    ),
    "anes96": lambda: load_statsmodels_table("anes96", lambda t: t["vote"].astype(int), "vote"),
    "modechoice": lambda: load_statsmodels_table(
        "modechoice", lambda t: t["choice"].astype(int), "choice", "individual"
    ),
    "randhie": lambda: load_statsmodels_table(
        "randhie", lambda t: t["mdvis"].astype(float), "mdvis"
    ),
    "randhie often": lambda: load_statsmodels_table(
        "randhie", lambda t: (t["mdvis"] > 3).astype(int), "mdvis", max_rows=20_000
    ),
    "lopsided": lambda: make_classes(
        2500, 30, n_informative=8, n_redundant=6, weights=[0.93], flip_y=0.03, class_sep=0.7
    ),
    "five classes": lambda: make_classes(
        3000, 20, n_informative=10, n_classes=5, class_sep=0.9, flip_y=0.05
    ),
    "friedman": lambda: make_frame(
        *datasets.make_friedman1(1500, 12, noise=2.0, random_state=SEED)
    ),
    "friedman 3": lambda: make_frame(*datasets.make_friedman3(2000, noise=0.2, random_state=SEED)),
    "linear": lambda: make_frame(
        *datasets.make_regression(600, 40, n_informative=10, noise=40, random_state=SEED)
    ),
    "prices": lambda: make_mixed_table(3000, 16, "skewed"),
    "many categories": lambda: make_mixed_table(6000, 120, "binary"),
    "gaps": lambda: make_mixed_table(4000, 8, "three classes"),
    "large": lambda: make_mixed_table(40_000, 30, "binary"),
}
