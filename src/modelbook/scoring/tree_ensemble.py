"""Trees of LightGBM, CatBoost and scikit-learn in one common format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from modelbook.errors import CompileError

OBJECTIVE_LINKS = {
    "binary sigmoid:1": "sigmoid", "regression": "none", "regression_l1": "none", "huber": "none",
    "fair": "none", "quantile": "none", "mape": "none",
}  # fmt: skip
CATBOOST_LINKS = {
    "Logloss": "sigmoid", "CrossEntropy": "sigmoid", "MultiClass": "softmax",
    "RMSE": "none", "MAE": "none", "Quantile": "none",
}  # fmt: skip
MAX_NUMBER = float(np.finfo("float64").max)
MISSING_CODE = -1  # code of a missing category, as in CatBoost
MAX_CODES = 256  # maximum number of a category's codes whose hashes are looked up
MAX_FOREST_NODES = 1_000_000  # nodes of all trees of a forest; as objects they take 0.2 GB


class TreeSplit(NamedTuple):
    """A split of a tree.

    Attributes
    ----------
    threshold : float
        Numbers up to it go left, and missing values if ``missing_go_left``.
    left_codes : frozenset of int or None
        Of a category: these codes go left; others and missing values go right.
    """

    feature_index: int
    threshold: float
    missing_go_left: bool
    left: TreeNode
    right: TreeNode
    left_codes: frozenset[int] | None = None


TreeNode = TreeSplit | float  # a float is the value of a leaf


@dataclass(frozen=True)
class TreeEnsemble:
    """An ensemble of trees whose leaf values are added up.

    Attributes
    ----------
    trees : list of TreeNode
        Tree ``t`` adds to the sum ``t % len(base_score)``.
    link : {"sigmoid", "softmax", "probability", "expm1", "none"}
        Function from sums to probabilities or values; the sum of a forest is a ``probability``.
    factor : float
        Multiplies the values after the link.
    """

    trees: list[TreeNode]
    base_score: np.ndarray
    link: str
    factor: float = 1.0


def has_trees(estimator: Any) -> bool:
    """Return whether ``extract_trees`` may support an estimator."""
    return _find_extractor(estimator) is not None


def extract_trees(estimator: Any, width: int) -> TreeEnsemble:
    """Extract the trees of a fitted estimator of boosted trees, or of a forest.

    Raises
    ------
    CompileError
        When the estimator, or a split of its trees, has another form.
    """
    extractor = _find_extractor(estimator)
    if extractor is None:
        raise CompileError(f"{type(estimator).__name__} is not a supported ensemble of trees")
    return extractor(estimator, width)


def _find_extractor(estimator: Any) -> Callable[[Any, int], TreeEnsemble] | None:
    if hasattr(estimator, "booster_"):
        return _extract_lightgbm
    name = type(estimator).__name__
    extractors = (extract for prefix, extract in EXTRACTORS.items() if name.startswith(prefix))
    return next(extractors, None)


def _extract_lightgbm(estimator: Any, width: int) -> TreeEnsemble:
    model_dump = estimator.booster_.dump_model()
    output_count = model_dump["num_tree_per_iteration"]
    objective = model_dump.get("objective", "its own")
    link = {**OBJECTIVE_LINKS, f"multiclass num_class:{output_count}": "softmax"}.get(objective)
    if link is None or model_dump["average_output"]:
        raise CompileError(f"LightGBM's objective is {objective}, or its trees are averaged")
    trees = [_parse_lightgbm_node(tree["tree_structure"]) for tree in model_dump["tree_info"]]
    return TreeEnsemble(trees, np.zeros(output_count), link)


def _parse_lightgbm_node(node: dict[str, Any]) -> TreeNode:
    if "leaf_coeff" in node:
        raise CompileError("LightGBM's trees have linear leaves")
    if "leaf_value" in node:
        return float(node["leaf_value"])
    feature_index = node["split_feature"]
    children = (_parse_lightgbm_node(node["left_child"]), _parse_lightgbm_node(node["right_child"]))
    if node["decision_type"] == "==":
        codes = frozenset(map(int, str(node["threshold"]).split("||")))
        return TreeSplit(feature_index, np.nan, False, *children, codes)
    if node["missing_type"] == "Zero":
        raise CompileError("a LightGBM split treats zeros as missing")
    # LightGBM treats NaN as 0 when the training data had no missing values.
    missing_go_left = (
        node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
    )
    return TreeSplit(feature_index, node["threshold"], bool(missing_go_left), *children)


def _extract_gradient_boosting(estimator: Any, width: int) -> TreeEnsemble:
    is_classifier = hasattr(estimator, "classes_")
    if (is_classifier and estimator.loss != "log_loss") or estimator.init not in (None, "zero"):
        raise CompileError(
            "the boosting has a custom loss or init", expected="scikit-learn's defaults"
        )
    trees = [
        _parse_sklearn_tree(tree.tree_, estimator.learning_rate * tree.tree_.value[:, 0, 0])
        for tree in estimator.estimators_.ravel()
    ]
    link = _get_probability_link(estimator.estimators_.shape[1]) if is_classifier else "none"
    return TreeEnsemble(trees, _read_base_score(estimator, is_classifier), link)


def _get_probability_link(output_count: int) -> str:
    return "sigmoid" if output_count == 1 else "softmax"


def _compute_float32_boundaries(thresholds: np.ndarray) -> np.ndarray:
    """Return float64 thresholds equivalent to comparisons of values cast to float32."""
    lowest = np.float32(-np.inf)
    highest = np.float32(np.inf)
    below = thresholds.astype("float32")
    with np.errstate(over="ignore"):  # CatBoost's border of a gap is the largest number
        below = np.where(below > thresholds, np.nextafter(below, lowest), below)
        middle = (below.astype("float64") + np.nextafter(below, highest)) / 2
    is_even = below.view("int32") % 2 == 0  # ties round to even
    boundaries = np.where(is_even, middle, np.nextafter(middle, -np.inf))
    return np.clip(boundaries, -MAX_NUMBER, MAX_NUMBER)


def _read_base_score(estimator: Any, is_classifier: bool) -> np.ndarray:
    """Return the initial sums: a prediction minus the contributions of all trees."""
    row = np.zeros((1, estimator.n_features_in_))
    trees = estimator.estimators_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it was fitted with column names
        raw_prediction = (estimator.decision_function if is_classifier else estimator.predict)(row)
        leaves = estimator.apply(row).reshape(trees.shape).astype("int64")
    leaf_outputs = [
        [tree.tree_.value[leaf, 0, 0] for tree, leaf in zip(*stage)] for stage in zip(trees, leaves)
    ]
    return raw_prediction.ravel() - estimator.learning_rate * np.sum(leaf_outputs, axis=0)


def _extract_forest(estimator: Any, width: int) -> TreeEnsemble:
    """The trees of a random forest, or extra trees: the mean of their leaves is the prediction."""
    classes = getattr(estimator, "classes_", None)
    if classes is not None and len(classes) != 2:
        raise CompileError(f"the forest has {len(classes)} classes", expected="two, or a number")
    trees = [tree.tree_ for tree in estimator.estimators_]
    if (node_count := sum(tree.node_count for tree in trees)) > MAX_FOREST_NODES:
        raise CompileError(
            f"the forest has {node_count:,} nodes", expected=f"at most {MAX_FOREST_NODES:,}"
        )
    parsed = []
    for tree in trees:
        values = tree.value[:, 0]  # a node's value, or the weights of both classes
        means = values[:, 0] if classes is None else values[:, 1] / values.sum(axis=1)
        parsed.append(_parse_sklearn_tree(tree, means / len(trees)))
    return TreeEnsemble(parsed, np.zeros(1), "none" if classes is None else "probability")


def _parse_sklearn_tree(tree: Any, node_values: np.ndarray) -> TreeNode:
    columns = tree.feature.tolist()
    thresholds = _compute_float32_boundaries(tree.threshold).tolist()
    left_children, right_children = tree.children_left.tolist(), tree.children_right.tolist()
    values = node_values.tolist()

    def parse_node(node: int) -> TreeNode:
        left, right = left_children[node], right_children[node]
        if left == right:  # both -1: a leaf
            return values[node]
        return TreeSplit(
            columns[node], thresholds[node], False, parse_node(left), parse_node(right)
        )

    return parse_node(0)


def _extract_hist_gradient_boosting(estimator: Any, width: int) -> TreeEnsemble:
    """The trees are private attributes: scikit-learn has no public ones."""
    is_classifier = hasattr(estimator, "classes_")
    if not is_classifier and estimator.loss in ("poisson", "gamma"):
        raise CompileError(f"the boosting's loss is {estimator.loss}")
    columns, codes_by_column = _list_encoded_columns(estimator, width)
    trees = [
        _HistTree(tree, columns, codes_by_column).parse_node(0)
        for stage in estimator._predictors
        for tree in stage
    ]
    base_score = np.ravel(estimator._baseline_prediction).astype("float64")
    link = _get_probability_link(len(base_score)) if is_classifier else "none"
    return TreeEnsemble(trees, base_score, link)


def _list_encoded_columns(estimator: Any, width: int) -> tuple[list[int], dict[int, list[int]]]:
    """The column behind each feature of the trees, and the codes of those with categories."""
    if estimator.is_categorical_ is None:
        return list(range(width)), {}
    is_category = np.asarray(estimator.is_categorical_)
    category_columns = np.flatnonzero(is_category).tolist()
    categories = estimator._preprocessor.named_transformers_["encoder"].categories_
    codes_by_column = {
        column: [int(code) for code in codes if not np.isnan(code)]
        for column, codes in zip(category_columns, categories)
    }
    return [*category_columns, *np.flatnonzero(~is_category).tolist()], codes_by_column


@dataclass(frozen=True)
class _HistTree:
    """A tree of scikit-learn's histogram gradient boosting."""

    tree: Any
    columns: list[int]
    codes_by_column: dict[int, list[int]]

    def parse_node(self, index: int) -> TreeNode:
        node = self.tree.nodes[index]
        if node["is_leaf"]:
            return float(node["value"])
        left, right = self.parse_node(node["left"]), self.parse_node(node["right"])
        column = self.columns[node["feature_idx"]]
        missing_go_left = bool(node["missing_go_to_left"])
        if not node["is_categorical"]:
            threshold = min(float(node["num_threshold"]), MAX_NUMBER)
            return TreeSplit(column, threshold, missing_go_left, left, right)
        bits = self.tree.raw_left_cat_bitsets[node["bitset_idx"]]
        goes_left = [bits[position // 32] >> position % 32 & 1 for position in range(256)]
        codes = self.codes_by_column[column]
        left_codes = frozenset(code for code, is_left in zip(codes, goes_left) if is_left)
        if not missing_go_left:
            return TreeSplit(column, np.nan, False, left, right, left_codes)
        # Unknown categories go where missing values go: the sides change places.
        return TreeSplit(column, np.nan, False, right, left, frozenset(codes) - left_codes)


def _extract_catboost(estimator: Any, width: int) -> TreeEnsemble:
    """CatBoost's oblivious trees: all splits of a level are equal, and a leaf's number has a bit
    for each of them."""
    model = _export_catboost(estimator, width)
    if "oblivious_trees" not in model:
        raise CompileError("CatBoost's trees are not oblivious")
    loss = model["model_info"]["params"]["loss_function"]["type"]
    if loss not in CATBOOST_LINKS:
        raise CompileError(f"CatBoost's loss is {loss}", expected=", ".join(CATBOOST_LINKS))
    scale, bias = model["scale_and_bias"]
    make_split = _CatBoostSplits(model["features_info"]).make_split
    trees = [
        _grow_levels(make_split, tree["splits"] or [], scale * leaf_values)
        for tree in model["oblivious_trees"]
        for leaf_values in np.reshape(tree["leaf_values"], (-1, len(bias))).T
    ]
    return TreeEnsemble(trees, np.array(bias, dtype="float64"), CATBOOST_LINKS[loss])


MakeSplit = Callable[[dict[str, Any], TreeNode, TreeNode], TreeSplit]


def _grow_levels(
    make_split: MakeSplit, splits: list[dict[str, Any]], leaf_values: np.ndarray
) -> TreeNode:
    """The first split is a leaf number's lowest bit, so trees are joined from the last one on."""
    nodes: list[TreeNode] = leaf_values.tolist()
    for split in reversed(splits):
        half = len(nodes) // 2
        nodes = [make_split(split, nodes[i], nodes[i + half]) for i in range(half)]
    return nodes[0]


class _CatBoostSplits:
    """Splits of CatBoost's trees: above a border, as float32, or equal to a code is right."""

    def __init__(self, features: dict[str, Any]) -> None:
        self._number_columns = {
            entry["feature_index"]: entry["flat_feature_index"]
            for entry in features["float_features"]
        }
        self._high_columns = {
            entry["flat_feature_index"]
            for entry in features["float_features"]
            if entry["nan_value_treatment"] == "AsTrue"
        }
        self._code_columns = {
            entry["feature_index"]: entry["flat_feature_index"]
            for entry in features.get("categorical_features") or []
        }
        self._codes = {
            entry["hash"]: int(entry["value"]) for entry in features.get("cat_features_hash") or []
        }

    def make_split(self, split: dict[str, Any], left: TreeNode, right: TreeNode) -> TreeSplit:
        if split["split_type"] == "FloatFeature":
            column = self._number_columns[split["float_feature_index"]]
            threshold = float(_compute_float32_boundaries(np.array([split["border"]]))[0])
            return TreeSplit(column, threshold, column not in self._high_columns, left, right)
        if split["split_type"] != "OneHotFeature":
            raise CompileError(f"a CatBoost split is of the type {split['split_type']}")
        column = self._code_columns[split["cat_feature_index"]]
        code = self._codes[split["value"] % (1 << 32)]
        if code == MISSING_CODE:
            return TreeSplit(column, MAX_NUMBER, False, left, right)
        return TreeSplit(column, np.nan, False, right, left, frozenset([code]))


def _export_catboost(estimator: Any, width: int) -> dict[str, Any]:
    """CatBoost's model as JSON, with the hashes of all codes of categories."""
    from catboost import Pool

    categories = estimator.get_params().get("cat_features") or []
    codes = np.arange(MISSING_CODE, MAX_CODES)
    rows = np.zeros((len(codes), width), dtype=object)
    rows[:, categories] = codes[:, None]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json", pool=Pool(rows, cat_features=categories))
        return json.loads(path.read_text(encoding="utf-8"))


def _extract_log_target(estimator: Any, width: int) -> TreeEnsemble:
    ensemble = extract_trees(estimator.regressor_, width)
    if ensemble.link != "none":
        raise CompileError(f"the model of the logarithm has the link {ensemble.link}")
    return replace(ensemble, link="expm1", factor=estimator.factor_)


EXTRACTORS: dict[str, Callable[[Any, int], TreeEnsemble]] = {  # by the prefix of the class name
    "ExtraTrees": _extract_forest,
    "GradientBoosting": _extract_gradient_boosting,
    "HistGradientBoosting": _extract_hist_gradient_boosting,
    "CategoricalCatBoost": _extract_catboost,
    "LogTargetRegressor": _extract_log_target,
    "RandomForest": _extract_forest,
}


def list_leaves(tree: TreeNode) -> Iterator[float]:
    """The leaf values of a tree, from left to right."""
    if isinstance(tree, TreeSplit):
        yield from list_leaves(tree.left)
        yield from list_leaves(tree.right)
    else:
        yield tree


def list_levels(tree: TreeNode) -> list[TreeSplit] | None:
    """The splits of a tree's levels, from the root on; None if a level has several."""
    levels: list[TreeSplit] = []
    nodes: list[TreeNode] = [tree]
    while splits := [node for node in nodes if isinstance(node, TreeSplit)]:
        distinct = {split._replace(left=0.0, right=0.0) for split in splits}
        if len(splits) < len(nodes) or len(distinct) > 1:
            return None
        levels += distinct
        nodes = [child for split in splits for child in (split.left, split.right)]
    return levels
