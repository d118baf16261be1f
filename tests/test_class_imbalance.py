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
    """Notes the classes that it is fitted on, and how many rows it is asked about."""

    fitted: ClassVar[list[list[int]]] = []
    asked: ClassVar[list[int]] = []

    def fit(self, X: Any, y: Any) -> RecordingClassifier:
        self.classes_ = np.array([0, 1])
        self.fitted.append(np.bincount(y).tolist())
        return self

    def predict(self, X: Any) -> np.ndarray:
        raise NotImplementedError("it is asked for probabilities")

    def predict_proba(self, X: Any) -> np.ndarray:
        self.asked.append(len(X))
        return np.full((len(X), 2), 0.5)


@pytest.fixture(scope="module")
def rows(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = make_frame(seed=1)
    retained = (frame["happened"] == 0) | (frame["who"] % 8 == 0)
    return frame[retained].reset_index(drop=True)


@pytest.fixture(scope="module")
def trials(rows: pd.DataFrame, contract: Contract) -> Callable[[str], Experiment]:
    result: dict[str, Experiment] = {}

    def trial(balance: str) -> Experiment:
        if balance not in result:
            result[balance] = Experiment(rows, contract, folds=2, seed=1, imbalance=balance)
        return result[balance]

    return trial


@pytest.mark.parametrize("balance", ["none", "oversample", "undersample"])
def test_only_training_rows_are_resampled(
    trials: Callable[[str], Experiment], balance: str
) -> None:
    trial = trials(balance)
    RecordingClassifier.fitted.clear(), RecordingClassifier.asked.clear()
    trial.make_default_pipeline("lr")  # what was made before has no say
    trial.predict_out_of_fold(trial.make_pipeline(RecordingClassifier()))
    there = [np.bincount(trial.target.iloc[fitted]).tolist() for fitted, _ in trial.cv_splits()]
    expected = {
        "none": there,
        "oversample": [[max(n)] * 2 for n in there],
        "undersample": [[min(n)] * 2 for n in there],
    }
    assert RecordingClassifier.fitted == expected[balance]
    assert RecordingClassifier.asked == [len(asked) for _, asked in trial.cv_splits()]


@pytest.mark.parametrize("balance", ["weights", "oversample", "undersample"])
def test_balancing_raises_predicted_probability_of_rare_class(
    trials: Callable[[str], Experiment], balance: str
) -> None:
    plain, balanced = (
        trial.predict_out_of_fold(trial.make_default_pipeline("nb")).score
        for trial in (trials("none"), trials(balance))
    )
    assert len(plain) == len(balanced)
    assert abs(plain.mean() - trials("none").target.mean()) < 0.06
    assert balanced.mean() > plain.mean() + 0.1


@pytest.mark.long
def test_baseline_is_not_balanced(trials: Callable[[str], Experiment]) -> None:
    plain, drawn = (
        trials("none").cross_validate("dummy"),
        trials("oversample").cross_validate("dummy"),
    )
    assert drawn.mean["log_loss"] == pytest.approx(plain.mean["log_loss"])
    assert "balance" in dict(
        trials("oversample").make_default_pipeline("lr").steps
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
    trial = Experiment(secret, contract, folds=3, seed=1, imbalance="oversample")
    assert trial.cross_validate("dt").mean["roc_auc"] == pytest.approx(0.5, abs=0.12)


def test_families_without_class_weights_fail_with_reason(
    trials: Callable[[str], Experiment],
) -> None:
    trial = trials("weights")
    lda, tree = trial.make_default_pipeline("lda")[-1], trial.make_default_pipeline("dt")[-1]
    assert lda.priors.tolist() == [0.5, 0.5]
    assert tree.class_weight == "balanced"
    result = trial.cross_validate("knn")
    assert result.status == "failed"
    assert missing_facts(result.reason, "nearest neighbours") == []


@pytest.mark.parametrize(
    ("family", "plain"), [("ada", AdaBoostClassifier), ("gbc", GradientBoostingClassifier)]
)
def test_boosting_uses_balanced_sample_weights(family: str, plain: type) -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 2)), np.repeat([0, 1], [160, 40])
    even = class_balancing.BALANCED_ESTIMATORS[family](random_state=0, n_estimators=5).fit(X, y)
    by_hand = plain(random_state=0, n_estimators=5).fit(X, y, np.where(y == 1, 2.5, 0.625))
    np.testing.assert_allclose(even.predict_proba(X), by_hand.predict_proba(X))


def test_learning_curve_accepts_category_of_later_fold_only(
    trials: Callable[[str], Experiment], rows: pd.DataFrame, contract: Contract
) -> None:
    first = trials("none").entities.iloc[trials("none").cv_splits()[0][1]]
    colour = rows["colour"].replace("11", "1").mask(rows["who"].isin(first), "11")
    trial = Experiment(
        rows.assign(colour=colour), contract, folds=2, seed=1, imbalance="oversample"
    )
    result = learning_curve.compute_learning_curve(
        trial, "nb", "roc_auc", 1000, seed=1, report_progress=lambda *args, **more: None
    )
    assert result.groupby("fold")["share"].max().tolist() == [1, 1]


def test_report_describes_effect_of_balancing_on_probabilities(
    trials: Callable[[str], Experiment],
) -> None:
    texts = {
        balance: trials(balance).describe_sampling()
        for balance in ("none", "undersample", "oversample", "weights")
    }
    assert texts.pop("none") == ""
    assert (
        numbers(trials("none").describe_folds()) == []
    )  # neither balanced nor chosen on fewer rows
    for balance, text in texts.items():
        assert missing_facts(text, balance, "calibrate") == []
        assert text in trials(balance).describe_folds()
    assert len({text.replace(balance, "") for balance, text in texts.items()}) == 3


def test_regression_with_balancing_raises() -> None:
    with pytest.raises(ParameterError, match=r"'weights'.*regression"):
        Experiment(
            task_books.regression_rows(),
            task_books.of_number(),
            folds=2,
            seed=1,
            imbalance="weights",
        )


def test_multiclass_is_resampled_evenly() -> None:
    contract = task_books.of_classes()
    frame = contract.conform(task_books.multiclass_rows())
    trial = Experiment(frame, contract, folds=2, seed=1, imbalance="undersample")
    RecordingClassifier.fitted.clear()
    trial.make_default_pipeline("lr")
    trial.make_pipeline(RecordingClassifier()).fit(trial.features, trial.target)
    assert RecordingClassifier.fitted == [[trial.target.value_counts().min()] * 3]
