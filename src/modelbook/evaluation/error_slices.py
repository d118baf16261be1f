"""Error analysis: the rows with the largest errors, and error slices found by a decision tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeRegressor

from modelbook.contract import Contract
from modelbook.contract.counts import count_values
from modelbook.formatting import format_count
from modelbook.tasks.base import Task
from modelbook.tasks.intervals import Interval
from modelbook.tasks.metric_format import format_metric
from modelbook.tasks.metrics import weighted_mean
from modelbook.tasks.scored_rows import DIFFERENCE, ScoredRows, jackknife_ci

MAX_DEPTH = 3  # conditions of a slice
MAX_SLICES = 5  # slices evaluated
MAX_CATEGORIES = 20  # most frequent categories of a column, each encoded as an indicator


def find_worst_rows(
    task: Task, scored: ScoredRows, frame: pd.DataFrame, *, max_rows: int = 10
) -> pd.DataFrame:
    """Find the rows with the largest errors, worst first.

    Returns
    -------
    DataFrame
        The key columns (or ``row``, the position in the holdout, if no key may be shown), ``actual,
        predicted``, and the error: the row's log loss or absolute error. No other column.
    """
    contract = task.contract
    key_columns = [
        name
        for name in contract.key
        if name not in contract.columns_with_role("sensitive") and name != contract.target
    ]
    row_keys = (
        frame[key_columns].astype(str).rename(columns=contract.label)
        if key_columns
        else pd.DataFrame({"row": range(len(frame))})
    )
    errors = task.tabulate_actual_and_predicted(scored).assign(
        **{task.row_error_label: task.compute_row_errors(scored)}
    )
    worst_positions = np.argsort(-errors[task.row_error_label].to_numpy(), kind="stable")[:max_rows]
    return (
        pd.concat([row_keys.reset_index(drop=True), errors], axis=1)
        .iloc[worst_positions]
        .reset_index(drop=True)
    )


def find_error_slices(
    task: Task, scored: ScoredRows, frame: pd.DataFrame, *, min_rows: int, resamples: int, seed: int
) -> pd.DataFrame:
    """Find feature slices with the largest error, with a shallow tree, and test them on other rows.

    The tree is fitted on half of the entities, and its worst leaves are selected there. The other
    half estimates how much larger their error is than in other rows, without selection bias.

    Parameters
    ----------
    min_rows : int
        Minimum number of rows of a slice; half as many in each half, but at least 10.

    Returns
    -------
    DataFrame
        Columns ``slice`` (its conditions), ``rows`` (in the test half), the mean error ``… in the
        slice`` and ``… in other rows`` (``…`` is ``task.row_error_label``), ``difference``, ``low,
        high`` (its 95% CI, Bonferroni-adjusted for the slices tested); largest difference first.
        Empty if there are too few rows, or the tree has no split.
    """
    encoded_features, conditions = _encode_features(task.contract, frame)
    columns = ["slice", "rows", *_list_error_columns(task), "difference", "low", "high"]
    errors = task.compute_row_errors(scored)
    min_leaf_rows = compute_min_leaf_rows(min_rows)
    entities = np.unique(scored.entity)
    tree_entities = np.random.default_rng(seed).permutation(entities)[: len(entities) // 2]
    in_tree_half = np.isin(scored.entity, tree_entities)
    if min(in_tree_half.sum(), (~in_tree_half).sum()) < 2 * min_leaf_rows or encoded_features.empty:
        return pd.DataFrame(columns=columns)
    tree = DecisionTreeRegressor(
        max_depth=MAX_DEPTH, min_samples_leaf=min_leaf_rows, random_state=seed
    )
    tree.fit(encoded_features[in_tree_half], errors[in_tree_half])
    if tree.get_n_leaves() == 1:
        return pd.DataFrame(columns=columns)
    leaves = tree.apply(encoded_features)
    leaf_errors = (
        pd.Series(errors[in_tree_half])
        .groupby(leaves[in_tree_half])
        .mean()
        .sort_values(ascending=False, kind="stable")
    )
    worst_leaves = leaf_errors[leaf_errors > errors[in_tree_half].mean()].index[:MAX_SLICES]
    test_rows = scored.select(~in_tree_half)
    test_leaves = leaves[~in_tree_half]
    tested_leaves = [leaf for leaf in worst_leaves if (test_leaves == leaf).sum() >= min_leaf_rows]
    rows = [
        {
            "slice": _describe_path(tree, leaf, conditions),
            **_measure_error_difference(
                task,
                errors[~in_tree_half],
                test_leaves == leaf,
                test_rows,
                n_slices=len(tested_leaves),
                resamples=resamples,
                seed=seed,
            ),
        }
        for leaf in tested_leaves
    ]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("difference", ascending=False, kind="stable", ignore_index=True)


def _list_error_columns(task: Task) -> tuple[str, str]:
    return f"{task.row_error_label} in the slice", f"{task.row_error_label} in other rows"


def compute_min_leaf_rows(min_rows: int) -> int:
    """Minimum rows of a slice in each half of the entities, of a minimum for both."""
    return max(min_rows // 2, 10)


def describe_worst_slice(task: Task, error_slices: pd.DataFrame) -> str:
    """Describe the slice with the largest significant difference from ``find_error_slices``."""
    if error_slices.empty:
        return "No slices could be tested: too few rows, or the tree found no split."
    significant_slices = error_slices[error_slices["low"] > 0]
    if significant_slices.empty:
        return (
            f"No slice found by the tree has a significantly higher {task.row_error_label} on "
            "independent rows."
        )
    worst_slice = significant_slices.iloc[0]
    error, other_error = (format_metric(worst_slice[name]) for name in _list_error_columns(task))
    return (
        f"The largest significant difference in {task.row_error_label} is where "
        f"{worst_slice['slice']}: {error} against {other_error} in other rows, "
        f"on {format_count(worst_slice['rows'], 'row')} that were not used to fit the tree."
    )


def _measure_error_difference(
    task: Task,
    errors: np.ndarray,
    slice_mask: np.ndarray,
    scored: ScoredRows,
    *,
    n_slices: int,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Measure the error in a slice and in other rows, with the interval of the difference."""

    def measure_error(rows: np.ndarray, weight: np.ndarray) -> Any:
        return weighted_mean(errors[rows], weight[..., rows])

    def measure_difference(weight: np.ndarray) -> Any:
        return measure_error(slice_mask, weight) - measure_error(~slice_mask, weight)

    unit_weights = np.ones(len(errors))
    ends = jackknife_ci(measure_difference, scored, DIFFERENCE, resamples=resamples, seed=seed)
    difference = Interval(measure_difference(unit_weights), *ends).widen(n_slices)
    slice_column, other_column = _list_error_columns(task)
    return {
        "rows": int(slice_mask.sum()),
        slice_column: measure_error(slice_mask, unit_weights),
        other_column: measure_error(~slice_mask, unit_weights),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
    }


