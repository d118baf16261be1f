"""SHAP values of the contract's columns.

SHAP values are additive (Lundberg & Lee 2017, "A unified approach to interpreting model
predictions"), so the values of the columns that preprocessing derives from one input column are
summed. They are exact for trees (Lundberg et al. 2020, "From local explanations to global
understanding with explainable AI for trees") and for linear models. For other models, or if the
sums do not reproduce the model's outputs, there are none, and a reason is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.formatting import format_code
from modelbook.tasks.base import Task

MAX_EXPLAINED_ROWS, MIN_EXPLAINED_ROWS = 500, 50  # holdout rows to explain
MAX_BACKGROUND_ROWS = 500  # train rows as the background of linear models
TARGET_WORK, MAX_WORK = 3e10, 2e11  # nodes * depth² * rows: some seconds, and about a minute
SUM_TOLERANCE = 1e-6  # deviation of the sums, relative to the largest output
# Rows and values by which a column is traced through the preprocessing.
PROBE_ROWS, PROBE_VALUES, MAX_PROBE_CATEGORIES = 3, 12, 100
COLUMNS = ["row", "feature", "level", "value", "shap", "class"]


class _NotExplainable(Exception):
    """Raised with the reason why there are no SHAP values."""


@dataclass(frozen=True)
class ShapValues:
    """SHAP values of a model's predictions.

    Attributes
    ----------
    table : DataFrame
        Columns ``row`` (position in the frame), ``feature, level`` (rank of the value from 0 to 1;
        NaN if missing or categorical), ``value`` (of a categorical column), ``shap``, ``class``
        (empty except for multiclass). Empty if there are none.
    expected_values : ndarray
        Base value: a row's SHAP values plus it give the output; shape (classes,) or (1,).
    unit : str
        The output that the values decompose.
    """

    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    expected_values: np.ndarray = field(default_factory=lambda: np.empty(0))
    unit: str = ""
    reason: str = ""


def compute_shap_values(
    task: Task, pipeline: Any, train: pd.DataFrame, frame: pd.DataFrame, *, seed: int
) -> ShapValues:
    """Compute SHAP values of a fitted pipeline for the contract's columns, if exact ones exist.

    Parameters
    ----------
    train : DataFrame
        Rows that the pipeline was fitted on, as the background.
    frame : DataFrame
        Rows to explain; a sample of at most 500, and fewer for large forests.
    """
    try:
        return _explain(
            task,
            pipeline,
            task.contract.select_features(train),
            task.contract.select_features(frame),
            seed,
        )
    except _NotExplainable as reason:
        return ShapValues(reason=f"No SHAP values: {reason}.")


def _explain(
    task: Task, pipeline: Any, train: pd.DataFrame, rows: pd.DataFrame, seed: int
) -> ShapValues:
    pipeline, weight = _find_heaviest_member(pipeline)
    if not hasattr(pipeline, "steps") or hasattr(pipeline.steps[-1][1], "estimators"):
        raise _NotExplainable(
            "the model combines several estimators, whose SHAP values do not add up"
        )
    preprocessing, model = pipeline[:-1], pipeline.steps[-1][1]
    explainer = _make_explainer(
        model, preprocessing.transform(_sample_rows(train, MAX_BACKGROUND_ROWS, seed))
    )
    sample = _sample_rows(rows, _affordable_rows(explainer), seed)
    model_input = preprocessing.transform(sample)
    raw_outputs, unit = _raw_outputs(task, model, model_input)
    if weight < 1:
        unit = f"{unit}, by the model with the largest weight in the ensemble ({weight:.0%})"
    expected_values, values = _compute_additive_values(explainer, model_input, raw_outputs)
    column_values = _sum_by_column(
        values, _trace_model_columns(preprocessing, train, seed), rows.columns
    )
    return ShapValues(
        _to_table(task, sample, _sample_positions(rows, len(sample), seed), column_values),
        expected_values,
        unit,
    )


def _find_heaviest_member(model: Any) -> tuple[Any, float]:
    """The pipeline with the largest weight in a weighted mean, which may be calibrated."""
    weight = 1.0
    while hasattr(model, "meta_model"):
        weights = getattr(model.meta_model, "weights", None)
        if weights is not None:
            heaviest = int(np.argmax(weights))
            weight *= float(weights[heaviest])
        elif type(model.meta_model).__name__.endswith("Calibrator"):
            heaviest = 0
        else:
            break
        model = model.fitted_[heaviest]
    return model, weight


def _sample_positions(rows: pd.DataFrame, max_rows: int, seed: int) -> np.ndarray:
    """Positions of randomly drawn rows."""
    return np.random.default_rng(seed).permutation(len(rows))[:max_rows]


def _sample_rows(rows: pd.DataFrame, max_rows: int, seed: int) -> pd.DataFrame:
    return rows.iloc[_sample_positions(rows, max_rows, seed)].reset_index(
        drop=True
    )  # PyCaret fails on an index with duplicates


def _make_explainer(model: Any, background: pd.DataFrame) -> Any:
    import shap

    if hasattr(model, "make_shap_explainer"):
        return model.make_shap_explainer()
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return shap.LinearExplainer(
            model, shap.maskers.Independent(background, max_samples=len(background))
        )
    try:
        return shap.TreeExplainer(model)
    except Exception:  # the exception for unsupported models is not documented
        raise _NotExplainable(
            "the model is neither linear nor a tree ensemble with exact SHAP values"
        ) from None


def _affordable_rows(explainer: Any) -> int:
    """How many rows can be explained in some seconds."""
    trees = explainer.model
    if not hasattr(trees, "max_depth"):
        return MAX_EXPLAINED_ROWS
    work = trees.values.shape[0] * trees.values.shape[1] / 2 * max(trees.max_depth, 1) ** 2
    if work * MIN_EXPLAINED_ROWS > MAX_WORK:
        raise _NotExplainable("its trees are too many and too deep to explain within a minute")
    return int(np.clip(TARGET_WORK / work, MIN_EXPLAINED_ROWS, MAX_EXPLAINED_ROWS))


def _raw_outputs(task: Task, model: Any, features: pd.DataFrame) -> tuple[np.ndarray, str]:
    """The additive output of the model, shape (rows, outputs), and its unit."""
    target_phrase = task.phrases()["target"]
    if task.experiment_type == "regression":
        return _output_columns(model.predict(features)), target_phrase
    if hasattr(model, "decision_function"):
        return _output_columns(
            model.decision_function(features)
        ), f"the log-odds of {target_phrase}"
    if hasattr(model, "booster_"):
        return _output_columns(
            model.predict(features, raw_score=True)
        ), f"the log-odds of {target_phrase}"
    return _output_columns(model.predict_proba(features)), f"the probability of {target_phrase}"


def _output_columns(outputs: Any) -> np.ndarray:
    """One column for binary and regression, one per class for multiclass."""
    columns = np.asarray(outputs, dtype=float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    return columns[:, 1:] if columns.shape[1] == 2 else columns


def _compute_additive_values(
    explainer: Any, features: pd.DataFrame, raw_outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expected values, shape (outputs,), and SHAP values, shape (rows, columns, outputs).

    Raises _NotExplainable if they do not sum to the outputs.
    """
    values = np.asarray(explainer.shap_values(features))
    values = values[:, :, None] if values.ndim == 2 else values
    values = values[:, :, 1:] if values.shape[2] == 2 else values
    expected_values = _output_columns(np.reshape(explainer.expected_value, (1, -1)))
    if values.shape[2] != raw_outputs.shape[1] or expected_values.shape[1] != raw_outputs.shape[1]:
        raise _NotExplainable(
            f"there are {values.shape[2]} sets of values for {raw_outputs.shape[1]} outputs"
        )
    max_deviation = float(np.abs(expected_values + values.sum(axis=1) - raw_outputs).max())
    if not max_deviation <= SUM_TOLERANCE * max(1.0, float(np.abs(raw_outputs).max())):
        raise _NotExplainable(
            f"their sums deviate from the model's outputs by up to {max_deviation:.2g}"
        )
    return expected_values[0], values


