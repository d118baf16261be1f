"""SHAP values of the contract's columns.

SHAP values are additive (Lundberg & Lee 2017, "A unified approach to interpreting model
predictions"), so the values of the columns that preprocessing derives from one input column are
summed. They are exact for trees (Lundberg et al. 2020, "From local explanations to global
understanding with explainable AI for trees") and for linear models. For other models, or if the
sums do not reproduce the model's outputs, there are none, and a reason is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.evaluation.tree_shap import compute_booster_contributions, make_tree_explainer
from modelbook.formatting import format_code
from modelbook.tasks.base import Task

MAX_EXPLAINED_ROWS, MIN_EXPLAINED_ROWS = 500, 50  # holdout rows to explain
MAX_BACKGROUND_ROWS = 500  # train rows as the background of linear models
TARGET_WORK, MAX_WORK = 3e10, 2e11  # leaves * depth² * rows: some seconds, and about a minute
SUM_TOLERANCE = 1e-6  # deviation of the sums, relative to the largest output
# Rows and values by which a column is traced through the preprocessing.
PROBE_ROWS, PROBE_VALUES, MAX_PROBE_CATEGORIES = 3, 12, 100
COLUMNS = ["row", "feature", "level", "value", "shap", "class"]


class _NotExplainable(Exception):
    """Raised with the reason why there are no SHAP values."""


@dataclass(frozen=True)
class _Explainer:
    """How to compute SHAP values.

    Attributes
    ----------
    compute : callable
        Takes the model's inputs; returns the SHAP values and, last, the expected value, of shape
        (rows, columns + 1, outputs).
    work, output_count : float, int
        What the time for a row and an output is proportional to, if it matters, and the outputs.
    """

    compute: Callable[[pd.DataFrame], np.ndarray]
    work: float = 0.0
    output_count: int = 1


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
    """SHAP values of the pipeline, or of the first member of an ensemble that has any."""
    reasons = []
    for member, weight, is_calibrated in _list_members(pipeline):
        try:
            result = _explain_member(task, member, train, rows, seed)
        except _NotExplainable as reason:
            reasons.append(reason)
        else:
            return replace(result, unit=_qualify_unit(result.unit, member, weight, is_calibrated))
    raise reasons[0]


def _qualify_unit(unit: str, pipeline: Any, weight: float, is_calibrated: bool) -> str:
    """Name the part of the model that the output is of: it may not be the prediction."""
    member = ""
    if weight < 1:
        name = _name_library_class(pipeline.steps[-1][1])
        member = f" in the {name} with {weight:.0%} of the ensemble's weight"
    return f"{unit}{member}{' before calibration' if is_calibrated else ''}"


def _name_library_class(model: Any) -> str:
    """The name of a model's class, of Modelbook's subclasses that of the library's."""
    classes = [base for base in type(model).__mro__ if hasattr(base, "predict")]
    library = [base for base in classes if not base.__module__.startswith("modelbook.")]
    return (library or classes)[0].__name__


def _explain_member(
    task: Task, pipeline: Any, train: pd.DataFrame, rows: pd.DataFrame, seed: int
) -> ShapValues:
    if not hasattr(pipeline, "steps") or hasattr(pipeline.steps[-1][1], "estimators"):
        raise _NotExplainable(
            "the model combines several estimators, whose SHAP values do not add up"
        )
    preprocessing = pipeline[:-1]
    model = pipeline.steps[-1][1]
    background = preprocessing.transform(_sample_rows(train, MAX_BACKGROUND_ROWS, seed))
    explainer = _make_explainer(task, model, background)
    sample = _sample_rows(rows, _count_affordable_rows(explainer), seed)
    model_input = preprocessing.transform(sample)
    raw_outputs, unit = _predict_raw_outputs(task, model, model_input)
    contributions = explainer.compute(model_input)
    _check_sums(contributions, raw_outputs)
    expected_values = contributions[0, -1]
    values = contributions[:, :-1]
    column_values = _sum_by_column(
        values, _trace_model_columns(preprocessing, train, seed), rows.columns
    )
    return ShapValues(
        _to_table(task, sample, _sample_positions(rows, len(sample), seed), column_values),
        expected_values,
        unit,
    )


def _list_members(
    model: Any, weight: float = 1.0, is_calibrated: bool = False
) -> list[tuple[Any, float, bool]]:
    """The pipelines of a weighted mean, with weight and whether calibrated; largest first."""
    if not hasattr(model, "meta_model"):
        return [(model, weight, is_calibrated)]
    is_calibrator = type(model.meta_model).__name__.endswith("Calibrator")
    weights = [1.0] if is_calibrator else getattr(model.meta_model, "weights", None)
    if weights is None:
        return [(model, weight, is_calibrated)]
    members = [
        entry
        for member, share in zip(model.fitted_, weights, strict=True)
        if share
        for entry in _list_members(member, weight * float(share), is_calibrated or is_calibrator)
    ]
    return sorted(members, key=lambda entry: -entry[1])


def _sample_positions(rows: pd.DataFrame, max_rows: int, seed: int) -> np.ndarray:
    """Positions of randomly drawn rows."""
    return np.random.default_rng(seed).permutation(len(rows))[:max_rows]


