"""Compiled scorers: equal predictions, parity check, golden rows, latency, fallback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PowerTransformer, StandardScaler
from text_facts import missing_facts

from modelbook.contract import Column, Contract
from modelbook.errors import CompileError
from modelbook.scoring import CompiledScorer, latency
from modelbook.scoring import encoder as encoding
from modelbook.scoring.compilation import check_parity, compile_pipeline
from modelbook.scoring.compiled_scorer import ParityResult
from modelbook.scoring.conversion import list_conversions
from modelbook.scoring.lightgbm_native import NativeBooster
from modelbook.scoring.parity_cases import (
    build_parity_cases,
    make_typical_row,
    predict_pipeline_scores,
)
from modelbook.scoring.pipeline_scorer import PipelineScorer
from modelbook.serving.http_request import RequestError
from modelbook.tasks.decision_rule import (
    ArgmaxClassifier,
    ThresholdClassifier,
    decision_rule_from_dict,
    make_decision_rule,
)
from modelbook.training.stacking import (
    IsotonicCalibrator,
    LogisticStacker,
    MeanBlender,
    NonNegativeStacker,
    SigmoidCalibrator,
    StackedClassifier,
    StackedRegressor,
    TemperatureCalibrator,
)

THRESHOLD = 0.4
SMALL_FOREST: dict[str, Any] = {"n_estimators": 12, "random_state": 0}
QUIET: dict[str, Any] = {"verbose": -1, "n_jobs": 1}


class UnconvertibleEstimator(ClassifierMixin, BaseEstimator):
    """A user's own estimator, which nothing converts."""

    def fit(self, X: np.ndarray, y: pd.Series) -> UnconvertibleEstimator:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-X[:, 0]))
        return np.column_stack([1 - p, p])


class TwoColumnStep(BaseEstimator, TransformerMixin):
    """A user's own step whose output depends on two columns."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> TwoColumnStep:
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return np.column_stack([X["size"] * X["flag"], X["size"]])

    def __sklearn_is_fitted__(self) -> bool:
        return True


class RaisingStep(BaseEstimator, TransformerMixin):
    """A custom step that raises an error for an unseen category."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> RaisingStep:
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        if (X["colour"] == "\x00unseen").any():
            raise KeyError("no such colour")
        return X[["size"]].to_numpy()


def preprocessing(scaler: Any = None) -> Any:
    numbers = make_pipeline(SimpleImputer(strategy="median"), scaler or StandardScaler())
    return make_column_transformer(
        (numbers, ["size", "noise", "flag"]), (OneHotEncoder(handle_unknown="ignore"), ["colour"])
    )


def outcome(frame: pd.DataFrame, task: str) -> pd.Series:
    if task == "regression":
        return frame["size"] * 1000 + frame["noise"].fillna(0)
    if task == "multiclass":
        return pd.cut(frame["size"], [-1, 30, 70, 101], labels=[0, 1, 2]).astype(int)
    return frame["happened"]


@pytest.fixture
def compile_model(tmp_path: Path, frame: pd.DataFrame, contract: Contract) -> Callable[..., Any]:
    """A function that fits and compiles a pipeline; returns pipeline, result and folder."""

    def fit_and_compile(
        estimator: Any, task: str = "binary", first_step: Any = None
    ) -> tuple[Any, Any, Path]:
        model = make_pipeline(*([first_step] if first_step else [preprocessing()]), estimator)
        model.fit(contract.select_features(frame), outcome(frame, task))
        folder = tmp_path / "scorer"
        return (
            model,
            compile_pipeline(model, of_task(contract, task), THRESHOLD, frame, folder),
            folder,
        )

    return fit_and_compile


TARGETS: dict[str, dict[str, Any]] = {
    "binary": {"type": "boolean"}, "regression": {"type": "number"},
    "multiclass": {"type": "category", "categories": ["low", "middle", "high"]},
}  # fmt: skip


def of_task(contract: Contract, task: str) -> Contract:
    target = Column(role="target", meaning="what happened", **TARGETS[task])
    return contract.model_copy(
        update={"task": task, "columns": {**contract.columns, "happened": target}}
    )


