"""Simulated error rates of benchmarks/truth.py, in a small version."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from load_modules import load_module
from small_project import ROOT

from modelbook.evaluation.metrics_ci import compute_metric_with_ci
from modelbook.tasks.binary import METRICS
from modelbook.tasks.scored_rows import ScoredRows


@pytest.fixture(scope="module")
def truth() -> ModuleType:
    return load_module(ROOT / "benchmarks/truth.py")


@pytest.mark.long
def test_intervals_cover_nominally_and_few_entities_have_none(truth: ModuleType) -> None:
    for rate in (
        truth.measure_roc_auc_coverage(100, 0.15, 80), truth.measure_rmse_coverage(20, 200), truth.measure_rmse_coverage(40, 200),
        truth.measure_rmse_coverage(40, 200, errors="exponential", has_equal_sizes=False),
        truth.measure_multiclass_coverage(100), truth.measure_precision_coverage(1.8, 100), truth.measure_quantile_coverage("median_absolute_error", 60, 200),
        truth.measure_difference_coverage(100, 100), truth.measure_gain_coverage(100, 100),
        truth.measure_saving_coverage(200, 100),
        truth.measure_prediction_interval_coverage(20, 400),
    ):  # fmt: skip
        assert rate.n_runs > 40
        assert not rate.is_missed, rate
    assert truth.measure_roc_auc_coverage(16, 0.1, 20).n_runs == 0
    assert truth.measure_rmse_coverage(10, 20).n_runs == 0
    assert truth.measure_precision_coverage(3.2, 10).n_runs == 0
    assert truth.measure_quantile_coverage("p90_absolute_error", 20, 5).n_runs == 0


@pytest.mark.parametrize("value", [0, 1])
def test_no_interval_has_zero_width(value: int) -> None:
    outcome = np.repeat([0, 1], [60, 20])
    scored = ScoredRows.from_arrays(outcome, outcome if value else 1 - outcome, np.arange(80))
    result, low, high = compute_metric_with_ci(
        "roc_auc", METRICS["roc_auc"], scored, resamples=100, seed=0
    )
    assert result == value
    assert low <= value <= high
    assert high - low == pytest.approx(1.96**2 / (20 + 1.96**2))


@pytest.mark.long
def test_gate_rarely_rejects_models_that_are_equal_for_all_groups(truth: ModuleType) -> None:
    assert truth.measure_fairness_false_positives(1, 100, 0.05, 15).n_events <= 1
    assert truth.measure_fairness_false_positives(5, 100, 0.2, 15).n_events <= 2
    assert truth.measure_gap_misses(15, 60, 0.05, 40).n_events <= 5


@pytest.mark.long
def test_equal_slices_are_rarely_named_as_weaker(truth: ModuleType) -> None:
    assert truth.measure_false_weaker_slices(15, 100, 0.2, 40).n_events <= 4
    assert truth.measure_false_error_slices(1000, 20).n_events <= 3


@pytest.mark.long
def test_noise_rarely_has_a_leader(truth: ModuleType) -> None:
    assert truth.measure_significant_leader_rate(4, 20).n_events <= 3
    assert truth.measure_permutation_false_alarms(4, 20).n_events <= 1


@pytest.mark.long
def test_no_change_rarely_leads_to_retrain(truth: ModuleType) -> None:
    assert truth.measure_false_retrain_rate(200, 0.2, 15).n_events <= 1
    assert truth.measure_false_retrain_rate_of_regression(400, 40).n_events <= 2


@pytest.mark.long
def test_journal_window_and_expected_performance_rates_are_met(truth: ModuleType) -> None:
    assert truth.measure_drift_false_alarms(20).n_events <= 2
    assert not truth.measure_estimate_coverage("stepwise", 10).is_missed


@pytest.mark.long
def test_equal_challenger_is_rarely_promoted(truth: ModuleType) -> None:
    assert truth.measure_false_promotion_rate(0.05, 0.005, 60).n_events <= 3
    assert truth.measure_false_mismatch_rate(0.05, 20).n_events <= 1


def test_rate_is_repeated_until_its_interval_excludes_the_limit(truth: ModuleType) -> None:
    requests: list[tuple[int, int]] = []

    def alarm(repeats: int, *, seed: int) -> Any:
        requests.append((repeats, seed))
        return truth.Rate("alarms", repeats // 50, repeats, 0.05)

    assert truth.measure_rate(alarm, 6400).is_met
    assert requests == [(100, 0), (100, 100), (200, 200)]
    missed, unclear = truth.Rate("covers", 80, 100, 0.93, True), truth.Rate("alarms", 6, 100, 0.05)
    assert (missed.is_met, missed.is_missed) == (False, True)
    assert (unclear.is_met, unclear.is_missed) == (False, False)
    assert not truth.measure_rate(alarm, 100).is_met
