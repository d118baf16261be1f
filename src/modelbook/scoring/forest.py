"""The trees of a fitted ensemble as plain arrays: what LightGBM's and scikit-learn's boosted trees have in common."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelbook.errors import CompileError

MOST = 64  # leaves of a tree: each is one bit
LINKS = {
    "binary sigmoid:1": "sigmoid", "regression": "none", "regression_l1": "none", "huber": "none", "fair": "none",
    "quantile": "none", "mape": "none",
}  # fmt: skip
Row = tuple[int, int, float, bool, int]  # of a split: tree, place, threshold, gap_left, left


class Split(NamedTuple):
    """What is at most ``threshold`` in the column ``place`` goes left; ``gap_left`` says where a gap goes."""

    place: int
    threshold: float
    gap_left: bool
    left: Split | float
    right: Split | float


@dataclass(frozen=True)
class Forest:
    """Trees whose leaves are counted from left to right.

    Attributes
    ----------
    tree, place, threshold, gap_left : array
        Of each split: its tree, and as in ``Split``.
    left : array
        Of each split: the leaves on its left, as bits.
    leaves : array
        What each leaf adds; shape (trees, most leaves).
    offset : array
        What the sums begin with. Tree ``t`` adds to the sum ``t % len(offset)``.
    link : {"sigmoid", "softmax", "none"}
        What makes probabilities or values of the sums.
    """

    tree: np.ndarray
    place: np.ndarray
    threshold: np.ndarray
    gap_left: np.ndarray
    left: np.ndarray
    leaves: np.ndarray
    offset: np.ndarray
    link: str

    def save(self, path: Path) -> None:
        """Write what ``load`` reads."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Forest:
        """From a file."""
        with np.load(path) as kept:
            told: dict[str, Any] = dict(kept)
        return cls(**{**told, "link": str(told["link"])})


def grown(estimator: Any) -> bool:
    """Whether an estimator is of a kind that ``forest`` reads."""
    return hasattr(estimator, "booster_") or type(estimator).__name__.startswith("GradientBoosting")


def forest(estimator: Any) -> Forest:
    """The trees of a fitted ``LGBM*`` or ``GradientBoosting*``.

    Raises
    ------
    CompileError
        When a tree has more than 64 leaves, or the trees do something that a ``Forest`` does not tell.
    """
    return _lightgbm(estimator.booster_.dump_model()) if hasattr(estimator, "booster_") else _scikit(estimator)


def _lightgbm(told: dict[str, Any]) -> Forest:
    each, objective = told["num_tree_per_iteration"], told.get("objective", "its own")
    link = {**LINKS, f"multiclass num_class:{each}": "softmax"}.get(objective)
    if link is None or told["average_output"]:
        raise CompileError(f"LightGBM's objective is {objective}, or its trees are averaged")
    _check_leaves(tree["num_leaves"] for tree in told["tree_info"])
    trees = [_of_dump(tree["tree_structure"]) for tree in told["tree_info"]]
    return _counted(trees, np.zeros(each), link)


def _of_dump(node: dict[str, Any]) -> Split | float:
    if "leaf_coeff" in node:
        raise CompileError("the leaves of LightGBM's trees hold lines")
    if "leaf_value" in node:
        return float(node["leaf_value"])
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise CompileError("a split of LightGBM is on categories, or takes zeros for gaps")
    # Where training saw no gap, LightGBM takes a gap for 0.
    gap_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
    sides = (_of_dump(node["left_child"]), _of_dump(node["right_child"]))
    return Split(node["split_feature"], node["threshold"], bool(gap_left), *sides)


def _scikit(estimator: Any) -> Forest:
    sure = hasattr(estimator, "classes_")
    if (sure and estimator.loss != "log_loss") or estimator.init not in (None, "zero"):
        raise CompileError("the boosting has a loss or a beginning of its own", expected="those of scikit-learn")
    each = estimator.estimators_.shape[1]
    _check_leaves(one.get_n_leaves() for one in estimator.estimators_.ravel())
    trees = [_of_arrays(one.tree_, 0, estimator.learning_rate) for one in estimator.estimators_.ravel()]
    link = ("sigmoid" if each == 1 else "softmax") if sure else "none"
    found = _counted(trees, _offset(estimator, sure), link)
    return replace(found, threshold=_doubles(found.threshold))


def _doubles(thresholds: np.ndarray) -> np.ndarray:
    """The greatest doubles that, as singles, are at most the thresholds: scikit-learn's trees compare singles."""
    least, most = np.float32(-np.inf), np.float32(np.inf)
    below = thresholds.astype("float32")
    below = np.where(below > thresholds, np.nextafter(below, least), below)
    middle = (below.astype("float64") + np.nextafter(below, most)) / 2
    even = below.view("int32") % 2 == 0  # what is in the middle becomes the even one
    return np.where(even, middle, np.nextafter(middle, -np.inf))


def _offset(estimator: Any, sure: bool) -> np.ndarray:
    """What the sums begin with: what is left of an answer when each tree's part is taken away."""
    row, trees = np.zeros((1, estimator.n_features_in_)), estimator.estimators_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it was fitted with names of columns
        said = (estimator.decision_function if sure else estimator.predict)(row)
        leaves = estimator.apply(row).reshape(trees.shape).astype("int64")
    parts = [[one.tree_.value[leaf, 0, 0] for one, leaf in zip(*stage)] for stage in zip(trees, leaves)]
    return said.ravel() - estimator.learning_rate * np.sum(parts, axis=0)


def _of_arrays(tree: Any, node: int, rate: float) -> Split | float:
    left, right = tree.children_left[node], tree.children_right[node]
    if left == right:  # both -1: a leaf
        return rate * float(tree.value[node, 0, 0])
    sides = (_of_arrays(tree, left, rate), _of_arrays(tree, right, rate))
    return Split(int(tree.feature[node]), float(tree.threshold[node]), False, *sides)


def _check_leaves(counts: Iterable[int]) -> None:
    if (most := max(counts)) > MOST:
        raise CompileError(f"a tree has {most} leaves", expected=f"at most {MOST}")


def _counted(trees: list[Split | float], offset: np.ndarray, link: str) -> Forest:
    splits: list[Row] = []
    leaves = [_count(root, tree, [], splits) for tree, root in enumerate(trees)]
    even = np.zeros((len(trees), max(map(len, leaves))))
    for row, values in zip(even, leaves):
        row[: len(values)] = values
    tree, place, threshold, gap_left, left = zip(*splits) if splits else [()] * 5
    return Forest(
        np.array(tree, "int64"), np.array(place, "int64"), np.array(threshold, "float64"), np.array(gap_left, "bool"),
        np.array(left, "uint64"), even, offset, link,
    )  # fmt: skip


def _count(node: Split | float, tree: int, leaves: list[float], splits: list[Row]) -> list[float]:
    """Add what stands below a node to the leaves and the splits of a tree."""
    if not isinstance(node, Split):
        leaves.append(node)
        return leaves
    first = len(leaves)
    middle = len(_count(node.left, tree, leaves, splits))
    splits.append((tree, node.place, node.threshold, node.gap_left, (1 << middle) - (1 << first)))
    return _count(node.right, tree, leaves, splits)
