"""The gate: each criterion, its border, and that the answer follows from the evidence alone."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from conftest import CONTRACT

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.gate import HOLD, PROMOTE, Evidence, Interval, decide, gather

NAN = float("nan")
FIRST = Evidence(1, None, quality=Interval(0.8, 0.7, 0.9), gain=Interval(0.1, 0.05, 0.15))
NEXT = replace(FIRST, candidate=2, champion=1, paired_rows=500, difference=Interval(0.01, -0.005, 0.02))
BARS = {"floor": 0.6, "margin": 0.01, "paired_rows": 300}


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
        # several at once
        (replace(NEXT, quality=auc(0.5), paired_rows=1), ["ROC AUC above the floor", "rows to compare on"]),
    ],
)
def test_each_criterion_alone_holds_a_candidate(evidence: Evidence, failed: list[str]) -> None:
    decision = decide(evidence, **BARS)
    assert [c.name for c in decision.criteria if not c.passed] == failed
    assert decision.word == (HOLD if failed else PROMOTE)
    assert len(decision.reasons) == (len(failed) or len(decision.criteria))
    assert all(name.lower() in reason.lower() for name, reason in zip(failed, decision.reasons))


def test_a_first_model_is_not_compared() -> None:
    assert len(decide(FIRST, **BARS).criteria) == 2
    assert len(decide(NEXT, **BARS).criteria) == 5


def test_reasons_tell_what_was_found_beside_what_was_required() -> None:
    decision = decide(replace(NEXT, paired_rows=1299), floor=0.75, margin=0.01, paired_rows=2000)
    assert decision.reasons == [
        "ROC AUC above the floor: 0.800 (0.700 to 0.900), required low end at least 0.75.",
        "Rows to compare on: 1,299 that neither was trained on, required at least 2,000.",
    ]
    assert {"name", "required", "found", "passed"} == set(decision.table()[0])
    assert [row["passed"] for row in decision.table()] == [False, True, True, False, True]


def test_the_same_evidence_gives_the_same_decision() -> None:
    assert decide(NEXT, **BARS) == decide(replace(NEXT), **BARS)


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
    assert gather(task, metrics, 2, 1, 500, gaps) == NEXT
