"""Sample train rows by entity where all would take too long, and permute targets by entity."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.contract import Contract
from modelbook.errors import TrainingError
from modelbook.tasks.base import Task

MIN_CLASS_ROWS = 20  # minimum rows of a class in a sample, if the train rows have as many


def sample_entities(
    task: Task, train: pd.DataFrame, max_rows: int | None, *, seed: int
) -> pd.DataFrame:
    """Sample whole entities up to ``max_rows`` rows in total, in the order of ``train``.

    Raises
    ------
    TrainingError
        If a class would have too few rows left.
    """
    if max_rows is None or len(train) <= max_rows:
        return train
    codes, entities = pd.factorize(task.contract.entity_ids(train))
    order = np.random.default_rng(seed).permutation(len(entities))
    sizes = np.bincount(codes)[order]
    is_drawn = np.zeros(len(entities), dtype=bool)
    is_drawn[order[np.cumsum(sizes) <= max_rows]] = True
    sample = train[is_drawn[codes]]
    _check_classes(task, train, sample, max_rows)
    return sample


def _check_classes(task: Task, train: pd.DataFrame, sample: pd.DataFrame, max_rows: int) -> None:
    encode_target = task.contract.encode_target
    if not task.classes:
        if sample.empty:
            raise _make_too_few_rows_error("rows", 0, max_rows)
        return
    train_counts, sample_counts = (
        np.bincount(encode_target(frame), minlength=len(task.classes)) for frame in (train, sample)
    )
    for name, train_count, sample_count in zip(task.classes, train_counts, sample_counts):
        if sample_count < min(train_count, MIN_CLASS_ROWS):
            raise _make_too_few_rows_error(f"rows of {name!r}", int(sample_count), max_rows)


def _make_too_few_rows_error(row_description: str, count: int, max_rows: int) -> TrainingError:
    return TrainingError(
        f"search_rows = {max_rows:,} leaves {count} {row_description} for model selection",
        expected=f"at least {MIN_CLASS_ROWS} of each class",
        next="raise search_rows in the book's env file",
    )


def permute_targets(train: pd.DataFrame, contract: Contract, seed: int) -> pd.DataFrame:
    """Return train rows whose targets come from other entities, kept together by entity."""
    codes = pd.factorize(contract.entity_ids(train))[0]
    permuted_codes = np.random.default_rng(seed).permutation(codes.max() + 1)
    target_positions = np.argsort(codes, kind="stable")
    source_positions = np.argsort(permuted_codes[codes], kind="stable")
    targets = train[contract.target].to_numpy().copy()
    targets[target_positions] = train[contract.target].to_numpy()[source_positions]
    return train.assign(**{contract.target: targets})
