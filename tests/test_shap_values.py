"""SHAP values: additivity, mapping to contract columns, and reasons for their absence."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import task_books
from catboost import CatBoostRegressor
from lightgbm import LGBMClassifier
from scipy.special import logit
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier
from text_facts import missing_facts

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.evaluation import shap_values
from modelbook.tasks.base import Task
from modelbook.training.experiment import Experiment
from modelbook.training.preprocessing import CheckedTransformer
from modelbook.training.stacking import StackedClassifier

Case = tuple[Task, pd.DataFrame, pd.DataFrame]
TREES = GradientBoostingClassifier(n_estimators=20, random_state=0)


@pytest.fixture(scope="module")
def binary_case(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> Case:
    return tasks.get_task(contract), make_frame(seed=1), make_frame(seed=2, entities=50)


@pytest.fixture(scope="module")
def regression_case() -> Case:
    contract = task_books.make_regression_contract()
    return (
        tasks.get_task(contract),
        contract.conform(task_books.make_regression_rows(0, 100)),
        contract.conform(task_books.make_regression_rows(1, 50)),
    )


@pytest.fixture(scope="module")
def multiclass_case() -> Case:
    contract = task_books.make_multiclass_contract()
    return (
        tasks.get_task(contract),
        contract.conform(task_books.make_multiclass_rows(0, 300)),
        contract.conform(task_books.make_multiclass_rows(1, 150)),
    )


def fit_pipeline(case: Case, model: Any, *first_steps: Any) -> Any:
    """A pipeline like PyCaret's, with imputed numbers and one-hot encoded categories."""
    task, train, _ = case
    categories, columns = task.contract.categorical_features, task.contract.feature_names
    preprocessing = make_column_transformer(
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), categories),
        remainder=SimpleImputer(), verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # fmt: skip
    assert set(categories) < set(columns)
    return make_pipeline(*first_steps, preprocessing, model).fit(
        task.contract.select_features(train), task.contract.encode_checked_target(train)
    )


def explain(case: Case, model: Any) -> tuple[Any, shap_values.ShapValues]:
    pipeline = fit_pipeline(case, model)
    return pipeline, shap_values.compute_shap_values(case[0], pipeline, *case[1:], seed=1)


def sum_shap_values(values: shap_values.ShapValues) -> pd.DataFrame:
    """Sum of base and SHAP values, by row and class."""
    return (
        values.table.pivot_table(
            index="row", columns="class", values="shap", aggfunc="sum", sort=False
        )
        + values.expected_values
    )


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        LinearDiscriminantAnalysis(),
        TREES,
        LGBMClassifier(n_estimators=20, verbosity=-1),
    ],
)
def test_shap_values_sum_to_log_odds_of_each_row(binary_case: Case, model: Any) -> None:
    pipeline, result = explain(binary_case, model)
    sums = sum_shap_values(result).sort_index()
    requests = binary_case[0].contract.select_features(binary_case[2])
    assert sums.index.tolist() == list(range(len(requests)))
    np.testing.assert_allclose(
        sums[""], logit(pipeline.predict_proba(requests)[:, 1]), rtol=0, atol=1e-6
    )
    assert result.unit == "the log-odds of “happened”"
    sizes = result.table["shap"].abs().groupby(result.table["feature"]).mean()
    assert set(sizes.index) == set(binary_case[0].contract.feature_names)
    assert sizes["size"] > 4 * sizes.drop("size").max()


@pytest.mark.parametrize(
    "model", [DecisionTreeClassifier(max_depth=6), RandomForestClassifier(10, random_state=0)]
)
def test_shap_values_of_forests_sum_to_probability(binary_case: Case, model: Any) -> None:
    pipeline, result = explain(binary_case, model)
    requests = binary_case[0].contract.select_features(binary_case[2])
    np.testing.assert_allclose(
        sum_shap_values(result).sort_index()[""], pipeline.predict_proba(requests)[:, 1], atol=1e-6
    )
    assert missing_facts(result.unit, "probability", "happened") == []


