"""The sentence above a table: computed from what the table shows, and true of it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from modelbook.errors import ReportError
from modelbook.report import Table, found

GATE = {"criterion": ["floor", "margin"], "passed": ["yes", "yes"]}
ALIAS = ["champion", "alias moved", "golden rows", "answered by"]
BATCHES = {"batch": ["4", "5"], "rows": [100, 50], "violations": [0, 0]}
SIDES = {"part": ["train", "holdout", "batch 4"], "rows": [80, 20, 50], "known": [1.0, 0.0, 0.9]}
TWICE = ["the key", "all features and the target"]
SAYS: list[tuple[Any, dict[str, list[Any]], str]] = [
    (found.origin, {"fact": ["rows", "entities", "periods"], "value": ["20", "5 (member)", "1, 2"]},
     "There are 20 rows of 5 (member), in the periods 1, 2."),
    (found.origin, {"fact": ["rows", "entities", "periods"], "value": ["20", "5 (row)", "none"]},
     "There are 20 rows of 5 (row)."),
    (found.columns, {"role": ["feature", "target", "feature"], "missing": ["0.0%", "0.0%", "2.1%"]},
     "2 columns are features; 1 of all 3 have gaps."),
    (found.dropped, {"reason": ["a copy", "too late", "a copy"]},
     "3 columns are dropped; most often (2) because: a copy."),
    (found.dropped, {"reason": ["a copy"]}, "1 column is dropped."),
    (found.dropped, {"reason": []}, "No column is dropped."),
    (found.sides, SIDES,
     "80 rows train, 20 test, none of them of an entity that has rows in train; 50 arrive later."),
    (found.sides, {**SIDES, "known": [1.0, 0.25, 0.9]},
     "80 rows train, 20 test, 25.0% of them of entities that have rows in train; 50 arrive later."),
    (found.leaks, {"column": ["paid"], "role": ["dropped"], "strength": [0.991]},
     "The strongest column that no model sees is paid (dropped), with 0.99."),
    (found.leaks, {"column": []}, "Every column but the target is a feature."),
    (found.duplicates, {"compared": TWICE, "rows": [0, 1200]}, "1,200 rows agree in all features and the target."),
    (found.duplicates, {"compared": TWICE, "rows": [0, 0]}, "No row stands twice."),
    (found.folds, {"rows": [50, 50]}, "2 folds of 50 rows each."),
    (found.folds, {"rows": [50, 52, 51]}, "3 folds of 50 to 52 rows."),
    (found.behind, {"candidate": ["ada", "lr"], "told apart": ["no", "yes"]},
     "The lead may be noise; within the leader's spread: ada."),
    (found.behind, {"candidate": ["ada", "lr"], "told apart": ["yes", "yes"]},
     "The lead is more than noise: ada, the next, is further behind than the spread."),
    (found.behind, {"candidate": []}, "Nobody is behind: one candidate has a score."),
    (found.failed, {"candidate": []}, "Every family was judged."),
    (found.failed, {"candidate": ["a", "b", "c", "d", "e"]}, "5 families have no score: a, b, c and 2 others."),
    (found.holdout, {"metric": ["ROC AUC"], "value": [0.7621], "low": [0.74], "high": [0.781], "baseline": [0.5]},
     "ROC AUC is 0.762 (0.740 to 0.781); the baseline has 0.500."),
    (found.versions, {"fact": ["version", "model"], "candidate": ["3", "lr"]},
     "Version 3 (lr) is the first to stand here: there is no champion."),
    (found.versions, {"fact": ["version", "model"], "candidate": ["3", "lr"], "champion": ["2", "rf"]},
     "Version 3 (lr) stands against version 2 (rf)."),
    (found.criteria, GATE, "All 2 criteria pass."),
    (found.criteria, {**GATE, "passed": ["yes", "no"]}, "Of 2 criteria, 1 did not pass: margin."),
    (found.criteria, {**GATE, "passed": ["yes", "not judged"]}, "None of 2 criteria fails; 1 could not be judged."),
    (found.outcome, {"fact": ALIAS, "value": ["none", "no", "0", "none"]},
     "The alias names no version; nothing is in service."),
    (found.outcome, {"fact": ALIAS, "value": ["version 2", "yes", "30", "its compiled form (ONNX graph)"]},
     "The alias has just moved to version 2, which gave all 30 golden rows back exactly; "
     "requests are answered by its compiled form (ONNX graph)."),
    (found.outcome, {"fact": ALIAS, "value": ["version 1", "no", "30", "the model itself: no form"]},
     "The alias still names version 1, which gave all 30 golden rows back exactly; "
     "requests are answered by the model itself: no form."),
    (found.quality, BATCHES, "2 batches with 150 rows: all keep the contract."),
    (found.quality, {**BATCHES, "violations": [0, 3]}, "2 batches with 150 rows; the contract is broken in batch 5."),
    (found.quality, {"batch": []}, "There is no batch to judge."),
    (found.gaps, {"batch": ["4", "5"], "column": ["age", "x"], "missing then": [0.1, 0.3], "missing now": [0.1, 0.0]},
     "The share of gaps moved most in x of batch 5: from 30% to 0%."),
    (found.gaps, {"batch": ["4"], "column": ["age"], "missing then": [0.1], "missing now": [0.1]},
     "The drifted columns lack as many values as before."),
    (found.gaps, {"batch": []}, "No column has drifted."),
]  # fmt: skip


@pytest.mark.parametrize(("says", "table", "sentence"), SAYS, ids=[f"{s[0].__name__}-{k}" for k, s in enumerate(SAYS)])
def test_a_table_says(says: Any, table: dict[str, list[Any]], sentence: str) -> None:
    assert says(pd.DataFrame(table)) == sentence


def test_the_sentence_stands_above_its_table_and_is_escaped() -> None:
    frame = pd.DataFrame({"candidate": ["<b>"]})
    html = Table(frame, caption="Without a score", found=found.failed)._repr_html_()
    assert html.index("1 family has no score: &lt;b&gt;.") < html.index("<table")
    assert "A text" in Table(frame, caption="Without a score", found="A text")._repr_html_()


def test_a_table_without_a_sentence_has_none() -> None:
    assert 'class="found"' not in Table(pd.DataFrame({"a": [1]}), caption="Numbers")._repr_html_()
    with pytest.raises(ReportError, match="no caption"):
        Table(pd.DataFrame({"a": [1]}), caption="", found="A text")
