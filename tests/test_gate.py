"""Gate: each criterion, its limits and power, and the decision."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CONTRACT
from scipy.special import expit, logit
from text_facts import missing_facts

from modelbook import formatting, tasks
from modelbook.config import Deploy
from modelbook.contract import Contract
from modelbook.gate import (
    HOLD,
    PARITY_TOLERANCE,
    PROMOTE,
    Criterion,
    Decision,
    Evidence,
    criteria,
    decide,
    describe_power,
    gather_evidence,
)
from modelbook.scoring.compiled_scorer import TOLERANCE
from modelbook.tasks.intervals import Interval
from modelbook.tasks.regression import Regression

NAN = float("nan")
FIRST = Evidence(1, None, quality=Interval(0.8, 0.7, 0.9), baseline_gain=Interval(0.1, 0.05, 0.15))
NEXT = replace(
    FIRST,
    candidate=2,
    champion=1,
    paired_rows=500,
    champion_difference=Interval(0.01, -0.005, 0.02),
)
FLOOR = 0.6
EVIDENCE = replace(
    NEXT,
    slice_differences=(("site 1", Interval(0.0, -0.1, 0.1)), ("site 2", Interval(-0.1, -0.15, -0.05))),
    fairness_gaps=(
        ("recall of black 1 is 20 points lower", Interval(-0.2, -0.3, -0.1)),
        ("recall of black 2 is 15 points higher", Interval(0.15, -0.1, 0.4)),
    ),
    calibration=Interval(0.06, 0.05, 0.07), scorer="linear model: 0 label mismatches in 600 rows", is_scorer_exact=True,
    latency_ms=50.0, size_mb=500.0, suspicions=(),
)  # fmt: skip


def decide_with(evidence: Evidence, floor: float = FLOOR, **bounds: Any) -> Decision:
    return decide(evidence, Deploy(**{"paired_rows": 300, **bounds}), floor)


COMPARED = ["rows", "difference", "slices"]  # with a champion
ALL = ["quality", "gain", *COMPARED, "gaps", "calibration", "served", "latency", "size", "leak"]


def criteria_by_subject(decision: Decision) -> dict[str, Criterion]:
    """Criteria by their subject; their order is fixed."""
    count = len(decision.criteria)
    absent = {11: [], 10: ["difference"], 8: COMPARED}[count]
    return dict(zip([name for name in ALL if name not in absent], decision.criteria))


def make_interval(low: float) -> Interval:
    return Interval(0.9, low, 0.95)


@pytest.mark.parametrize(
    ("evidence", "failed"),
    [
        (FIRST, []),
        (NEXT, []),
        # the floor: the low end counts, not the value
        (replace(FIRST, quality=make_interval(0.6)), []),
        (replace(FIRST, quality=make_interval(0.5999)), ["quality"]),
        (replace(FIRST, quality=make_interval(NAN)), ["quality"]),
        # the baseline: strictly better
        (replace(FIRST, baseline_gain=Interval(0.1, 1e-9, 0.2)), []),
        (replace(FIRST, baseline_gain=Interval(0.1, 0.0, 0.2)), ["gain"]),
        (replace(FIRST, baseline_gain=Interval(0.1, NAN, NAN)), ["gain"]),
        # rows to compare on
        (replace(NEXT, paired_rows=300), []),
        (replace(NEXT, paired_rows=299), ["rows"]),
        (replace(NEXT, paired_rows=0, champion_difference=None), ["rows"]),
        # not worse than the champion, by more than the margin
        (replace(NEXT, champion_difference=Interval(0, -0.01, 0.1)), []),
        (replace(NEXT, champion_difference=Interval(-0.0099, -0.0101, -0.0097)), ["difference"]),
        (replace(NEXT, champion_difference=Interval(-0.2, -0.3, -0.1)), ["difference"]),
        # undecided on rows that are too few for the margin
        (replace(NEXT, champion_difference=Interval(0, -0.0101, 0.0101)), ["rows"]),
        (replace(NEXT, champion_difference=Interval(0, NAN, NAN)), ["difference"]),
        # enough rows but no evidence: no promotion
        (replace(NEXT, champion_difference=None), ["difference"]),
        # harm: the whole interval must lie beyond the bound
        (EVIDENCE, []),
        (
            replace(EVIDENCE, slice_differences=(("site 1", Interval(-0.1, -0.12, -0.08)),)),
            ["slices"],
        ),
        (replace(EVIDENCE, slice_differences=(("site 1", Interval(0.4, 0.3, 0.5)),)), []),
        (replace(EVIDENCE, slice_differences=(("site 1", Interval(-0.4, NAN, NAN)),)), []),
        (replace(EVIDENCE, fairness_gaps=(("black 1", Interval(-0.2, -0.25, -0.15)),)), ["gaps"]),
        (replace(EVIDENCE, fairness_gaps=(("black 1", Interval(0.2, 0.15, 0.25)),)), ["gaps"]),
        (replace(EVIDENCE, calibration=Interval(0.06, 0.058, 0.062)), ["calibration"]),
        (replace(EVIDENCE, calibration=Interval(-0.06, -0.062, -0.058)), ["calibration"]),
        # parity, latency and size of the served model
        (replace(EVIDENCE, is_scorer_exact=False), ["served"]),
        (replace(EVIDENCE, latency_ms=50.1), ["latency"]),
        (replace(EVIDENCE, size_mb=501.0), ["size"]),
        # a suspected leak holds
        (replace(FIRST, suspicions=()), []),
        (replace(FIRST, suspicions=("x3 nearly decides",)), ["leak"]),
        # several at once
        (replace(NEXT, quality=make_interval(0.5), paired_rows=1), ["quality", "rows"]),
    ],
)
def test_each_failed_criterion_holds_candidate(evidence: Evidence, failed: list[str]) -> None:
    decision = decide_with(evidence)
    criteria = criteria_by_subject(decision)
    assert [name for name, criterion in criteria.items() if criterion.passed is False] == failed
    assert decision.action == (HOLD if failed else PROMOTE)
    assert missing_facts(criteria["served"].required, "labels", "scores", 1e-6) == []
    reasons = failed or [
        name for name, criterion in criteria.items() if criterion.passed and criterion.is_certain
    ]
    assert decision.reasons == [criteria[name].description for name in reasons]
    assert all(criterion.remedy for criterion in decision.failed)


@pytest.mark.parametrize(
    ("commit", "action", "fact"),
    [("1a2b3c", PROMOTE, "1a2b3c"), ("1a2b3c+", HOLD, "uncommitted"), ("none", HOLD, "outside")],
)
def test_uncommitted_code_holds_candidate_when_commit_is_required(
    commit: str, action: str, fact: str
) -> None:
    evidence = replace(FIRST, commit=commit)
    decision = decide_with(evidence, code_version="committed")
    assert decision.action == action
    assert fact in decision.criteria[-1].observed
    assert "commit" in decision.criteria[-1].remedy
    assert decide_with(evidence).action == PROMOTE


def test_first_version_has_no_champion_criteria() -> None:
    assert len(decide_with(FIRST).criteria) == len(decide_with(NEXT).criteria) - 3 == 8


def test_reasons_state_observed_and_required_values() -> None:
    decision = decide_with(replace(NEXT, paired_rows=1299), floor=0.75, paired_rows=2000)
    floor, rows = decision.reasons
    assert missing_facts(floor, "ROC AUC", 0.8, 0.7, 0.9, 0.75) == []
    assert missing_facts(rows, 1299, 2000) == []
    assert set(decision.to_records()[0]) == {
        "name", "required", "observed", "passed", "is_certain", "power", "remedy", "harm", "sentence",
    }  # fmt: skip
    assert [row["passed"] for row in decision.to_records()] == [
        False,
        True,
        False,
        True,
        *[None] * 7,
    ]


def test_inconclusive_criterion_is_reported_and_does_not_hold() -> None:
    decision = decide_with(FIRST)
    assert decision.action == PROMOTE
    criteria = criteria_by_subject(decision)
    unknown = ["gaps", "calibration", "served", "latency", "size", "leak"]
    assert [name for name, criterion in criteria.items() if criterion.passed is None] == unknown
    measured_criteria = criteria_by_subject(decide_with(EVIDENCE))
    for name in unknown:
        sentence = criteria[name].description
        assert missing_facts(sentence, criteria[name].name) == []
        assert sentence != measured_criteria[name].description


def test_worst_of_several_values_is_shown() -> None:
    result = {
        name: criterion.observed
        for name, criterion in criteria_by_subject(decide_with(EVIDENCE)).items()
    }
    assert missing_facts(result["slices"], "site 2", -0.1) == []
    assert missing_facts(result["gaps"], "black 1", 20) == []
    # The interval that decides is shown, and no other.
    value, low, high = map(float, re.findall(r"-?\d\.\d+", result["calibration"]))
    assert value == 0.06
    assert low < 0.05
    assert high > 0.07
    assert "site 1" not in result["slices"]
    assert "black 2" not in result["gaps"]
    assert (
        missing_facts(result["latency"], 50, "ms") + missing_facts(result["size"], 500, "MB") == []
    )


def test_a_criterion_of_harm_is_certain_if_its_interval_rules_harm_out() -> None:
    def make_gap_criterion(low: float, high: float) -> Criterion:
        interval = Interval((low + high) / 2, low, high)
        return criteria_by_subject(
            decide_with(replace(EVIDENCE, fairness_gaps=(("black 1", interval),)))
        )["gaps"]

    small, unclear = make_gap_criterion(-0.01, 0.01), make_gap_criterion(-0.3, 0.2)
    assert (small.passed, small.is_certain) == (True, True)
    assert (unclear.passed, unclear.is_certain) == (True, False)


@pytest.mark.parametrize(("low", "passed"), [(0.005, True), (0.0049, False)])
def test_negative_margin_requires_a_gain(low: float, passed: bool) -> None:
    decision = decide_with(
        replace(NEXT, champion_difference=Interval(0.01, low, 0.02)), non_inferiority_margin=-0.005
    )
    criterion = criteria_by_subject(decision)["difference"]
    assert missing_facts(criterion.required, 0.005) == []
    assert missing_facts(criterion.name, "ROC AUC", 1) == []
    assert criterion.passed is passed


def test_evidence_is_collected_from_registered_metrics() -> None:
    metrics = {
        "evaluation": [
            {"metric": "brier", "value": 0.1, "low": 0, "high": 1},
            {"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9},
        ],
        "gain": (0.1, 0.05, 0.15),
    }
    task = tasks.get_task(Contract.model_validate(CONTRACT))
    rows = [("log_loss", 0.5, 0.4, 0.6), ("roc_auc", 0.01, -0.005, 0.02)]
    gaps = pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])
    assert gather_evidence(task, metrics, 1, None, 0, gaps.head(0)) == FIRST
    metrics["evaluation"].append(
        {"metric": "calibration_in_the_large", "value": 0.06, "low": 0.05, "high": 0.07}
    )
    group = {"slice": "flag", "value": "1", "reference": "0", "gap": -0.2, "low": -0.3, "high": -0.1,
             "group_metric": 0.3, "reference_metric": 0.5}  # fmt: skip
    metrics["gaps"] = [{**group, "metric": "recall"}, {**group, "metric": "selection_rate"}]
    metrics["suspicions"] = []
    metrics["scorer"] = {
        "name": "weighted sum",
        "reason": "",
        "parity": {"rows": 600, "label_mismatches": 0, "max_difference": 1e-7},
    }
    metrics["evaluation"].append(
        {"metric": "log_loss", "value": 0.4, "low": 0.3, "high": 0.5, "baseline": 0.5}
    )
    slices = pd.DataFrame(
        [
            {
                "slice": "colour",
                "value": "11",
                "n": 50,
                "difference": -0.1,
                "low": -0.15,
                "high": -0.05,
            }
        ]
    )
    evidence = gather_evidence(task, metrics, 2, 1, 500, gaps, slices, (50.0, 500.0))
    assert missing_facts(evidence.scorer, "weighted sum", 0, 600, 1e-7) == []
    [(gap_text, _)] = evidence.fairness_gaps
    facts = ("recall", 30, "flag", 50, "not flag", -20, "percentage points")
    assert missing_facts(gap_text, *facts) == []
    assert replace(evidence, scorer=EVIDENCE.scorer) == replace(
        EVIDENCE,
        slice_differences=(("colour 11", Interval(-0.1, -0.15, -0.05)),),
        fairness_gaps=((gap_text, Interval(-0.2, -0.3, -0.1, bounds=(-1, 1))),),
    )
    former = {"name": "weighted sum", "proof": metrics["scorer"]["parity"]}
    older = metrics | {"scorer": former}  # a version of 1.0.0
    assert gather_evidence(task, older, 1, None, 0, gaps.head(0)).is_scorer_exact
    metrics["scorer"]["parity"]["label_mismatches"] = 1
    assert not gather_evidence(task, metrics, 1, None, 0, gaps.head(0)).is_scorer_exact
    metrics["scorer"]["parity"] = None
    uncompiled = gather_evidence(task, metrics, 1, None, 0, gaps.head(0))
    assert uncompiled.is_scorer_exact
    assert uncompiled.scorer


def test_regression_criteria_are_relative_to_error_scale() -> None:
    task = Regression(Contract.model_validate(CONTRACT))
    task.classes = []  # of a number
    row = {"value": 60, "low": 40, "high": 80}
    baselines = {"r2": 0, "rmse": 250, "calibration_in_the_large": 150}  # SD 200, off by 150
    metrics = {
        "evaluation": [{**row, "metric": name, "baseline": value} for name, value in baselines.items()], "gain": (1, 0.5, 2),
        "gaps": [{"slice": "colour", "value": "11", "reference": "2", "metric": "mae", "gap": 5, "low": 4, "high": 6, "group_metric": 55, "reference_metric": 50,
                  "group_low": 50, "group_high": 60, "reference_low": 50, "reference_high": 50}],
    }  # fmt: skip
    result = gather_evidence(task, metrics, 1, None, 0, pd.DataFrame(columns=["metric"]))
    assert result.calibration == Interval(0.3, 0.2, 0.4)
    [(text, make_gap_criterion)] = result.fairness_gaps
    gap = (make_gap_criterion.value, make_gap_criterion.low, make_gap_criterion.high)
    assert gap == pytest.approx((0.1, 0, 0.2))
    # An error widens on the logarithmic scale, and the reference's error here is exact.
    assert make_gap_criterion.widen(20).high == pytest.approx(
        1.1 * (60 / 55) ** (3.0233 / 1.95996) - 1, rel=1e-3
    )
    assert missing_facts(text, "MAE", 55, "colour 11", 50, "colour 2", 5) == []


def test_gate_tolerance_equals_parity_tolerance() -> None:
    assert PARITY_TOLERANCE == TOLERANCE


def test_evidence_omits_metrics_that_were_not_stored() -> None:
    metrics = {
        "evaluation": [{"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9}],
        "gain": (0.1, 0.05, 0.15),
    }
    task, gaps = tasks.get_task(Contract.model_validate(CONTRACT)), pd.DataFrame(columns=["metric"])
    assert gather_evidence(task, metrics, 2, 1, 500, gaps) == replace(
        NEXT, champion_difference=None
    )


@pytest.mark.parametrize(("change", "passed"), [(-0.3, True), (0.3, False)])
def test_cost_criterion_is_of_the_saving(change: float, passed: bool) -> None:
    """A share of the champion's cost, with the interval in its direction."""
    task = tasks.get_task(Contract.model_validate(CONTRACT))
    names = [*task.selection_consequences(), "cost"]
    consequences = pd.DataFrame({"consequence": names, "candidate": 2 + change, "champion": 2.0})
    consequences = consequences.assign(change=change, low=change - 0.02, high=change + 0.04)
    metrics = {
        "evaluation": [{"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9}],
        "gain": (0.1, 0.05, 0.15),
    }
    evidence = gather_evidence(
        task, metrics, 2, 1, 500, pd.DataFrame(columns=["metric"]), consequences=consequences
    )
    saving = evidence.cost_saving
    assert (saving.value, saving.low, saving.high) == pytest.approx(
        (-change / 2, -change / 2 - 0.02, -change / 2 + 0.01)
    )
    [criterion] = [each for each in decide_with(evidence).criteria if "cost" in each.name]
    assert criterion.passed is passed


def test_undefined_interval_is_described_without_nan() -> None:
    quality = criteria_by_subject(decide_with(replace(FIRST, quality=make_interval(NAN))))[
        "quality"
    ]
    assert "nan" not in quality.description.lower()
    assert quality.power == describe_power(Interval(0, NAN, NAN), 0.01, 300) == ""


def test_a_decision_counts_its_criteria_and_names_where_harm_is_not_excluded() -> None:
    no_harm = Interval(0, -0.01, 0.01)
    harmless = replace(
        EVIDENCE,
        fairness_gaps=(("a gap", no_harm),),
        slice_differences=(("site 1", no_harm),),
        calibration=no_harm,
    )
    decision = decide_with(harmless)
    n_criteria = len(decision.criteria)
    assert f"all {n_criteria} criteria passed" in decision.summary
    unclear = decide_with(replace(harmless, fairness_gaps=(("a gap", Interval(-0.2, -0.3, 0.05)),)))
    assert (decision.action, unclear.action) == (PROMOTE, PROMOTE)
    counts = (f"{n_criteria - 1} of {n_criteria}", "1 inconclusive")
    assert missing_facts(unclear.summary, *counts, "fairness gap", 10, "percentage points") == []
    assert "ruled out" in unclear.summary
    without_slices = decide_with(replace(harmless, slice_differences=()))
    assert missing_facts(without_slices.summary, *counts) == []
    assert "ruled out" not in without_slices.summary
    failed = decide_with(replace(EVIDENCE, latency_ms=5000.0))
    assert missing_facts(failed.summary, f"1 of {n_criteria}", "failed", "median latency") == []


def test_a_decision_counts_the_criteria_that_its_main_reasons_leave_out() -> None:
    passed = decide_with(EVIDENCE)
    n_shown = 3 - sum(bool(row.passed) and not row.is_certain for row in passed.criteria)
    n_more = len(passed.reasons) - n_shown
    assert missing_facts(passed.main_reasons[-1], n_more, "passed") == []
    calibrated = replace(FIRST, calibration=Interval(0.04, 0.01, 0.07))
    inconclusive, *others = decide_with(calibrated).main_reasons
    assert missing_facts(inconclusive, "calibration", 0.04, "inconclusive") == []
    assert others[:2] == decide_with(calibrated).reasons[:2]
    assert passed.explain().endswith(passed.main_reasons[-1])
    failed = replace(EVIDENCE, latency_ms=5000.0, size_mb=9000.0, is_scorer_exact=False)
    assert decide_with(failed).main_reasons == decide_with(failed).reasons
    fourth = decide_with(replace(failed, suspicions=("x3 nearly decides",)))
    assert missing_facts(fourth.main_reasons[-1], 1, "failed") == []


def test_harm_criteria_share_one_error_rate() -> None:
    make_gap_criterion = Interval(0.2, 0.11, 0.29)
    single = decide_with(replace(FIRST, fairness_gaps=(("one", make_gap_criterion),)))
    among = decide_with(
        replace(FIRST, fairness_gaps=tuple((str(n), make_gap_criterion) for n in range(20)))
    )
    assert (
        criteria_by_subject(single)["gaps"].passed,
        criteria_by_subject(among)["gaps"].passed,
    ) == (False, True)
    assert make_gap_criterion.widen(1) == make_gap_criterion
    assert make_gap_criterion.widen(20).value - make_gap_criterion.widen(20).low == pytest.approx(
        0.09 * 3.023 / 1.96, abs=1e-3
    )


def gap_evidence(**groups: float) -> Interval:
    gap = {
        "slice": "flag", "value": "1", "reference": "0", "metric": "recall", "gap": -0.372,
        "low": -0.471, "high": -0.227, "group_metric": 0.143, "reference_metric": 0.515, **groups,
    }  # fmt: skip
    metrics = {
        "evaluation": [{"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9}],
        "gain": (0.1, 0.05, 0.15),
        "gaps": [gap],
    }
    task = tasks.get_task(Contract.model_validate(CONTRACT))
    no_rows = pd.DataFrame(columns=["metric"])
    [(_, interval)] = gather_evidence(task, metrics, 1, None, 0, no_rows).fairness_gaps
    return interval


def test_the_interval_of_a_gap_joins_the_groups_intervals_at_the_wider_level() -> None:
    groups = {
        "group_low": 0.072,
        "group_high": 0.263,
        "reference_low": 0.446,
        "reference_high": 0.583,
    }
    interval, widened = gap_evidence(**groups), gap_evidence(**groups).widen(20)
    # The groups' intervals have 3.023 instead of 1.96 standard errors, on the logit scale.
    factor = 3.0233 / 1.95996
    ends = [
        expit(logit(value) + factor * (logit(end) - logit(value)))
        for value, end in ((0.143, 0.072), (0.143, 0.263), (0.515, 0.446), (0.515, 0.583))
    ]
    assert interval.low == pytest.approx(-0.372 - np.hypot(0.071, 0.068))
    assert widened.low == pytest.approx(
        -0.372 - np.hypot(0.143 - ends[0], ends[3] - 0.515), abs=1e-4
    )
    assert widened.high == pytest.approx(
        -0.372 + np.hypot(ends[1] - 0.143, 0.515 - ends[2]), abs=1e-4
    )
    assert interval.widen(1).low == pytest.approx(interval.low)


def test_a_gap_without_the_groups_intervals_widens_within_its_range() -> None:
    """Versions of earlier releases have the interval of the gap only."""
    ends = [gap_evidence().widen(n) for n in (1, 20, 10**6)]
    assert -1 < ends[2].low < ends[1].low < ends[0].low == -0.471
    assert ends[0].high == -0.227 < ends[1].high < ends[2].high < 1


def test_a_recall_of_zero_has_a_wider_interval_at_the_wider_level() -> None:
    """Of 60 rows: Wilson's interval ends at z² / (60 + z²)."""
    none = Interval(0.0, 0.0, 1.95996**2 / (60 + 1.95996**2), bounds=(0, 1)).widen(20)
    assert (none.low, none.high) == (0, pytest.approx(3.0233**2 / (60 + 3.0233**2), abs=1e-4))


def test_the_widened_interval_of_an_error_is_above_zero() -> None:
    error = Interval(2.0, 1.0, 4.0, bounds=(0, np.inf)).widen(20)
    factor = 3.0233 / 1.95996
    assert [error.low, error.high] == pytest.approx([2 * 0.5**factor, 2 * 2**factor], rel=1e-3)
    assert error.multiply(10).low == pytest.approx(10 * error.low)


def test_a_gain_is_not_read_as_the_metric_itself() -> None:
    criteria = criteria_by_subject(decide_with(NEXT))
    assert "gain 0.1" in criteria["gain"].description
    assert "gain 0.01" in criteria["difference"].description
    assert "gain" not in criteria["quality"].description


def test_comparison_power_states_rows_needed_for_margin() -> None:
    """300 rows with a standard error of 0.0104: an equal model passes with a power of 16%."""
    difference, needed = Interval(0, -0.02, 0.02), 300 * (2.8016 * 0.010204 / 0.01) ** 2
    text = describe_power(difference, 0.01, 300)
    assert missing_facts(text, 16, 80, needed) == []
    criteria = criteria_by_subject(
        decide_with(replace(NEXT, paired_rows=300, champion_difference=difference))
    )
    assert (criteria["rows"].passed, criteria["difference"].passed) == (False, None)
    assert missing_facts(criteria["rows"].required, needed, 80) == []
    assert text == criteria["difference"].power


def test_each_interval_criterion_states_its_power() -> None:
    criteria = criteria_by_subject(decide_with(EVIDENCE))
    criteria_without_power = {name for name, criterion in criteria.items() if not criterion.power}
    assert criteria_without_power == {"rows", "served", "latency", "size", "leak"}
    error = 0.1 / 1.95996  # of the quality 0.8 (0.7 to 0.9), above 0.6
    assert missing_facts(criteria["quality"].power, FLOOR + 2.8016 * error, 80) == []
    error = 0.25 / 1.95996  # of the wider gap, one of five harms, beyond 0.1
    points = 100 * (0.1 + (2.5758 + 0.8416) * error)
    assert missing_facts(criteria["gaps"].power, points, "percentage points", 80) == []


@pytest.mark.parametrize(
    ("difference", "passed"),
    [(None, None), (Interval(-0.03, -0.04, -0.02), False), (Interval(-0.03, -0.06, -0.005), True)],
)
def test_accumulated_losses_against_first_champion_hold_candidate(
    difference: Interval | None, passed: bool | None
) -> None:
    decision = decide_with(
        replace(NEXT, first_champion=1, champion=5, first_champion_difference=difference)
    )
    [criterion] = [
        criterion_row
        for criterion_row in decision.criteria
        if "first champion" in criterion_row.name
    ]
    assert criterion.passed is passed
    assert decision.action == (HOLD if passed is False else PROMOTE)
    assert criterion.remedy


@pytest.mark.parametrize("value", [-0.0001, 0.0, 0.0001])
def test_bounds_and_differences_that_round_to_zero_have_no_minus(value: float) -> None:
    assert criteria._format_bounds(Interval(value, value, 0.3), "%") == "0.0–30.0 %"
    assert "-" not in formatting.format_difference(value, "share")


def test_a_dash_joins_bounds_without_a_sign() -> None:
    assert formatting.join_bounds("63", "174") == "63–174"
    assert formatting.join_bounds("-45", "14") == "-45 to 14"
    assert formatting.join_bounds("+0.01", "+0.03") == "+0.01 to +0.03"
    assert criteria._format_bounds(Interval(-0.2, -0.382, 0.007), "points") == "-38.2 to 0.7 points"
    assert str(Interval(0.8, 0.7, 0.9)).count("–") == 1


def test_key_numbers_and_sentences_have_one_text_of_an_interval() -> None:
    number = formatting.key_number("recall", 0.5, "share", interval=(0.4, 0.6))
    text = formatting.format_ci(0.4, 0.6, lambda bound: formatting.format_quantity(bound, "share"))
    assert formatting.describe_key_number(number) == text == "95% CI 40.0%–60.0%"
    filters = {"percent": formatting.format_share}
    assert formatting.make_ci_filter(filters)(0.4, 0.6, "percent", 1) == text
    for bound in (None, NAN):  # too few entities
        unknown = formatting.describe_key_number({**number, "interval": [bound, bound]})
        assert unknown == formatting.format_ci(bound, bound)
        assert missing_facts(unknown, "95% CI", "entities") == []
