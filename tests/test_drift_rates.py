"""Seeded truth: monitor is quiet where nothing has changed, and alarms where something has, as docs/monitor.md says."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from tiny import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drift_rates", ROOT / "benchmarks/drift.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["drift_rates"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_at_most_one_in_twenty_windows_without_drift_alarms(bench: ModuleType) -> None:
    told = bench.calm(bench.Bench(seed=1), 200)
    assert told["watch"] + told["retrain"] <= 0.05
    assert told["retrain"] == 0


NAMES = ["shift", "scale", "new category", "missing", "outcomes", "halved", "turned round"]
SURE = {"shift", "scale", "new category", "missing", "outcomes", "turned round"}


@pytest.mark.parametrize("name", NAMES)
def test_each_change_is_caught_within_three_windows(name: str, bench: ModuleType) -> None:
    [law] = [law for words, law in bench.CHANGES.items() if name in words]
    told = bench.caught(bench.Bench(seed=2), law, repeats=5)
    assert told["within"] == 1
    if name in SURE:
        assert told["at once"] == 1
    if name == "turned round":
        assert told["retrain"] == 1


def test_drift_is_caught_before_outcomes_are_in(bench: ModuleType) -> None:
    law = bench.CHANGES[next(words for words in bench.CHANGES if "shift" in words)]
    assert bench.caught(bench.Bench(seed=3), law, repeats=3, outcomes=False)["within"] == 1
