"""The gate: each criterion, its border, and that the answer follows from the evidence alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from conftest import CONTRACT

from modelbook import tasks
from modelbook.config import Deploy
from modelbook.contract import Contract
from modelbook.gate import HOLD, PROMOTE, SAME, Decision, Evidence, Interval, decide, gather
from modelbook.scoring.compiled import TOLERANCE
from modelbook.tasks.regression import Regression

NAN = float("nan")
FIRST = Evidence(1, None, quality=Interval(0.8, 0.7, 0.9), gain=Interval(0.1, 0.05, 0.15))
NEXT = replace(FIRST, candidate=2, champion=1, paired_rows=500, difference=Interval(0.01, -0.005, 0.02))
FLOOR = 0.6
KNOWN = replace(
    NEXT,
    slices=(("site 1", Interval(0.0, -0.1, 0.1)), ("site 2", Interval(-0.1, -0.15, -0.05))),
    gaps=(("black 1", Interval(-0.2, -0.3, -0.1)), ("black 2", Interval(0.15, -0.1, 0.4))),
    off=Interval(0.06, 0.05, 0.07), served="weighted sum: 0 other labels in 600 rows", same=True,
    milliseconds=50.0, megabytes=500.0,
)  # fmt: skip


def decided(evidence: Evidence, floor: float = FLOOR, **bounds: Any) -> Decision:
    return decide(evidence, Deploy(**{"paired_rows": 300, **bounds}), floor)


def auc(low: float) -> Interval:
    return Interval(0.9, low, 0.95)


@pytest.mark.parametrize(
    ("evidence", "failed"),
    [
        (FIRST, []),
        (NEXT, []),
        # the floor: the low end counts, not the value
        (replace(FIRST, quality=auc(0.6)), []),
        (replace(FIRST, quality=auc(0.5999)), ["ROC AUC above the floor"]),
        (replace(FIRST, quality=auc(NAN)), ["ROC AUC above the floor"]),
        # the baseline: strictly better
        (replace(FIRST, gain=Interval(0.1, 1e-9, 0.2)), []),
        (replace(FIRST, gain=Interval(0.1, 0.0, 0.2)), ["log loss better than the baseline"]),
        (replace(FIRST, gain=Interval(0.1, NAN, NAN)), ["log loss better than the baseline"]),
        # the same version
        (replace(NEXT, candidate=1), ["another version than the champion"]),
        # rows to compare on
        (replace(NEXT, paired_rows=300), []),
        (replace(NEXT, paired_rows=299), ["rows to compare on"]),
        (replace(NEXT, paired_rows=0, difference=None), ["rows to compare on"]),
        # not worse than the champion, by more than the margin
        (replace(NEXT, difference=Interval(0, -0.01, 0.1)), []),
        (replace(NEXT, difference=Interval(0, -0.0101, 0.1)), ["ROC AUC not worse than version 1"]),
        (replace(NEXT, difference=Interval(0, NAN, NAN)), ["ROC AUC not worse than version 1"]),
        # enough rows but nothing to tell by: no evidence is no promotion
        (replace(NEXT, difference=None), ["ROC AUC not worse than version 1"]),
        # harm: the whole interval must lie beyond the bound
        (KNOWN, []),
        (replace(KNOWN, slices=(("site 1", Interval(-0.1, -0.15, -0.0501)),)), ["slices not worse than version 1"]),
        (replace(KNOWN, slices=(("site 1", Interval(0.4, 0.3, 0.5)),)), []),
        (replace(KNOWN, slices=(("site 1", Interval(-0.4, NAN, NAN)),)), []),
        (replace(KNOWN, gaps=(("black 1", Interval(-0.2, -0.3, -0.101)),)), ["gaps between groups"]),
        (replace(KNOWN, gaps=(("black 1", Interval(0.2, 0.101, 0.3)),)), ["gaps between groups"]),
        (replace(KNOWN, off=Interval(0.06, 0.0501, 0.07)), ["answers true on the whole"]),
        (replace(KNOWN, off=Interval(-0.06, -0.07, -0.0501)), ["answers true on the whole"]),
        # what answers in the model's place
        (replace(KNOWN, same=False), ["the served form answers as the model"]),
        (replace(KNOWN, milliseconds=50.1), ["time of an answer"]),
        (replace(KNOWN, megabytes=501.0), ["size of what answers"]),
        # several at once
        (replace(NEXT, quality=auc(0.5), paired_rows=1), ["ROC AUC above the floor", "rows to compare on"]),
    ],
)
def test_each_criterion_alone_holds_a_candidate(evidence: Evidence, failed: list[str]) -> None:
    decision = decided(evidence)
    assert [c.name for c in decision.criteria if c.passed is False] == failed
    assert decision.word == (HOLD if failed else PROMOTE)
    assert len(decision.reasons) == (len(failed) or len([c for c in decision.criteria if c.passed]))
    assert all(name.lower() in reason.lower() for name, reason in zip(failed, decision.reasons))


def test_a_first_model_is_not_compared() -> None:
    assert len(decided(NEXT).criteria) == len(decided(FIRST).criteria) + 4


def test_reasons_tell_what_was_found_beside_what_was_required() -> None:
    decision = decided(replace(NEXT, paired_rows=1299), floor=0.75, paired_rows=2000)
    assert decision.reasons == [
        "ROC AUC above the floor: 0.800 (0.700 to 0.900), required low end at least 0.75.",
        "Rows to compare on: 1,299 that neither was trained on, required at least 2,000.",
    ]
    assert {"name", "required", "found", "passed", "sentence"} == set(decision.table()[0])
    assert [row["passed"] for row in decision.table()] == [False, True, True, False, True, *[None] * 6]


def test_what_could_not_be_judged_holds_nobody_and_is_said() -> None:
    decision = decided(FIRST)
    assert decision.word == PROMOTE
    assert [row["sentence"] for row in decision.table() if row["passed"] is None] == [
        "Gaps between groups: no group to compare; not judged.",
        "Answers true on the whole: nothing was kept to tell by; not judged.",
        "The served form answers as the model: nothing was kept to tell by; not judged.",
        "Time of an answer: it was not measured; not judged.",
        "Size of what answers: it was not measured; not judged.",
    ]


def test_the_worst_of_several_is_shown() -> None:
    told = {c.name: c.found for c in decided(KNOWN).criteria}
    assert told["slices not worse than version 1"] == "site 2: -0.100 (-0.150 to -0.050), the worst of 2"
    assert told["gaps between groups"] == "black 1: -0.200 (-0.300 to -0.100), the worst of 2"
    assert told["answers true on the whole"] == "0.060 (0.050 to 0.070)"
    assert (told["time of an answer"], told["size of what answers"]) == ("50 ms", "500 MB")


@pytest.mark.parametrize(("low", "passed"), [(0.005, True), (0.0049, False)])
def test_a_margin_below_zero_asks_for_a_gain(low: float, passed: bool) -> None:
    decision = decided(replace(NEXT, difference=Interval(0.01, low, 0.02)), margin=-0.005)
    [asked] = [c for c in decision.criteria if c.name == "ROC AUC better than version 1"]
    assert (asked.required, asked.passed) == ("low end at least 0.005", passed)


def test_the_same_evidence_gives_the_same_decision() -> None:
    assert decided(NEXT) == decided(replace(NEXT))


def test_evidence_is_gathered_from_what_a_version_keeps() -> None:
    metrics = {
        "evaluation": [
            {"metric": "brier", "value": 0.1, "low": 0, "high": 1},
            {"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9},
        ],
        "gain": (0.1, 0.05, 0.15),
    }
    task = tasks.of(Contract.model_validate(CONTRACT))
    rows = [("log_loss", 0.5, 0.4, 0.6), ("roc_auc", 0.01, -0.005, 0.02)]
    gaps = pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])
    assert gather(task, metrics, 1, None, 0, gaps.head(0)) == FIRST
    metrics["evaluation"].append({"metric": "calibration_error", "value": 0.06, "low": 0.05, "high": 0.07})
    group = {"slice": "group", "value": "1", "gap": -0.2, "low": -0.3, "high": -0.1, "other": 0.5}
    metrics["gaps"] = [{**group, "metric": "recall"}, {**group, "metric": "flagged"}]
    metrics["scorer"] = {"name": "weighted sum", "reason": "", "proof": {"rows": 600, "flips": 0, "worst": 1e-7}}
    metrics["evaluation"].append({"metric": "log_loss", "value": 0.4, "low": 0.3, "high": 0.5, "baseline": 0.5})
    slices = pd.DataFrame(
        [{"slice": "colour", "value": "11", "n": 50, "difference": -0.1, "low": -0.15, "high": -0.05}]
    )
    assert gather(task, metrics, 2, 1, 500, gaps, slices, (50.0, 500.0)) == replace(
        KNOWN,
        slices=(("colour 11", Interval(-0.1, -0.15, -0.05)),),
        gaps=(("group 1", Interval(-0.2, -0.3, -0.1)),),
    )
    metrics["scorer"]["proof"]["flips"] = 1
    assert not gather(task, metrics, 1, None, 0, gaps.head(0)).same
    metrics["scorer"]["proof"] = None
    assert gather(task, metrics, 1, None, 0, gaps.head(0)).served == "the model itself answers"


def test_a_number_is_judged_without_its_unit() -> None:
    task = Regression(Contract.model_validate(CONTRACT))
    row = {"value": 60, "low": 40, "high": 80, "baseline": 200}
    metrics = {
        "evaluation": [{**row, "metric": name} for name in ("r2", "rmse", "calibration_error")], "gain": (1, 0.5, 2),
        "gaps": [{"slice": "group", "value": "1", "metric": "mae", "gap": 5, "low": 4, "high": 6, "other": 50}],
    }  # fmt: skip
    found = gather(task, metrics, 1, None, 0, pd.DataFrame(columns=["metric"]))
    assert found.off == Interval(0.3, 0.2, 0.4)
    assert found.gaps == (("group 1", Interval(0.1, 0.08, 0.12)),)


def test_answers_are_the_same_as_where_they_are_proven() -> None:
    assert SAME == TOLERANCE


def test_nothing_of_metrics_that_were_not_kept() -> None:
    metrics = {"evaluation": [{"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": 0.9}], "gain": (0.1, 0.05, 0.15)}
    task, gaps = tasks.of(Contract.model_validate(CONTRACT)), pd.DataFrame(columns=["metric"])
    assert gather(task, metrics, 2, 1, 500, gaps) == replace(NEXT, difference=None)
