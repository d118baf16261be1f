"""Boosted trees of LightGBM and scikit-learn as plain arrays, in one common format."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelbook.errors import CompileError

MAX_LEAVES = 64  # most leaves of a tree: each is one bit
OBJECTIVE_LINKS = {
    "binary sigmoid:1": "sigmoid", "regression": "none", "regression_l1": "none", "huber": "none",
    "fair": "none", "quantile": "none", "mape": "none",
}  # fmt: skip
SplitRow = tuple[int, int, float, bool, int]  # a split, as in TreeEnsemble


class TreeSplit(NamedTuple):
    """A split: values up to ``threshold`` go left, and missing values if ``missing_go_left``."""

    feature_index: int
    threshold: float
    missing_go_left: bool
    left: TreeSplit | float
    right: TreeSplit | float


@dataclass(frozen=True)
class TreeEnsemble:
    """An ensemble of trees with leaves numbered from left to right.

    Attributes
    ----------
    tree_index, feature_index, threshold, missing_go_left : array
        For each split: its tree, and the fields of ``TreeSplit``.
    left_leaf_mask : array
        For each split: bitmask of the leaves on its left.
    leaf_values : array
        Value of each leaf; shape (trees, most leaves of a tree).
    base_score : array
        Initial sums. Tree ``t`` adds to the sum ``t % len(base_score)``.
    link : {"sigmoid", "softmax", "none"}
        Function from sums to probabilities or values.
    """

    tree_index: np.ndarray
    feature_index: np.ndarray
    threshold: np.ndarray
    missing_go_left: np.ndarray
    left_leaf_mask: np.ndarray
    leaf_values: np.ndarray
    base_score: np.ndarray
    link: str

    def save(self, path: Path) -> None:
        """Save the arrays to a file for ``load``."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> TreeEnsemble:
        """Load an ensemble from a file."""
        with np.load(path) as archive:
            arrays: dict[str, Any] = dict(archive)
        return cls(**{**arrays, "link": str(arrays["link"])})


def is_boosted_ensemble(estimator: Any) -> bool:
    """Return whether ``extract_tree_ensemble`` supports an estimator."""
    return hasattr(estimator, "booster_") or type(estimator).__name__.startswith("GradientBoosting")


def extract_tree_ensemble(estimator: Any) -> TreeEnsemble:
    """Extract the trees of a fitted ``LGBM*`` or ``GradientBoosting*`` estimator.

    Raises
    ------
    CompileError
        When a tree has more than 64 leaves, or a feature that ``TreeEnsemble`` does not support.
    """
    if hasattr(estimator, "booster_"):
        return _extract_lightgbm(estimator.booster_.dump_model())
    return _extract_sklearn(estimator)


def _extract_lightgbm(model_dump: dict[str, Any]) -> TreeEnsemble:
    trees_per_iteration = model_dump["num_tree_per_iteration"]
    objective = model_dump.get("objective", "its own")
    link = {**OBJECTIVE_LINKS, f"multiclass num_class:{trees_per_iteration}": "softmax"}.get(
        objective
    )
    if link is None or model_dump["average_output"]:
        raise CompileError(f"LightGBM's objective is {objective}, or its trees are averaged")
    _check_leaves(tree["num_leaves"] for tree in model_dump["tree_info"])
    trees = [_parse_lightgbm_node(tree["tree_structure"]) for tree in model_dump["tree_info"]]
    return _flatten_trees(trees, np.zeros(trees_per_iteration), link)


def _parse_lightgbm_node(node: dict[str, Any]) -> TreeSplit | float:
    if "leaf_coeff" in node:
        raise CompileError("LightGBM's trees have linear leaves")
    if "leaf_value" in node:
        return float(node["leaf_value"])
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise CompileError("a LightGBM split is categorical, or treats zeros as missing")
    # LightGBM treats NaN as 0 when the training data had no missing values.
    missing_go_left = (
        node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
    )
    children = (_parse_lightgbm_node(node["left_child"]), _parse_lightgbm_node(node["right_child"]))
    return TreeSplit(node["split_feature"], node["threshold"], bool(missing_go_left), *children)


