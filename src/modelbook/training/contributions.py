"""Contributions: how far each of the contract's columns moved each answer, by SHAP values.

They sum up to the answer (Lundberg & Lee 2017, "A unified approach to interpreting model predictions"), so those of the
columns that a pipeline makes of one of the contract's may be added up. Of trees they are exact (Lundberg et al. 2020,
"From local explanations to global understanding with explainable AI for trees"), and so they are of linear models.
Where neither holds, or the sums are not the model's own answers, there are none, and a reason instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.tasks.base import Task

ASKED, FEWEST, BEHIND = 500, 50, 500  # holdout rows that are explained, and train rows that linear answers start from
WORK, TOO_MUCH = 3e10, 2e11  # nodes times depth squared, of all rows: some seconds, and about a minute
CLOSE = 1e-6  # how far sums may be off, as a share of the largest answer
STARTS, PLACES, COMMON = 3, 12, 100  # rows and values of a column by which it is traced through the pipeline
COLUMNS = ["row", "feature", "level", "value", "shap", "class"]


class _Silent(Exception):
    """Why there are no SHAP values."""


@dataclass(frozen=True)
class Contributions:
    """SHAP values of a model's answers to some rows.

    Attributes
    ----------
    table : DataFrame
        Columns ``row`` (its place in the frame), ``feature, level`` (where the column's value stands among the rows,
        from 0 to 1; NaN for a gap and a category), ``value`` (of a category), ``shap``, ``class`` (empty but for
        several). Empty where nothing can be shown.
    base : ndarray
        What the values of a row are added to, to give its answer; shape (classes,), or one.
    unit : str
        What the values are parts of.
    reason : str
        Why there are none, in a sentence.
    """

    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    base: np.ndarray = field(default_factory=lambda: np.empty(0))
    unit: str = ""
    reason: str = ""


def of(task: Task, pipeline: Any, train: pd.DataFrame, frame: pd.DataFrame, *, seed: int) -> Contributions:
    """SHAP values of a fitted pipeline, of the contract's columns, where they can be had exactly.

    Parameters
    ----------
    train : DataFrame
        Rows that the pipeline was fitted on: what an answer is moved away from is the mean answer to them.
    frame : DataFrame
        Rows to explain; of more than 500 a sample, of large forests a smaller one.
    """
    try:
        return _explained(task, pipeline, task.contract.features(train), task.contract.features(frame), seed)
    except _Silent as reason:
        return Contributions(reason=f"No SHAP values: {reason}.")


def _explained(task: Task, pipeline: Any, train: pd.DataFrame, rows: pd.DataFrame, seed: int) -> Contributions:
    if not hasattr(pipeline, "steps") or hasattr(pipeline.steps[-1][1], "estimators"):
        raise _Silent("several fits answer together, and what each of them sums up is not the answer")
    ahead, model = pipeline[:-1], pipeline.steps[-1][1]
    explainer = _explainer(model, ahead.transform(_some(train, BEHIND, seed)))
    some = _some(rows, _affordable(explainer), seed)
    asked = ahead.transform(some)
    raw, unit = _raw(task, model, asked)
    base, values = _checked(explainer, asked, raw)
    summed = _summed(values, _owners(ahead, train, seed), rows.columns)
    return Contributions(_table(task, some, _drawn(rows, len(some), seed), summed), base, unit)


def _drawn(rows: pd.DataFrame, most: int, seed: int) -> np.ndarray:
    """Places of rows, in the order in which they are drawn."""
    return np.random.default_rng(seed).permutation(len(rows))[:most]


def _some(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    return rows.iloc[_drawn(rows, most, seed)].reset_index(drop=True)  # PyCaret fails on an index with duplicates


def _explainer(model: Any, behind: pd.DataFrame) -> Any:
    import shap

    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return shap.LinearExplainer(model, shap.maskers.Independent(behind, max_samples=len(behind)))
    try:
        return shap.TreeExplainer(model)
    except Exception:  # it raises whatever it likes for what it does not know
        raise _Silent("the model is neither linear nor made of trees that can be taken apart exactly") from None


def _affordable(explainer: Any) -> int:
    """How many rows can be explained in some seconds."""
    trees = explainer.model
    if not hasattr(trees, "max_depth"):
        return ASKED
    work = trees.values.shape[0] * trees.values.shape[1] / 2 * max(trees.max_depth, 1) ** 2
    if work * FEWEST > TOO_MUCH:
        raise _Silent("its trees are too many and too deep to be taken apart within a minute")
    return int(np.clip(WORK / work, FEWEST, ASKED))


def _raw(task: Task, model: Any, asked: pd.DataFrame) -> tuple[np.ndarray, str]:
    """What the model sums up before it answers; shape (rows, answers), and its unit."""
    what = task.words()["of"]
    if task.learner == "regression":
        return _columns(model.predict(asked)), what
    if hasattr(model, "decision_function"):
        return _columns(model.decision_function(asked)), f"the log-odds of {what}"
    if hasattr(model, "booster_"):
        return _columns(model.predict(asked, raw_score=True)), f"the log-odds of {what}"
    return _columns(model.predict_proba(asked)), f"the probability of {what}"


def _columns(answers: Any) -> np.ndarray:
    """One column for two classes and for a number, one each for more."""
    found = np.asarray(answers, dtype=float)
    found = found[:, None] if found.ndim == 1 else found
    return found[:, 1:] if found.shape[1] == 2 else found


def _checked(explainer: Any, asked: pd.DataFrame, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The base, shape (answers,), and values of the model's columns, (rows, columns, answers), if sums are right."""
    values = np.asarray(explainer.shap_values(asked))
    values = values[:, :, None] if values.ndim == 2 else values
    values = values[:, :, 1:] if values.shape[2] == 2 else values
    base = _columns(np.reshape(explainer.expected_value, (1, -1)))
    if values.shape[2] != raw.shape[1] or base.shape[1] != raw.shape[1]:
        raise _Silent(f"there are {values.shape[2]} for {raw.shape[1]} answers")
    off = float(np.abs(base + values.sum(axis=1) - raw).max())
    if not off <= CLOSE * max(1.0, float(np.abs(raw).max())):
        raise _Silent(f"they do not sum up to the model's own answers, but are off by up to {off:.2g}")
    return base[0], values