CASES = {
    "lightgbm": (LGBMClassifier(**QUIET, **SMALL_FOREST), "binary", "native trees"),
    "logistic": (LogisticRegression(), "binary", "linear model"),
    "boosting": (GradientBoostingClassifier(**SMALL_FOREST), "binary", "native trees"),
    "forest": (RandomForestClassifier(**SMALL_FOREST), "binary", "native trees"),
    "bayes": (GaussianNB(), "binary", "ONNX graph"),
    "vote": (
        VotingClassifier([("a", LGBMClassifier(**QUIET, **SMALL_FOREST)), ("b", LogisticRegression())], voting="soft",
                         weights=[2, 1]),
        "binary", "weighted mean of models",
    ),
    "a user's own": (UnconvertibleEstimator(), "binary", "the estimator itself"),
    "lightgbm of three": (LGBMClassifier(**QUIET, **SMALL_FOREST), "multiclass", "native trees"),
    "logistic of three": (LogisticRegression(), "multiclass", "linear model"),
    "forest of three": (RandomForestClassifier(**SMALL_FOREST), "multiclass", "ONNX graph"),
    "lightgbm of a number": (LGBMRegressor(**QUIET, **SMALL_FOREST), "regression", "native trees"),
    "line": (LinearRegression(), "regression", "linear model"),
    "forest of a number": (RandomForestRegressor(**SMALL_FOREST), "regression", "native trees"),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("estimator", "task", "name"), CASES.values(), ids=CASES)
def test_compiled_scorer_matches_the_model(compile_model, frame, contract, estimator, task, name):
    model, compiled, folder = compile_model(estimator, task)
    assert (compiled.scorer_name, compiled.reason) == (name, "")
    scorer = CompiledScorer.load(folder)
    rows = build_parity_cases(frame, of_task(contract, task), seed=7)
    expected = predict_pipeline_scores(model, rows, of_task(contract, task))
    np.testing.assert_allclose(scorer.predict_scores(rows), expected, rtol=1e-6, atol=1e-6)
    predictions = [scorer.predict_one(row) for row in rows.head(50).to_dict("records")]
    result = PipelineScorer(model, of_task(contract, task), THRESHOLD).predict_many(
        rows.head(50).to_dict("records")
    )
    if task == "regression":
        assert [a.prediction for a in predictions] == pytest.approx(
            [a.prediction for a in result], rel=1e-6
        )
        assert predictions[0].probabilities is None
    else:
        assert [a.prediction for a in predictions] == [a.prediction for a in result]
        assert predictions[3].probabilities == pytest.approx(result[3].probabilities, abs=1e-6)
        assert len(predictions[3].probabilities) == (3 if task == "multiclass" else 2)


LAYERS = {
    "a stack": (LogisticStacker, "binary", 2), "a stack of three": (LogisticStacker, "multiclass", 2),
    "a stack of a number": (NonNegativeStacker, "regression", 2), "a blend": (MeanBlender, "binary", 2),
    "a blend of three": (MeanBlender, "multiclass", 2), "a blend of a number": (MeanBlender, "regression", 2),
    "a sigmoid": (SigmoidCalibrator, "binary", 1), "a sigmoid of three": (SigmoidCalibrator, "multiclass", 1),
    "a temperature": (TemperatureCalibrator, "binary", 1),
    "a temperature of three": (TemperatureCalibrator, "multiclass", 1),
    "steps": (IsotonicCalibrator, "binary", 1), "steps of three": (IsotonicCalibrator, "multiclass", 1),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("top", "task", "count"), LAYERS.values(), ids=LAYERS)
