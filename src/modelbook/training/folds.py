"""Cross-validation folds by split strategy: whole groups, every class in each fold, no future."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator

from modelbook.dataset.folds import MIN_FOLDS, assign_folds
from modelbook.dataset.split_strategy import SplitStrategy
from modelbook.errors import TrainingError
from modelbook.tasks.base import Task

Split = tuple[np.ndarray, np.ndarray]
ProgressCallback = Callable[[str], None]  # called with a text as each step of a longer one begins


class PredefinedFolds(BaseCrossValidator):
    """Folds that were assigned once for all candidates, and report each fold as it begins.

    scikit-learn's ``StratifiedGroupKFold`` breaks ties by NumPy's unstable sort, so that folds
    depend on the processor, and takes minutes where each row is a separate group.

    Parameters
    ----------
    splits : list of (ndarray, ndarray)
        Row positions to train on and to test on, a pair for each fold.
    """

    on_progress: ProgressCallback | None = None

    def __init__(self, splits: list[Split]) -> None:
        self.splits = splits
        self.n_splits = len(splits)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Split]:
        for number, (train, test) in enumerate(self.splits, 1):
            if self.on_progress:
                self.on_progress(f"fold {number} of {self.n_splits}")
            yield train, test


def choose_folds(
    task: Task, target: pd.Series, groups: pd.Series, folds: int, strategy: SplitStrategy
) -> PredefinedFolds:
    """Choose the folds of a task: the requested number, or the most that can all be scored.

    A fold that lacks a class has no ROC AUC, so there are fewer folds if classes are rare.

    Parameters
    ----------
    target, groups : Series
        The target as codes or numbers, and the group of each row; shape (rows,).

    Raises
    ------
    TrainingError
        If there are too few groups for the folds, or not even two folds can be scored.
    """
    _check_group_count(groups, folds, strategy)
    classes = target.to_numpy()
    make_splits = _split_forward if strategy.is_forward else _split_by_group
    for n_splits in range(folds, MIN_FOLDS - 1, -1):
        splits = make_splits(classes if task.classes else None, groups, n_splits)
        if not task.classes or all(
            _has_classes(task, classes, train, test, strategy) for train, test in splits
        ):
            return PredefinedFolds(splits)
    class_counts = np.bincount(classes, minlength=len(task.classes))
    rarest_class = int(class_counts.argmin())
    raise TrainingError(
        f"class {task.classes[rarest_class]!r} has {class_counts[rarest_class]} rows to train on, "
        "too few or too close together for two folds",
        expected="rows of every class in both parts of at least two folds",
        next="use more rows (sample)"
        + (", or split by group" if strategy.is_forward else "")
        + ("; or merge rare classes, in table and contract" if len(task.classes) > 2 else ""),
    )


def _split_by_group(classes: np.ndarray | None, groups: pd.Series, n_splits: int) -> list[Split]:
    """Folds of whole groups in which each class has its share."""
    folds = assign_folds(groups, classes, n_splits)
    return [
        (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(n_splits)
    ]


def _split_forward(classes: np.ndarray | None, groups: pd.Series, n_splits: int) -> list[Split]:
    """Folds that train on all earlier times; the first times are never tested on."""
    times = groups.to_numpy()
    splits = []
    for block in np.array_split(np.unique(times), n_splits + 1)[1:]:
        is_earlier = times < block[0]
        test = np.flatnonzero(~is_earlier & (times <= block[-1]))
        splits.append((np.flatnonzero(is_earlier), test))
    return splits


def _has_classes(
    task: Task, classes: np.ndarray, train: np.ndarray, test: np.ndarray, strategy: SplitStrategy
) -> bool:
    """Whether a fold trains and tests on every class; forward folds need two test classes."""
    min_test_classes = 2 if strategy.is_forward else len(task.classes)
    return (
        len(np.unique(classes[train])) == len(task.classes)
        and len(np.unique(classes[test])) >= min_test_classes
    )


def _check_group_count(groups: pd.Series, folds: int, strategy: SplitStrategy) -> None:
    n_groups = groups.nunique()
    min_groups = folds + strategy.is_forward
    if n_groups < min_groups:
        noun = "times" if strategy.is_forward else "entities"
        raise TrainingError(
            f"{n_groups} {noun} cannot be cross-validated in {folds} folds",
            expected=f"at least {min_groups} {noun} in the training rows",
            next="set fewer folds, or use more rows (sample)"
            + (", or a later train_until, or split by group" if strategy.is_forward else ""),
        )
