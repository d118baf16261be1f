"""Cross-validation folds by split strategy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from modelbook import tasks
from modelbook.config import Finalize
from modelbook.contract import Contract
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES
from modelbook.errors import TrainingError
from modelbook.training import final_model
from modelbook.training.experiment import Experiment
from modelbook.training.folds import choose_folds
from modelbook.training.learning_curve import compute_learning_curve


def ignore_progress(*_: object, detail: str = "") -> None:
    """Progress callback that does nothing."""


@pytest.fixture(scope="module")
def years(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame(entities=80, years=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def forward(years: pd.DataFrame, contract: Contract) -> Experiment:
    return Experiment(years, contract, folds=3, seed=1, split="time")


def test_forward_folds_train_on_earlier_periods_only(
    forward: Experiment, years: pd.DataFrame
) -> None:
    recorded = [
        (set(years["year"].iloc[learned]), set(years["year"].iloc[requests]))
        for learned, requests in forward.cv_splits
    ]
    assert recorded == [({1}, {2}), ({1, 2}, {3}), ({1, 2, 3}, {4})]


def test_many_times_are_cut_into_equal_blocks(contract: Contract) -> None:
    times = pd.Series(np.random.default_rng(0).permutation(np.repeat(np.arange(100), 2)))
    outcome = times.sample(frac=1, random_state=0).reset_index(drop=True) % 2
    result = choose_folds(tasks.get_task(contract), outcome, times, 4, SPLIT_STRATEGIES["time"])
    splits = [(times.iloc[a], times.iloc[b]) for a, b in result.split(times, outcome, times)]
    assert all(a.max() < b.min() for a, b in splits)
    assert [b.nunique() for _, b in splits] == [20] * 4


@pytest.mark.long
def test_pycaret_uses_same_folds(forward: Experiment) -> None:
    output: list[str] = []
    evaluated = forward.cross_validate("lr", output.append)
    assert evaluated.status == "ok"
    assert output == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    pipeline = forward.make_default_pipeline("lr")
    values = []
    for learned, requests in forward.cv_splits:
        fitted = pipeline.fit(forward.features.iloc[learned], forward.target.iloc[learned])
        scores = forward.task.predict_scores(fitted, forward.features.iloc[requests])
        roc_auc = forward.task.metric_functions()["roc_auc"]
        values.append(
            roc_auc(forward.target.iloc[requests].to_numpy(), scores, np.ones(len(requests)))
        )
    assert evaluated.mean["roc_auc"] == pytest.approx(np.mean(values), abs=1e-9)


def test_first_block_has_no_prediction_and_is_excluded_from_threshold(
    forward: Experiment, years: pd.DataFrame
) -> None:
    score = forward.predict_out_of_fold(forward.make_default_pipeline("lr")).score
    np.testing.assert_array_equal(np.isnan(score), years["year"] == 1)
    assert len(forward.to_scored_rows(score)) == 240


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["tune", "stack", "best"])
def test_every_strategy_works_with_time_split(forward: Experiment, strategy: str) -> None:
    params = Finalize(strategy=strategy, calibrate="sigmoid", n_trials=1, blend_size=2)
    fitted = final_model.fit_final_model(
        forward, params, ["lr", "nb"], "roc_auc", report_progress=ignore_progress
    )
    assert fitted.split_strategy.name == "time"
    assert 0 < fitted.threshold < 1
    assert fitted.threshold_evidence.notna().all(axis=None)
    scores = forward.task.predict_scores(fitted.pipeline, forward.features)
    assert np.isfinite(scores).all()


@pytest.mark.long
def test_learning_curve_uses_forward_folds(forward: Experiment) -> None:
    table = compute_learning_curve(
        forward, "lr", "roc_auc", 60, seed=1, report_progress=ignore_progress
    )
    complete = table[table["share"] == 1]
    assert complete["rows"].tolist() == [80, 160, 240]


@pytest.mark.long
def test_random_folds_may_separate_rows_of_an_entity(
    years: pd.DataFrame, contract: Contract
) -> None:
    trial = Experiment(years, contract, folds=2, seed=1, split="random")
    (learned, requests), _ = trial.cv_splits
    assert set(years["who"].iloc[learned]) & set(years["who"].iloc[requests])
    assert len(requests) == pytest.approx(160, abs=1)
    assert np.isfinite(trial.predict_out_of_fold(trial.make_default_pipeline("lr")).score).all()


def test_more_folds_than_times_raise(years: pd.DataFrame, contract: Contract) -> None:
    with pytest.raises(
        TrainingError, match="4 times cannot be cross-validated in 4 folds"
    ) as exc_info:
        Experiment(years, contract, folds=4, seed=1, split="time")
    assert exc_info.value.expected == "at least 5 times in the training rows"