def _sample_rows(rows: pd.DataFrame, max_rows: int, seed: int) -> pd.DataFrame:
    return rows.iloc[_sample_positions(rows, max_rows, seed)].reset_index(
        drop=True
    )  # PyCaret fails on an index with duplicates


def _make_explainer(task: Task, model: Any, background: pd.DataFrame) -> _Explainer:
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return _explain_linear(model, np.asarray(background, dtype=float).mean(axis=0))
    if hasattr(model, "booster_"):
        return _Explainer(lambda features: compute_booster_contributions(model.booster_, features))
    if hasattr(model, "get_booster"):
        return _Explainer(lambda features: _compute_xgboost_contributions(model, features))
    if hasattr(model, "get_cat_feature_indices"):
        return _Explainer(lambda features: _compute_catboost_contributions(model, features))
    if (trees := make_tree_explainer(model)) is None:
        raise _NotExplainable(
            "the model is neither linear nor a tree ensemble with exact SHAP values"
        )
    first_row = background.head(1)
    initial = _predict_raw_outputs(task, model, first_row)[0] - trees.compute_contributions(
        first_row
    ).sum(axis=1)  # the initial prediction of a boosting

    def compute(features: pd.DataFrame) -> np.ndarray:
        contributions = trees.compute_contributions(features)
        contributions[:, -1] += initial
        return contributions

    return _Explainer(compute, trees.work, trees.output_count)


def _explain_linear(model: Any, means: np.ndarray) -> _Explainer:
    """SHAP values of a linear model: coefficients times deviations from the background's means."""
    coefficients = np.atleast_2d(model.coef_).T  # (columns, outputs)
    expected_values = means @ coefficients + np.ravel(model.intercept_)

    def compute(features: pd.DataFrame) -> np.ndarray:
        deviations = np.asarray(features, dtype=float) - means
        base = np.broadcast_to(expected_values, (len(deviations), 1, len(expected_values)))
        return np.concatenate([deviations[:, :, None] * coefficients, base], axis=1)

    return _Explainer(compute)


def _compute_xgboost_contributions(model: Any, features: pd.DataFrame) -> np.ndarray:
    from xgboost import DMatrix

    rows = DMatrix(features, missing=model.missing)
    values = np.asarray(model.get_booster().predict(rows, pred_contribs=True), dtype=float)
    return _move_outputs_last(values)


def _compute_catboost_contributions(model: Any, features: pd.DataFrame) -> np.ndarray:
    from catboost import Pool

    rows = model.to_whole_codes(features) if hasattr(model, "to_whole_codes") else features
    pool = Pool(rows, cat_features=model.get_cat_feature_indices())
    return _move_outputs_last(np.asarray(model.get_feature_importance(pool, type="ShapValues")))


def _move_outputs_last(values: np.ndarray) -> np.ndarray:
    """From (rows, columns + 1), or (rows, outputs, columns + 1)."""
    return values[:, :, None] if values.ndim == 2 else np.moveaxis(values, 1, 2)


def _count_affordable_rows(explainer: _Explainer) -> int:
    """How many rows can be explained in some seconds."""
    work = explainer.work * explainer.output_count
    min_rows = -(-MIN_EXPLAINED_ROWS // explainer.output_count)
    if work * min_rows > MAX_WORK:
        raise _NotExplainable("its trees are too many and too deep to explain within a minute")
    return int(np.clip(TARGET_WORK / max(work, 1.0), min_rows, MAX_EXPLAINED_ROWS))


def _predict_raw_outputs(task: Task, model: Any, features: pd.DataFrame) -> tuple[np.ndarray, str]:
    """The additive output of the model, shape (rows, outputs), and its unit."""
    target = task.get_phrases()["target"]
    unit = f"the log-odds of {target}"
    if task.experiment_type == "regression":
        outputs = model.predict(features)
        unit = target
    elif hasattr(model, "decision_function"):
        outputs = model.decision_function(features)
    elif hasattr(model, "booster_"):
        outputs = model.predict(features, raw_score=True)
    elif hasattr(model, "get_booster"):
        outputs = model.predict(features, output_margin=True)
    else:
        outputs = model.predict_proba(features)
        unit = f"the probability of {target}"
    return _select_output_columns(outputs), unit


def _select_output_columns(outputs: Any) -> np.ndarray:
    """One column for binary and regression, one per class for multiclass."""
    columns = np.asarray(outputs, dtype=float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    return columns[:, 1:] if columns.shape[1] == 2 else columns


def _check_sums(contributions: np.ndarray, raw_outputs: np.ndarray) -> None:
    """Raise if SHAP values and expected values do not sum to the outputs."""
    sums = contributions.sum(axis=1)
    if sums.shape != raw_outputs.shape:
        raise _NotExplainable(
            f"there are {sums.shape[1]} sets of values for {raw_outputs.shape[1]} outputs"
        )
    max_deviation = float(np.abs(sums - raw_outputs).max())
    if not max_deviation <= SUM_TOLERANCE * max(1.0, float(np.abs(raw_outputs).max())):
        raise _NotExplainable(
            f"their sums deviate from the model's outputs by up to {max_deviation:.2g}"
        )


def _trace_model_columns(preprocessing: Any, train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Which of the contract's columns each of the model's columns depends on, as booleans.

    Determined by transforming some rows with different values in one column, others unchanged.
    """
    starts = _sample_rows(train, PROBE_ROWS, seed)
    blocks = []
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
