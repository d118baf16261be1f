"""Stacking and calibration on out-of-fold predictions by entity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.tree import DecisionTreeClassifier

from modelbook.training.stacking import (
    CALIBRATORS,
    IsotonicCalibrator,
    LogisticStacker,
    NonNegativeStacker,
    SigmoidCalibrator,
    fit_meta_model,
)


def make_experiment(
    outcome: np.ndarray, groups: np.ndarray, learner: str = "classification"
) -> Any:
    splits = list(GroupKFold(4).split(outcome, outcome, groups))
    return SimpleNamespace(
        target=pd.Series(outcome), groups=pd.Series(groups), cv_splits=splits,
        task=SimpleNamespace(experiment_type=learner),
    )  # fmt: skip


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, their true probabilities, and a model's, whose log-odds are three times too large."""
    random = np.random.default_rng(0)
    true = random.beta(2, 2, 4000)
    output = 1 / (1 + np.exp(-3 * logit(true)))
    return (random.uniform(size=4000) < true).astype(int), true, output


@pytest.mark.parametrize("method", CALIBRATORS)
def test_calibration_corrects_overconfident_probabilities(
    method: str, overconfident: tuple[np.ndarray, ...]
) -> None:
    outcome, true, output = overconfident
    trial = make_experiment(outcome, np.arange(4000))
    complete, result = fit_meta_model(trial, [DummyClassifier()], [output], CALIBRATORS[method])
    assert np.abs(result - true).mean() < 0.04 < np.abs(output - true).mean()
    assert sk.log_loss(outcome, result) < sk.log_loss(outcome, output) - 0.05
    assert result.min() > 0
    assert result.max() < 1
    assert is_classifier(complete)


@pytest.mark.parametrize("method", CALIBRATORS)
def test_calibrated_multiclass_probabilities_sum_to_one(method: str) -> None:
    random = np.random.default_rng(0)
    true = random.dirichlet([2, 2, 2], 3000)
    outcome = np.array([random.choice(3, p=row) for row in true])
    output = true**3 / (true**3).sum(axis=1, keepdims=True)
    _, result = fit_meta_model(
        make_experiment(outcome, np.arange(3000)),
        [DummyClassifier()],
        [output],
        CALIBRATORS[method],
    )
    assert result.sum(axis=1) == pytest.approx(np.ones(3000))
    assert np.abs(result - true).mean() < 0.6 * np.abs(output - true).mean()


def test_outcome_of_entity_does_not_leak_into_its_out_of_fold_prediction() -> None:
    # Outcomes are random but alike within an entity, and the only "model" answers with a number for each entity. Steps
    # that had seen an entity's own outcome would give it back.
    random = np.random.default_rng(0)
    groups, outcome = np.repeat(np.arange(40), 10), np.repeat(random.integers(0, 2, 40), 10)
    output = np.repeat(random.uniform(0.05, 0.95, 40), 10)
    complete, result = fit_meta_model(
        make_experiment(outcome, groups), [DummyClassifier()], [output], IsotonicCalibrator
    )
    assert sk.roc_auc_score(outcome, result) < 0.7
    for _, requests in make_experiment(outcome, groups).cv_splits:
        learned = np.setdiff1d(np.arange(400), requests)
        expected = IsotonicCalibrator(output[None, learned, None], outcome[learned])(
            output[None, requests, None]
        )[:, 0]
        np.testing.assert_array_equal(result[requests], expected)
    np.testing.assert_array_equal(
        complete.meta_model(output[None, :, None]),
        IsotonicCalibrator(output[None, :, None], outcome)(output[None, :, None]),
    )


def test_stack_weights_better_model_and_keeps_meta_model_on_refit() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"size": random.normal(size=800), "noise": random.normal(size=800)})
    outcome = (random.uniform(size=800) < 1 / (1 + np.exp(-2 * rows["size"]))).astype(int)
    good, bad = LogisticRegression(), DecisionTreeClassifier(max_depth=3, random_state=0)
    scores = [good.fit(rows, outcome).predict_proba(rows)[:, 1], random.uniform(0.1, 0.9, 800)]
    complete, result = fit_meta_model(
        make_experiment(outcome.to_numpy(), np.arange(800)), [good, bad], scores, LogisticStacker
    )
    weights = np.abs(complete.meta_model.regression.coef_[0])
    assert weights[0] > 5 * weights[1]
    assert sk.roc_auc_score(outcome, result) > 0.8
    refitted = clone(complete).fit(rows, outcome)
    assert (
        refitted.meta_model.regression.coef_.tolist()
        == complete.meta_model.regression.coef_.tolist()
    )
    expected = complete.meta_model(
        np.stack([m.predict_proba(rows)[:, 1:] for m in (good, bad.fit(rows, outcome))])
    )
    np.testing.assert_allclose(refitted.predict_proba(rows)[:, 1:], expected)
    assert set(refitted.predict(rows)) == {0, 1}


def test_calibrated_stack_is_supported(overconfident: tuple[np.ndarray, ...]) -> None:
    outcome, _, output = overconfident
    trial, rows = make_experiment(outcome, np.arange(4000)), pd.DataFrame({"said": output})
    stack, scores = fit_meta_model(trial, [LogisticRegression()], [output], LogisticStacker)
    complete, _ = fit_meta_model(trial, [stack], [scores], SigmoidCalibrator)
    result = clone(complete).fit(rows, pd.Series(outcome)).predict_proba(rows)
    assert result.sum(axis=1) == pytest.approx(np.ones(4000))
    assert sk.log_loss(outcome, result[:, 1]) < sk.log_loss(outcome, output) - 0.05


def test_regression_stack_has_non_negative_weights() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(10, 3, 500)
    scores = [truth + random.normal(0, 1, 500), -truth]
    complete, result = fit_meta_model(
        make_experiment(truth, np.arange(500), "regression"),
        [LinearRegression()] * 2,
        scores,
        NonNegativeStacker,
    )
    assert np.sqrt(np.mean((result - truth) ** 2)) < 1.1
    assert (complete.meta_model.regression.coef_ >= 0).all()
    assert is_regressor(complete)
    rows = pd.DataFrame({"size": truth})
    predictions = clone(complete).fit(rows, pd.Series(truth)).predict(rows)
    assert np.sqrt(np.mean((predictions - truth) ** 2)) < 1.1
