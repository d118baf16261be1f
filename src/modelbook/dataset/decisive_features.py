"""Features, and pairs of them, that nearly determine the target in any form.

Ranks miss an effect of the middle of a range, of a distance from a value, of missing values, and of
two categories that must be equal. Small decision trees find them, cross-validated by entity so that
a tree cannot recognise entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.dataset.folds import assign_folds, predict_out_of_fold

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_ROWS, MAX_PAIR_FEATURES, N_FOLDS = 1000, 15, 2  # rows, features in pairs, folds
MAX_DEPTH, MIN_LEAF_ROWS = 8, 5
MIN_PAIR_SCORE, MIN_PAIR_GAIN = 0.95, 0.02  # a pair's score, and its gain over each feature


def find_decisive_features(
    frame: pd.DataFrame, contract: Contract, threshold: float
) -> tuple[list[str], list[tuple[str, str]]]:
    """Find features that reach ``threshold`` alone by a tree, and pairs that do together.

    The measure is ``Task.univariate_score`` of the tree's predictions. A pair needs
    ``MIN_PAIR_SCORE``, and more than each of its features. Confirmed features are excluded.
    """
    if len(frame) > MAX_ROWS:
        frame = frame.sample(MAX_ROWS, random_state=0)
    matrix = _encode_features(frame, contract)
    target = contract.encode_target(frame).reset_index(drop=True)
    folds = assign_folds(contract.entity_ids(frame).reset_index(drop=True), None, N_FOLDS)
    values = dict(zip(contract.feature_names, matrix.T, strict=True))
    scores = {
        name: _score_tree(column[:, None], target, folds, contract)
        for name, column in values.items()
    }
    features = [
        name for name in scores if scores[name] >= threshold and not contract.is_confirmed(name)
    ]
    limit = max(threshold, MIN_PAIR_SCORE)
    pairs = []
    strongest = sorted(scores, key=lambda name: -scores[name])[:MAX_PAIR_FEATURES]
    for first, second in list_candidate_pairs(strongest, scores, limit, contract):
        left, right = values[first], values[second]
        joint = np.column_stack([left, right, left - right])
        if _score_tree(joint, target, folds, contract) >= limit:
            pairs.append((first, second))
    return features, pairs


def list_candidate_pairs(
    names: Iterable[str], scores: Mapping[str, float], limit: float, contract: Contract
) -> list[tuple[str, str]]:
    """List the pairs to score against ``limit``.

    Pairs that the contract confirms, and those of which one feature nearly reaches the limit alone,
    are left out.
    """
    return [
        (first, second)
        for first, second in combinations(names, 2)
        if max(scores[first], scores[second]) < limit - MIN_PAIR_GAIN
        and not (contract.is_confirmed(first) and contract.is_confirmed(second))
    ]


def _encode_features(frame: pd.DataFrame, contract: Contract) -> np.ndarray:
    """Features as numbers: missing ones below all others, categories by one code for all."""
    features = contract.select_features(frame)
    labels = features[contract.categorical_features].astype(object)
    codes = pd.factorize(labels.to_numpy().ravel())[0].reshape(labels.shape)
    columns = dict(zip(labels.columns, codes.T.astype(float)))
    for name in contract.numeric_features:
        values = features[name].astype(float).to_numpy()
        finite_values = values[np.isfinite(values)]
        below = finite_values.min() - 1 - np.ptp(finite_values) if len(finite_values) else 0.0
        columns[name] = np.where(np.isfinite(values), values, below)
    return np.column_stack([columns[name] for name in contract.feature_names])


def _score_tree(
    matrix: np.ndarray, target: pd.Series, folds: np.ndarray, contract: Contract
) -> float:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    task = tasks.get_task(contract)
    codes = target.to_numpy()
    n_classes = len(contract.classes)
    tree_class = DecisionTreeClassifier if n_classes else DecisionTreeRegressor
    tree = tree_class(max_depth=MAX_DEPTH, min_samples_leaf=MIN_LEAF_ROWS, random_state=0)
    scores = predict_out_of_fold(tree, matrix, codes, folds, n_classes)
    if n_classes <= 2:
        return task.univariate_score(pd.Series(scores), False, target)[0]
    metric = task.metric_functions()[task.quality_metric]
    return float(metric(codes, scores, np.ones(len(codes))))
