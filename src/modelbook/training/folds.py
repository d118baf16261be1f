"""Folds: what a rule keeps together is on one side of each, and every class in each where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from modelbook.dataset.rule import Rule
from modelbook.errors import TrainingError
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


class _Forward(GroupKFold):
    """Each fold learns from all times before those that it asks about; the first times are never asked about."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        times = np.asarray(groups)
        blocks = np.array_split(np.unique(times), self.n_splits + 1)
        for block in blocks[1:]:
            yield np.flatnonzero(times < block[0]), np.flatnonzero((times >= block[0]) & (times <= block[-1]))


class ForwardFolds(Watched, _Forward):
    """Folds that learn from what is earlier only (forward chaining)."""


class Folds(Watched, GroupKFold):
    """Folds that keep an entity on one side."""


class EvenFolds(Watched, StratifiedGroupKFold):
    """Folds that keep an entity on one side, and have like shares of every class."""


class EvenRows(Watched, StratifiedKFold):
    """The same where every row is an entity of its own, which is much faster."""


def splitter(task: Task, units: pd.Series, folds: int, rule: Rule) -> Any:
    """The folds that fit a task: scores of rare classes need rows of them in every fold.

    Raises
    ------
    TrainingError
        When there are too few units for so many folds.
    """
    found, least = units.nunique(), folds + rule.forward
    if found < least:
        what = "times" if rule.forward else "entities"
        raise TrainingError(
            f"{found} {what} cannot be cross-validated in {folds} folds",
            expected=f"at least {least} {what} in the train rows",
            next="take fewer folds, or more rows (sample)"
            + (", or a later train_until, or split by group" if rule.forward else ""),
        )
    if rule.forward:
        return ForwardFolds(folds)
    if not task.stratified:
        return Folds(folds)
    return EvenRows(folds) if units.is_unique else EvenFolds(folds)
