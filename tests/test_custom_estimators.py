"""Custom estimators and metrics: comparison, tuning, validation before any fit."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CONTRACT
from pycaret.classification import ClassificationExperiment
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from text_facts import missing_facts

from modelbook import config, tasks
from modelbook.contract import Contract
from modelbook.engine import open_engine
from modelbook.errors import CustomCodeError, ModelbookError, ParameterError
from modelbook.tasks import scorers
from modelbook.training import custom_code, estimators, prediction_check, tuning
from modelbook.training.experiment import Experiment

TASK = tasks.get_task(Contract.model_validate(CONTRACT))
SPACE = {"HGB": {"max_iter": (5, 20), "learning_rate": (0.001, 0.5), "max_leaf_nodes": [4, 8]}}


class Unpicklable(LogisticRegression):
    def __reduce__(self) -> Any:
        raise OSError("an open file")


class MissingGetParams(ClassifierMixin, BaseEstimator):
    """An estimator whose arguments scikit-learn cannot read back."""

    def __init__(self, size: int = 1) -> None:
        self.size = [size]

    def fit(self, X: Any, y: Any) -> MissingGetParams:
        return self

    predict = predict_proba = fit


class Untyped(BaseEstimator):
    """A classifier that does not say that it is one."""

    def fit(self, X: Any, y: Any) -> Untyped:
        return self

    predict = predict_proba = fit


class Fixed(ClassifierMixin, BaseEstimator):
    """A classifier with a function of the rows as predictions."""

    def __init__(self, probabilities: Any, *, has_classes: bool = True, shift: Any = 0) -> None:
        self.probabilities, self.has_classes, self.shift = probabilities, has_classes, shift

    def fit(self, X: Any, y: Any) -> Fixed:
        if self.has_classes:
            self.classes_ = np.unique(y) + self.shift
        return self

    def predict_proba(self, X: Any) -> Any:
        return self.probabilities(len(X))

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X)) + self.shift


class Locked(LogisticRegression):
    """A classifier that cannot be pickled once it is fitted."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Locked:
        self.lock_ = threading.Lock()
        return super().fit(X, y)


def accuracy_gain(outcome: np.ndarray, prediction: np.ndarray) -> float:
    return float((outcome == prediction).mean() - 0.5)


def resolve_candidates(
    families: list[str], custom_estimators: dict[Any, Any], spaces: Any = None
) -> tuple[list[str], dict[str, Any]]:
    return estimators.resolve_candidates(TASK, families, custom_estimators, spaces or {}, seed=7)