def _trace_model_columns(preprocessing: Any, train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Which of the contract's columns each of the model's columns depends on, as booleans.

    Determined by transforming some rows with different values in one column, others unchanged.
    """
    starts, blocks = _sample_rows(train, PROBE_ROWS, seed), []
    for name in train.columns:
        values = _probe_values(train[name])
        for position in range(len(starts)):
            block = starts.iloc[[position] * len(values)].reset_index(drop=True)
            blocks.append(block.assign(**{name: values.to_numpy()}))
    transformed = preprocessing.transform(pd.concat(blocks, ignore_index=True).astype(train.dtypes))
    block_of = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    numbers = transformed.astype(float)
    numbers = numbers.fillna(numbers.min(axis=None) - 1)  # a missing value that a booster accepts
    has_moved = numbers.groupby(block_of).agg(np.ptp) > 0
    return has_moved.groupby(np.repeat(np.array(train.columns), len(starts)), sort=False).any()


def _probe_values(column: pd.Series) -> pd.Series:
    """Values to probe a column with: numbers across its range, or the most frequent categories."""
    unique_values = pd.Series(column.dropna().unique())
    if pd.api.types.is_numeric_dtype(column):
        probe_values = unique_values.sort_values(kind="stable").iloc[
            np.unique(np.linspace(0, len(unique_values) - 1, PROBE_VALUES).astype(int))
            if len(unique_values)
            else []
        ]
    else:
        probe_values = pd.Series(count_values(column).index[:MAX_PROBE_CATEGORIES])
    return pd.concat([probe_values, column[column.isna()].head(1)], ignore_index=True)


def _sum_by_column(
    values: np.ndarray, column_origins: pd.DataFrame, feature_names: pd.Index
) -> np.ndarray:
    """Sum the SHAP values of the model's columns by the contract's column they derive from."""
    is_origin = column_origins.reindex(feature_names).to_numpy(dtype=bool)
    is_used = np.abs(values).max(axis=(0, 2)) > 0
    for index in np.flatnonzero(is_used & (is_origin.sum(axis=0) != 1)):
        origins = ", ".join(feature_names[is_origin[:, index]]) or "no identifiable column"
        raise _NotExplainable(
            f"the model's column {column_origins.columns[index]} derives from {origins}, not "
            "from one column"
        )
    return np.einsum("cm,rma->rca", (is_origin & is_used).astype(float), values)


def _to_table(
    task: Task, rows: pd.DataFrame, positions: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    class_names = task.classes if values.shape[2] > 1 else [""]
    tables = []
    for column_index, name in enumerate(rows.columns):
        level = _rank_level(rows[name])
        is_labelled = name in task.contract.columns and task.contract.columns[name].labels
        is_coded = name in task.contract.categorical_features or is_labelled
        categories = rows[name].map(format_code, na_action="ignore") if is_coded else None
        for class_index, class_name in enumerate(class_names):
            column_values = (
                positions,
                name,
                level,
                categories,
                values[:, column_index, class_index],
                class_name,
            )
            tables.append(pd.DataFrame(dict(zip(COLUMNS, column_values, strict=True))))
    return pd.concat(tables, ignore_index=True)


def _rank_level(column: pd.Series) -> pd.Series:
    """Ranks scaled from 0 (lowest value) to 1 (highest)."""
    if not pd.api.types.is_numeric_dtype(column):
        return pd.Series(np.nan, column.index)
    ranks = column.rank()
    return (ranks - ranks.min()) / max(ranks.max() - ranks.min(), 1e-9)


@contextmanager
def shap_values_by_class() -> Iterator[None]:
    """Let SHAP values of classes be a list by class, as PyCaret takes them."""
    import shap  # takes seconds

    compute = shap.TreeExplainer.shap_values

    def compute_by_class(explainer: Any, *args: Any, **options: Any) -> Any:
        values = compute(explainer, *args, **options)
        has_classes = isinstance(values, np.ndarray) and values.ndim == 3
        return list(np.moveaxis(values, -1, 0)) if has_classes else values

    with patch.object(shap.TreeExplainer, "shap_values", compute_by_class):
        yield
