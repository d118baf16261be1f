"""Features that alone tell the answer: leaks, until somebody shows that they are known before it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from modelbook.contract import Contract

ROWS = 5_000  # that are looked at
FEWEST = 60  # rows from which anything can be told
BOUND = 0.95  # ROC AUC, or R² for a number, that a single feature does not reach honestly
FOLDS = 3


def strengths(frame: pd.DataFrame, contract: Contract) -> dict[str, float]:
    """How well each feature alone tells the answer: a small tree's cross-validated ROC AUC, or R².

    The lowest of three folds counts, so that no feature is accused by luck. Parts of a date stand for the date.
    """
    if len(frame) < FEWEST:
        return {}
    features, outcome = contract.features(frame), contract.outcome(frame)
    if contract.classes:
        enough = outcome.map(outcome.value_counts()) >= 2 * FOLDS
        features, outcome = features[enough], outcome[enough]
        if outcome.nunique() < 2:
            return {}
    found: dict[str, float] = {}
    for source in contract.inputs_:
        for name in contract.columns[source].seen(source):
            found[source] = max(found.get(source, -np.inf), _strength(features[name], outcome, bool(contract.classes)))
    return found


def _strength(values: pd.Series, outcome: pd.Series, classes: bool) -> float:
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    numbers = pd.Series(pd.factorize(values)[0], index=values.index) if values.dtype == object else values
    column = numbers.astype("float64").to_numpy().reshape(-1, 1)
    shape: dict[str, Any] = {"max_leaf_nodes": 64, "min_samples_leaf": max(2, len(column) // 500), "random_state": 0}
    model = DecisionTreeClassifier(**shape) if classes else DecisionTreeRegressor(**shape)
    folds = (StratifiedKFold if classes else KFold)(FOLDS, shuffle=True, random_state=0)
    scoring = ("roc_auc" if outcome.nunique() == 2 else "roc_auc_ovr") if classes else "r2"
    column = np.clip(column, -1e30, 1e30)  # the tree reads float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(np.nan_to_num(cross_val_score(model, column, outcome, cv=folds, scoring=scoring).min(), nan=0.0))
