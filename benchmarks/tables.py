"""Tables for the benchmarks of the search, from packages that are installed or drawn at random; the target is y."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn import datasets

SEED = 42


def bundled(load: Callable[..., Any]) -> pd.DataFrame:
    """A table of scikit-learn's."""
    return load(as_frame=True).frame.rename(columns={"target": "y"})


def shipped(
    name: str, target: Callable[[pd.DataFrame], pd.Series], *without: str, rows: int = 4000
) -> pd.DataFrame:
    """A table of statsmodels', at most so many rows of it, without the columns that tell the target."""
    table = getattr(sm.datasets, name).load_pandas().data
    table = table.assign(y=target(table)).drop(columns=[*without])
    return table.sample(min(rows, len(table)), random_state=SEED).reset_index(drop=True)


def drawn(X: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{place}" for place in range(X.shape[1])]).assign(y=y)


def mixed(rows: int, levels: int, kind: str) -> pd.DataFrame:
    """Categories with an effect each, numbers with gaps, a jump and an interaction; by kind of target."""
    random = np.random.default_rng(SEED)
    frame = pd.DataFrame(random.normal(size=(rows, 6)), columns=[f"n{place}" for place in range(6)])
    names = np.array([f"level {place}" for place in range(levels)])
    codes = random.integers(0, levels, rows)
    frame["group"], frame["grade"] = names[codes], random.choice(["low", "mid", "high"], rows)
    grade = frame["grade"].map({"low": -0.7, "mid": 0.0, "high": 0.5})
    signal = (
        0.5 * frame["n0"] + 0.4 * np.sin(2 * frame["n1"]) + 0.5 * (frame["n2"] > 0) * frame["n0"]
        + random.normal(0, 0.7, levels)[codes] + grade
    )  # fmt: skip
    if kind == "binary":
        target = (random.uniform(size=rows) < 1 / (1 + np.exp(-2 * signal))).astype(int)
    elif kind == "three classes":
        noisy = signal + random.logistic(0, 0.5, rows)
        target = pd.cut(noisy, [-np.inf, -0.6, 0.6, np.inf], labels=["a", "b", "c"]).astype(str)
    else:
        target = np.exp(6 + signal + random.normal(0, 0.3, rows))
    gaps = random.uniform(size=(rows, 2)) < 0.15
    frame[["n0", "n3"]] = frame[["n0", "n3"]].mask(gaps)
    return frame.assign(y=target)


TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "breast cancer": lambda: bundled(datasets.load_breast_cancer),
    "wine": lambda: bundled(datasets.load_wine),
    "digits": lambda: bundled(datasets.load_digits),
    "diabetes": lambda: bundled(datasets.load_diabetes),
    "fair": lambda: shipped("fair", lambda t: (t["affairs"] > 0).astype(int), "affairs"),
    "anes96": lambda: shipped("anes96", lambda t: t["vote"].astype(int), "vote"),
    "modechoice": lambda: shipped("modechoice", lambda t: t["choice"].astype(int), "choice", "individual"),
    "randhie": lambda: shipped("randhie", lambda t: t["mdvis"].astype(float), "mdvis"),
    "randhie often": lambda: shipped("randhie", lambda t: (t["mdvis"] > 3).astype(int), "mdvis", rows=20_000),
    "lopsided": lambda: drawn(*datasets.make_classification(
        2500, 30, n_informative=8, n_redundant=6, weights=[0.93], flip_y=0.03, class_sep=0.7, random_state=SEED)),
    "five classes": lambda: drawn(*datasets.make_classification(
        3000, 20, n_informative=10, n_classes=5, class_sep=0.9, flip_y=0.05, random_state=SEED)),
    "friedman": lambda: drawn(*datasets.make_friedman1(1500, 12, noise=2.0, random_state=SEED)),
    "friedman 3": lambda: drawn(*datasets.make_friedman3(2000, noise=0.2, random_state=SEED)),
    "linear": lambda: drawn(*datasets.make_regression(600, 40, n_informative=10, noise=40, random_state=SEED)),
    "prices": lambda: mixed(3000, 16, "skewed"),
    "many categories": lambda: mixed(6000, 120, "binary"),
    "gaps": lambda: mixed(4000, 8, "three classes"),
    "large": lambda: mixed(40_000, 30, "binary"),
}  # fmt: skip
