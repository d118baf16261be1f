"""Alarm rates of monitor in simulations, as docs/monitor.md states them."""

from __future__ import annotations

from types import ModuleType

import pytest
from load_modules import load_module
from small_project import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_module(ROOT / "benchmarks/drift.py")


def test_at_most_5_percent_of_windows_without_drift_alarm(bench: ModuleType) -> None:
    rates = bench.calm(bench.Bench(seed=1), 100)
    assert rates["watch"] + rates["retrain"] <= 0.05
    assert rates["retrain"] == 0


HALVED, REVERSED = {"turned": 0.25}, {"turned": 1.0}  # the strongest effect
CHANGES = [
    {"shift": 0.5}, {"scale": 1.6}, {"new": 0.1}, {"gaps": 0.25}, {"level": -0.5}, HALVED, REVERSED,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_change_is_detected_within_three_windows(
    change: dict[str, float], bench: ModuleType
) -> None:
    law = bench.Law(**change)
    assert law in bench.CHANGES.values()  # as the page shows it
    rates = bench.caught(bench.Bench(seed=2), law, repeats=3)
    assert rates["within"] == 1
    if change != HALVED:
        assert rates["at once"] == 1
    if change == REVERSED:
        assert rates["retrain"] == 1


def test_drift_is_detected_before_outcomes_arrive(bench: ModuleType) -> None:
    rates = bench.caught(bench.Bench(seed=3), bench.Law(shift=0.5), repeats=3, outcomes=False)
    assert rates["within"] == 1
