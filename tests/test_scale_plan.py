"""The capacity plan of docs/deploy/scale.md: formulas and published numbers."""

from __future__ import annotations

import sys

import pytest
from small_project import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import scale


def test_plan_computes_hours_workers_and_costs_from_measurements():
    costs = scale.MeasuredCosts(
        score_cpu=36,
        start_cpu=0,
        input_bytes=100,
        output_bytes=150,
        count_cpu=3.6,
        journal_bytes=400,
    )
    prices = scale.Prices(core_hour=0.1, gb_month=0.02, million_requests=5)
    plan = scale.compute_plan(10**9, costs, prices)
    assert (plan.partitions, plan.workers) == (4000, 10)
    assert plan.core_hours == pytest.approx(10)
    assert plan.batch_usd == pytest.approx(10 * 0.1 + 10 * 4000 / 1e6 * 5)
    assert (plan.stored_gb, plan.month_usd) == (250, 5)
    assert plan.monitor_core_hours == pytest.approx(1)
    assert plan.serve_usd == pytest.approx(2 * 1e9 * 153e-6 / 3600 * 0.1)
    assert plan.journal_gb == 400
    assert plan.training_usd == pytest.approx(1230 / 3600 * 0.1)


def test_scale_docs_contain_the_computed_plan():
    page = (ROOT / "docs/deploy/scale.md").read_text()
    assert scale.make_table(scale.MEASURED_COSTS, scale.Prices()) in page
