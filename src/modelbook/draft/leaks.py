"""Detect target leakage: features that predict the target almost perfectly on their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook.contract.parsing import may_contain_text

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_ROWS = 5_000  # rows that are used
MIN_ROWS = 60  # fewest rows for a score
SUSPECT_SCORE = 0.95  # ROC AUC, or R², at which a single feature is a suspected leak
PERFECT_SCORE = 0.9999  # score that features without a leak do not reach
MAX_SECOND_SCORE = 0.9  # score of the next best feature below which a suspect is dropped
MIN_TEXT_ROC_AUC, MIN_TEXT_R2 = 0.55, 0.02  # lowest scores of a text that stays a feature
N_FOLDS = 3

ProgressCallback = Callable[[str, int, int], None]  # description, number done, total


def score_features(
    frame: pd.DataFrame,
    contract: Contract,
    on_progress: ProgressCallback = lambda text, count, total: None,
) -> dict[str, float]:
    """Score each feature on its own: cross-validated ROC AUC or R² of a small decision tree.

    The lowest of three folds counts, so that chance alone raises no suspicion. A date has the score
    of its best date part, a text that of all its hashes together.

    Parameters
    ----------
    on_progress : callable, optional
        Called after each column.
    """
    if len(frame) < MIN_ROWS:
        return {}
    features, target = contract.select_features(frame), contract.encode_checked_target(frame)
    if contract.classes:
        has_enough_rows = target.map(target.value_counts()) >= 2 * N_FOLDS
        features, target = features[has_enough_rows], target[has_enough_rows]
        if target.nunique() < 2:
            return {}
    scores: dict[str, float] = {}
    for count, input_name in enumerate(contract.input_names, 1):
        column = contract.columns[input_name]
        names = list(column.model_features(input_name))
        candidates = [names] if column.type == "text" else [[name] for name in names]
        scores[input_name] = max(
            _cross_validate_tree(features[candidate], target, bool(contract.classes))
            for candidate in candidates
        )
        on_progress("features scored", count, len(contract.input_names))
    return scores


def get_metric_label(task: str) -> str:
    """Return the display name of the metric of ``score_features``."""
    return "R²" if task == "regression" else "ROC AUC"


def is_predictive(score: float, task: str) -> bool:
    """Whether a text's score is beyond chance."""
    return score >= (MIN_TEXT_R2 if task == "regression" else MIN_TEXT_ROC_AUC)


def find_leaks(scores: dict[str, float]) -> list[str]:
    """Return the features that are suspected leaks.

    A leak predicts the target perfectly, or almost so when no other feature comes near. On an easy
    table several features do well, and none of them is suspect.
    """
    strong = [name for name, score in scores.items() if score >= SUSPECT_SCORE]
    perfect = [name for name in strong if scores[name] >= PERFECT_SCORE]
    other_scores = [score for name, score in scores.items() if name not in perfect]
    second_score = sorted(other_scores)[-2] if len(other_scores) > 1 else -np.inf
    return strong if second_score < MAX_SECOND_SCORE else perfect


def _cross_validate_tree(values: pd.DataFrame, target: pd.Series, is_classification: bool) -> float:
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    numbers = [
        pd.factorize(values[name])[0] if may_contain_text(values[name]) else values[name]
        for name in values
    ]
    feature_matrix = np.column_stack(numbers).astype("float64")
    tree_params: dict[str, Any] = {
        "max_leaf_nodes": 64,
        "min_samples_leaf": max(2, len(feature_matrix) // 500),
        "random_state": 0,
    }
    model = (
        DecisionTreeClassifier(**tree_params)
        if is_classification
        else DecisionTreeRegressor(**tree_params)
    )
    folds = (StratifiedKFold if is_classification else KFold)(N_FOLDS, shuffle=True, random_state=0)
    scoring = ("roc_auc" if target.nunique() == 2 else "roc_auc_ovr") if is_classification else "r2"
    feature_matrix = np.clip(feature_matrix, -1e30, 1e30)  # the tree casts to float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # scikit-learn checks an array in less time than a series.
        scores = cross_val_score(
            model, feature_matrix, target.to_numpy(), cv=folds, scoring=scoring
        )
        return float(np.nan_to_num(scores.min(), nan=0.0))