def test_calibration_and_stacks_are_compiled(tmp_path, frame, contract, top, task, count):
    contract, outcomes = of_task(contract, task), outcome(frame, task)
    linear, grown = (
        (LinearRegression(), LGBMRegressor)
        if task == "regression"
        else (LogisticRegression(), LGBMClassifier)
    )
    members = [
        make_pipeline(preprocessing(), estimator)
        for estimator in (linear, grown(**QUIET, **SMALL_FOREST))
    ][:count]
    rows = contract.select_features(frame)
    output = [
        predict_pipeline_scores(clone(estimator).fit(rows, outcomes), frame, contract)
        for estimator in members
    ]
    recorded = np.stack([scores[:, 1:] if task == "binary" else scores for scores in output])
    stack_class = StackedRegressor if task == "regression" else StackedClassifier
    model = stack_class(members, top(recorded, outcomes.to_numpy())).fit(rows, outcomes)
    calibrated = (
        stack_class([model], SigmoidCalibrator(recorded[:1], outcomes.to_numpy())).fit(
            rows, outcomes
        )
        if task == "binary"
        else model
    )
    for stack in (model, calibrated):
        result = compile_pipeline(stack, contract, THRESHOLD, frame, tmp_path / "scorer")
        assert result.scorer_name == (
            "weighted mean of models" if top is MeanBlender and stack is model else "stacked models"
        ), result.reason
        tried = build_parity_cases(frame, contract, seed=7)
        expected = predict_pipeline_scores(stack, tried, contract)
        np.testing.assert_allclose(
            CompiledScorer.load(tmp_path / "scorer").predict_scores(tried),
            expected,
            rtol=1e-6,
            atol=1e-6,
        )


def test_stacking_regressor_is_not_converted_to_a_mean(frame):
    """Both have named estimators, but the final estimator of a stack is no mean."""
    rows, target = frame[["size", "flag"]], frame["size"]
    members = [("a", LinearRegression()), ("b", LinearRegression())]
    means = []
    for estimator in (VotingRegressor(members), StackingRegressor(members, LinearRegression())):
        kinds = [kind for kind, _ in list_conversions(estimator.fit(rows, target), False)]
        means.append("WeightedMeanPredictor" in kinds)
    assert means == [True, False]


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()], ids=["standard", "minmax"])
def test_compiled_encoder_matches_preprocessing_steps(
    compile_model, frame, contract, scaler, monkeypatch
):
    model, compiled, folder = compile_model(LogisticRegression(), first_step=preprocessing(scaler))
    rows = build_parity_cases(frame, contract)
    assert compiled.scorer_name == "linear model"
    encoder = CompiledScorer.load(folder).encoder
    np.testing.assert_allclose(
        encoder.transform_many(rows, len(rows)).dense,
        model[0].transform(rows),
        rtol=1e-12,
        atol=1e-12,
    )
    sample = rows.tail(40)
    encoded_rows = [encoder.transform_one(row) for row in sample.to_dict("records")]
    np.testing.assert_array_equal(encoded_rows, encoder.transform_many(sample, len(sample)).dense)
    often = pd.concat([rows] * 5)
    assert len(often) > encoding.MIN_FACTORIZED_ROWS
    together = encoder.transform_many(often, len(often)).dense
    monkeypatch.setattr(encoding, "find_spec", lambda name: None)  # pandas, in the service's image
    np.testing.assert_array_equal(together, encoder.transform_many(often, len(often)).dense)


def test_none_and_nan_are_equal_and_batch_matches_single_rows(compile_model, frame):
    _, _, folder = compile_model(LGBMClassifier(**QUIET, **SMALL_FOREST))
    scorer = CompiledScorer.load(folder)
    row = {"size": 50.0, "flag": 1.0, "colour": "11"}
    none, nan = (
        scorer.predict_one({**row, "noise": None}),
        scorer.predict_one({**row, "noise": float("nan")}),
    )
    assert none == nan
    assert scorer.predict_one({**row, "noise": 9.0, "size": 99.0}) != none
    assert scorer.predict_many([{**row, "noise": None}, {**row, "noise": 0.3}])[0] == none


NOT_COMPILED = {
    "two columns in one": (TwoColumnStep(), ["size", "flag"]),
    "a curve": (
        make_column_transformer((PowerTransformer(), ["size"]), remainder="drop"),
        ["size"],
    ),
    "a step that fails": (RaisingStep(), ["KeyError: 'no such colour'"]),
}


@pytest.mark.parametrize(("step", "facts"), NOT_COMPILED.values(), ids=NOT_COMPILED)
def test_uncompilable_model_has_reason_and_leaves_no_files(compile_model, step, facts):
    _, compiled, folder = compile_model(LogisticRegression(), first_step=step)
    assert compiled.parity is None
    assert missing_facts(compiled.reason, *facts) == []
    assert missing_facts(str(compiled), compiled.scorer_name, compiled.reason) == []
    assert [path.name for path in folder.iterdir()] == ["golden.json"]


