"""A share of the train rows to choose families and settings on, where all of them would take too long."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.errors import TrainingError
from modelbook.tasks.base import Task

FEWEST = 20  # rows of a class that a share must hold, where the train rows have as many


def share(task: Task, train: pd.DataFrame, rows: int | None, *, seed: int) -> pd.DataFrame:
    """Whole entities in random order, as many as have ``rows`` rows together at the most; in the order of ``train``.

    Raises
    ------
    TrainingError
        When a class would lose all its rows, or nearly.
    """
    if rows is None or len(train) <= rows:
        return train
    codes, entities = pd.factorize(task.contract.entities(train))
    order = np.random.default_rng(seed).permutation(len(entities))
    sizes = np.bincount(codes)[order]
    drawn = np.zeros(len(entities), dtype=bool)
    drawn[order[np.cumsum(sizes) <= rows]] = True
    kept = train[drawn[codes]]
    _check(task, train, kept, rows)
    return kept


def _check(task: Task, train: pd.DataFrame, kept: pd.DataFrame, rows: int) -> None:
    codes = task.contract.codes
    if not task.classes:
        if kept.empty:
            raise _too_few("rows", 0, rows)
        return
    all_, left = (np.bincount(codes(frame), minlength=len(task.classes)) for frame in (train, kept))
    for name, before, now in zip(task.classes, all_, left):
        if now < min(before, FEWEST):
            raise _too_few(f"rows of {name!r}", int(now), rows)


def _too_few(what: str, now: int, rows: int) -> TrainingError:
    return TrainingError(
        f"search_rows = {rows:,} leaves {now} {what} to choose on", expected=f"at least {FEWEST} of each class",
        next="raise search_rows in the book's env file",
    )  # fmt: skip
