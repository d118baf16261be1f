"""Cross-validation folds by the split strategy: whole groups, every class in each fold, no future."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator

from modelbook.dataset.folds import FEWEST_FOLDS, assign_folds
from modelbook.dataset.rule import Rule
from modelbook.errors import TrainingError
from modelbook.tasks.base import Task

Watch = Callable[[str], None]  # called with a text as each step of a longer one begins


class _Folds(BaseCrossValidator):
    """Folds that report progress: ``watch`` is called as each fold begins."""

    watch: Watch | None = None

    def __init__(self, n_splits: int) -> None:
        self.n_splits = n_splits

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        for number, (train, test) in enumerate(self._pairs(y, groups), 1):
            if self.watch:
                self.watch(f"fold {number} of {self.n_splits}")
            yield train, test

    def _pairs(self, y: Any, groups: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        raise NotImplementedError


class StratifiedGroupKFold(_Folds):
    """Folds of whole groups in which each class has its share; see ``dataset.folds.assign_folds``.

    scikit-learn's class of this name breaks ties by NumPy's unstable sort, so that folds depend on
    the processor, and takes minutes where each row is a group of its own.
    """

    def __init__(self, n_splits: int, *, stratify: bool) -> None:
        super().__init__(n_splits)
        self.stratify = stratify

    def _pairs(self, y: Any, groups: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        classes = np.unique(np.asarray(y), return_inverse=True)[1] if self.stratify else None
        folds = assign_folds(pd.Series(groups), classes, self.n_splits)
        for fold in range(self.n_splits):
            yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


class ForwardChaining(_Folds):
    """Each fold trains on all times before its test rows; the first times are never tested on."""

    def _pairs(self, y: Any, groups: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        times = np.asarray(groups)
        for block in np.array_split(np.unique(times), self.n_splits + 1)[1:]:
            earlier = times < block[0]
            yield np.flatnonzero(earlier), np.flatnonzero(~earlier & (times <= block[-1]))


def choose_folds(task: Task, outcome: pd.Series, units: pd.Series, folds: int, rule: Rule) -> _Folds:
    """The folds for a task: as many as asked for, or the most that can all be scored.

    A fold without a row of a class has no ROC AUC, so fewer folds are taken where classes are rare.

    Parameters
    ----------
    outcome, units : Series
        The target as codes or numbers, and what stays together; shape (rows,).

    Raises
    ------
    TrainingError
        When there are too few units for so many folds, or not even two folds can be scored.
    """
    _check_units(units, folds, rule)
    classes = outcome.to_numpy()
    for count in range(folds, FEWEST_FOLDS - 1, -1):
        chosen = _of_rule(task, count, rule)
        pairs = chosen.split(outcome, outcome, units)
        if not task.classes or all(_has_classes(task, classes, train, test, rule) for train, test in pairs):
            return chosen
    rows = np.bincount(classes, minlength=len(task.classes))
    rarest = int(rows.argmin())
    raise TrainingError(
        f"class {task.classes[rarest]!r} has {rows[rarest]} rows to train on, "
        "too few or too close together for two folds",
        expected="rows of every class in both parts of at least two folds",
        next="take more rows (sample)"
        + (", or split by group" if rule.forward else "")
        + ("; or join rare classes, in table and contract" if len(task.classes) > 2 else ""),
    )


def _of_rule(task: Task, count: int, rule: Rule) -> _Folds:
    if rule.forward:
        return ForwardChaining(count)
    return StratifiedGroupKFold(count, stratify=bool(task.classes))


def _has_classes(task: Task, classes: np.ndarray, train: np.ndarray, test: np.ndarray, rule: Rule) -> bool:
    """Whether a fold trains on every class, and tests on all; forward in time two are enough."""
    needed = 2 if rule.forward else len(task.classes)
    return len(np.unique(classes[train])) == len(task.classes) and len(np.unique(classes[test])) >= needed


def _check_units(units: pd.Series, folds: int, rule: Rule) -> None:
    count, least = units.nunique(), folds + rule.forward
    if count < least:
        what = "times" if rule.forward else "entities"
        raise TrainingError(
            f"{count} {what} cannot be cross-validated in {folds} folds",
            expected=f"at least {least} {what} in the train rows",
            next="take fewer folds, or more rows (sample)"
            + (", or a later train_until, or split by group" if rule.forward else ""),
        )
