"""Folds: an entity on one side of each, and every class in each where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from modelbook.tasks.base import Task

Watch = Callable[[str], None]  # told which step of a longer one begins


class Watched:
    """Folds that say which one is being fitted."""

    watch: Watch | None = None
    n_splits: int

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        for number, rows in enumerate(super().split(X, y, groups), 1):  # type: ignore[misc]
            if self.watch:
                self.watch(f"fold {number} of {self.n_splits}")
            yield rows


class Folds(Watched, GroupKFold):
    """Folds that keep an entity on one side."""


class EvenFolds(Watched, StratifiedGroupKFold):
    """Folds that keep an entity on one side, and have like shares of every class."""


class EvenRows(Watched, StratifiedKFold):
    """The same where every row is an entity of its own, which is much faster."""


def splitter(task: Task, groups: pd.Series, folds: int) -> Any:
    """The folds that fit a task: scores of rare classes need rows of them in every fold."""
    if not task.stratified:
        return Folds(folds)
    return EvenRows(folds) if groups.is_unique else EvenFolds(folds)
