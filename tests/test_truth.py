"""Seeded truth, small: the rates of ``benchmarks/truth.py`` lie where the docs say."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from modules import load_module
from tiny import ROOT

from modelbook.evaluation.metrics_ci import metric_with_ci
from modelbook.tasks.binary import METRICS
from modelbook.tasks.scored_rows import ScoredRows


@pytest.fixture(scope="module")
def truth() -> ModuleType:
    return load_module(ROOT / "benchmarks/truth.py")


def test_intervals_cover_and_few_entities_have_none(truth: ModuleType) -> None:
    for rate in (
        truth.cover_roc_auc(100, 0.15, 80), truth.cover_rmse(20, 200), truth.cover_rmse(40, 200),
    ):  # fmt: skip
        assert rate.n_runs > 40
        assert rate.is_met, rate
    assert truth.cover_roc_auc(16, 0.1, 20).n_runs == 0
    assert truth.cover_rmse(10, 20).n_runs == 0


@pytest.mark.parametrize("value", [0, 1])
def test_no_interval_has_zero_width(value: int) -> None:
    outcome = np.repeat([0, 1], [60, 20])
    scored = ScoredRows.from_arrays(outcome, outcome if value else 1 - outcome, np.arange(80))
    found, low, high = metric_with_ci("roc_auc", METRICS["roc_auc"], scored, resamples=1, seed=0)
    assert found == value
    assert low <= value <= high
    assert high - low == pytest.approx(1.96**2 / (20 + 1.96**2))


def test_innocent_models_are_seldom_held(truth: ModuleType) -> None:
    assert truth.hold_innocent_models(1, 100, 0.05, 15).n_events <= 1
    assert truth.hold_innocent_models(5, 100, 0.2, 15).n_events <= 2


def test_noise_has_no_leader(truth: ModuleType) -> None:
    assert truth.find_leaders_in_noise(10, 400).is_met


def test_nothing_changed_asks_for_no_retrain(truth: ModuleType) -> None:
    assert truth.retrain_without_change(200, 0.2, 15).n_events <= 1
    assert truth.retrain_numbers_without_change(400, 40).n_events <= 2


def test_a_missed_target_is_told(truth: ModuleType) -> None:
    assert not truth.Rate("covers", 80, 100, 0.93, True).is_met
    assert not truth.Rate("alarms", 20, 100, 0.05).is_met
    assert truth.Rate("alarms", 6, 100, 0.05).is_met