def _owners(ahead: Any, train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Which of the contract's columns each of the model's columns moves with: true and false, found by asking.

    Some rows are asked again and again with another value in one column, all else as it is.
    """
    starts, blocks = _some(train, STARTS, seed), []
    for name in train.columns:
        values = _values(train[name])
        for place in range(len(starts)):
            block = starts.iloc[[place] * len(values)].reset_index(drop=True)
            blocks.append(block.assign(**{name: values.to_numpy()}))
    made = ahead.transform(pd.concat(blocks, ignore_index=True).astype(train.dtypes))
    block_of = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    moved = made.astype(float).groupby(block_of).agg(np.ptp) > 0
    return moved.groupby(np.repeat(np.array(train.columns), len(starts)), sort=False).any()


def _values(column: pd.Series) -> pd.Series:
    """Values that a column may have: of numbers some from the lowest to the highest, of categories the commonest."""
    known = pd.Series(column.dropna().unique())
    if pd.api.types.is_numeric_dtype(column):
        found = known.sort_values(kind="stable").iloc[
            np.unique(np.linspace(0, len(known) - 1, PLACES).astype(int)) if len(known) else []
        ]
    else:
        found = pd.Series(count_values(column).index[:COMMON])
    return pd.concat([found, column[column.isna()].head(1)], ignore_index=True)


def _summed(values: np.ndarray, owners: pd.DataFrame, names: pd.Index) -> np.ndarray:
    """SHAP values of the contract's columns: of each the sum of those that were made of it."""
    belongs = owners.reindex(names).to_numpy(dtype=bool)
    used = np.abs(values).max(axis=(0, 2)) > 0
    for place in np.flatnonzero(used & (belongs.sum(axis=0) != 1)):
        made = ", ".join(names[belongs[:, place]]) or "no column that could be found"
        raise _Silent(f"the model's column {owners.columns[place]} is made of {made}, and is not one column's alone")
    return np.einsum("cm,rma->rca", (belongs & used).astype(float), values)


def _table(task: Task, rows: pd.DataFrame, places: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    names = task.classes if values.shape[2] > 1 else [""]
    told = []
    for at, name in enumerate(rows.columns):
        level, words = _level(rows[name]), rows[name] if name in task.contract.categorical else None
        for answer, called in enumerate(names):
            part = (places, name, level, words, values[:, at, answer], called)
            told.append(pd.DataFrame(dict(zip(COLUMNS, part, strict=True))))
    return pd.concat(told, ignore_index=True)


def _level(column: pd.Series) -> pd.Series:
    """From 0 for the lowest value to 1 for the highest, by ranks."""
    if not pd.api.types.is_numeric_dtype(column):
        return pd.Series(np.nan, column.index)
    ranks = column.rank()
    return (ranks - ranks.min()) / max(ranks.max() - ranks.min(), 1e-9)
