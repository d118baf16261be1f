"""Alarm rates of monitor in simulations, as docs/monitor.md states them."""

from __future__ import annotations

from types import ModuleType

import pytest
from load_modules import load_module
from small_project import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drift() -> ModuleType:
    return load_module(ROOT / "benchmarks/drift.py")


def test_at_most_5_percent_of_windows_without_drift_alarm(drift: ModuleType) -> None:
    rates = drift.measure_false_alarms(drift.DriftSimulation(seed=1), 100)
    assert rates["watch"] + rates["retrain"] <= 0.05
    assert rates["retrain"] == 0


HALVED, REVERSED = {"reversed_fraction": 0.25}, {"reversed_fraction": 1.0}
CHANGES = [
    {"shift": 0.5}, {"scale": 1.6}, {"new_category_rate": 0.1}, {"missing_rate": 0.25},
    {"intercept": -0.5}, HALVED, REVERSED,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_change_is_detected_within_three_windows(
    change: dict[str, float], drift: ModuleType
) -> None:
    distribution = drift.Distribution(**change)
    assert distribution in drift.CHANGES.values()  # the page states its rates
    rates = drift.measure_detection(drift.DriftSimulation(seed=2), distribution, n_runs=3)
    assert rates["any window"] == 1
    if change != HALVED:
        assert rates["first window"] == 1
    if change == REVERSED:
        assert rates["retrain"] == 1


def test_drift_is_detected_before_outcomes_arrive(drift: ModuleType) -> None:
    simulation, shifted = drift.DriftSimulation(seed=3), drift.Distribution(shift=0.5)
    rates = drift.measure_detection(simulation, shifted, n_runs=3, outcomes=False)
    assert rates["any window"] == 1
