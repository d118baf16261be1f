"""Class imbalance: weights and resampling of train rows only, and its description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import task_books
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier
from text_facts import missing_facts, numbers

from modelbook.contract import Contract
from modelbook.errors import ParameterError
from modelbook.training import class_balancing, learning_curve
from modelbook.training.experiment import Experiment


class RecordingClassifier(ClassifierMixin, BaseEstimator):
    """Records the class counts that it is fitted on, and the numbers of rows to predict."""

    fitted: ClassVar[list[list[int]]] = []
    n_predicted: ClassVar[list[int]] = []

    def fit(self, X: Any, y: Any) -> RecordingClassifier:
        self.classes_ = np.array([0, 1])
        self.fitted.append(np.bincount(y).tolist())
        return self

    def predict(self, X: Any) -> np.ndarray:
        raise NotImplementedError("only predict_proba is used")

    def predict_proba(self, X: Any) -> np.ndarray:
        self.n_predicted.append(len(X))
        return np.full((len(X), 2), 0.5)


@pytest.fixture(scope="module")
def rows(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = make_frame(seed=1)
    is_retained = (frame["happened"] == 0) | (frame["who"] % 8 == 0)
    return frame[is_retained].reset_index(drop=True)


@pytest.fixture(scope="module")
def experiments(rows: pd.DataFrame, contract: Contract) -> Callable[[str], Experiment]:
    result: dict[str, Experiment] = {}

    def experiment(balance: str) -> Experiment:
        if balance not in result:
            result[balance] = Experiment(rows, contract, folds=2, seed=1, imbalance=balance)
        return result[balance]

    return experiment


@pytest.mark.parametrize("balance", ["none", "oversample", "undersample"])
def test_only_training_rows_are_resampled(
    experiments: Callable[[str], Experiment], balance: str
) -> None:
    experiment = experiments(balance)
    RecordingClassifier.fitted.clear(), RecordingClassifier.n_predicted.clear()
    experiment.make_default_pipeline("lr")  # must not affect later pipelines
    experiment.predict_out_of_fold(experiment.make_pipeline(RecordingClassifier()))
    class_counts = [
        np.bincount(experiment.target.iloc[train_positions]).tolist()
        for train_positions, _ in experiment.cv_splits
    ]
    expected = {
        "none": class_counts,
        "oversample": [[max(n)] * 2 for n in class_counts],
        "undersample": [[min(n)] * 2 for n in class_counts],
    }
    assert RecordingClassifier.fitted == expected[balance]
    assert RecordingClassifier.n_predicted == [
        len(test_positions) for _, test_positions in experiment.cv_splits
    ]


@pytest.mark.long
@pytest.mark.parametrize("balance", ["weights", "oversample", "undersample"])
def test_balancing_raises_predicted_probability_of_rare_class(
    experiments: Callable[[str], Experiment], balance: str
) -> None:
    unbalanced, balanced = (
        experiment.predict_out_of_fold(experiment.make_default_pipeline("nb")).score
        for experiment in (experiments("none"), experiments(balance))
    )
    assert len(unbalanced) == len(balanced)
    assert abs(unbalanced.mean() - experiments("none").target.mean()) < 0.06
    assert balanced.mean() > unbalanced.mean() + 0.1


@pytest.mark.long
def test_baseline_is_not_balanced(experiments: Callable[[str], Experiment]) -> None:
    baseline, oversampled_baseline = (
        experiments("none").cross_validate("dummy"),
        experiments("oversample").cross_validate("dummy"),
    )
    assert oversampled_baseline.mean["log_loss"] == pytest.approx(baseline.mean["log_loss"])
    assert "balance" in dict(
        experiments("oversample").make_default_pipeline("lr").steps
    )  # the next family is balanced again


@pytest.mark.long
def test_resampling_keeps_entities_in_one_fold(rows: pd.DataFrame, contract: Contract) -> None:
    # Outcomes are random but the same in all rows of a member, and ``noise`` gives the member away.
    chance = (np.random.default_rng(0).uniform(size=200) < 0.2).astype(int)
    secret = rows.assign(
        noise=rows["who"].astype(float),
        happened=chance[rows["who"]],
        size=50.0,
        colour="1",
        flag=0.0,
    )
    experiment = Experiment(secret, contract, folds=3, seed=1, imbalance="oversample")
    assert experiment.cross_validate("dt").mean["roc_auc"] == pytest.approx(0.5, abs=0.12)


def test_families_without_class_weights_fail_with_reason(
    experiments: Callable[[str], Experiment],
) -> None:
    experiment = experiments("weights")
    lda, tree = (
        experiment.make_default_pipeline("lda")[-1],
        experiment.make_default_pipeline("dt")[-1],
    )
    assert lda.priors.tolist() == [0.5, 0.5]
    assert tree.class_weight == "balanced"
    result = experiment.cross_validate("knn")
    assert result.status == "failed"
    assert missing_facts(result.reason, "nearest neighbours") == []


@pytest.mark.parametrize(
    ("family", "estimator_class"),
    [("ada", AdaBoostClassifier), ("gbc", GradientBoostingClassifier)],
)
def test_boosting_uses_balanced_sample_weights(family: str, estimator_class: type) -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 2)), np.repeat([0, 1], [160, 40])
    even = class_balancing.BALANCED_ESTIMATORS[family](random_state=0, n_estimators=5).fit(X, y)
    expected = estimator_class(random_state=0, n_estimators=5).fit(
        X, y, np.where(y == 1, 2.5, 0.625)
    )
    np.testing.assert_allclose(even.predict_proba(X), expected.predict_proba(X))


@pytest.mark.long
def test_learning_curve_accepts_category_of_later_fold_only(
    experiments: Callable[[str], Experiment], rows: pd.DataFrame, contract: Contract
) -> None:
    first = experiments("none").entities.iloc[experiments("none").cv_splits[0][1]]
    colour = rows["colour"].replace("11", "1").mask(rows["who"].isin(first), "11")
    experiment = Experiment(
        rows.assign(colour=colour), contract, folds=2, seed=1, imbalance="oversample"
    )
    result = learning_curve.compute_learning_curve(
        experiment, "nb", "roc_auc", 1000, seed=1, report_progress=lambda *args, **options: None
    )
    assert result.groupby("fold")["share"].max().tolist() == [1, 1]


def test_report_describes_effect_of_balancing_on_probabilities(
    experiments: Callable[[str], Experiment],
) -> None:
    texts = {
        balance: experiments(balance).describe_sampling()
        for balance in ("none", "undersample", "oversample", "weights")
    }
    assert texts.pop("none") == ""
    assert (
        numbers(experiments("none").describe_folds()) == []
    )  # neither balanced nor chosen on fewer rows
    for balance, text in texts.items():
        assert missing_facts(text, balance, "calibrate") == []
        assert text in experiments(balance).describe_folds()
    assert len({text.replace(balance, "") for balance, text in texts.items()}) == 3


def test_regression_with_balancing_raises() -> None:
    with pytest.raises(ParameterError, match=r"'weights'.*regression"):
        Experiment(
            task_books.make_regression_rows(),
            task_books.make_regression_contract(),
            folds=2,
            seed=1,
            imbalance="weights",
        )


def test_multiclass_is_resampled_evenly() -> None:
    contract = task_books.make_multiclass_contract()
    frame = contract.conform(task_books.make_multiclass_rows())
    experiment = Experiment(frame, contract, folds=2, seed=1, imbalance="undersample")
    RecordingClassifier.fitted.clear()
    experiment.make_default_pipeline("lr")
    experiment.make_pipeline(RecordingClassifier()).fit(experiment.features, experiment.target)
    assert RecordingClassifier.fitted == [[experiment.target.value_counts().min()] * 3]
