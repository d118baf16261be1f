"""SHAP values of trees: equal to Shapley values by their definition, computed over all coalitions."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modelbook.evaluation.tree_shap import make_tree_explainer

WIDTH, CATEGORY = 4, 1
Nodes = list[dict[str, Any]]


def rows_with_gaps(seed: int, count: int = 400) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, WIDTH))
    rows[:, CATEGORY] = random.integers(0, 12, count) * 3
    return np.where(random.random(rows.shape) < 0.1, np.nan, rows)


ROWS = rows_with_gaps(1, 12).astype("float32").astype("float64")


def score(rows: np.ndarray) -> np.ndarray:
    size, category, sign, _ = np.nan_to_num(rows).T
    return size * (category % 7) + 3 * np.abs(sign) + (category % 5 == 2)


def sklearn_nodes(tree: Any, values: np.ndarray) -> Nodes:
    return [
        {"children": (tree.children_left[i], tree.children_right[i]), "column": tree.feature[i],
         "threshold": tree.threshold[i], "missing_left": tree.missing_go_to_left[i],
         "rows": tree.weighted_n_node_samples[i], "value": values[i],
         "is_leaf": tree.children_left[i] < 0, "left_codes": None}
        for i in range(tree.node_count)
    ]  # fmt: skip


def hist_nodes(tree: Any, order: list[int]) -> Nodes:
    def left_codes(node: Any) -> set[int] | None:
        if not node["is_categorical"]:
            return None
        bitset = tree.raw_left_cat_bitsets[node["bitset_idx"]]
        return {code for code in range(256) if bitset[code // 32] >> (code % 32) & 1}

    return [
        {"children": (node["left"], node["right"]), "column": order[node["feature_idx"]],
         "threshold": node["num_threshold"], "missing_left": node["missing_go_to_left"],
         "rows": int(node["count"]), "value": node["value"], "is_leaf": node["is_leaf"],
         "left_codes": left_codes(node)}
        for node in tree.nodes
    ]  # fmt: skip


def expected_value(
    nodes: Nodes, row: np.ndarray, known_columns: tuple[int, ...], index: int = 0
) -> float:
    """Mean of the reachable leaves, weighted by train rows where a column is unknown."""
    node = nodes[index]
    if node["is_leaf"]:
        return float(node["value"])
    left, right = node["children"]
    if node["column"] not in known_columns:
        weighted_means = [
            nodes[child]["rows"] * expected_value(nodes, row, known_columns, child)
            for child in (left, right)
        ]
        return float(sum(weighted_means) / node["rows"])
    value, codes = row[node["column"]], node["left_codes"]
    if np.isnan(value):
        goes_left = node["missing_left"]
    else:
        goes_left = value <= node["threshold"] if codes is None else value in codes
    return expected_value(nodes, row, known_columns, left if goes_left else right)


def shapley_values(trees: list[Nodes], row: np.ndarray) -> list[float]:
    """Shapley values of all columns by enumeration; the last value is the expected value."""
    coalitions = [
        coalition for size in range(WIDTH + 1) for coalition in combinations(range(WIDTH), size)
    ]
    values = {
        coalition: sum(expected_value(tree, row, coalition) for tree in trees)
        for coalition in coalitions
    }
    return [
        sum(
            factorial(len(coalition)) * factorial(WIDTH - len(coalition) - 1) / factorial(WIDTH)
            * (values[tuple(sorted((*coalition, column)))] - values[coalition])
            for coalition in coalitions if column not in coalition
        )
        for column in range(WIDTH)
    ] + [values[()]]  # fmt: skip


def compare(
    model: Any,
    trees_of_output: list[list[Nodes]],
    rows: np.ndarray,
    tree_rows: np.ndarray | None = None,
) -> None:
    """``tree_rows`` are the preprocessed rows that the trees receive."""
    contributions = make_tree_explainer(model).compute_contributions(rows)
    assert contributions.shape == (len(rows), WIDTH + 1, len(trees_of_output))
    expected = np.array(
        [
            [shapley_values(trees, row) for trees in trees_of_output]
            for row in (rows if tree_rows is None else tree_rows)
        ]
    ).swapaxes(1, 2)
    assert np.abs(expected[:, :WIDTH]).max() > 0.01
    np.testing.assert_allclose(contributions, expected, rtol=0, atol=1e-7)


def target_of(rows: np.ndarray, classes: int) -> np.ndarray:
    """A number, or classes of equal sizes."""
    target = score(rows)
    limits = np.quantile(target, np.arange(1, classes) / classes) if classes else None
    return target if limits is None else np.searchsorted(limits, target)


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (RandomForestClassifier(4, random_state=0), 2),
        (RandomForestClassifier(4, random_state=0, class_weight="balanced_subsample"), 2),
        (RandomForestClassifier(3, random_state=0, max_leaf_nodes=12), 3),
        (ExtraTreesRegressor(4, random_state=0, max_depth=5), 0),
        (DecisionTreeClassifier(max_depth=1), 2),
    ],
)
def test_forests(model: Any, classes: int) -> None:
    train, rows = rows_with_gaps(0), ROWS
    if isinstance(model, ExtraTreesRegressor):  # scikit-learn 1.4's accept no missing values
        train, rows = np.nan_to_num(train), np.nan_to_num(rows)
    model.fit(train, target_of(train, classes))
    members = [member.tree_ for member in getattr(model, "estimators_", [model])]
    trees_of_output = [
        [
            sklearn_nodes(tree, tree.value[:, 0, output] / tree.value[:, 0].sum(axis=1) / len(members))
            if classes else sklearn_nodes(tree, tree.value[:, 0, 0] / len(members))
            for tree in members
        ]
        for output in {0: [0], 2: [1], 3: [0, 1, 2]}[classes]
    ]  # fmt: skip
    compare(model, trees_of_output, rows)


@pytest.mark.parametrize(
    ("model", "classes"),
    [(GradientBoostingClassifier(n_estimators=3), 2), (GradientBoostingClassifier(n_estimators=3), 3),
     (GradientBoostingRegressor(n_estimators=3), 0)],
)  # fmt: skip
def test_gradient_boosting(model: Any, classes: int) -> None:
    train = np.nan_to_num(rows_with_gaps(0))
    model.fit(train, target_of(train, classes))
    trees_of_output = [
        [sklearn_nodes(tree.tree_, 0.1 * tree.tree_.value[:, 0, 0]) for tree in stages]
        for stages in model.estimators_.T
    ]
    compare(model, trees_of_output, np.nan_to_num(ROWS))


@pytest.mark.parametrize(
    ("model", "classes"),
    [(HistGradientBoostingClassifier, 2), (HistGradientBoostingClassifier, 3),
     (HistGradientBoostingRegressor, 0)],
)  # fmt: skip
@pytest.mark.parametrize("categories", [None, [CATEGORY]])
def test_hist_gradient_boosting(model: Any, classes: int, categories: list[int] | None) -> None:
    train = rows_with_gaps(0)
    fitted = model(max_iter=3, max_leaf_nodes=9, categorical_features=categories)
    fitted.fit(train, target_of(train, classes))
    order = [CATEGORY, 0, 2, 3] if categories else [0, 1, 2, 3]
    rows = np.vstack([ROWS, [[0.5, 500.0, 1.0, 0.0]]])  # the last category is unknown
    trees_of_output = [
        [hist_nodes(stage[output], order) for stage in fitted._predictors]
        for output in range(len(fitted._predictors[0]))
    ]
    codes = (
        {}
        if categories is None
        else {code: index for index, code in enumerate(np.unique(train[:, CATEGORY]))}
    )
    tree_rows = rows.copy()
    if categories:
        tree_rows[:, CATEGORY] = [codes.get(code, np.nan) for code in rows[:, CATEGORY]]
        assert any(node["left_codes"] for tree in trees_of_output[0] for node in tree)
    compare(fitted, trees_of_output, rows, tree_rows)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
def test_weights_of_rows_may_be_any_numbers(scale: float) -> None:
    train, weights = np.nan_to_num(rows_with_gaps(0)), np.random.default_rng(0).random(400)
    model = DecisionTreeRegressor(max_depth=4)
    model.fit(train, target_of(train, 0), sample_weight=scale * weights)
    nodes = sklearn_nodes(model.tree_, model.tree_.value[:, 0, 0])
    compare(model, [[nodes]], np.nan_to_num(ROWS))


def test_other_models_have_none() -> None:
    train = np.nan_to_num(rows_with_gaps(0))
    for model in (KNeighborsClassifier(), AdaBoostClassifier(n_estimators=2)):
        assert make_tree_explainer(model.fit(train, target_of(train, 2))) is None
