"""Trees as one LightGBM model and as lookup tables: equal predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    BaseEnsemble,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression
from version_store import fit_pipeline

from modelbook.contract import Contract
from modelbook.errors import CompileError
from modelbook.scoring import CompiledScorer, bitmask_trees, onnx_trees, tree_ensemble
from modelbook.scoring.bitmask_trees import LeafMasks, make_leaf_masks
from modelbook.scoring.compilation import check_parity, compile_pipeline
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.lightgbm_text import write_ensembles
from modelbook.scoring.onnx_trees import OnnxTrees
from modelbook.scoring.parity_cases import build_parity_cases, predict_pipeline_scores
from modelbook.scoring.tree_ensemble import TreeEnsemble, TreeSplit, extract_trees
from modelbook.scoring.tree_predictor import MIN_BATCH_ROWS, TreePredictor, write_tree_predictor
from modelbook.training.catboost import CategoricalCatBoostClassifier, CategoricalCatBoostRegressor
from modelbook.training.lightgbm import CategoricalLGBMClassifier
from modelbook.training.log_target import LogTargetRegressor

QUIET: dict[str, Any] = {"verbose": -1, "n_jobs": 1, "random_state": 0}
WIDE = np.random.default_rng(0)
ROWS = WIDE.normal(size=(800, 4)).round(2)
HOLES = np.where(WIDE.random(ROWS.shape) < 0.1, np.nan, ROWS)
SUM = ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2]
THREE = np.digitize(SUM, [-0.5, 0.5])


CODES = np.where(WIDE.random(800) < 0.1, np.nan, WIDE.integers(0, 40, 800))
KINDS = np.column_stack([HOLES[:, 0], HOLES[:, 1], CODES, HOLES[:, 3]])
KIND_SUM = SUM + 2 * np.isin(CODES, [1, 4, 7, 33]) + np.isnan(CODES)
THREE_KINDS = np.digitize(KIND_SUM, [-0.5, 0.5])
CATBOOST: dict[str, Any] = {
    "iterations": 40, "verbose": 0, "thread_count": 1, "allow_writing_files": False,
    "one_hot_max_size": 255, "random_seed": 0,
}  # fmt: skip

TREES: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
    "two classes": (LGBMClassifier(**QUIET), ROWS, SUM > 0),
    "gaps": (LGBMClassifier(**QUIET), HOLES, SUM > 0),
    "three classes": (LGBMClassifier(**QUIET, n_estimators=50), HOLES, THREE),
    "a number": (LGBMRegressor(**QUIET), HOLES, SUM),
    "a quantile": (LGBMRegressor(**QUIET, objective="quantile", alpha=0.2), ROWS, SUM),
    "more trees than a group": (LGBMRegressor(**QUIET, n_estimators=300, num_leaves=6), ROWS, SUM),
    "as many leaves as there may be": (
        LGBMRegressor(**QUIET, num_leaves=64, min_child_samples=2),
        ROWS,
        SUM,
    ),
    "trees without a split": (LGBMRegressor(**QUIET, min_child_samples=500), ROWS, SUM),
    "boosting": (GradientBoostingClassifier(random_state=0), ROWS, SUM > 0),
    "boosting of three": (
        GradientBoostingClassifier(n_estimators=50, max_depth=4, random_state=0),
        ROWS,
        THREE,
    ),
    "boosting of a number": (
        GradientBoostingRegressor(max_depth=5, init="zero", random_state=0),
        ROWS,
        SUM,
    ),
    "boosting of the absolute": (
        GradientBoostingRegressor(loss="absolute_error", random_state=0),
        ROWS,
        SUM,
    ),
    "categories": (CategoricalLGBMClassifier(**QUIET, categorical_feature=[2]), KINDS, KIND_SUM > 0),
    "histograms": (HistGradientBoostingRegressor(random_state=0), HOLES, SUM),
    "histograms of categories": (
        HistGradientBoostingClassifier(categorical_features=[2], max_iter=40), KINDS, KIND_SUM > 0,
    ),
    "histograms of three": (
        HistGradientBoostingClassifier(categorical_features=[2], max_iter=20), KINDS, THREE_KINDS,
    ),
    "catboost": (
        CategoricalCatBoostClassifier(**CATBOOST, cat_features=[2], nan_mode="Max"), KINDS,
        KIND_SUM > 0,
    ),
    "catboost of three": (
        CategoricalCatBoostClassifier(**CATBOOST, cat_features=[2]), KINDS, THREE_KINDS,
    ),
    "catboost of a number": (CategoricalCatBoostRegressor(**CATBOOST, depth=4), HOLES, SUM),
    "catboost of many levels": (
        CategoricalCatBoostClassifier(**CATBOOST, cat_features=[2], depth=9), KINDS, KIND_SUM > 0,
    ),
    "catboost of many trees": (
        CategoricalCatBoostClassifier(
            **{**CATBOOST, "iterations": 200}, cat_features=[2], nan_mode="Max"
        ),
        KINDS, THREE_KINDS,
    ),
    "a logarithm": (LogTargetRegressor(LGBMRegressor(**QUIET)), HOLES, np.exp(SUM)),
    "forest": (RandomForestClassifier(20, max_depth=6, random_state=0), ROWS, SUM > 0),
    "extra trees of a number": (
        ExtraTreesRegressor(20, max_leaf_nodes=64, random_state=0), ROWS, SUM,
    ),
}  # fmt: skip


@cache
def fit_model(name: str) -> Any:
    """One of them, fitted once."""
    model, rows, outcome = TREES[name]
    return model.fit(rows, outcome)


@pytest.fixture
def make_predictor_of(tmp_path: Path) -> Callable[..., TreePredictor]:
    """Write and load the predictor of some models on the same columns, with their weights."""

    def make_predictor(models: list[Any], weights: list[float] | None = None) -> TreePredictor:
        ensembles = [extract_trees(model, 4) for model in models]
        starts, weights = [0] * len(models), weights or [1.0] * len(models)
        parameters = write_tree_predictor(ensembles, starts, weights, 4, tmp_path, "kernel")
        return TreePredictor.load(tmp_path, "kernel", json.loads(json.dumps(parameters)))

    return make_predictor


def make_threshold_rows(masks: LeafMasks, model: Any) -> np.ndarray:
    """Rows at each threshold and on both sides, near zero, far away, and with missing values."""
    sizes = np.abs(masks.low)
    # LightGBM's zero threshold has rounding errors; CatBoost encodes missing values as the largest number.
    at = np.unique(masks.low[(sizes > 1e-30) & (sizes < 1e30)])
    takes_gaps = not isinstance(model, BaseEnsemble)
    odd = [0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, *([np.nan] if takes_gaps else [])]
    values = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), odd])
    return WIDE.choice(values, (3 * MIN_BATCH_ROWS, 4))


def expected_scores(model: Any, rows: np.ndarray) -> np.ndarray:
    is_classifier = type(model).__name__.endswith("Classifier")
    predict = model.predict_proba if is_classifier else model.predict
    return predict(rows).reshape(len(rows), -1)


@pytest.mark.long
@pytest.mark.parametrize("name", TREES)
def test_extracted_trees_predict_like_the_estimator(name: str, make_predictor_of: Any) -> None:
    model, fitted_rows = fit_model(name), TREES[name][1]
    result = make_threshold_rows(make_leaf_masks([extract_trees(model, 4)], [0]), model)
    if fitted_rows is KINDS:  # known and unknown codes
        result[:, 2] = WIDE.choice([*range(50), np.nan], len(result))
    rows = np.vstack([result, fitted_rows])
    expected = expected_scores(model, rows)
    predictor = make_predictor_of([model])
    tolerance = {"rtol": 1e-12, "atol": 1e-13}
    by_tables = predictor.predict_many(EncodedRows.from_array(rows))
    np.testing.assert_allclose(by_tables, expected, **tolerance)
    few_rows = slice(None, None, 12)  # fewer than MIN_BATCH_ROWS
    by_library = predictor.predict_many(EncodedRows.from_array(rows[few_rows]))
    np.testing.assert_allclose(by_library, expected[few_rows], **tolerance)
    singly = [predictor.predict_one(row) for row in rows[few_rows].tolist()]
    np.testing.assert_allclose(singly, expected[few_rows], **tolerance)


@pytest.mark.long
def test_ensemble_of_several_libraries_is_one_weighted_mean(make_predictor_of: Any) -> None:
    for names in (
        ("categories", "catboost"),
        ("histograms of three", "catboost of three"),
        ("a logarithm", "catboost of a number"),
        ("more trees than a group", "as many leaves as there may be"),
    ):
        models, weights = [fit_model(name) for name in names], [0.7, 0.3]
        rows = np.vstack([KINDS, KINDS])
        shares = [weight * expected_scores(model, rows) for model, weight in zip(models, weights)]
        expected = np.sum(shares, axis=0)
        predictor = make_predictor_of(models, weights)
        result = predictor.predict_many(EncodedRows.from_array(rows))
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        singly = [predictor.predict_one(row) for row in rows[:50].tolist()]
        np.testing.assert_allclose(singly, expected[:50], rtol=1e-12, atol=1e-12)


LARGE = {
    "forest": (RandomForestClassifier(20, random_state=0), ROWS, SUM > 0, "two classes"),
    "several trees an operator": (
        RandomForestClassifier(70, max_leaf_nodes=70, random_state=0), ROWS, SUM > 0, "two classes",
    ),
    "three classes": (
        LGBMClassifier(**QUIET, num_leaves=90, min_child_samples=1), HOLES, THREE, "three classes",
    ),
    "categories": (
        CategoricalLGBMClassifier(
            **QUIET, num_leaves=90, min_child_samples=1, min_data_per_group=1,
            categorical_feature=[2],
        ),
        KINDS, KIND_SUM > 0, "categories",
    ),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_large_trees_are_added_to_the_sums_of_the_tables(
    name: str, make_predictor_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_trees, "BLOCK_ROWS", 300)
    model, fitted_rows, outcome, small_trees = LARGE[name]
    noise = WIDE.random(len(ROWS)) < 0.2
    model.fit(fitted_rows, np.where(noise, np.roll(outcome, 1), outcome))
    boosting = fit_model(small_trees)
    predictor = make_predictor_of([model, boosting], [0.6, 0.4])
    assert (tmp_path / "kernel.onnx").is_file()
    ranges = make_leaf_masks([extract_trees(boosting, 4)], [0])
    rows = np.vstack([make_threshold_rows(ranges, model), fitted_rows])
    if fitted_rows is KINDS:
        rows[:, 2] = WIDE.choice([*range(50), np.nan], len(rows))
    expected = 0.6 * expected_scores(model, rows) + 0.4 * expected_scores(boosting, rows)
    for count in (len(rows), MIN_BATCH_ROWS - 1):
        result = predictor.predict_many(EncodedRows.from_array(rows[:count]))
        np.testing.assert_allclose(result, expected[:count], rtol=1e-12, atol=1e-13)


def test_graph_that_reads_all_columns_predicts_batches(
    make_predictor_of: Any, tmp_path: Path
) -> None:
    """As of versions that were registered before the graph's columns were in its metadata."""
    import onnx
    from onnx import helper

    forest = RandomForestClassifier(20, random_state=0).fit(ROWS, SUM > 0)
    make_predictor_of([forest])
    path = tmp_path / "kernel.onnx"
    model = onnx.load(path)
    assert [prop.key for prop in model.metadata_props] == [onnx_trees.COLUMNS_KEY]
    del model.metadata_props[:]
    for node in model.graph.node[:-1]:
        node.input[0] = "values"
    model.graph.node.insert(0, helper.make_node("Identity", ["rows"], ["values"]))
    onnx.save(model, path)
    result = OnnxTrees(path).sum_leaves(EncodedRows.from_array(ROWS))
    np.testing.assert_allclose(result[:, 0], forest.predict_proba(ROWS)[:, 1], rtol=1e-12)