def _extract_sklearn(estimator: Any) -> TreeEnsemble:
    is_classifier = hasattr(estimator, "classes_")
    if (is_classifier and estimator.loss != "log_loss") or estimator.init not in (None, "zero"):
        raise CompileError(
            "the boosting has a custom loss or init", expected="scikit-learn's defaults"
        )
    trees_per_stage = estimator.estimators_.shape[1]
    _check_leaves(tree.get_n_leaves() for tree in estimator.estimators_.ravel())
    trees = [
        _parse_sklearn_node(tree.tree_, 0, estimator.learning_rate)
        for tree in estimator.estimators_.ravel()
    ]
    link = ("sigmoid" if trees_per_stage == 1 else "softmax") if is_classifier else "none"
    ensemble = _flatten_trees(trees, _base_score(estimator, is_classifier), link)
    return replace(ensemble, threshold=_float32_boundaries(ensemble.threshold))


def _float32_boundaries(thresholds: np.ndarray) -> np.ndarray:
    """Return float64 thresholds equivalent to scikit-learn's comparisons of float32 values."""
    lowest, highest = np.float32(-np.inf), np.float32(np.inf)
    below = thresholds.astype("float32")
    below = np.where(below > thresholds, np.nextafter(below, lowest), below)
    middle = (below.astype("float64") + np.nextafter(below, highest)) / 2
    is_even = below.view("int32") % 2 == 0  # ties round to even
    return np.where(is_even, middle, np.nextafter(middle, -np.inf))


def _base_score(estimator: Any, is_classifier: bool) -> np.ndarray:
    """Return the initial sums: a prediction minus the contributions of all trees."""
    row, trees = np.zeros((1, estimator.n_features_in_)), estimator.estimators_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it was fitted with column names
        raw_prediction = (estimator.decision_function if is_classifier else estimator.predict)(row)
        leaves = estimator.apply(row).reshape(trees.shape).astype("int64")
    leaf_outputs = [
        [tree.tree_.value[leaf, 0, 0] for tree, leaf in zip(*stage)] for stage in zip(trees, leaves)
    ]
    return raw_prediction.ravel() - estimator.learning_rate * np.sum(leaf_outputs, axis=0)


def _parse_sklearn_node(tree: Any, node: int, learning_rate: float) -> TreeSplit | float:
    left, right = tree.children_left[node], tree.children_right[node]
    if left == right:  # both -1: a leaf
        return learning_rate * float(tree.value[node, 0, 0])
    children = (
        _parse_sklearn_node(tree, left, learning_rate),
        _parse_sklearn_node(tree, right, learning_rate),
    )
    return TreeSplit(int(tree.feature[node]), float(tree.threshold[node]), False, *children)


def _check_leaves(counts: Iterable[int]) -> None:
    if (max_leaves := max(counts)) > MAX_LEAVES:
        raise CompileError(f"a tree has {max_leaves} leaves", expected=f"at most {MAX_LEAVES}")


def _flatten_trees(
    trees: list[TreeSplit | float], base_score: np.ndarray, link: str
) -> TreeEnsemble:
    splits: list[SplitRow] = []
    leaves = [_flatten_node(root, tree, [], splits) for tree, root in enumerate(trees)]
    leaf_values = np.zeros((len(trees), max(map(len, leaves))))
    for row, values in zip(leaf_values, leaves):
        row[: len(values)] = values
    tree, feature_index, threshold, missing_go_left, left_leaf_mask = (
        zip(*splits) if splits else [()] * 5
    )
    return TreeEnsemble(
        np.array(tree, "int64"),
        np.array(feature_index, "int64"),
        np.array(threshold, "float64"),
        np.array(missing_go_left, "bool"),
        np.array(left_leaf_mask, "uint64"),
        leaf_values,
        base_score,
        link,
    )


def _flatten_node(
    node: TreeSplit | float, tree: int, leaf_values: list[float], splits: list[SplitRow]
) -> list[float]:
    """Append the leaves and splits below a node; return the tree's leaf values."""
    if not isinstance(node, TreeSplit):
        leaf_values.append(node)
        return leaf_values
    first_leaf = len(leaf_values)
    next_leaf = len(_flatten_node(node.left, tree, leaf_values, splits))
    splits.append(
        (
            tree,
            node.feature_index,
            node.threshold,
            node.missing_go_left,
            (1 << next_leaf) - (1 << first_leaf),
        )
    )
    return _flatten_node(node.right, tree, leaf_values, splits)
