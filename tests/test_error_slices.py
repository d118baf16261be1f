"""Error slices and rows with the largest errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import task_books
from conftest import CONTRACT
from text_facts import missing_facts, numbers

from modelbook.contract import Contract
from modelbook.evaluation.error_slices import (
    describe_worst_slice,
    find_error_slices,
    find_worst_rows,
)
from modelbook.tasks.binary import Binary
from modelbook.tasks.multiclass import Multiclass
from modelbook.tasks.regression import Regression
from modelbook.tasks.scored_rows import ScoredRows

TASK = Binary(Contract.model_validate(CONTRACT))
CHANCE = {"min_rows": 100, "resamples": 200, "seed": 1}


def make_rows(rows: int = 2000) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame({
        "who": np.arange(rows), "year": 1, "group": 1.0, "size": random.uniform(0, 100, rows),
        "colour": random.choice(["1", "2", "11"], rows), "flag": 0.0, "after": 7.0,
        "noise": np.where(random.uniform(size=rows) < 0.2, np.nan, random.normal(size=rows)),
    })  # fmt: skip


def draw_predictions(frame: pd.DataFrame, is_wrong: np.ndarray, seed: int = 0) -> ScoredRows:
    """Predictions that are right in 90% of rows, and in 50% of the rows where ``is_wrong``."""
    random = np.random.default_rng(seed)
    outcome = random.integers(0, 2, len(frame))
    right = random.uniform(size=len(frame)) < np.where(is_wrong, 0.5, 0.9)
    return ScoredRows.from_arrays(
        outcome, np.where(right == (outcome == 1), 0.85, 0.15), frame["who"]
    )


def test_error_slice_is_found_and_named() -> None:
    frame = make_rows()
    is_wrong = (frame["size"] > 70) & (frame["colour"] == "2")
    rows = find_error_slices(TASK, draw_predictions(frame, is_wrong), frame, **CHANCE)
    top = rows.iloc[0]
    assert missing_facts(top["slice"], "Size", "colour", 2) == []
    assert [number for number in numbers(top["slice"]) if number == pytest.approx(70, abs=4)]
    assert 0 < top["low"] < top["difference"] < top["high"]
    sentence = describe_worst_slice(TASK, rows)
    assert missing_facts(sentence, "difference in log loss", top["slice"], int(top["rows"])) == []


def test_tree_without_splits_gives_no_slice() -> None:
    """The mean of its only leaf differs from that of all rows by rounding, for some of the seeds."""
    frame = make_rows(400).assign(size=5.0, colour="1", noise=0.0)
    for seed in range(5):
        random = np.random.default_rng(seed)
        scored = ScoredRows.from_arrays(
            random.integers(0, 2, len(frame)), random.uniform(size=len(frame)), frame["who"]
        )
        assert find_error_slices(TASK, scored, frame, **CHANCE).empty


def test_missing_values_can_be_an_error_slice() -> None:
    frame = make_rows()
    rows = find_error_slices(
        TASK, draw_predictions(frame, frame["noise"].isna().to_numpy()), frame, **CHANCE
    )
    assert missing_facts(rows["slice"].iloc[0], "noise", "missing") == []


def test_a_slice_has_the_words_of_the_contract() -> None:
    columns = {
        **CONTRACT["columns"],
        "colour": {
            **CONTRACT["columns"]["colour"],
            "labels": {"1": "red", "2": "green", "11": "blue"},
        },
        "flag": {"role": "feature", "type": "boolean", "nullable": True, "meaning": "yes or no"},
    }
    task = Binary(Contract.model_validate({**CONTRACT, "columns": columns}))
    frame = make_rows().assign(flag=np.arange(2000) % 2)
    is_wrong = ((frame["colour"] == "2") & (frame["flag"] == 0)).to_numpy()
    top = find_error_slices(task, draw_predictions(frame, is_wrong), frame, **CHANCE)["slice"].iloc[
        0
    ]
    assert missing_facts(top, "colour is green", "not flag") == []
    unknown = frame.assign(flag=np.where(np.arange(2000) % 4 < 2, frame["flag"], np.nan))
    is_wrong = unknown["flag"].isna().to_numpy()
    top = find_error_slices(task, draw_predictions(unknown, is_wrong), unknown, **CHANCE)[
        "slice"
    ].iloc[0]
    assert missing_facts(top, "flag", "missing") == []  # below 0, as a missing value is


def test_redundant_slice_conditions_are_simplified() -> None:
    frame = make_rows()
    steps = np.select([frame["size"] < 25, frame["size"] < 50], [0.4, 0.7], 0.95)
    random = np.random.default_rng(0)
    outcome = random.integers(0, 2, len(frame))
    right = random.uniform(size=len(frame)) < steps
    scored = ScoredRows.from_arrays(
        outcome, np.where(right == (outcome == 1), 0.85, 0.15), frame["who"]
    )
    slices = find_error_slices(TASK, scored, frame, **CHANCE)["slice"]
    assert slices.str.count("Size").max() <= 2  # one border a side
    assert missing_facts(slices.iloc[0], "Size") == []
    assert numbers(slices.iloc[0])[0] == pytest.approx(25, abs=5)


@pytest.mark.long
def test_noise_rarely_has_error_slices() -> None:
    frame, sure = make_rows(), 0
    for seed in range(12):
        rows = find_error_slices(
            TASK,
            draw_predictions(frame, np.zeros(len(frame), bool), seed),
            frame,
            **{**CHANCE, "seed": seed},
        )
        sure += bool(numbers(describe_worst_slice(TASK, rows)))
    assert sure <= 3  # up to five slices a time, each wrong once in forty


def test_few_rows_have_no_error_slices() -> None:
    frame = make_rows(150)
    rows = find_error_slices(TASK, draw_predictions(frame, np.ones(150, bool)), frame, **CHANCE)
    assert rows.empty
    assert missing_facts(describe_worst_slice(TASK, rows), "too few rows", "no split") == []
    tested = make_rows()
    rows = find_error_slices(TASK, draw_predictions(tested, np.zeros(2000, bool)), tested, **CHANCE)
    sentence = describe_worst_slice(TASK, rows.assign(low=-0.01))
    assert missing_facts(sentence, "No slice", "log loss") == []
    assert "too few" not in sentence


def test_largest_errors_are_listed_by_key_only() -> None:
    frame = make_rows(4)
    scored = ScoredRows.from_arrays([0, 1, 1, 0], [0.1, 0.02, 0.6, 0.7], frame["who"])
    rows = find_worst_rows(TASK, scored, frame, max_rows=2)
    key, period, outcome, score, error = rows.columns
    assert (key, period, error) == ("member", "year", "log loss")
    assert rows["member"].tolist() == [
        "1",
        "3",
    ]  # a number with its thousands parted is no key to look up
    assert [numbers(text) for text in rows[score]] == [[0.02], [0.7]]
    assert rows[outcome].nunique() == 2
    assert rows["log loss"].tolist() == pytest.approx([-np.log(0.02), -np.log(0.3)])


def test_largest_errors_without_key_are_numbered_without_sensitive_columns() -> None:
    task = Multiclass(task_books.make_multiclass_contract())
    scored = ScoredRows.from_arrays([0, 2], [[0.8, 0.1, 0.1], [0.7, 0.2, 0.1]], [0, 1])
    rows = find_worst_rows(task, scored, task_books.make_multiclass_rows(rows=2))
    assert rows["row"].tolist() == [1, 0]
    outcome, answer = rows.iloc[0, [1, 2]]
    assert outcome == "high"
    assert missing_facts(answer, "low", 0.7) == []
    keyed = Binary(TASK.contract.model_copy(update={"key": ["who", "group"]}))
    result = find_worst_rows(keyed, ScoredRows.from_arrays([1], [0.5], [1]), make_rows(1))
    assert "group" not in result


def test_regression_error_is_absolute_error() -> None:
    task = Regression(task_books.make_regression_contract())
    frame = task_books.make_regression_rows(entities=1)
    rows = find_worst_rows(
        task, ScoredRows.from_arrays([10.0, 20.0, 30.0], [11.0, 26.0, 30.0], frame["who"]), frame
    )
    assert rows.iloc[:, -1].tolist() == [6.0, 1.0, 0.0]
    assert [float(value) for value in rows.iloc[0, -4:-1]] == [
        2,
        20,
        26,
    ]  # year, outcome, prediction
