"""The helpers that find facts in texts."""

from __future__ import annotations

import pytest
from text_facts import missing_facts, numbers, skeleton


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("1,000 rows", 1000), ("1000 rows", 1000), ("ROC AUC 0.759 (0.735–0.781)", 0.7812), ("9% of rows", 0.0909),
        ("9.1 %", 0.0909), ("97%", 97), ("change of -0.30", -0.3), ("2.6e-42", 2.6e-42), ("Age leads", "age"),
        ("size = 1,234.", "1234"), ("−0.100", -0.1), ("0", 0), ("column 'size'", "'size'"),
    ],
)  # fmt: skip
def test_fact_is_found_in_any_wording(text, fact):
    assert missing_facts(text, fact) == []


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("10,000 rows", 1000), ("0.76", 0.7), ("1", 0.97), ("10%", 0.0909), ("sizes", "size"), ("f00d", 0),
        ("0.5", 5), ("version 12", 1), ("1.5 rows", "1"), ("-0.3", 0.3),
    ],
)  # fmt: skip
def test_absent_fact_is_reported_missing(text, fact):
    assert missing_facts(text, fact) == [fact]


def test_numbers_are_parsed_in_common_formats() -> None:
    text = "1,299 of 20,190 rows, 0.759 (95% CI 0.735–0.781), −0.100 or 12.5 %; version 3."
    assert numbers(text) == [1299, 20190, 0.759, 0.95, 0.735, 0.781, -0.1, 0.125, 3]


def test_fact_matches_rounded_number_only() -> None:
    text = "Decision tree leads with 0.762 ± 0.010, 25% of 1,299 rows"
    assert missing_facts(text, "decision tree", 0.7621, 0.0102, 0.254, 1299) == []
    missing = ["naive Bayes", 0.7614, 0.02, 0.26, 1298, 7, 0]
    assert missing_facts(text, *missing) == missing


def test_sentences_that_differ_only_in_numbers_have_one_skeleton() -> None:
    assert (
        skeleton("gains 0.1 of 1,000")
        == skeleton("gains 0.25 of 30")
        != skeleton("loses 0.1 of 30")
    )
