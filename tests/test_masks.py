"""Trees looked up as bits: the same answers as the trees themselves, for any number that can stand in a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from shelf import fitted
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from modelbook.contract import Contract
from modelbook.errors import CompileError
from modelbook.scoring import CompiledScorer, bitmask_trees
from modelbook.scoring.bitmask_trees import MIN_ROWS, BitmaskTreePredictor
from modelbook.scoring.compilation import check_parity, compile_pipeline
from modelbook.scoring.encoder import EncodedRows
from modelbook.scoring.parity_cases import build_parity_cases, predict_pipeline_scores
from modelbook.scoring.predictors import Predictor
from modelbook.scoring.tree_ensemble import TreeEnsemble, extract_tree_ensemble

QUIET: dict[str, Any] = {"verbose": -1, "n_jobs": 1, "random_state": 0}
WIDE = np.random.default_rng(0)
ROWS = WIDE.normal(size=(800, 4)).round(2)
HOLES = np.where(WIDE.random(ROWS.shape) < 0.1, np.nan, ROWS)
SUM = ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2]
THREE = np.digitize(SUM, [-0.5, 0.5])


class Silent(Predictor):
    """Nobody is to ask it."""

    name = "silent"

    def predict_one(self, values: Sequence[float]) -> Sequence[float]:
        raise AssertionError("asked")

    predict_many = predict_one  # type: ignore[assignment]

    @classmethod
    def load(cls, folder: Path, stem: str, parameters: dict[str, Any]) -> Predictor:
        return cls()


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
}


@cache
def grown(name: str) -> Any:
    """One of them, fitted once."""
    model, rows, outcome = TREES[name]
    return model.fit(rows, outcome)


def rows_at(found: TreeEnsemble, gaps: bool) -> np.ndarray:
    """Rows on each threshold and on both sides of it, beside zero, far away, and with gaps."""
    at = found.threshold[
        np.abs(found.threshold) > 1e-30
    ]  # LightGBM's name for zero is not told to the last digit
    odd = [0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, *([np.nan] if gaps else [])]
    values = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), odd])
    return np.vstack([WIDE.choice(values, (3 * MIN_ROWS, 4)), ROWS])


@pytest.mark.parametrize("name", TREES)
def test_tables_answer_like_the_trees(name: str, tmp_path: Path) -> None:
    model = grown(name)
    extract_tree_ensemble(model).save(tmp_path / "kernel.npz")
    result = TreeEnsemble.load(tmp_path / "kernel.npz")
    rows = (
        rows_at(result, hasattr(model, "booster_"))
        if len(result.threshold)
        else np.vstack([ROWS, ROWS])
    )
    response = model.predict_proba if hasattr(model, "classes_") else model.predict
    wanted = response(rows).reshape(len(rows), -1)
    np.testing.assert_allclose(
        BitmaskTreePredictor(result, Silent()).predict_many(EncodedRows.from_array(rows)),
        wanted,
        rtol=1e-12,
        atol=1e-13,
    )


@pytest.mark.parametrize(
    "limits",
    [{"MAX_JOINED_ROWS": 1}, {"MAX_JOINED_ROWS": 10**5}, {"TREES_PER_GROUP": 2}, {"BLOCK_ROWS": 7}],
    ids=str,
)
def test_how_tables_are_cut_changes_nothing(
    limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = grown("three classes")
    for name, value in limits.items():
        monkeypatch.setattr(bitmask_trees, name, value)
    rows = np.vstack([HOLES, HOLES])
    result = BitmaskTreePredictor(extract_tree_ensemble(model), Silent()).predict_many(
        EncodedRows.from_array(rows)
    )
    np.testing.assert_allclose(result, model.predict_proba(rows), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("there", [True, False])
def test_values_that_come_again_are_found_like_others(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of the service has no Arrow, which finds them."""
    once, asked_once = bitmask_trees._search_distinct, []
    monkeypatch.setattr(bitmask_trees, "find_spec", lambda name: there)
    monkeypatch.setattr(
        bitmask_trees, "_search_distinct", lambda *given: asked_once.append(given) or once(*given)
    )
    model, rows = grown("gaps"), np.vstack([HOLES] * 20)
    answers = BitmaskTreePredictor(extract_tree_ensemble(model), Silent()).predict_many(
        EncodedRows.from_array(rows)
    )
    np.testing.assert_allclose(answers, model.predict_proba(rows), rtol=1e-12, atol=1e-13)
    assert bool(asked_once) is there


