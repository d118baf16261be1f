"""Entity sampling for the search on large tables."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from text_facts import missing_facts

from modelbook import tasks
from modelbook.config import Finalize
from modelbook.contract import Contract
from modelbook.errors import TrainingError
from modelbook.training import final_model
from modelbook.training.entity_sampling import sample_entities
from modelbook.training.experiment import Experiment


def test_sample_contains_whole_entities_by_seed(frame: pd.DataFrame, contract: Contract) -> None:
    task = tasks.get_task(contract)
    sample = sample_entities(task, frame, 301, seed=1)
    assert len(sample) == 300
    assert (sample.groupby("who").size() == 3).all()
    assert sample.index.is_monotonic_increasing
    assert sample.equals(sample_entities(task, frame, 301, seed=1))
    assert not sample.equals(sample_entities(task, frame, 301, seed=2))
    assert sample_entities(task, frame, 600, seed=1) is frame


def test_sample_that_loses_a_class_raises(
    make_frame: Callable[..., pd.DataFrame], contract: Contract
) -> None:
    frame = make_frame()
    rare = frame.assign(happened=(frame["who"] < 8).astype(int))
    with pytest.raises(TrainingError, match=r"\b150\b"):
        sample_entities(tasks.get_task(contract), rare, 150, seed=0)


@pytest.mark.long
def test_search_uses_sample_and_final_fit_all_rows(frame: pd.DataFrame, contract: Contract) -> None:
    trial = Experiment(frame, contract, folds=2, seed=1, max_rows=200)
    assert len(trial.features) == trial.summarize_folds()["rows"].sum() == 198
    assert missing_facts(trial.describe_folds(), 198, 600) == []
    fitted = final_model.fit_final_model(
        trial, Finalize(strategy="blend", calibrate="none"), ["nb"], "roc_auc",
        report_progress=lambda *_, **__: None,
    )  # fmt: skip
    assert fitted.pipeline.fitted_[0].steps[-1][1].class_count_.sum() == 600
    assert fitted.sampling_note == trial.describe_sampling()
