"""Assign whole groups to folds: stratified by class, independent of row order and CPU."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.dataset.split_strategy import hash_entities

if TYPE_CHECKING:
    import pandas as pd

MIN_FOLDS = 2  # minimum for cross-validation
WEIGHT_SCALE = 2**20  # scale of the integer class weights
SALT = "folds"  # a different hash from the one that draws the holdout


def assign_folds(groups: pd.Series, classes: np.ndarray | None, n_splits: int) -> np.ndarray:
    """The test fold of each row, so that no group is in two folds and each class is spread evenly.

    Groups that have the same number of rows of each class are interchangeable. They are assigned
    in the order of a hash, one fold after another, so that at most ``n_splits - 1`` of them are
    left over. These go to the folds where the sum of squared shares of each class grows least.
    Loads are integers and every sort is stable, so that neither the processor nor the order of rows
    changes the result.

    Parameters
    ----------
    classes : ndarray or None
        The class of each row as a code from 0, shape (rows,). None: folds of like size.

    Returns
    -------
    ndarray
        Numbers from 0 to ``n_splits - 1``, shape (rows,).
    """
    import pandas as pd

    codes, unique_groups = pd.factorize(groups)
    if classes is None:
        classes = np.zeros(len(codes), dtype=np.int64)
    per_class = np.zeros((len(unique_groups), classes.max() + 1), dtype=np.int64)
    np.add.at(per_class, (codes, classes), 1)
    counts = np.column_stack([per_class, per_class.sum(axis=1)])  # rows of each class, and of all
    totals = [int(total) for total in counts.sum(axis=0)]
    weights = [WEIGHT_SCALE * totals[-1] ** 2 // total**2 if total else 0 for total in totals]

    loads = [[0] * len(totals) for _ in range(n_splits)]
    folds = np.empty(len(unique_groups), dtype=np.int64)
    for class_counts, positions in _group_by_class_counts(
        counts, hash_entities(pd.Series(unique_groups), SALT).to_numpy(), totals
    ):
        scaled = [count * weight for count, weight in zip(class_counts, weights)]
        increases = [
            sum(rows * scaled_count for rows, scaled_count in zip(load, scaled)) for load in loads
        ]
        folds_by_increase = sorted(range(n_splits), key=increases.__getitem__)
        folds[positions] = np.resize(folds_by_increase, len(positions))
        for rank, fold in enumerate(folds_by_increase):
            n_assigned = len(range(rank, len(positions), n_splits))
            loads[fold] = [
                load + n_assigned * count for load, count in zip(loads[fold], class_counts)
            ]
    return folds[codes]


def digest_folds(groups: pd.Series, folds: np.ndarray) -> str:
    """SHA-256 of which group is in which fold; the order of rows does not count."""
    pairs = sorted({(str(group), int(fold)) for group, fold in zip(groups, folds, strict=True)})
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def _group_by_class_counts(
    counts: np.ndarray, hashes: np.ndarray, totals: list[int]
) -> list[tuple[list[int], np.ndarray]]:
    """Return the distinct rows of ``counts``, each with its groups' positions in hash order.

    Groups with the largest share of a class come first, so that small ones balance the folds.
    """
    order = np.lexsort((hashes, *counts.T))
    starts = np.flatnonzero((np.diff(counts[order], axis=0) != 0).any(axis=1)) + 1
    equal_groups = [
        (counts[positions[0]].tolist(), positions) for positions in np.split(order, starts)
    ]

    def largest_share(item: tuple[list[int], np.ndarray]) -> tuple[float, list[int]]:
        class_counts, _ = item
        shares = (count / total for count, total in zip(class_counts, totals) if total)
        return max(shares), class_counts

    return sorted(equal_groups, key=largest_share, reverse=True)


def predict_out_of_fold(
    model: Any, matrix: np.ndarray, target: np.ndarray, folds: np.ndarray, n_classes: int
) -> np.ndarray:
    """Out-of-fold predictions, like scikit-learn's ``cross_val_predict``.

    Parameters
    ----------
    model : estimator
        scikit-learn estimator; for each fold, a clone is fitted on the other folds.
    matrix : ndarray
        Features, shape (rows, columns).
    target : ndarray
        Outcomes; classes are coded from 0 to ``n_classes - 1``.
    n_classes : int
        Number of classes; 0 for a regression.

    Returns
    -------
    ndarray
        In the form of ``ScoredRows.score``. A class absent from the training rows of a fold has
        the probability 0.
    """
    from sklearn.base import clone

    scores = np.zeros((len(target), max(n_classes, 1)))
    for fold in np.unique(folds):
        test = folds == fold
        fitted = clone(model).fit(matrix[~test], target[~test])
        if n_classes:
            scores[np.ix_(test, fitted.classes_)] = fitted.predict_proba(matrix[test])
        else:
            scores[test, 0] = fitted.predict(matrix[test])
    return scores if n_classes > 2 else scores[:, -1]
