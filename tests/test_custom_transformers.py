"""Custom transformers and rare-category grouping, fitted within folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from conftest import CONTRACT
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler
from text_facts import missing_facts

from modelbook.contract import Contract
from modelbook.errors import CustomCodeError
from modelbook.training import preprocessing
from modelbook.training.experiment import Experiment
from modelbook.training.preprocessing import OTHER_CATEGORY, CheckedTransformer, RareCategoryGrouper


class RecordingStep(BaseEstimator):
    """A transformer with a given function; records the rows of each fit."""

    fits: list[int] = []  # noqa: RUF012

    def __init__(self, make_columns: Any = None) -> None:
        self.make_columns = make_columns

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> RecordingStep:
        RecordingStep.fits.append(len(X))
        self.mean_ = X["size"].mean()
        return self

    def transform(self, X: pd.DataFrame) -> Any:
        return (
            self.make_columns(X) if self.make_columns else X.assign(centred=X["size"] - self.mean_)
        )


def fit_and_check(make_columns: Any, frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    rows = contract.select_features(frame)
    return preprocessing.fit_and_check_steps(
        [("custom_0", CheckedTransformer("odd.Step", RecordingStep(make_columns)))],
        contract,
        rows,
        frame["happened"],
    )


def increase_size_in_place(X: pd.DataFrame) -> pd.DataFrame:
    X["size"] = X["size"] + 1
    return X


def require_noise(X: pd.DataFrame) -> pd.DataFrame:
    assert X["noise"].notna().any()
    return X


@pytest.mark.parametrize(
    ("make_columns", "facts"),
    [
        (lambda X: X.to_numpy(), ["ndarray"]),
        (lambda X: X.dropna(), [600]),
        (lambda X: X.reset_index(drop=True).set_axis(range(1, len(X) + 1)), ["index"]),
        (lambda X: X.iloc[::-1], ["order"]),
        (lambda X: X.set_axis(range(X.shape[1]), axis=1), ["[0, 1, 2, 3]"]),
        (lambda X: X.assign(day=pd.Timestamp("2020-01-01")), ["'day'", "datetime64"]),
        (lambda X: X.assign(size=X["size"] - X["size"].mean()), []),  # depends on the other rows
        (lambda X: X.assign(luck=np.random.default_rng().normal(size=len(X))), []),
        (lambda X: X.assign(more=X["absent"]), ["KeyError: 'absent'"]),
        (lambda X: X.assign(**{f"n{len(X)}": 1.0}), ["'n50'", "'n600'"]),
        (require_noise, ["AssertionError"]),
        (increase_size_in_place, []),  # changes the rows that it is given
    ],
)
def test_invalid_custom_transformer_raises_with_file_name(
    make_columns: Any, facts: list[Any], frame: pd.DataFrame, contract: Contract
) -> None:
    with pytest.raises(CustomCodeError) as exc_info:
        fit_and_check(make_columns, frame, contract)
    assert missing_facts(exc_info.value.problem, "odd.Step", *facts) == []
    assert "custom/odd.py" in exc_info.value.next


def test_transformer_output_is_converted_to_supported_dtypes(
    frame: pd.DataFrame, contract: Contract
) -> None:
    def make_columns(X: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({
            "big": X["size"] > 50, "ratio": X["size"] / X["flag"], "whole": X["flag"].astype("Int64"),
            "kind": X["colour"].astype("category"), "name": X["colour"].where(X["colour"] != "1", None),
        })  # fmt: skip

    result = fit_and_check(make_columns, frame, contract)
    assert result.dtypes.astype(str).to_dict() == {
        "big": "float64", "ratio": "float64", "whole": "float64", "kind": "object", "name": "object",
    }  # fmt: skip
    none = frame["flag"].to_numpy() == 0
    assert result["ratio"].isna().tolist() == none.tolist()  # infinite: a gap
    assert {type(value) for value in result["name"]} == {str, float}
    assert preprocessing.text_columns(result) == ["kind", "name"]


@pytest.mark.long
def test_scikit_learn_transformer_is_accepted(
    tmp_path: Path, frame: pd.DataFrame, contract: Contract
) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/scaled.py").write_text(
        "from sklearn.compose import make_column_transformer\nfrom sklearn.preprocessing import StandardScaler\n"
        "sizes = make_column_transformer((StandardScaler(), ['size']), remainder='passthrough',\n"
        "                                verbose_feature_names_out=False)\n"
    )
    steps = preprocessing.make_steps(tmp_path, ["scaled.sizes"], rare_category_share=0)
    rows = contract.select_features(frame)
    result = preprocessing.fit_and_check_steps(steps, contract, rows, frame["happened"])
    assert result["size"].to_numpy() == pytest.approx(
        StandardScaler().fit_transform(rows[["size"]])[:, 0]
    )


# Rare categories


def test_rare_and_unseen_categories_are_grouped() -> None:
    rows = pd.DataFrame({"code": [*"aaaaaabbbc", np.nan], "size": range(11)})
    result = (
        RareCategoryGrouper(0.2)
        .fit(rows)
        .transform(pd.DataFrame({"code": ["a", "b", "c", "new", np.nan], "size": range(5)}))
    )
    assert result["code"].tolist()[:4] == ["a", "b", OTHER_CATEGORY, OTHER_CATEGORY]
    assert result["code"].isna().tolist() == [False] * 4 + [True]
    assert result["size"].tolist() == [*range(5)]


# In an experiment


@pytest.fixture
def open_contract() -> Contract:
    """The same contract, with colours of which new ones may come."""
    colour = {"role": "feature", "type": "category", "allow_unseen": True, "meaning": "code"}
    return Contract.model_validate(
        {**CONTRACT, "columns": {**CONTRACT["columns"], "colour": colour}}
    )


MANY_CATEGORIES = [str(code % 40) for code in range(600)]  # too many for a column each


@pytest.mark.long
@pytest.mark.parametrize(
    ("rare", "colours"),
    [(0, ["1", "2"] * 300), (0, MANY_CATEGORIES), (0.1, ["1", "2", "11"] * 200)],
)
def test_unseen_category_gets_finite_prediction(
    rare: float, colours: list[str], frame: pd.DataFrame, open_contract: Contract
) -> None:
    train = frame.assign(colour=colours)
    trial = Experiment(
        train,
        open_contract,
        folds=2,
        seed=1,
        steps=preprocessing.make_steps(Path(), ["none"], rare),
    )
    model = trial.make_pipeline(LogisticRegression(max_iter=1000)).fit(trial.features, trial.target)
    new = open_contract.select_features(
        train.head(2).assign(colour=["never seen", colours[0]], size=50.0)
    )
    probabilities = model.predict_proba(new)[:, 1]
    assert np.isfinite(probabilities).all()
    assert np.ptp(probabilities) < 0.2


@pytest.mark.long
def test_custom_steps_are_fitted_within_folds_and_stored_in_pipeline(
    frame: pd.DataFrame, contract: Contract
) -> None:
    RecordingStep.fits.clear()
    trial = Experiment(
        frame,
        contract,
        folds=3,
        seed=1,
        steps=[("custom_0", CheckedTransformer("odd.Step", RecordingStep()))],
    )
    assert RecordingStep.fits == [600]
    assert trial.cross_validate("lr").status == "ok"
    *folds, last = RecordingStep.fits[
        1:
    ]  # the last one is PyCaret's own, of the model that it returns
    assert (len(folds), sum(folds), last) == (3, 1200, 600)
    pipeline = trial.make_pipeline(LogisticRegression(max_iter=1000))
    RecordingStep.fits.clear()
    trial.predict_out_of_fold(pipeline)
    assert RecordingStep.fits == folds
    pipeline.fit(*trial.get_train_features_and_target())
    rows = contract.select_features(frame)
    reloaded = cloudpickle.loads(cloudpickle.dumps(pipeline))
    assert (reloaded.predict_proba(rows) == pipeline.predict_proba(rows)).all()
    assert reloaded.steps[0][1].fitted_.mean_ == pytest.approx(rows["size"].mean())


@pytest.mark.long
def test_column_added_by_custom_step_is_used_by_model(
    make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    frame = make_frame()
    odd = (frame["size"].astype(int) % 2).to_numpy()
    frame = frame.assign(happened=odd)
    steps = [
        (
            "custom_0",
            CheckedTransformer(
                "odd.Step",
                RecordingStep(
                    lambda X: X.assign(odd=(X["size"].astype(int) % 2).map({0: "e", 1: "o"}))
                ),
            ),
        )
    ]
    scores_without, scores_with = (
        Experiment(frame, contract, folds=3, seed=1, steps=sample)
        .cross_validate("lr")
        .mean["roc_auc"]
        for sample in ([], steps)
    )
    assert scores_without < 0.6
    assert scores_with > 0.99


@pytest.mark.long
def test_custom_steps_work_in_regression(contract: Contract) -> None:
    import task_books

    table, make_regression_contract = (
        task_books.make_regression_rows(),
        task_books.make_regression_contract(),
    )
    trial = Experiment(
        table,
        make_regression_contract,
        folds=2,
        seed=1,
        steps=[
            ("custom_0", CheckedTransformer("odd.Step", RecordingStep())),
            ("rare_categories", RareCategoryGrouper(0.4)),
        ],
    )
    assert trial.cross_validate("lr").mean["r2"] > 0.7
    pipeline = trial.make_pipeline(LinearRegression()).fit(*trial.get_train_features_and_target())
    assert np.isfinite(
        pipeline.predict(make_regression_contract.select_features(table.head()))
    ).all()