def test_version_without_a_graph_of_large_trees_predicts_batches(
    make_predictor_of: Any, tmp_path: Path
) -> None:
    boosting, forest = fit_model("two classes"), RandomForestClassifier(20, random_state=0)
    forest.fit(ROWS, SUM > 0)
    make_predictor_of([boosting, forest], [0.6, 0.4])
    parameters = {"width": 4, "outputs": [
        {"base_score": [0.0], "link": "sigmoid", "weight": 0.6, "has_tables": True},
        {"base_score": [0.0], "link": "probability", "weight": 0.4, "has_tables": False},
    ]}  # fmt: skip
    (tmp_path / "kernel.onnx").unlink()
    predictor = TreePredictor.load(tmp_path, "kernel", parameters)
    result = predictor.predict_many(EncodedRows.from_array(ROWS))
    expected = 0.6 * boosting.predict_proba(ROWS) + 0.4 * forest.predict_proba(ROWS)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.long
def test_many_trees_with_one_split_a_level_are_in_no_booster(
    make_predictor_of: Any, tmp_path: Path
) -> None:
    model, boosting = fit_model("catboost of many trees"), fit_model("histograms of three")
    predictor = make_predictor_of([model, boosting], [0.5, 0.5])
    text = (tmp_path / "kernel.txt").read_text()
    assert text.count("Tree=") == 20 * 6  # of the other model, and empty trees
    rows = np.vstack([KINDS, KINDS[:, ::-1]])
    rows[:, 2] = WIDE.choice([*range(50), np.nan], len(rows))
    expected = (expected_scores(model, rows) + expected_scores(boosting, rows)) / 2
    for count in (len(rows), MIN_BATCH_ROWS - 1):
        result = predictor.predict_many(EncodedRows.from_array(rows[:count]))
        np.testing.assert_allclose(result, expected[:count], rtol=1e-12, atol=1e-13)
    singly = [predictor.predict_one(row) for row in rows[:80].tolist()]
    np.testing.assert_allclose(singly, expected[:80], rtol=1e-12, atol=1e-13)


