"""Summary sentences above tables: computed facts, distinct, escaped."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest
from text_facts import missing_facts, numbers

from modelbook.contract import Column
from modelbook.display import Table, summarize
from modelbook.errors import ReportError
from modelbook.formatting import format_code, format_count, format_number

GATE = {"criterion": ["floor", "margin"], "passed": ["yes", "yes"]}
ALIAS = ["champion", "alias moved", "golden rows", "answered by"]
BATCHES = {"batch": ["4", "5"], "rows": [100, 50], "violations": [0, 0]}
SIDES = {
    "subset": ["train", "holdout", "batch 4"],
    "rows": [80, 20, 50],
    "rows of entities in train": [1.0, 0.0, 0.9],
}
TWICE = ["features only (different target)", "features and target"]
ORIGIN = ["rows", "entities", "periods"]
VERSIONS = {"property": ["version", "model"], "candidate": ["3", "lr"]}
LEADER = ["ada", "lr"]
# Function, table and facts of the sentence, all from the table.
SENTENCES: list[tuple[Any, dict[str, list[Any]], list[Any]]] = [
    (summarize.origin, {"property": ORIGIN, "value": ["20", "5 members", "year 1, 2"]}, [20, "5 members", "1, 2"]),
    (summarize.origin, {"property": ORIGIN, "value": ["20", "5 (row)", "none"]}, [20, 5, "row"]),
    (summarize.columns, {"role": ["feature", "target", "feature"], "missing": [0, 0, 0.021]},
     [2, 1, 3]),
    (summarize.dropped_columns, {"reason": ["a copy", "too late", "a copy"]}, [3, 2, "a copy"]),
    (summarize.dropped_columns, {"reason": ["a copy"]}, [1]),
    (summarize.dropped_columns, {"reason": []}, []),
    (summarize.dropped_columns, {"reason": ["late", "a copy", "late", "a copy", "x"]}, [5, 2, "late", "a copy"]),
    (summarize.groupings, {"column": ["lpi", "x"], "score_drop": [0.025, 0.0], "low": [0.001, -0.1],
                           "high": [0.048, 0.1], "is_suspect": [False, False]},
     [2, "none", 0.025, "lpi", 0.001, 0.048, "significant"]),
    (summarize.groupings, {"column": ["y", "x"], "score_drop": [0.5, -0.0001], "low": [None, -0.1],
                           "high": [None, 0.1], "is_suspect": [None, False]}, [" 0.000", "x", -0.1]),
    (summarize.groupings, {"column": [], "score_drop": [], "low": [], "high": [], "is_suspect": []}, [0]),
    (summarize.groupings, {"column": ["y"], "score_drop": [0.5], "low": [None], "high": [None], "is_suspect": [None]}, [1]),
    (summarize.split_sizes, SIDES, [80, 20, 50]),
    (summarize.split_sizes, {**SIDES, "rows of entities in train": [1.0, 0.25, 0.9]}, [80, 20, 0.25, 50]),
    (summarize.non_feature_columns, {"column": ["paid"], "role": ["dropped"], "univariate_score": [0.991],
                                     "non_missing_rate": [0.42]}, ["paid", "dropped", 0.991, 0.42]),
    # An entity, time or id column may be there, too.
    (summarize.non_feature_columns, {"column": []}, ["sensitive", "dropped"]),
    (summarize.duplicates, {"duplicates in": TWICE, "rows": [0, 1200]}, [1200, TWICE[1]]),
    (summarize.duplicates, {"duplicates in": TWICE, "rows": [0, 0]}, []),
    (summarize.folds, {"rows": [50, 50]}, [2, 50]),
    (summarize.folds, {"rows": [50, 52, 51]}, [3, 50, 52]),
    (summarize.leader_differences, {"candidate": LEADER, "distinguishable": ["no", "yes"]}, ["ada"]),
    (summarize.leader_differences, {"candidate": LEADER, "distinguishable": ["yes", "yes"]}, ["ada"]),
    (summarize.leader_differences, {"candidate": []}, []),
    (summarize.no_first_champion, {"metric": []}, ["champion"]),
    (summarize.failed_candidates, {"candidate": []}, []),
    (summarize.failed_candidates, {"candidate": ["a1", "b1", "c1", "d1", "e1"]}, [5, "a1", "b1", "c1", 2]),
    (summarize.holdout_metrics, {"metric": ["ROC AUC"], "value": [0.7621], "low": [0.74], "high": [0.781],
                     "baseline": [0.5]}, ["ROC AUC", 0.7621, 0.74, 0.781, 0.5]),
    (summarize.versions, VERSIONS, [3, "lr"]),
    (summarize.versions, {**VERSIONS, "champion": ["2", "rf"]}, [3, "lr", 2, "rf"]),
    (summarize.criteria, GATE, [2]),
    (summarize.criteria, {**GATE, "passed": ["yes", "no"]}, [2, 1, "margin"]),
    (summarize.criteria, {**GATE, "passed": ["yes", "inconclusive"]}, [2, 1]),
    (summarize.champion_alias, {"property": ALIAS, "value": ["none", "no", "0", "none"]}, []),
    (summarize.champion_alias, {"property": ALIAS, "value": ["version 2", "yes", "30", "its ONNX graph"]},
     ["version 2", 30, "its ONNX graph"]),
    (summarize.champion_alias, {"property": ALIAS, "value": ["version 2", "no", "30", "its ONNX graph"]},
     ["version 2", 30, "its ONNX graph"]),
    (summarize.batch_quality, BATCHES, [2, 150]),
    (summarize.batch_quality, {**BATCHES, "violations": [0, 3]}, [2, 150, 5]),
    (summarize.batch_quality, {"batch": []}, []),
    (summarize.findings, {"verdict": ["healthy"], "owner": ["–"]}, []),
    (summarize.findings, {"verdict": ["healthy", "healthy"], "owner": ["data owner", "–"]}, [1, "data owner", "verdict"]),
    (summarize.findings, {"verdict": ["retrain", "watch"], "owner": ["model owner"] * 2}, [2, "action"]),
    (summarize.missing_rate_changes, {"batch": ["4", "5"], "column": ["age", "x"], "missing, matched holdout": [0.1, 0.3],
                  "missing, batch": [0.1, 0.0]}, ["x", 5, 0.3, "0%"]),
    (summarize.missing_rate_changes, {"batch": ["4"], "column": ["age"], "missing, matched holdout": [0.1], "missing, batch": [0.104]}, [0.5]),
    (summarize.missing_rate_changes, {"batch": []}, []),
    (summarize.missing_patterns, {"columns": []}, ["feature"]),  # other columns may have gaps
    (summarize.estimated_performance, {"batch": []}, []),
    (summarize.estimated_performance, {"batch": ["4", "5"], "estimated": [0.7, 0.75], "low": [0.6, 0.6], "high": [0.8, 0.8],
                      "observed": [None, None], "error": [None, None]}, [5, 0.75]),
    (summarize.estimated_performance, {"batch": ["4", "5", "6"], "estimated": [0.7, 0.75, 0.72], "low": [0.66, 0.65, 0.6],
                      "high": [0.74, 0.8, 0.8], "observed": [0.8, 0.71, None], "error": [-0.1, 0.04, None]},
     [6, 0.72, 2, 0.07, 4, 0.8, 0.66, 0.74]),
]  # fmt: skip
NAMES = [f"{case[0].__name__}-{index}" for index, case in enumerate(SENTENCES)]


@pytest.mark.parametrize(("sentence_of", "table", "facts"), SENTENCES, ids=NAMES)
def test_summary_states_facts_of_its_table(
    sentence_of: Any, table: dict[str, list[Any]], facts: list[Any]
) -> None:
    sentence = sentence_of(pd.DataFrame(table))
    assert sentence
    assert missing_facts(sentence, *facts) == []
    assert facts or numbers(sentence) == []


@pytest.mark.parametrize(
    ("sentence_of", "table"),
    [
        (summarize.columns, {"role": ["feature"], "missing": [0.1]}),
        (summarize.dropped_columns, {"reason": ["a copy"]}),
        (summarize.open_questions, {"about": ["age"]}),
        (summarize.split_sizes, {**SIDES, "rows": [1, 1, 1]}),
        (summarize.duplicates, {"duplicates in": TWICE[:1], "rows": [1]}),
        (summarize.failed_candidates, {"candidate": ["lr"]}),
        (summarize.failed_candidates, {"candidate": ["a", "b", "c", "d"]}),
        (summarize.batch_quality, {"batch": ["4"], "rows": [1], "violations": [0]}),
        (
            summarize.groupings,
            {
                "column": ["x"],
                "score_drop": [0.2],
                "low": [0.1],
                "high": [0.3],
                "is_suspect": [True],
            },
        ),
    ],
)
def test_one_is_singular(sentence_of: Any, table: dict[str, list[Any]]) -> None:
    sentence = sentence_of(pd.DataFrame(table))
    assert re.search(r"\b1 \w+", sentence)
    assert not re.search(
        r"\b1 (rows|columns|others|batches|families|[a-z]+ rows|have|lose)\b", sentence
    )


def test_no_two_tables_share_a_summary() -> None:
    sentences = [sentence_of(pd.DataFrame(table)) for sentence_of, table, _ in SENTENCES]
    assert len(set(sentences)) == len(sentences)


def test_summary_is_escaped_and_above_its_table() -> None:
    frame = pd.DataFrame({"candidate": ["<b>"]})
    html = Table(
        frame, caption="Without a score", summary=summarize.failed_candidates
    )._repr_html_()
    assert html.index("&lt;b&gt;") < html.index("<table")
    assert "A text" in Table(frame, caption="Numbers", summary="A text")._repr_html_()


def test_table_without_summary_has_no_paragraph() -> None:
    assert "<p" not in Table(pd.DataFrame({"a": [1]}), caption="Numbers")._repr_html_()
    with pytest.raises(ReportError):
        Table(pd.DataFrame({"a": [1]}), caption="", summary="A text")


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "column", "1 column"),
        (2000, "row", "2,000 rows"),
        (2, "company", "2 companies"),
        (2, "survey day", "2 survey days"),
        (0, "batch", "0 batches"),
        (3, "insured person", "3 insured people"),
    ],
)
def test_counted_nouns_agree_with_their_number(count: int, noun: str, text: str) -> None:
    assert format_count(count, noun) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (1 / 3, "0.333333"), (20240101.0, "20240101"), (-1234567.5, "-1234567.5")],
)
def test_large_numbers_keep_all_digits(value: float, text: str) -> None:
    assert format_number(value) == text
    column = Column(type="number", role="feature", meaning="a", min=value)
    assert text in column.describe_allowed_values()
    assert format_code(1234567.0) == format_code(1234567) == "1234567"