def test_few_rows_are_answered_by_the_other_kernel() -> None:
    sample = BitmaskTreePredictor(extract_tree_ensemble(grown("a number")), Silent())
    with pytest.raises(AssertionError, match="asked"):
        sample.predict_many(EncodedRows.from_array(ROWS))
    with pytest.raises(AssertionError, match="asked"):
        sample.predict_one(ROWS[0])
    assert sample.name == "silent"


REFUSED = {
    "too many leaves": (LGBMRegressor(**QUIET, num_leaves=65, min_child_samples=2), r"\b65\b"),
    "counts": (LGBMRegressor(**QUIET, objective="poisson"), "poisson"),
    "a mean of trees": (LGBMRegressor(**QUIET, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5), "tree"),
    "zeros as gaps": (LGBMRegressor(**QUIET, zero_as_missing=True), "zero"),
    "lines in leaves": (LGBMRegressor(**QUIET, linear_tree=True), ""),
    "another loss": (GradientBoostingClassifier(loss="exponential"), "loss"),
    "another beginning": (GradientBoostingRegressor(init=LinearRegression()), ""),
}  # fmt: skip


@pytest.mark.parametrize(("model", "reason"), REFUSED.values(), ids=REFUSED)
def test_trees_that_do_something_else_are_refused(model: Any, reason: str) -> None:
    outcome = np.abs(SUM) if isinstance(model, LGBMRegressor) else SUM > 0
    with pytest.raises(CompileError, match=reason):
        extract_tree_ensemble(model.fit(ROWS, outcome))


def test_a_split_on_categories_is_refused() -> None:
    kinds = WIDE.integers(0, 9, (800, 1))
    model = LGBMRegressor(**QUIET).fit(
        kinds, np.isin(kinds[:, 0], [1, 4, 7]), categorical_feature=[0]
    )
    with pytest.raises(CompileError, match="categor"):
        extract_tree_ensemble(model)


BOOSTED = {
    "lightgbm": (LGBMClassifier(**QUIET, n_estimators=12), "LightGBMPredictor"),
    "boosting": (GradientBoostingClassifier(n_estimators=12, random_state=0), "OnnxPredictor"),
}


@pytest.mark.parametrize(("estimator", "alone"), BOOSTED.values(), ids=BOOSTED)
def test_a_registered_scorer_answers_batches_by_tables_and_the_proof_sees_them(
    estimator: Any, alone: str, tmp_path: Path, frame: Any, contract: Contract
) -> None:
    model = fitted(frame, contract, estimator)
    assert compile_pipeline(model, contract, 0.4, frame, tmp_path / "scorer").proof
    result = json.loads((tmp_path / "scorer" / "scorer.json").read_text())["kernel"]
    assert (result["kind"], result["alone"]["kind"]) == ("BitmaskTreePredictor", alone)
    match = TreeEnsemble.load(tmp_path / "scorer" / "kernel.npz")
    match.leaf_values[0] += 0.1
    match.save(tmp_path / "scorer" / "kernel.npz")
    rows = build_parity_cases(frame, contract)
    assert not check_parity(
        CompiledScorer.load(tmp_path / "scorer"),
        rows,
        predict_pipeline_scores(model, rows, contract),
    ).passed


def test_without_tables_the_kernel_alone_is_kept(
    tmp_path: Path, frame: Any, contract: Contract
) -> None:
    model = fitted(frame, contract, LGBMClassifier(**QUIET, num_leaves=90, min_child_samples=1))
    assert (
        compile_pipeline(model, contract, 0.4, frame, tmp_path / "scorer").scorer_name
        == "native LightGBM booster"
    )
    assert (
        json.loads((tmp_path / "scorer" / "scorer.json").read_text())["kernel"]["kind"]
        == "LightGBMPredictor"
    )
    assert not (tmp_path / "scorer" / "kernel.npz").exists()
