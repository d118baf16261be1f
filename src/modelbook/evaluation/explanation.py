"""Permutation importance and partial dependence of a fitted pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook import engine
from modelbook.config import NONE
from modelbook.tasks.base import Task

MAX_IMPORTANCE_ROWS = 5_000  # rows for permutation importance
MAX_SHUFFLES = 400  # of all columns together; each column has at least two
MAX_DEPENDENCE_ROWS, GRID_POINTS = 300, 12  # the slowest family takes seconds for these
GRID_QUANTILES = (0.05, 0.95)  # the ends of the grid of a number
BAND_QUANTILES = (0.1, 0.9)  # the band covers the middle 80% of the predictions


def measure_importance(
    task: Task, pipeline: Any, frame: pd.DataFrame, *, seed: int, repeats: int = 5
) -> pd.DataFrame:
    """Permutation importance (Breiman 2001).

    How much the headline metric worsens when one column is shuffled.

    Parameters
    ----------
    frame : DataFrame
        Rows that the pipeline was not fitted on; sampled if more than 5,000.
    repeats : int
        Shuffles of each column; fewer, but at least 2, with more than 80 columns.

    Returns
    -------
    DataFrame
        Columns ``feature, mean, sd`` in units of the headline metric, most important first.
    """
    sample = (
        frame.sample(MAX_IMPORTANCE_ROWS, random_state=seed)
        if len(frame) > MAX_IMPORTANCE_ROWS
        else frame
    )
    rows = task.contract.select_features(sample)
    target = task.contract.encode_checked_target(sample).to_numpy()
    repeats = max(2, min(repeats, MAX_SHUFFLES // len(rows.columns)))
    orders = list(_shuffle_orders(len(rows), repeats, seed))
    [baseline_score] = _measure_frames(task, pipeline, [rows], target)

    def measure_shuffled(name: str) -> list[float]:
        shuffles = [rows[name].iloc[order].set_axis(rows.index) for order in orders]
        frames = [rows.assign(**{name: values}) for values in shuffles]
        return _measure_frames(task, pipeline, frames, target)

    with engine.open_engine(engine.LOCAL, NONE, measure_shuffled, workers=None) as executor:
        futures = {name: executor.submit(name) for name in rows.columns}
        importances = {name: executor.get_result(future) for name, future in futures.items()}
    table: list[dict[str, Any]] = []
    for name, values in importances.items():
        drops = task.compute_improvement(task.headline_metric, baseline_score, np.array(values))
        table.append({"feature": name, "mean": drops.mean(), "sd": drops.std()})
    return pd.DataFrame(table).sort_values(
        "mean", ascending=False, kind="stable", ignore_index=True
    )


def _shuffle_orders(n_rows: int, repeats: int, seed: int) -> Iterator[np.ndarray]:
    """Draw orders of rows, as scikit-learn's ``permutation_importance`` does for each column."""
    column_seed = np.random.RandomState(seed).randint(np.iinfo(np.int32).max + 1)
    generator = np.random.RandomState(column_seed)
    step, order = np.arange(n_rows), np.arange(n_rows)
    for _ in range(repeats):
        generator.shuffle(step)
        order = order[step]
        yield order


def _measure_frames(
    task: Task, pipeline: Any, frames: list[pd.DataFrame], target: np.ndarray
) -> list[float]:
    """Compute the headline metric of each frame, with one call of predict, which is faster."""
    metric = task.metric_functions()[task.headline_metric]
    weights = np.ones(len(target))
    scores = task.predict_scores(pipeline, pd.concat(frames, ignore_index=True))
    return [metric(target, score, weights) for score in np.split(scores, len(frames))]


def compute_dependence(
    task: Task, pipeline: Any, frame: pd.DataFrame, features: Sequence[str], *, seed: int
) -> pd.DataFrame:
    """Partial dependence (Friedman 2001): mean prediction with one column set to each grid value.

    With correlated columns some of these rows are implausible. The effect is not causal.

    Parameters
    ----------
    frame : DataFrame
        Rows that the pipeline was not fitted on; sampled, without missing values of the column.

    Returns
    -------
    DataFrame
        Columns ``feature, kind`` (``number`` or ``category``), ``value, mean, low, high, rows,
        class``: mean prediction (probability or value), and the middle 80% of the individual
        conditional expectations (Goldstein et al. 2015). The grid has the categories, or all values
        of a number with fewer than 12; else 12 values from the 5th to the 95th percentile, or over
        the whole range if these are equal. With more than two classes, each has its own rows
        (``class``).
    """
    rows = task.contract.select_features(frame)
    tables = [
        _compute_feature_dependence(task, pipeline, rows, name, seed)
        for name in features
        if rows[name].nunique() > 1
    ]
    names = ["feature", "kind", "value", "mean", "low", "high", "rows", "class"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


def _compute_feature_dependence(
    task: Task, pipeline: Any, rows: pd.DataFrame, feature: str, seed: int
) -> pd.DataFrame:
    is_categorical = feature in task.contract.categorical_features
    complete_rows = rows[rows[feature].notna()]
    n_rows = min(MAX_DEPENDENCE_ROWS, len(complete_rows))
    sample = complete_rows.sample(n_rows, random_state=seed).reset_index(drop=True)
    grid = _make_grid(sample[feature], is_categorical)
    # One call of predict for the whole grid is faster than one for each value.
    repeated = pd.concat([sample] * len(grid), ignore_index=True)
    repeated[feature] = pd.Series(np.repeat(grid, n_rows), dtype=sample[feature].dtype)
    scores = task.predict_scores(pipeline, repeated).reshape(len(grid), n_rows, -1)
    is_multiclass = scores.shape[2] > 1
    is_discrete = is_categorical or sample[feature].nunique() <= 2
    tables = []
    for position, predictions in enumerate(np.moveaxis(scores, 2, 0)):
        low, high = np.quantile(predictions, BAND_QUANTILES, axis=1)
        tables.append(
            pd.DataFrame(
                {
                    "feature": feature,
                    "kind": "category" if is_discrete else "number",
                    "value": [value if isinstance(value, str) else float(value) for value in grid],
                    "mean": predictions.mean(axis=1),
                    "low": low,
                    "high": high,
                    "rows": n_rows,
                    "class": task.classes[position] if is_multiclass else "",
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _make_grid(values: pd.Series, is_categorical: bool) -> np.ndarray:
    """Return the values at which predictions are averaged; see ``compute_dependence``."""
    unique_values = np.unique(values)
    if is_categorical or len(unique_values) < GRID_POINTS:
        return unique_values
    low, high = np.quantile(values, GRID_QUANTILES)
    if low == high:  # most rows have one value
        low = unique_values[0]
        high = unique_values[-1]
    return np.linspace(low, high, GRID_POINTS)