@pytest.mark.long
@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        GradientBoostingRegressor(random_state=0),
        CatBoostRegressor(iterations=5, verbose=0, allow_writing_files=False),
    ],
)
def test_shap_values_of_regression_sum_to_prediction_and_group_one_hot_columns(
    regression_case: Case, model: Any
) -> None:
    pipeline, result = explain(regression_case, model)
    requests = regression_case[0].contract.select_features(regression_case[2])
    np.testing.assert_allclose(
        sum_shap_values(result).sort_index()[""], pipeline.predict(requests), rtol=1e-6
    )
    assert missing_facts(result.unit, "amount") == []
    eleven = requests["colour"].eq("11").to_numpy()  # pays 100 more
    colour = (
        result.table[result.table["feature"] == "colour"]
        .set_index("row")["shap"]
        .sort_index()
        .to_numpy()
    )
    assert colour[eleven].mean() - colour[~eleven].mean() > 45
    level = result.table[result.table["feature"] == "size"].set_index("row")["level"].sort_index()
    np.testing.assert_array_equal(level.argsort(), requests["size"].argsort())
    colours = result.table[result.table["feature"] == "colour"].set_index("row").sort_index()
    assert colours["level"].isna().all()
    assert colours["value"].tolist() == requests["colour"].tolist()
    assert result.table.loc[result.table["feature"] == "size", "value"].isna().all()


@pytest.mark.parametrize(
    "model",
    [LogisticRegression(max_iter=1000), TREES, LGBMClassifier(n_estimators=20, verbosity=-1)],
)
def test_shap_values_of_multiclass_sum_for_each_class(multiclass_case: Case, model: Any) -> None:
    pipeline, result = explain(multiclass_case, model)
    sums = np.exp(sum_shap_values(result).sort_index()[multiclass_case[0].classes].to_numpy())
    requests = multiclass_case[0].contract.select_features(multiclass_case[2])
    np.testing.assert_allclose(
        sums / sums.sum(axis=1, keepdims=True), pipeline.predict_proba(requests), atol=1e-6
    )
    assert missing_facts(result.unit, "log-odds", "kind") == []


def test_shap_values_of_a_forest_sum_to_the_probability_of_each_class(
    multiclass_case: Case,
) -> None:
    pipeline, result = explain(multiclass_case, RandomForestClassifier(10, random_state=0))
    requests = multiclass_case[0].contract.select_features(multiclass_case[2])
    np.testing.assert_allclose(
        sum_shap_values(result).sort_index()[multiclass_case[0].classes],
        pipeline.predict_proba(requests),
        atol=1e-6,
    )


@pytest.mark.long
def test_features_of_pycaret_pipeline_are_mapped_to_contract_columns(binary_case: Case) -> None:
    task, train, holdout = binary_case
    trial = Experiment(train, task.contract, folds=2, seed=1)
    pipeline = trial.make_default_pipeline("lr").fit(*trial.get_train_features_and_target())
    result = shap_values.compute_shap_values(task, pipeline, train, holdout, seed=1)
    requests = task.contract.select_features(holdout)
    np.testing.assert_allclose(
        sum_shap_values(result).sort_index()[""],
        logit(pipeline.predict_proba(requests)[:, 1]),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("case", "model"),
    [
        ("binary_case", GaussianNB()),
        ("binary_case", AdaBoostClassifier(n_estimators=2)),
        ("multiclass_case", GaussianNB()),
    ],
)
def test_unsupported_model_has_reason_instead_of_shap_values(
    case: str, model: Any, request: pytest.FixtureRequest
) -> None:
    _, result = explain(request.getfixturevalue(case), model)
    assert result.table.empty
    assert result.reason


def test_blends_and_stacks_have_no_shap_values(binary_case: Case) -> None:
    blend = fit_pipeline(
        binary_case,
        VotingClassifier([("lr", LogisticRegression()), ("dt", DecisionTreeClassifier())]),
    )
    stack = StackedClassifier([blend], meta_model=lambda scores: scores[0])
    explanations = [
        shap_values.compute_shap_values(binary_case[0], pipeline, *binary_case[1:], seed=1)
        for pipeline in (blend, stack)
    ]
    assert all(explanation.table.empty for explanation in explanations)
    [reason] = {explanation.reason for explanation in explanations}
    assert reason != explain(binary_case, GaussianNB())[1].reason