def test_splits_of_four_levels_are_adjacent_in_a_booster() -> None:
    def grow(level: int) -> TreeSplit | float:
        if level == 6:
            return 1.0
        return TreeSplit(level, 0.0, False, grow(level + 1), grow(level + 1))

    text = write_ensembles([TreeEnsemble([grow(0)], np.zeros(1), "none")], [0], 6)
    [line] = [line for line in text.splitlines() if line.startswith("split_feature=")]
    levels = [int(level) for level in line.partition("=")[2].split()]
    top = [level for level in range(4) for _ in range(2**level)]
    assert levels == top + [4, 5, 5] * 16


@pytest.mark.long
def test_trees_with_one_split_a_level_have_a_bit_for_each_level() -> None:
    masks = make_leaf_masks([extract_trees(fit_model("catboost of many levels"), 4)], [0])
    assert masks.leaf_counts.max() == 2**9 > bitmask_trees.MAX_LEAVES
    assert masks.left_leaf_mask.max() == 2**8
    assert masks.is_oblivious.all()


@pytest.mark.long
@pytest.mark.parametrize(
    "limits",
    [{"MAX_JOINED_ROWS": 1}, {"MAX_JOINED_ROWS": 10**5}, {"TREES_PER_GROUP": 2}, {"BLOCK_ROWS": 7}],
    ids=str,
)
def test_table_size_limits_do_not_change_predictions(
    limits: dict[str, int], make_predictor_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit_model("three classes")
    for name, value in limits.items():
        monkeypatch.setattr(bitmask_trees, name, value)
    rows = np.vstack([HOLES, HOLES])
    result = make_predictor_of([model]).predict_many(EncodedRows.from_array(rows))
    np.testing.assert_allclose(result, model.predict_proba(rows), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("has_arrow", [True, False])
def test_repeated_values_are_looked_up_with_and_without_arrow(
    has_arrow: bool, make_predictor_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service image has no Arrow, which finds distinct values elsewhere."""
    once, asked_once = bitmask_trees._search_distinct, []
    monkeypatch.setattr(bitmask_trees, "find_spec", lambda name: has_arrow)
    monkeypatch.setattr(
        bitmask_trees, "_search_distinct", lambda *args: asked_once.append(args) or once(*args)
    )
    model, rows = fit_model("gaps"), np.vstack([HOLES] * 20)
    predictions = make_predictor_of([model]).predict_many(EncodedRows.from_array(rows))
    np.testing.assert_allclose(predictions, model.predict_proba(rows), rtol=1e-12, atol=1e-13)
    assert bool(asked_once) is has_arrow


NOT_COMPILED = {
    "counts": (LGBMRegressor(**QUIET, objective="poisson"), "poisson"),
    "a mean of trees": (LGBMRegressor(**QUIET, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5), "tree"),
    "zeros as gaps": (LGBMRegressor(**QUIET, zero_as_missing=True), "zero"),
    "lines in leaves": (LGBMRegressor(**QUIET, linear_tree=True), ""),
    "another loss": (GradientBoostingClassifier(loss="exponential"), "loss"),
    "another beginning": (GradientBoostingRegressor(init=LinearRegression()), ""),
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_unsupported_trees_raise_compile_error(model: Any, reason: str) -> None:
    outcome = np.abs(SUM) if isinstance(model, LGBMRegressor) else SUM > 0
    with pytest.raises(CompileError, match=reason):
        extract_trees(model.fit(ROWS, outcome), 4)


def test_forest_of_many_nodes_raises_compile_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_ensemble, "MAX_FOREST_NODES", 100)
    with pytest.raises(CompileError, match="at most 100"):
        extract_trees(fit_model("forest"), 4)


BOOSTED = {
    "lightgbm": LGBMClassifier(**QUIET, n_estimators=12),
    "boosting": GradientBoostingClassifier(n_estimators=12, random_state=0),
}


@pytest.mark.parametrize("estimator", BOOSTED.values(), ids=BOOSTED)
def test_scorer_predicts_batches_by_lookup_tables_and_parity_covers_them(
    estimator: Any, tmp_path: Path, frame: Any, contract: Contract
) -> None:
    model = fit_pipeline(frame, contract, estimator)
    assert compile_pipeline(model, contract, 0.4, frame, tmp_path / "scorer").parity
    match = LeafMasks.load(tmp_path / "scorer" / "kernel.npz")
    match.leaf_values[0] += 0.1
    match.save(tmp_path / "scorer" / "kernel.npz")
    rows = build_parity_cases(frame, contract)
    assert not check_parity(
        CompiledScorer.load(tmp_path / "scorer"),
        rows,
        predict_pipeline_scores(model, rows, contract),
    ).passed


@pytest.mark.long
def test_large_trees_have_no_lookup_tables(tmp_path: Path, frame: Any, contract: Contract) -> None:
    model = fit_pipeline(
        frame, contract, LGBMClassifier(**QUIET, num_leaves=90, min_child_samples=1)
    )
    with pytest.raises(CompileError, match="64"):
        make_leaf_masks([extract_trees(model[-1], 6)], [0])
    result = compile_pipeline(model, contract, 0.4, frame, tmp_path / "scorer")
    assert (result.scorer_name, result.reason) == ("native trees", "")
    assert not (tmp_path / "scorer" / "kernel.npz").exists()
    assert (tmp_path / "scorer" / "kernel.onnx").is_file()


def test_other_models_are_compiled_without_lookup_tables(
    tmp_path: Path, frame: Any, contract: Contract
) -> None:
    model = fit_pipeline(frame, contract, LGBMClassifier(**QUIET, n_estimators=5, linear_tree=True))
    result = compile_pipeline(model, contract, 0.4, frame, tmp_path / "scorer")
    assert (result.scorer_name, result.reason) == ("native LightGBM booster", "")