@pytest.fixture(scope="module")
def trial(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> Experiment:
    custom = {"HGB": HistGradientBoostingClassifier(max_iter=20)}
    names, result = resolve_candidates(["svm", "GaussianNB"], custom, SPACE)
    assert names == ["svm", "GaussianNB", "HGB"]
    return Experiment(
        make_frame(seed=1), contract, folds=2, seed=1, estimators=result, search_spaces=SPACE,
        metrics=scorers.make_metrics(TASK, {"gain": accuracy_gain}, "neg_log_loss"),
    )  # fmt: skip


@pytest.mark.long
def test_custom_estimators_are_compared_on_same_folds_and_metrics(trial: Experiment) -> None:
    naive_bayes, gaussian_nb, linear = (
        trial.cross_validate(name) for name in ("nb", "GaussianNB", "svm")
    )
    assert gaussian_nb.mean == pytest.approx(naive_bayes.mean)  # PyCaret's nb is the same class
    assert gaussian_nb.mean["neg_log_loss"] == pytest.approx(
        -gaussian_nb.mean["log_loss"], abs=1e-3
    )
    assert gaussian_nb.mean["gain"] == pytest.approx(gaussian_nb.mean["accuracy"] - 0.5, abs=1e-3)
    assert linear.status == "ok"  # hinge loss: its probabilities are fitted behind it
    assert 0.6 < linear.mean["roc_auc"] < 1


@pytest.mark.long
def test_custom_estimator_is_tuned_by_custom_metric(trial: Experiment) -> None:
    space = tuning.make_search_space(*trial.get_search_spaces("HGB"))
    assert {name: getattr(values, "log", None) for name, values in space.items()} == {
        "max_iter": False, "learning_rate": True, "max_leaf_nodes": None,
    }  # fmt: skip
    with open_engine("local", "none", tuning.TuningTrialTask(trial)) as executor:
        tuned, default = (
            tuning.tune_family(trial, name, "gain", 2, 60, seed=1, executor=executor)
            for name in ("HGB", "GaussianNB")
        )
    assert len(tuned.trials) == 3
    assert tuned.trials["mean"].max() < 0.5
    assert len(default.trials) == 1


def test_stage_seed_is_set_where_estimator_has_none() -> None:
    custom = {
        "a": HistGradientBoostingClassifier(),
        "b": HistGradientBoostingClassifier(random_state=3),
    }
    result = resolve_candidates(["auto"], custom)[1]
    assert [result[name].random_state for name in "ab"] == [7, 3]
    assert custom["a"].random_state is None


@pytest.mark.parametrize(
    ("custom_estimators", "spaces", "facts"),
    [
        ({"a": HistGradientBoostingClassifier}, {}, ["a", "HistGradientBoostingClassifier"]),
        ({"a": object()}, {}, ["fit", "predict", "get_params"]),
        ({"a": SVC()}, {}, ["SVC", "predict_proba"]),
        ({"a": HistGradientBoostingRegressor()}, {}, ["regressor", "classification"]),
        ({"a": Untyped()}, {}, ["a", "Untyped", "classifier"]),
        ({"a": MissingGetParams()}, {}, ["a", "cloned"]),
        ({"a": Unpicklable()}, {}, ["a", "an open file"]),
        ({"lr": LogisticRegression()}, {}, ["'lr'"]),
        ({"lasso": LogisticRegression()}, {}, ["'lasso'"]),  # a family of regressions
        ({"dummy": LogisticRegression()}, {}, ["'dummy'"]),
        ({3: LogisticRegression()}, {}, [3]),
        ({"a/b": LogisticRegression()}, {}, ["'a/b'"]),
        ({"a": LogisticRegression()}, {"b": {"C": [1]}}, ["'b'"]),
        ({"a": LogisticRegression()}, {"a": {"c": [1]}}, ["a", "'c'"]),
        ({"a": LogisticRegression()}, {"a": {"C": (2, 1)}}, ["a", "C", "(2, 1)"]),
        ({"a": LogisticRegression()}, {"a": ["C"]}, ["a", "['C']"]),
    ],
)  # fmt: skip
def test_invalid_estimator_raises_before_any_fit(
    custom_estimators: dict[Any, Any], spaces: Any, facts: list[Any]
) -> None:
    with pytest.raises(CustomCodeError) as exc_info:
        resolve_candidates(["lr"], custom_estimators, spaces)
    assert missing_facts(exc_info.value.problem, *facts) == []
    assert exc_info.value.expected


@pytest.mark.long
def test_a_class_of_a_module_that_would_not_travel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from sklearn.linear_model import LogisticRegression\ndef double(X):\n    return X * 2\n"
        "class Mine(LogisticRegression):\n    def fit(self, X, y):\n"
        "        return super().fit(double(X), y)\n"
    )
    (tmp_path / "beside_notebooks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("beside_notebooks")
    with pytest.raises(CustomCodeError) as exc_info:
        resolve_candidates(["lr"], {"a": module.Mine()})
    assert missing_facts(exc_info.value.problem, "a", "beside_notebooks") == []
    cell = {"__name__": "__main__"}
    exec(source, cell)  # the same class in a cell, with its helper, travels by value
    assert resolve_candidates(["lr"], {"a": cell["Mine"]()})[0] == ["lr", "a"]


@pytest.mark.parametrize(
    ("estimator", "facts"),
    [
        (Fixed(lambda n: np.full(n, 0.5)), ["(200,)", "(200, 2)"]),
        (Fixed(lambda n: np.ones((n, 1))), ["(200, 1)", "(200, 2)"]),
        (Fixed(lambda n: np.full((n, 2), np.nan)), ["nan", "predict_proba"]),
        (Fixed(lambda n: np.full((n, 2), 0.4)), [0.8]),
        (Fixed(lambda n: np.tile([-0.5, 1.5], (n, 1))), [-0.5]),
        (Fixed(lambda n: np.full((n, 2), 0.5), has_classes=False), ["classes_"]),
        (Fixed(lambda n: np.full((n, 2), 0.5), shift=1), ["[1, 2]", "[0, 1]"]),
        (Fixed(lambda n: np.column_stack([np.arange(n), n - np.arange(n)]) / n), ["other rows"]),
        (
            Fixed(lambda n: np.full((n, 2), 0.5 * ((n - 1) // (n - 1)))),
            ["single", "ZeroDivisionError"],
        ),
        (Locked(), ["pickle", "lock"]),
    ],
)
def test_predictions_that_cannot_be_used_are_refused(
    make_frame: Callable[..., pd.DataFrame], estimator: Any, facts: list[Any]
) -> None:
    with pytest.raises(CustomCodeError) as exc_info:
        check_predictions(make_frame(), estimator)
    assert missing_facts(exc_info.value.problem, "mine", *facts) == []


@pytest.mark.long
def test_predictions_that_can_be_used_pass(
    make_frame: Callable[..., pd.DataFrame], trial: Experiment
) -> None:
    trial.check_estimators()
    check_predictions(make_frame(), KNeighborsClassifier(500))  # the comparison fits it to all rows


def check_predictions(frame: pd.DataFrame, estimator: Any) -> None:
    rows = prediction_check.select_probe_rows(TASK, frame["happened"])
    pipeline = Pipeline([("model", estimator)])
    features, outcome = frame.loc[rows, ["size", "flag"]], frame.loc[rows, "happened"]
    assert outcome.value_counts().tolist() == [100, 100]
    prediction_check.check_predictions(TASK, "mine", pipeline, features, outcome)


@pytest.mark.parametrize(
    ("family", "facts"),
    [("xgboost", ["xgboost", "not installed"]), ("HistGradientBoosting", ["HistGradientBoostingClassifier"]),
     ("LinearSVC", ["predict_proba"]), ("lasso", ["lasso", "classification"])],
)  # fmt: skip
def test_unknown_family_raises(
    family: str, facts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(config.FAMILY_PACKAGES, "xgboost", "a_package_that_is_not_there")
    with pytest.raises(ModelbookError) as exc_info:
        resolve_candidates([family], {})
    assert (
        missing_facts(exc_info.value.problem.replace("a_package_that_is_not_there", ""), *facts)
        == []
    )


@pytest.mark.parametrize(
    ("metrics", "facts"),
    [
        ({"a": lambda outcome: 1.0}, ["a", "TypeError"]),
        ({"a": lambda outcome, prediction: np.nan}, ["a", "nan"]),
        ({"a": lambda outcome, prediction: "much"}, ["a", "ValueError"]),
        (
            {"a": lambda outcome, prediction: outcome[prediction == 1].mean()},
            ["a", "nan", "constant"],
        ),
        ({"a": lambda outcome, prediction: 1 // int(prediction.sum())}, ["a", "ZeroDivisionError"]),
        ({"a": 3}, ["a", "int"]),
        ({"a": "no_scorer"}, ["a", "no_scorer"]),
        ({"roc_auc": accuracy_gain}, ["'roc_auc'"]),
        ({"cost": accuracy_gain}, ["'cost'"]),
        ({"a/b": accuracy_gain}, ["'a/b'"]),
    ],
)
def test_invalid_metric_raises_before_any_fit(metrics: dict[str, Any], facts: list[str]) -> None:
    def make_and_check() -> None:
        [metric] = scorers.make_metrics(TASK, metrics, "roc_auc").values()
        scorers.check_metric(TASK, metric, np.arange(40) % 2)

    with pytest.raises(CustomCodeError) as exc_info:
        make_and_check()
    assert missing_facts(exc_info.value.problem, *facts) == []


def test_a_metric_that_sorts_its_arguments_changes_no_outcome() -> None:
    def sort_both(outcome: np.ndarray, prediction: np.ndarray) -> float:
        outcome.sort()
        prediction.sort()
        return float(outcome @ prediction)

    [metric] = scorers.make_metrics(TASK, {"a": sort_both}, "roc_auc").values()
    outcome, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.4, 0.6])
    metric(outcome, score)
    assert outcome.tolist() == [1, 0, 1, 0]
    assert score.tolist() == [0.9, 0.1, 0.4, 0.6]


@pytest.mark.parametrize("name", ["r2", "neg_mean_squared_error", "roc_acu", "gain"])
def test_metric_of_another_task_raises(name: str) -> None:
    with pytest.raises(ParameterError) as exc_info:
        TASK.resolve_metric(name)
    assert repr(name) in exc_info.value.problem
    assert TASK.resolve_metric("gain", ["gain"]) == "gain"
    assert TASK.resolve_metric("balanced_accuracy") == "balanced_accuracy"


def test_the_metric_that_an_error_suggests_can_rank() -> None:
    target = {**CONTRACT["columns"]["happened"], "type": "number"}
    columns = {**CONTRACT["columns"], "happened": target}
    number = Contract.model_validate({**CONTRACT, "task": "regression", "columns": columns})
    for task in (TASK, tasks.get_task(number)):
        with pytest.raises(ParameterError) as exc_info:
            task.resolve_metric("no_scorer")
        name = exc_info.value.expected.rpartition(" ")[2]
        assert task.resolve_metric(name) == name


def test_scikit_learn_scorers_are_used_with_sign() -> None:
    random = np.random.default_rng(0)
    outcome, score = random.integers(0, 2, 50), random.uniform(size=50)
    [metric] = scorers.make_metrics(TASK, {}, "neg_log_loss").values()
    assert metric(outcome, score) == pytest.approx(-log_loss(outcome, score))


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        (None, ["custom/own.py", "does not exist"]),
        ("estimators = {", ["custom/own.py", "line 1"]),
        ("estimator = {}", ["custom/own.py", "estimators"]),
        ("import gone\nestimators = {}", ["custom/own.py", "ModuleNotFoundError", "line 1"]),
        ("raise SystemExit(2)\nestimators = {}", ["custom/own.py", "SystemExit", "line 1"]),
        ("estimators = []", ["custom/own.py", "list"]),
    ],
)
def test_file_without_expected_dict_raises(
    source: str | None, facts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "custom").mkdir()
    if source:
        (tmp_path / "custom/own.py").write_text(source)
    with pytest.raises(CustomCodeError) as exc_info:
        custom_code.load_dict(tmp_path, "custom/own.py", "estimators")
    assert missing_facts(exc_info.value.problem, *facts) == []
    assert custom_code.load_dict(tmp_path, "none", "estimators") == {}


@pytest.mark.parametrize(
    ("options", "facts"),
    [({"normalise": True}, ["normalise"]), ({"target": "x"}, ["target", "contract"]),
     ({"fold": 3}, ["fold", 3]), ({"fix_imbalance": True}, ["fix_imbalance", "imbalance"])],
)  # fmt: skip
def test_setup_options_owned_by_stage_raise(
    options: dict[str, Any], facts: list[Any], frame: pd.DataFrame, contract: Contract
) -> None:
    with pytest.raises(ParameterError) as exc_info:
        Experiment(frame, contract, folds=2, seed=1, setup_options=options, imbalance="oversample")
    assert missing_facts(exc_info.value.problem, *facts) == []


@pytest.mark.long
def test_pycaret_predictions_and_plots_are_out_of_fold(
    trial: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = trial.pycaret
    tree = experiment.create_model("dt", verbose=False)
    folds = experiment.pull().loc["Mean"]
    predictions = experiment.predict_model(tree, verbose=False)
    [result] = experiment.pull().to_dict("records")
    assert result["Accuracy"] == pytest.approx(folds["Accuracy"], abs=1e-3)
    assert result["Accuracy"] < 0.95  # a tree knows the rows that it was fitted on
    assert len(predictions) == len(trial.features)
    right = predictions["prediction_label"].to_numpy() == trial.target.to_numpy()
    assert right.mean() == pytest.approx(result["Accuracy"], abs=0.01)
    monkeypatch.chdir(tmp_path)
    fits: list[int] = []
    fit = type(tree).fit
    monkeypatch.setattr(
        type(tree),
        "fit",
        lambda self, X, y, *rest: [fits.append(len(X)), fit(self, X, y, *rest)][1],
    )
    experiment.plot_model(tree, "confusion_matrix", save=True)
    assert fits[0] == len(trial.cv_splits[-1][0])  # only the rows of the other fold
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]
    fits.clear()
    explained: list[Any] = []  # shap, which PyCaret explains with, is not in the locks
    monkeypatch.setattr(
        ClassificationExperiment,
        "interpret_model",
        lambda self, model, *rest, **options: explained.append((model, len(self.X_test), options)),
    )
    experiment.interpret_model(tree, "correlation", feature="size")
    assert fits == [len(trial.cv_splits[-1][0])]
    [(copy, explained_rows, options)] = explained
    assert copy is not tree
    assert explained_rows == len(trial.cv_splits[-1][1])
    assert options == {"feature": "size"}
    assert len(experiment.get_config("X_train")) == len(trial.features)
    # PyCaret shows four decimals.
    assert trial.cross_validate("dt").mean["accuracy"] == pytest.approx(folds["Accuracy"], abs=1e-4)