def test_ensemble_is_explained_by_heaviest_model_that_has_shap_values(binary_case: Case) -> None:
    members = [
        fit_pipeline(binary_case, model)
        for model in (GaussianNB(), LogisticRegression(), DecisionTreeClassifier())
    ]
    blend = StackedClassifier(members, SimpleNamespace(weights=[0.5, 0.3, 0.2]))
    blend.fitted_ = members
    result = shap_values.compute_shap_values(binary_case[0], blend, *binary_case[1:], seed=1)
    values_of_member = shap_values.compute_shap_values(
        binary_case[0], members[1], *binary_case[1:], seed=1
    )
    pd.testing.assert_frame_equal(result.table, values_of_member.table)
    assert missing_facts(result.unit, "LogisticRegression", "30%") == []


class IdentityCalibrator:
    """Stands for a calibration of a single model."""


@pytest.mark.long
def test_values_of_calibrated_model_are_named_as_those_before_calibration(
    binary_case: Case,
) -> None:
    task, train, holdout = binary_case
    member = fit_pipeline(binary_case, LogisticRegression())
    calibrated = StackedClassifier([member], IdentityCalibrator())
    calibrated.fitted_ = [member]
    plain, before = (
        shap_values.compute_shap_values(task, pipeline, train, holdout, seed=1)
        for pipeline in (member, calibrated)
    )
    pd.testing.assert_frame_equal(plain.table, before.table)
    assert "calibration" in before.unit
    assert "calibration" not in plain.unit


class HalvingStep(BaseEstimator):
    """Makes one column of one, or of two."""

    def __init__(self, mixed: bool = False) -> None:
        self.mixed = mixed

    def fit(self, X: pd.DataFrame, y: Any = None) -> HalvingStep:
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.assign(halved=X["size"] / 2 + (50 * X["flag"] if self.mixed else 0))


@pytest.mark.long
def test_columns_of_custom_transformer_are_mapped_to_their_source(binary_case: Case) -> None:
    single, mixed = (
        fit_pipeline(binary_case, TREES, CheckedTransformer("own.Halved", HalvingStep(both)))
        for both in (False, True)
    )
    result = shap_values.compute_shap_values(binary_case[0], single, *binary_case[1:], seed=1)
    assert set(result.table["feature"]) == set(binary_case[0].contract.feature_names)
    result = shap_values.compute_shap_values(binary_case[0], mixed, *binary_case[1:], seed=1)
    assert result.table.empty
    assert missing_facts(result.reason, "halved", "size", "flag") == []


def test_column_without_values_has_zero_shap_values(binary_case: Case) -> None:
    task, train, holdout = binary_case
    empty = (task, train.assign(noise=np.nan), holdout)
    first_steps = SimpleImputer(keep_empty_features=True).set_output(transform="pandas")
    columns = ["size", "noise", "flag"]
    assert shap_values._probe_values(empty[1]["noise"]).isna().tolist() == [True]
    result = shap_values._trace_model_columns(
        first_steps.fit(empty[1][columns]), empty[1][columns], 1
    )
    assert result.loc["size"].tolist() == [True, False, False]
    assert not result["noise"].any()


def test_shap_values_that_do_not_sum_to_prediction_are_not_shown(
    binary_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = shap_values._predict_raw_outputs
    monkeypatch.setattr(
        shap_values, "_predict_raw_outputs", lambda *args: (raw(*args)[0] + 0.01, raw(*args)[1])
    )
    result = explain(binary_case, LogisticRegression())[1]
    assert result.table.empty
    assert missing_facts(result.reason, 0.01) == []


@pytest.mark.long
def test_deep_forests_explain_fewer_rows_and_huge_ones_none(
    binary_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shap_values, "TARGET_WORK", 1.0)
    assert explain(binary_case, TREES)[1].table["row"].nunique() == shap_values.MIN_EXPLAINED_ROWS
    monkeypatch.setattr(shap_values, "MAX_WORK", 1.0)
    result = explain(binary_case, TREES)[1]
    assert result.table.empty
    assert result.reason