@pytest.mark.long
def test_latency_and_size_are_measured_on_deployed_scorer(compile_model, contract, tmp_path):
    model, _, folder = compile_model(LogisticRegression())
    milliseconds, megabytes = latency.measure_latency_and_size(tmp_path, contract)
    assert milliseconds > 0
    assert json.loads((folder / "golden.json").read_text())["batch_row_ms"] > 0
    assert megabytes == (folder / "scorer.json").stat().st_size / 1e6
    (folder / "scorer.json").unlink()
    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(model))
    (tmp_path / "metrics.json").write_text(json.dumps({"threshold": THRESHOLD}))
    slower, megabytes = latency.measure_latency_and_size(tmp_path, contract)
    assert slower > milliseconds
    assert megabytes == (tmp_path / "model.pkl").stat().st_size / 1e6
    (folder / "golden.json").unlink()
    assert latency.measure_latency_and_size(tmp_path, contract) is None


@pytest.mark.long
def test_latency_is_corrected_for_busy_machine(monkeypatch):
    """The clock runs 20 times as fast, so that all durations are 20 times as long."""

    class Scorer:
        def predict_one(self, row: Any) -> None:
            for _ in range(20):
                latency._compute_reference()

    baseline_latency, clock = (
        latency._measure_median_latency_ms(Scorer(), [{}]),
        latency.time.perf_counter,
    )
    monkeypatch.setattr(latency.time, "perf_counter", lambda: 20 * clock())
    monkeypatch.setattr(latency, "MAX_SECONDS", 20.0)
    assert latency._measure_median_latency_ms(Scorer(), [{}]) < 3 * baseline_latency


def test_missing_category_is_equal_as_none_and_nan(tmp_path, frame, contract):
    """A category with missing values compiles; missing is not an unseen category."""
    colour = contract.columns["colour"].model_copy(update={"nullable": True})
    nullable = contract.model_copy(update={"columns": {**contract.columns, "colour": colour}})
    with_missing = frame.assign(colour=frame["colour"].where(np.arange(len(frame)) % 7 != 0))
    encoder = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="gap"), OneHotEncoder(handle_unknown="ignore")
    )
    model = make_pipeline(
        make_column_transformer((StandardScaler(), ["size"]), (encoder, ["colour"])),
        LogisticRegression(C=100),
    )
    model.fit(nullable.select_features(with_missing), with_missing["colour"].isna())
    compiled = compile_pipeline(model, nullable, THRESHOLD, with_missing, tmp_path / "scorer")
    assert (compiled.scorer_name, compiled.reason) == ("linear model", "")
    row = nullable.select_features(with_missing).iloc[0].to_dict()
    predict = CompiledScorer.load(tmp_path / "scorer").predict_one
    gaps = [predict({**row, "colour": gap}).probabilities[1] for gap in (None, np.nan)]
    assert gaps[0] == gaps[1] > 0.9 > predict({**row, "colour": "mauve"}).probabilities[1]


def test_golden_rows_meet_contract_and_match_the_model(compile_model, frame, contract):
    model, _, folder = compile_model(LGBMClassifier(**QUIET, **SMALL_FOREST))
    result = json.loads((folder / "golden.json").read_text())
    rows = pd.DataFrame(result["rows"])
    assert contract.find_violations(
        rows.assign(who=range(len(rows)), year=1, group=0, after=0), require_target=False
    ).empty
    np.testing.assert_array_equal(predict_pipeline_scores(model, rows, contract), result["numbers"])
    assert rows["noise"].isna().sum() > 1
    assert result["typical"]["size"] == frame["size"].median()


def test_parity_check_detects_different_scorer(compile_model, frame, contract):
    model, _, folder = compile_model(LogisticRegression())
    scorer = CompiledScorer.load(folder)
    rows = build_parity_cases(frame, contract)
    assert check_parity(scorer, rows, predict_pipeline_scores(model, rows, contract)).passed
    scorer.encoder.category_encodings[0].outputs_by_category["11"][0] += 0.5
    result = check_parity(scorer, rows, predict_pipeline_scores(model, rows, contract))
    assert not result.passed
    assert result.max_difference > 1e-3
    assert not ParityResult(10, 1, 0.0).passed
    assert not ParityResult(10, 0, 2e-6).passed