def _encode_features(
    contract: Contract, frame: pd.DataFrame
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Encode features numerically, with the conditions of both branches of a split on each.

    Returns the encoded columns, and for each the text of the low and the high branch, with ``{0}``
    for the threshold. Missing numbers are encoded below the minimum, so they fall on the low side.
    Each frequent category has an indicator, which is 0 for missing values.
    """
    features = contract.select_features(frame)
    columns = {}
    conditions = list[tuple[str, str]]()
    for name in features:
        values = features[name]
        label = contract.label(name)
        if name in contract.categorical_features:
            for value in count_values(values).index[:MAX_CATEGORIES]:
                columns[f"{name}={value}"] = (values == value).astype(float)
                value_label = contract.label_value(name, value)
                conditions.append((f"{label} is not {value_label}", f"{label} is {value_label}"))
        elif values.notna().any():
            numbers = values.astype(float)
            columns[name] = numbers.fillna(numbers.min() - 1)
            conditions.append(_describe_sides(contract, name, bool(numbers.isna().any())))
    return pd.DataFrame(columns), conditions


def _describe_sides(contract: Contract, name: str, has_missing: bool) -> tuple[str, str]:
    """The conditions of the two branches: ``age ≤ {0}`` and ``age > {0}``, or a boolean's values.

    A boolean with missing values is described by its threshold, because missing is a third value.
    """
    column = contract.columns.get(name)
    if column is not None and column.type == "boolean" and not has_missing:
        return contract.label_group(name, "0"), contract.label_group(name, "1")
    label = contract.label(name)
    missing_suffix = " or missing" if has_missing else ""
    return f"{label} ≤ {{0}}{missing_suffix}", f"{label} > {{0}}"


def _describe_path(
    tree: DecisionTreeRegressor, leaf: int, conditions: list[tuple[str, str]]
) -> str:
    """The conditions on the path to a leaf; of nested conditions only the narrowest."""
    tree_nodes = tree.tree_
    path_conditions = dict[str, str]()
    node = leaf
    while node:
        parent = int(
            np.flatnonzero(
                (tree_nodes.children_left == node) | (tree_nodes.children_right == node)
            )[0]
        )
        low, high = conditions[tree_nodes.feature[parent]]
        condition = low if tree_nodes.children_left[parent] == node else high
        path_conditions.setdefault(
            condition, condition.replace("{0}", format_metric(tree_nodes.threshold[parent]))
        )
        node = parent
    return " and ".join(reversed(path_conditions.values()))
