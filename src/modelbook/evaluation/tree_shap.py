"""SHAP values of scikit-learn's trees, computed by LightGBM.

LightGBM's ``pred_contrib`` is exact TreeSHAP (Lundberg et al. 2020, "From local explanations to
global understanding with explainable AI for trees"): where a coalition does not know the column of
a split, both sides count by their train rows. It reads the trees as a model in its text format.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from modelbook.lightgbm_format import (
    IS_CATEGORY,
    MISSING_GO_LEFT,
    MISSING_IS_NAN,
    write_field,
    write_model,
)

FORESTS = (
    ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor,
)  # fmt: skip
BOOSTINGS = (GradientBoostingClassifier, GradientBoostingRegressor)
HIST_BOOSTINGS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
MAX_COUNT = 2**30  # of the rows at a root: LightGBM has 32-bit integers
MAX_NUMBER = float(np.finfo("float64").max)


@dataclass(frozen=True)
class NodeTable:
    """A tree in arrays of nodes, the root first and children after their parent.

    Attributes
    ----------
    left, right : ndarray of int
        The nodes below a split.
    rows : ndarray
        Weight of the train rows that reach a node.
    values : ndarray
        What a leaf adds to an output of the model; shape (nodes, outputs).
    is_category : ndarray of bool
        Splits of a category: codes in ``left_words`` go left, others and missing values right.
    left_words : ndarray of uint32
        Sets of codes as bits, one for each such split in the order of nodes; shape (splits, words).
    """

    is_leaf: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_go_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    is_category: np.ndarray
    left_words: np.ndarray

    @cached_property
    def depth(self) -> int:
        """The largest number of splits above a leaf, at least 1."""
        depths = [0] * len(self.is_leaf)
        for node, left, right in self._splits:
            depths[left] = depths[right] = depths[node] + 1
        return max(1, *depths)

    def count_rows(self) -> np.ndarray:
        """Weights of rows as whole numbers, in which children add up to their parent.

        Whole weights stay in proportion; others are rounded to a billionth of the root's.
        """
        scale = MAX_COUNT / self.rows[0]
        scale = np.floor(scale) if scale > 1 else scale
        counts = np.maximum(np.rint(scale * self.rows), 1).astype("int64").tolist()
        for node, left, right in reversed(self._splits):
            counts[node] = counts[left] + counts[right]
        return np.array(counts)

    @cached_property
    def _splits(self) -> list[tuple[int, int, int]]:
        nodes = np.flatnonzero(~self.is_leaf)
        children = self.left[nodes].tolist(), self.right[nodes].tolist()
        return list(zip(nodes.tolist(), *children, strict=True))


class TreeExplainer:
    """SHAP values of trees, without the initial prediction of a boosting.

    Parameters
    ----------
    trees : list of NodeTable
        Each with values for all outputs, or one tree for each output in turn.
    width : int
        Number of columns.

    Attributes
    ----------
    output_count : int
    work : float
        Leaves times depth², which the time for a row and an output is proportional to.
    """

    dtype = "float32"  # which scikit-learn converts features to before it compares them

    def __init__(self, trees: list[NodeTable], output_count: int, width: int) -> None:
        from lightgbm import Booster  # takes a second

        fields = (tree_fields for tree in trees for tree_fields in _write_tree(tree))
        self._booster = Booster(model_str=write_model(output_count, width, fields))
        self.output_count = output_count
        self.work = float(sum(tree.is_leaf.sum() * tree.depth**2 for tree in trees))

    def compute_contributions(self, features: Any) -> np.ndarray:
        """SHAP values and, last, the expected value; shape (rows, columns + 1, outputs)."""
        rows = np.asarray(features, dtype=self.dtype).astype("float64")
        return compute_booster_contributions(self._booster, rows)


class HistTreeExplainer(TreeExplainer):
    """SHAP values of histogram gradient boosting, whose trees read encoded categories first."""

    dtype = "float64"

    def __init__(self, model: Any) -> None:
        self._encode = None
        self._order = np.arange(model.n_features_in_)
        if model.is_categorical_ is not None:
            self._encode = model._preprocessor.transform
            self._order = np.argsort(~np.asarray(model.is_categorical_), kind="stable")
        stages = model._predictors  # scikit-learn has no public attribute with the trees
        trees = [_read_hist_tree(tree) for stage in stages for tree in stage]
        super().__init__(trees, len(stages[0]), model.n_features_in_)

    def compute_contributions(self, features: Any) -> np.ndarray:
        encoded = self._encode(features) if self._encode else features
        ordered_contributions = super().compute_contributions(encoded)
        contributions = ordered_contributions.copy()
        contributions[:, self._order] = ordered_contributions[:, :-1]
        return contributions


def compute_booster_contributions(booster: Any, features: Any) -> np.ndarray:
    """SHAP values and, last, the expected value; shape (rows, columns + 1, outputs)."""
    values = np.asarray(booster.predict(features, pred_contrib=True))
    return np.moveaxis(values.reshape(len(values), -1, booster.num_feature() + 1), 1, 2)


def make_tree_explainer(model: Any) -> TreeExplainer | None:
    """Make the explainer of a fitted tree, forest or boosting of scikit-learn; else None."""
    if isinstance(model, HIST_BOOSTINGS):
        return HistTreeExplainer(model)
    if isinstance(model, BOOSTINGS):
        members = model.estimators_.ravel().tolist()
        factor = model.learning_rate
        trees = [_read_tree(member, factor) for member in members]
        return TreeExplainer(trees, model.estimators_.shape[1], model.n_features_in_)
    if isinstance(model, FORESTS) or hasattr(model, "tree_"):
        members = model.estimators_ if isinstance(model, FORESTS) else [model]
        trees = [_read_tree(member, 1 / len(members)) for member in members]
        return TreeExplainer(trees, trees[0].values.shape[1], model.n_features_in_)
    return None


def _read_tree(estimator: Any, factor: float) -> NodeTable:
    tree = estimator.tree_
    values = tree.value[:, 0]
    if hasattr(estimator, "classes_"):  # the weights of the classes
        values = values / values.sum(axis=1, keepdims=True)
        values = values[:, 1:] if values.shape[1] == 2 else values
    return NodeTable(
        is_leaf=tree.children_left < 0,
        feature=tree.feature,
        threshold=tree.threshold,
        missing_go_left=tree.missing_go_to_left.astype(bool),
        left=tree.children_left,
        right=tree.children_right,
        rows=tree.weighted_n_node_samples,
        values=factor * values,
        is_category=np.zeros(tree.node_count, dtype=bool),
        left_words=np.empty((0, 0), dtype="uint32"),
    )


def _read_hist_tree(tree: Any) -> NodeTable:
    nodes = tree.nodes
    is_leaf, is_category = (nodes[name].astype(bool) for name in ("is_leaf", "is_categorical"))
    is_category &= ~is_leaf
    missing_go_left = nodes["missing_go_to_left"].astype(bool)
    left, right = nodes["left"].astype("int64"), nodes["right"].astype("int64")
    # Missing values go right at LightGBM's splits of a category: the sides change places.
    is_swapped = is_category & missing_go_left
    words = tree.raw_left_cat_bitsets[nodes["bitset_idx"][is_category]]
    return NodeTable(
        is_leaf=is_leaf,
        feature=nodes["feature_idx"],
        threshold=np.minimum(nodes["num_threshold"], MAX_NUMBER),
        missing_go_left=missing_go_left,
        left=np.where(is_swapped, right, left),
        right=np.where(is_swapped, left, right),
        rows=nodes["count"],
        values=nodes["value"][:, None],
        is_category=is_category,
        left_words=np.where(is_swapped[is_category][:, None], ~words, words),
    )


def _write_tree(tree: NodeTable) -> list[list[str]]:
    """The fields of a tree for each output.

    Splits and leaves are numbered apart; a leaf ``i`` is ``-i - 1``.
    """
    is_split = ~tree.is_leaf
    counts = tree.count_rows()
    number = np.where(is_split, np.cumsum(is_split) - 1, -np.cumsum(tree.is_leaf))
    is_category = tree.is_category[is_split]
    numeric = MISSING_IS_NAN + MISSING_GO_LEFT * tree.missing_go_left[is_split]
    set_count, word_count = tree.left_words.shape
    fields = {
        "num_leaves": [tree.is_leaf.sum()],
        "num_cat": [set_count],
        "split_feature": tree.feature[is_split],
        "threshold": np.where(is_category, np.cumsum(is_category) - 1, tree.threshold[is_split]),
        "decision_type": np.where(is_category, IS_CATEGORY, numeric),
        "left_child": number[tree.left[is_split]],
        "right_child": number[tree.right[is_split]],
        "leaf_count": counts[tree.is_leaf],
        "internal_count": counts[is_split],
    }
    if set_count:
        boundaries = np.arange(set_count + 1) * word_count
        fields |= {"cat_boundaries": boundaries, "cat_threshold": tree.left_words.ravel()}
    shared = [write_field(name, np.asarray(values).tolist()) for name, values in fields.items()]
    return [
        [*shared, write_field("leaf_value", values[tree.is_leaf].tolist())]
        for values in tree.values.T
    ]