def test_parity_cases_cover_missing_values_limits_and_unseen_categories(frame, contract):
    rows = build_parity_cases(frame, contract)
    result = rows.iloc[len(frame) :]
    assert {0.0, 100.0} <= set(result["size"])
    assert result["noise"].isna().any()
    assert {"1", "2", "11", "\x00unseen"} == set(result["colour"])
    assert not rows["size"].isna().any(), "a gap that the contract forbids"


def test_typical_row_has_medians_and_modes(frame, contract):
    row = make_typical_row(frame, contract)
    assert row["size"] == frame["size"].median()
    assert row["colour"] in {"1", "2", "11"}
    assert row["flag"] in {0.0, 1.0}


def test_binary_prediction_is_positive_from_threshold():
    classifier = ThresholdClassifier(("no", "yes"), 0.3)
    assert classifier.predict_row((0.7, 0.3)).prediction == "yes"
    assert classifier.predict_row((0.71, 0.29)).prediction == "no"
    assert classifier.predict(np.array([[0.7, 0.3], [0.71, 0.29]])).tolist() == ["yes", "no"]


def test_predictions_use_class_names_of_contract_and_survive_saving(contract):
    assert make_decision_rule(contract, 0.3).classes == (0, 1)
    several = make_decision_rule(of_task(contract, "multiclass"), None)
    assert several == ArgmaxClassifier(("low", "middle", "high"))
    reloaded = decision_rule_from_dict(json.loads(json.dumps(several.to_dict())))
    assert reloaded == several
    assert reloaded.predict_row((0.2, 0.7, 0.1)).prediction == "middle"
    assert reloaded.predict(np.array([[0.2, 0.7, 0.1]])).tolist() == ["middle"]
    assert make_decision_rule(of_task(contract, "regression"), None).predict_row([4.5]) == (
        4.5,
        None,
    )


def test_incompatible_or_corrupt_booster_raises(frame):
    model = LGBMClassifier(**QUIET, n_estimators=2).fit(
        frame[["size"]].to_numpy(), frame["happened"]
    )
    with pytest.raises(CompileError, match=r"\b1\b"):
        NativeBooster(model.booster_.model_to_string(), 3)
    with pytest.raises(CompileError, match="LightGBM"):
        NativeBooster("no model", 1)


def test_scorer_of_other_release_raises_with_next_step(compile_model):
    _, _, folder = compile_model(LogisticRegression())
    text = (folder / "scorer.json").read_text()
    (folder / "scorer.json").write_text(text.replace("LinearPredictor", "FormerPredictor"))
    with pytest.raises(CompileError, match="FormerPredictor") as refusal:
        CompiledScorer.load(folder)
    assert missing_facts(refusal.value.next, "finalize") == []


def test_scorer_is_read_by_its_keys_and_by_those_of_1_0_0(compile_model, frame, contract):
    _, _, folder = compile_model(LogisticRegression())
    document = json.loads((folder / "scorer.json").read_text())
    features = contract.select_features(frame)
    scorer = CompiledScorer.load(folder)
    former_and_new = (("kernel", "answering", "proof"), ("predictor", "decision_rule", "parity"))
    for removed_keys in former_and_new:
        remaining = {key: value for key, value in document.items() if key not in removed_keys}
        assert len(remaining) == len(document) - 3
        (folder / "scorer.json").write_text(json.dumps(remaining))
        loaded = CompiledScorer.load(folder)
        assert np.array_equal(loaded.predict_scores(features), scorer.predict_scores(features))
        assert loaded.parity == scorer.parity is not None


def test_outcomes_are_parsed_by_task(compile_model, contract):
    from modelbook.serving.schemas import OutcomeReader

    _, _, folder = compile_model(LinearRegression(), "regression")
    assert OutcomeReader(contract, CompiledScorer.load(folder).decision_rule).read_body(
        b'{"id": "a", "outcome": 3.5}', 10
    ) == {"a": 3.5}
    _, _, folder = compile_model(LogisticRegression(), "multiclass")
    read = OutcomeReader(contract, CompiledScorer.load(folder).decision_rule).read_body
    assert read(b'{"id": "a", "outcome": "low"}', 10) == {"a": "low"}
    with pytest.raises(RequestError, match="low, middle, high"):
        read(b'{"id": "a", "outcome": "tall"}', 10)
