"""Drafts: inferred task, types and roles, questions, and written files."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_project import ROOT
from text_facts import missing_facts

from modelbook import atomic, config
from modelbook.contract import Contract
from modelbook.contract.file_layout import FileLayout
from modelbook.draft import BookDraft, DraftOptions, column_types, draft_book, planning, writer
from modelbook.errors import DataError, ModelbookError, ParameterError

N = 240


def make_people(**kwargs: Any) -> pd.DataFrame:
    """A table of 240 rows with a target ``y`` that depends on ``x``, and further columns."""
    random = np.random.default_rng(0)
    x = random.normal(50, 10, N).round(2)
    return pd.DataFrame({"x": x, **kwargs, "y": (x + random.normal(0, 8, N) > 55).astype(int)})


def draft(frame: pd.DataFrame, target: str = "y", **options: Any) -> BookDraft:
    inputs = DraftOptions(**options)
    result = draft_book(frame, target, title="Tiny", source="made up", options=inputs)
    assert result.contract.find_violations(frame).empty
    return result


def repeat(values: list[Any]) -> list[Any]:
    return (values * N)[:N]


# Column types and roles

RANDOM = np.random.default_rng(1)
BIRTHS = pd.Timestamp("1980-01-01") + pd.to_timedelta(np.arange(N) * 37, "D")
CASES: list[tuple[str, Any, dict[str, Any], str]] = [
    ("size", RANDOM.uniform(10, 20, N).round(1), {"role": "feature", "type": "number"}, "numbers"),
    ("share", RANDOM.uniform(size=N), {"type": "number", "min": 0, "max": 1}, "numbers"),
    ("count", RANDOM.integers(0, 9, N), {"type": "integer", "min": 0, "max": 12}, "whole numbers, 0 to 8"),
    ("flag", RANDOM.integers(0, 2, N), {"type": "boolean"}, "0 and 1"),
    ("truth", RANDOM.integers(0, 2, N).astype(bool), {"type": "boolean"}, "0 and 1"),
    ("town", repeat(["Bath", "Ely", " Wells"]), {"type": "category", "categories": ["Bath", "Ely", "Wells"]}, "3 "),
    ("code", repeat(["--5", "7", "x"]), {"type": "category", "categories": ["7", "--5", "x"]}, "3 "),
    ("RegionID", repeat([1, 2, 3, 10]), {"type": "category", "categories": ["1", "2", "3", "10"]}, "integer codes"),
    ("price", repeat(["£1,623.85 ", "£3", "(£2.50)"]), {"type": "number", "number_format": "currency"}, "amounts of money"),
    ("preis", repeat(["1.623,85 €", "3,20 €", "7,00 €"]), {"number_format": "currency", "decimal": ","}, "amounts of money"),
    ("rate", repeat(["12.5%", "3 %"]), {"type": "number", "number_format": "percent"}, "percentages"),
    ("bought", repeat(["31/12/2020", "01/02/2021", "15/06/2021"]), {"type": "date", "format": "%d/%m/%Y"}, "dates"),
    ("born", BIRTHS, {"type": "date", "date_parts": ["days", "month", "weekday"]}, "dates as ISO8601"),
    ("note", [f"called on day {i} and said no" for i in range(N)], {"role": "dropped", "type": "text"}, "free text"),
    ("code", [f"A{i}" for i in range(N)], {"role": "id", "type": "text"}, "a different text in each row"),
    ("row", np.arange(N)[::-1], {"role": "id", "type": "integer"}, "consecutive"),
    ("same", repeat([3]), {"role": "dropped"}, "constant: always '3'"),
    ("nothing", repeat([None]), {"role": "dropped"}, "empty"),
    ("words", [f"w{i % 150}" for i in range(N)], {"role": "dropped", "type": "text"}, "150 distinct texts"),
    ("ethnicity", repeat(["a", "b"]), {"role": "sensitive", "type": "category"}, "sensitive by its name"),
    ("customer_id", np.repeat(np.arange(60), 4), {"role": "entity", "type": "integer"}, "60 entities, 4.0 rows each"),
    ("season", repeat(["2010/11", "2011/12"]), {"type": "category"}, "2 distinct"),
    ("clock", repeat(["07:45", "23:10"]), {"type": "date", "date_parts": ["hour"]}, "the hour"),
    ("laps", repeat(["7:45", "63:10"]), {"type": "category"}, "2 distinct"),
    ("level", repeat(["1", "2", "?"]), {"type": "integer", "nullable": True}, "whole numbers"),
    ("ratio", repeat(["1", "2", "#DIV/0!"]), {"type": "integer", "nullable": True}, "whole numbers"),
    ("grade", repeat(["1", "2", "UNKNOWN"]), {"type": "integer", "nullable": True}, "whole numbers"),
    ("price", repeat(["١٢", "３４٫", "²"]), {"type": "category"}, "3 distinct"),
    ("count", repeat(["١٢", "３４", "56", "7"]), {"type": "integer", "number_format": "number", "max": 81}, "7 to 56"),
    ("city", repeat(["Paris", "Rome", "paris", "Paris", "PARIS"]),
     {"categories": ["Paris", "Rome"], "replacements": {"paris": "Paris", "PARIS": "Paris"}}, "2 distinct"),
    ("gene", repeat(["AA", "Aa", "aa"]), {"categories": ["AA", "Aa", "aa"], "replacements": {}}, "3 distinct"),
    ("town", repeat(["Bath", "bath"]), {"role": "dropped"}, "constant: always 'Bath'"),
    ("customer_id", [i // 4 if i % 9 else None for i in range(N)], {"role": "dropped"}, "missing in 27 rows"),
    ("order_id", [7 * i if i % 9 else None for i in range(N)], {"role": "id", "nullable": True}, "each row"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "keys", "why"), CASES, ids=[case[0] for case in CASES])
def test_column_type_and_role_are_inferred(
    name: str, values: Any, keys: dict[str, Any], why: str
) -> None:
    result = draft(make_people(**{name: values}))
    column = result.contract.columns[name]
    assert {key: getattr(column, key) for key in keys} == keys
    assert why in next(sample for sample in result.guesses if sample.name == name).reason


def test_rare_categories_allow_unseen_ones() -> None:
    towns = draft(make_people(town=[*repeat(["a", "b"])[:-3], "c", "d", "e"])).contract.columns[
        "town"
    ]
    assert towns.allow_unseen
    assert towns.categories == ["a", "b", "c", "d", "e"]
    crowd = pd.concat([make_people()] * 12, ignore_index=True)
    crowd["w"] = [f"w{number}" for number in np.random.default_rng(3).integers(0, 200, len(crowd))]
    column = draft(crowd).contract.columns["w"]
    assert (column.type, column.allow_unseen, column.categories) == ("category", True, None)


def test_copies_and_leaks_are_dropped_with_reason() -> None:
    frame = make_people()
    frame = frame.assign(
        again=frame["x"], told=frame["y"] * 3.0 + 1, spoken=frame["y"].map({0: "no", 1: "yes"})
    )
    result = draft(frame)
    reasons = {
        name: result.contract.columns[name].reason
        for name in result.contract.columns_with_role("dropped")
    }
    assert reasons.pop("again") == "a copy of x"
    assert set(reasons) == {"told", "spoken"}
    assert "ROC AUC 1.000 in a small tree, limit 0.95" in reasons["told"]
    assert any(note.startswith("told was dropped") for note in result.notes)
    single = draft(frame[["told", "y"]])
    assert single.contract.input_names == ["told"]
    assert "told is the only feature" in single.notes[0]


def test_near_copy_of_regression_target_is_a_leak() -> None:
    random = np.random.default_rng(2)
    frame = pd.DataFrame({"x": random.normal(size=N), "y": random.normal(size=N)})
    result = draft(frame.assign(leak=frame["y"] * 2 + 1))
    assert result.contract.task == "regression"
    assert "R² 0.9" in result.contract.columns["leak"].reason


@pytest.mark.parametrize("name", ["sex", "age", "race"])
def test_protected_attributes_that_stay_features_are_noted(name: str) -> None:
    """Categories named like a race are sensitive; an integer may be a count, and stays."""
    result = draft(make_people(**{name: RANDOM.integers(1, 60, N)}))
    assert result.contract.columns[name].role == "feature"
    assert any(name in note and "role: sensitive" in note for note in result.notes)


def test_time_column_of_one_period_holds_no_batches_back() -> None:
    days = repeat(["2024-03-01", "2024-03-02"])
    result = draft(make_people(when=days), roles={"when": "time"})
    assert result.train_until is None
    reason = next(guess.reason for guess in result.guesses if guess.name == "when")
    assert "one period, 202403" in reason
    assert "few rows" not in reason


@pytest.mark.long
def test_time_column_sets_train_until() -> None:
    dates = pd.Timestamp("2020-01-15") + pd.to_timedelta(np.arange(N) * 2, "D")
    result = draft(make_people(order_date=dates.strftime("%Y-%m-%d")))
    column = result.contract.columns["order_date"]
    assert (column.role, column.period, result.train_until) == ("time", "month", 202101)
    assert draft(make_people(year=2000 + np.arange(N) // 40)).train_until == 2004
    assert draft(make_people(order_date=dates).head(100)).train_until is None
    assert (
        draft(make_people(birth_date=dates.astype(str))).contract.columns["birth_date"].role
        == "feature"
    )


# The target


@pytest.mark.parametrize(
    ("target", "task", "type", "note"),
    [
        (repeat([0, 1]), "binary", "boolean", ""), (repeat(["Yes", "No", "No"]), "binary", "category", "Yes"),
        (repeat(["good", "poor", "good"]), "binary", "category", "poor"), (repeat([1, 2]), "binary", "category", "1"),
        (repeat([0, 1, 2, 3, 4]), "multiclass", "category", ""), (repeat(["a", "b", "c"]), "multiclass", "category", ""),
        (np.arange(N) * 1.5, "regression", "number", ""), (repeat(list(range(40))), "regression", "integer", ""),
        (repeat(["$1,200.50", "$3.00", *[f"${i}" for i in range(20)]]), "regression", "number", ""),
    ],
)  # fmt: skip
def test_target_determines_task(target: Any, task: str, type: str, note: str) -> None:
    result = draft(make_people().assign(y=target))
    column = result.contract.columns["y"]
    assert (result.contract.task, column.role, column.type, column.positive) == (
        task,
        "target",
        type,
        note,
    )


def test_spellings_of_a_class_are_one_class() -> None:
    frame = make_people().assign(y=[*repeat(["yes", "no", "yes"])[2:], "YES", "No"])
    result = draft(frame)
    column = result.contract.columns["y"]
    assert (result.contract.task, column.categories, column.positive) == (
        "binary",
        ["no", "yes"],
        "yes",
    )
    assert column.replacements == {"YES": "yes", "No": "no"}
    assert result.contract.encode_target(frame).tolist()[-2:] == [1, 0]
    assert missing_facts(result.contract.questions[0].decided, "YES", "yes") == []


def test_odd_texts_of_a_numeric_target_leave_their_rows_out() -> None:
    frame = make_people().assign(y=[f"{i / 7:.3f}" if i % 40 else "n/d" for i in range(N)])
    result = draft(frame)
    assert (result.contract.task, result.contract.missing, result.n_rows) == (
        "regression",
        ["n/d"],
        N - 6,
    )
    assert missing_facts(result.contract.questions[0].decided, 6, N) == []
    assert len(result.contract.select_training_rows(frame)) == N - 6


def test_decimal_mark_applies_to_the_target() -> None:
    frame = make_people().assign(y=[f"{i + 1}.{i % 900 + 100}" for i in range(N)])
    assert draft(frame, decimal=",").contract.columns["y"].max > 100_000


def test_given_task_overrides_inference() -> None:
    stars = make_people().assign(y=repeat([1, 2, 3, 4, 5]))
    assert draft(stars, task="regression").contract.columns["y"].type == "integer"
    assert draft(make_people(), task="regression").contract.task == "regression"
    for task, result in (("binary", r"\b5\b.*binary"), ("rank", "'rank'")):
        with pytest.raises(DataError, match=result):
            draft(stars, task=task)


def test_small_and_imbalanced_classes_are_noted() -> None:
    result = draft(make_people().assign(y=[1] * 5 + [0] * (N - 5)))
    note_of_few, note_of_share = result.notes[:2]
    assert re.search(r"\b5 rows\b.*'1'", note_of_few)
    assert re.search(r"\b2\.1%.*'1'", note_of_share)


# Columns without information


def _odd(value: Any) -> list[Any]:
    return [*np.arange(N - 1).astype(str), value]


BAD: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "no rows": (lambda: make_people().head(0), r"\b0 rows"),
    "one row": (lambda: make_people().head(1), r"\b1 row\b"),
    "rare classes": (
        lambda: make_people().head(22).assign(y=[*"ababababababababab", *"cdef"]),
        r"\b18 rows\b.*'y'",
    ),
    "one column": (lambda: make_people()[["y"]], "column.*'y'"),
    "no column": (lambda: make_people().iloc[:, :0], "no columns"),
    "no target": (lambda: make_people().rename(columns={"y": "z"}), "'y'"),
    "constant target": (lambda: make_people().assign(y=1), r"'y'.* 1\n"),
    "an infinite target": (lambda: make_people().assign(y=[np.inf, *np.arange(N - 1) / 7]), "'y'.*row 0"),
    "all different": (lambda: make_people().assign(y=[f"a{i}" for i in range(N)]), "'y'.*each row"),
    "many answers": (lambda: make_people().assign(y=repeat([f"a{i}" for i in range(99)])), r"\b99\b"),
    "numbered rows": (
        lambda: make_people().assign(y=range(5, N + 5)), r"'y'.*\b5 to 244\b"
    ),
    "all empty": (lambda: make_people().assign(x=None), "x: empty"),
    "a name of no signs": (lambda: make_people().rename(columns={"x": ""}), "''"),
}  # fmt: skip


@pytest.mark.parametrize("role", ["time", "entity"])
@pytest.mark.parametrize(
    ("values", "result"), [([None, *range(N - 1)], "1 of 240"), ([2020] * N, r" 2020\n")]
)
def test_role_that_needs_a_value_in_each_row_raises(
    values: list[Any], result: str, role: str
) -> None:
    with pytest.raises(DataError, match=f"group.*{role}.*{result}"):
        draft(make_people(group=values), roles={"group": role})


def test_amounts_in_several_currencies_raise_a_question() -> None:
    for amounts, count in ((["$1.50", "€2", "3 USD"], 1), (["$1.50", "$2", "US$ 3"], 0)):
        result = draft(make_people(paid=repeat(amounts)))
        questions = [q for q in result.contract.questions if q.about == "paid"]
        assert len(questions) == count
        assert result.contract.columns["paid"].number_format == "currency"


@pytest.mark.parametrize("case", BAD)
def test_invalid_input_raises(case: str) -> None:
    make_table, message = BAD[case]
    with pytest.raises(DataError, match=message) as exc_info:
        draft_book(make_table(), "y", title="t", source="s")
    assert exc_info.value.next


def test_target_below_the_header_names_the_lines_to_skip(tmp_path: Path) -> None:
    make_people().to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.csv").write_text("people,2024\n" + (tmp_path / "t.csv").read_text())
    with pytest.raises(DataError, match="'y'") as exc_info:
        planning.draft_from_plan(planning.plan_draft(tmp_path, "t.csv"), "y")
    assert "--skip-rows 1" in exc_info.value.next
    layout = FileLayout(skip_rows=1)
    planning.draft_from_plan(planning.plan_draft(tmp_path, "t.csv"), "y", layout=layout)


def test_column_names_that_collide_raise() -> None:
    with pytest.raises(DataError, match="born_days"):
        draft_book(
            make_people(born=BIRTHS, born_days=RANDOM.normal(size=N)), "y", title="t", source="s"
        )


@pytest.mark.long
def test_ten_thousand_categories_are_dropped() -> None:
    frame = pd.concat([make_people()] * 50, ignore_index=True)
    result = draft(frame.assign(c=[f"c{i % 10_000}" for i in range(len(frame))]))
    assert result.contract.columns["c"].reason.startswith("10,000 distinct texts, 1.2 rows each")


DROPPED: dict[str, tuple[list[Any], list[str]]] = {
    "infinite": ([*range(N - 2), np.inf, -np.inf], ["2", "238"]),
    "two formats": (repeat(["2020-03-04", "2020-05-06", "07/08/2020"]), ["2020-03-04", "07/08/2020"]),
    "codes": ([f"PC {i}" if i % 3 == 0 else str(i) for i in range(N)], ["PC 0"]),
    "cells of Excel": ([i if i % 3 else "PC" for i in range(N)], ["PC"]),
    "lists": (repeat(["1", "2 or 3", *map(str, range(4, 40))]), []),
}  # fmt: skip


@pytest.mark.parametrize("case", DROPPED)
def test_ambiguous_column_is_dropped_with_a_question(case: str) -> None:
    values, facts = DROPPED[case]
    result = draft(make_people(odd=values, other=repeat(["a", "b"])))
    [question] = [question for question in result.contract.questions if question.about == "odd"]
    assert missing_facts(question.decided, *facts) == []
    assert result.contract.columns["other"].role == "feature"
    if case != "lists":
        assert result.contract.columns["odd"].role == "dropped"
        assert missing_facts(result.contract.columns["odd"].reason, *facts) == []


def test_id_with_repeated_values_is_not_the_key() -> None:
    contract = draft(make_people(badge=repeat(["a", "b"])), roles={"badge": "id"}).contract
    assert contract.columns["badge"].role == "id"
    assert "badge" not in contract.key


def test_rare_integers_among_odd_texts_are_merged() -> None:
    classes = ["n/d" if i % 40 == 0 else str(i % 4) for i in range(N)]
    classes[3], classes[5] = "13", "15"
    result = draft(make_people().assign(y=classes), rare_classes="join")
    assert (result.contract.task, result.contract.missing) == ("multiclass", ["n/d"])
    assert result.contract.classes == ["0", "1", "2", "3", "other"]


def test_dropped_column_has_only_the_question_whether_to_drop_it() -> None:
    words = ["Yes" if y else "No" for y in make_people()["y"]]
    result = draft(make_people(odd=[words[0].upper(), *words[1:]]))
    assert result.contract.columns["odd"].role == "dropped"
    assert not result.contract.columns["odd"].replacements
    [question] = [question for question in result.contract.questions if question.about == "odd"]
    assert missing_facts(question.decided, "1.000", "0.95") == []


def test_predictive_texts_are_features_and_others_need_an_option() -> None:
    titles = ["Mr." if y != (i % 6 == 0) else "Mrs." for i, y in enumerate(make_people()["y"])]
    frame = make_people(
        name=[f"Braund {i % 97}, {title} Ian" for i, title in enumerate(titles)],
        ticket=[f"{'PC' if title == 'Mr.' else 'CA'} {i % 150}" for i, title in enumerate(titles)],
        street=[f"{'abcdefghijklm'[i % 13]}{'nopqrstuvwx'[i % 11]} Street" for i in range(N)],
    )
    result = draft(frame)
    columns = result.contract.columns
    roles = {name: columns[name].role for name in ("name", "ticket", "street")}
    assert roles == {"name": "feature", "ticket": "feature", "street": "dropped"}
    assert len(columns["name"].model_features("name")) == columns["name"].n_hashes == 8
    decisions = {question.about: question.decided for question in result.contract.questions}
    for name in roles:
        assert missing_facts(decisions[name], "ROC AUC") == []
    result.contract.check(frame)
    chosen = draft(frame, roles={"street": "feature"}).contract
    assert "street_hash1" in chosen.feature_names


def test_make_and_number_is_not_parsed_as_month_and_year() -> None:
    result = draft(make_people(car=repeat(["Maruti 800", "Peugeot 206", "Audi 80"])))
    assert result.contract.columns["car"].type == "category"


def test_rows_without_target_and_single_row_classes_are_excluded() -> None:
    gaps = make_people().assign(y=repeat([1, 0, None]))
    result = draft(gaps)
    assert (result.contract.missing_target, result.n_rows) == ("exclude", 160)
    assert missing_facts(result.contract.questions[0].decided, 80, 240) == []
    assert len(result.contract.select_training_rows(gaps)) == 160
    result.contract.check(gaps)
    assert draft(make_people().assign(y=repeat(["a", "b", " "]))).n_rows == 160
    single = make_people().assign(y=[*repeat(["a", "b"])[1:], "c"])
    contract = draft(single).contract
    assert (contract.excluded_classes, contract.classes) == (["c"], ["b", "a"])
    assert len(contract.select_training_rows(single)) == N - 1
    contract.check(single)


def test_single_row_classes_are_merged_with_option() -> None:
    frame = make_people().assign(y=[*repeat(["a", "b"])[2:], "c", " d"])
    left_out = draft(frame)
    assert left_out.contract.excluded_classes == ["c", "d"]
    assert missing_facts(left_out.contract.questions[0].change, "--rare-classes join") == []
    result = draft(frame, rare_classes="join")
    column = result.contract.columns["y"]
    assert (result.contract.task, result.n_rows) == ("multiclass", N)
    assert (column.categories, column.replacements) == (
        ["a", "b", "other"],
        {"c": "other", "d": "other"},
    )
    assert result.contract.encode_target(frame).tolist()[-3:] == [1, 2, 2]
    assert [column.parse_value(value) for value in ("a", "d", "e")] == ["a", "other", None]
    assert missing_facts(result.contract.questions[0].decided, "c", "d", "other") == []


def test_few_words_among_numbers_are_missing_and_units_and_ranges_are_parsed() -> None:
    result = draft(make_people(
        lead=[("<0.5", "ND", f"{i / 7:.2f}")[i % 12 if i % 12 < 2 else 2] for i in range(N)],
        mileage=[f"{i % 23 + 0.5} kmpl" for i in range(N)],
        area=[f"{i} - {i + 10}" if i % 2 else str(i) for i in range(1000, 1000 + N)],
        pay=[f"€{i % 40 + 1}K" for i in range(N)],
        level=["many" if i == 7 else str(i % 30) for i in range(N)],
    ))  # fmt: skip
    columns = result.contract.columns
    assert {name: columns[name].number_format for name in columns if columns[name].number_format} == {
        "lead": "bound", "mileage": "unit", "area": "range", "pay": "currency",
    }  # fmt: skip
    assert sorted(result.contract.missing) == ["ND", "many"]
    assert {"lead", "mileage", "area", "level"} <= {q.about for q in result.contract.questions}
    values = [columns["lead"].parse_value("<0.5"), columns["mileage"].parse_value("23.4 kmpl"),
              columns["area"].parse_value("1100 - 1110"), columns["pay"].parse_value("€30K")]  # fmt: skip
    assert values == [0.5, 23.4, 1105, 30_000]


@pytest.mark.parametrize(
    ("values", "date_format", "has_question"),
    [
        ([f"{i % 12 + 1:02d}/01/{2020 + i % 4}" for i in range(N)], "%m/%d/%Y", True),
        ([f"{i % 28 + 1:02d}/{i % 12 + 1:02d}/2020" for i in range(N)], "%d/%m/%Y", False),
        ([f"01/{i % 12 + 1:02d}/2020 0{i % 9 + 1}:30:00 PM" for i in range(N)], "%d/%m/%Y %I:%M:%S %p", True),
        ([f"2023-01-{i % 28 + 1:02d} 10:00:00 UTC" for i in range(N)], "%Y-%m-%d %H:%M:%S UTC", False),
        ([20230101 + i % 28 for i in range(N)], "%Y%m%d", False),
        ([f"Jun {i % 28 + 1} 1998" for i in range(N)], "%b %d %Y", False),
        ([f"{2000 + i // 4}Q{i % 4 + 1}" for i in range(N)], "quarter", False),
        ([f"{2000 + i // 12}-{i % 12 + 1:02d}" for i in range(N)], "ISO8601", False),
        ([f"{2020 + i // 52}-W{i % 52 + 1:02d}" for i in range(N)], "week", False),
        ([f"{i % 12 + 1:02d}.{2020 + i % 4}" for i in range(N)], "%m.%Y", False),
        ([f"{2020 + i % 4}M{i % 12 + 1:02d}" for i in range(N)], "%YM%m", False),
        ([f"{day:%a, %d %b %Y %H:%M:%S GMT}" for day in BIRTHS], "%a, %d %b %Y %H:%M:%S GMT", False),
        ([f"{day:%A, %B %d, %Y}" for day in BIRTHS], "%A, %B %d, %Y", False),
        ([f"{i % 24}:{i % 60:02d}" for i in range(N)], "%H:%M", False),
    ],
)  # fmt: skip
def test_date_formats_are_inferred(values: list[Any], date_format: str, has_question: bool) -> None:
    result = draft(make_people(since=values))
    assert result.contract.columns["since"].format == date_format
    assert has_question == any("date-order" in q.change for q in result.contract.questions)
    column = result.contract.columns["since"]
    assert column.parse_value(values[5]) is not None


def test_placeholder_dates_are_missing_values() -> None:
    open_end = [f"2023-{i % 12 + 1:02d}-05" if i % 4 else "9999-12-31" for i in range(N)]
    result = draft(make_people(until=open_end))
    assert (result.contract.columns["until"].type, result.contract.missing) == (
        "date",
        ["9999-12-31"],
    )
    assert missing_facts(result.contract.questions[0].decided, "9999-12-31", 60) == []


def test_column_of_placeholder_dates_alone_is_dropped() -> None:
    placeholders = ["0000-00-00", "9999-12-31"] * (N // 2)
    column = draft(make_people(until=placeholders)).contract.columns["until"]
    assert column.role == "dropped"
    assert missing_facts(column.reason, *placeholders[:2]) == []


def test_column_of_dates_out_of_range_alone_is_dropped() -> None:
    column = draft(make_people(born=[date(1, 2, 3), date(9999, 1, 1)] * (N // 2))).contract.columns[
        "born"
    ]
    assert column.role == "dropped"
    assert missing_facts(column.reason, 1677, 2262) == []


def test_out_of_range_dates_of_parquet_are_missing_with_a_question(project_folder: Path) -> None:
    ends = np.array(["2023-01-05", "9999-12-31", "2024-02-01"] * (N // 3), "datetime64[us]")
    make_people(until=ends).to_parquet(project_folder / "t.parquet")
    contract = planning.draft_from_plan(
        planning.plan_draft(project_folder, "t.parquet"), "y"
    ).contract
    assert (contract.columns["until"].type, contract.columns["until"].nullable) == ("date", True)
    [question] = [question for question in contract.questions if question.about == "until"]
    assert missing_facts(question.decided, N // 3) == []


def test_column_name_alone_does_not_drop_a_column() -> None:
    result = draft(make_people(
        year=[2003 + i % 18 for i in range(N)], Customer_Age=[20 + i % 50 for i in range(N)],
        family_size=[i % 7 + 1 for i in range(N)], CLIENTNUM=[700_000 + 37 * (i * 7 % N) for i in range(N)],
    ))  # fmt: skip
    roles = {name: column.role for name, column in result.contract.columns.items()}
    assert {name: roles[name] for name in ("year", "Customer_Age", "family_size")} == {
        "year": "feature", "Customer_Age": "feature", "family_size": "feature",
    }  # fmt: skip
    assert roles["CLIENTNUM"] == "id"
    named = draft(
        make_people(client_id=np.repeat(np.arange(60), 4)), roles={"client_id": "feature"}
    )
    assert named.contract.columns["client_id"].role == "feature"


def test_perfect_predictor_is_a_leak_and_strong_features_are_not() -> None:
    random = np.random.default_rng(5)
    category = np.repeat(["a", "b", "c"], N // 3)
    size = pd.Series(category).map({"a": 1.0, "b": 4.0, "c": 6.0})
    flowers = pd.DataFrame({
        "length": size + random.normal(0, 0.8, N), "width": size + random.normal(0, 0.8, N), "kind": category,
    })  # fmt: skip
    assert set(draft(flowers, "kind").contract.input_names) == {"length", "width"}
    leak = draft(flowers.assign(told=category), "kind").contract
    assert leak.columns["told"].role == "dropped"
    assert {"length", "width"} <= set(leak.input_names)


def test_every_question_has_an_option() -> None:
    frame = make_people(m=_odd("many"), d=repeat(["2020-03-04", "07/08/2020"]))
    result = draft(frame, missing_markers=["many"], dropped_columns=["d"])
    assert result.contract.columns["m"].nullable
    assert result.contract.columns["d"].role == "dropped"
    with pytest.raises(DataError, match="'z'"):
        draft(frame, dropped_columns=["z"])
    day_first = draft(make_people(d=repeat(["01/02/2020", "03/04/2020"])), day_first=False)
    assert day_first.contract.columns["d"].format == "%m/%d/%Y"
    assert not day_first.contract.questions
    german = draft(make_people(n=repeat(["1.234", "2.500", "9.999"])), decimal=",")
    assert german.contract.columns["n"].parse_value("1.234") == 1234


@pytest.mark.parametrize(
    ("observed", "bounds"),
    [
        ((18, 64, True), {"min": 0, "max": 87}), ((0.1, 0.9, False), {"min": 0, "max": 1}),
        ((-5, 5, True), {"min": -10, "max": 10}), ((1000.0, 1010.0, False), {"min": 995, "max": 1015}),
        ((-1e308, 1e308, False), {}), ((3, 3, True), {}),
    ],
)  # fmt: skip
def test_bounds_are_wider_than_observed_range(
    observed: tuple[float, float, bool], bounds: dict[str, float]
) -> None:
    assert column_types.suggest_bounds(*observed) == bounds


# The files


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    (tmp_path / "env.yaml").write_text("book: rand-hie\n")
    make_people(town=repeat(["a: b", "#c", "Yes"])).to_csv(
        tmp_path / "Some People.csv", index=False
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_draft_files(project_folder: Path, **options: Any) -> tuple[Path, Path]:
    plan = planning.plan_draft(project_folder, "Some People.csv", **options)
    return writer.write_draft(
        project_folder,
        plan.book,
        plan.table,
        planning.draft_from_plan(plan, "y"),
        ["book", "table", "folds", "metric"],
    )


def test_contract_and_env_file_are_written_consistently(project_folder: Path) -> None:
    contract, environment = write_draft_files(project_folder)
    assert (contract.name, environment.name) == ("some-people.yaml", "env.some-people.yaml")
    loaded, values = Contract.load(contract), yaml.safe_load(environment.read_text())
    assert loaded.columns["town"].categories == ["#c", "Yes", "a: b"]
    assert "# words, 3 " in contract.read_text()
    assert values["table"] == "Some People.csv"
    assert values["contract"] == "contracts/some-people.yaml"
    assert values["train_until"] is None
    assert config.validate("compare", {"folds": values["folds"], "metric": values["metric"]})
    assert [path.name for path in project_folder.rglob(".*")] == []


def test_unedited_draft_is_overwritten_and_edited_one_is_not(project_folder: Path) -> None:
    contract, environment = write_draft_files(project_folder)
    write_draft_files(project_folder)
    environment.write_text(environment.read_text().replace("folds: 5", "folds: 7"))
    before = contract.read_bytes(), environment.read_bytes()
    with pytest.raises(DataError, match=r"env\.some-people\.yaml"):
        write_draft_files(project_folder)
    assert (contract.read_bytes(), environment.read_bytes()) == before
    write_draft_files(project_folder, book="other")
    with pytest.raises(DataError, match=r"'rand-hie'.*env\.yaml"):
        write_draft_files(project_folder, book="rand-hie")
    (project_folder / "env.mine.yaml").write_text('book: "quoted"  # by hand\n')
    with pytest.raises(DataError, match=r"'quoted'.*env\.mine\.yaml"):
        write_draft_files(project_folder, book="quoted")
    with pytest.raises(ParameterError, match="book = 'Not So'"):
        write_draft_files(project_folder, book="Not So")


def test_failed_write_leaves_no_files(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(*args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(atomic.os, "replace", raise_disk_full)
    with pytest.raises(DataError, match="No space left"):
        write_draft_files(project_folder)
    assert sorted(path.name for path in project_folder.rglob("*") if path.is_file()) == [
        "Some People.csv",
        "env.yaml",
        "pipeline.yaml",
    ]


def test_url_with_password_is_refused_without_reading(project_folder: Path) -> None:
    with pytest.raises(DataError, match=r"me:\*\*\*@host") as exc_info:
        planning.plan_draft(project_folder, "postgresql://me:geheim-word@host/db", "people")
    assert "geheim" not in str(exc_info.value)
    plan = planning.plan_draft(
        project_folder, "postgresql://me:${PGPASSWORD}@host/db", "shop.orders"
    )
    assert (plan.book, plan.table) == (
        "shop-orders",
        "postgresql://me:${PGPASSWORD}@host/db#shop.orders",
    )
    with pytest.raises(DataError, match="is not a database"):
        planning.plan_draft(project_folder, "Some People.csv", "people")


@pytest.mark.long
def test_any_column_name_gives_valid_yaml(project_folder: Path) -> None:
    names = [
        "yes",
        "a: b",
        "- x",
        "#",
        "'",
        '"',
        "{",
        "null",
        "1",
        "é",
        "a\\b",
        "?",
        "x" * 180,
        "\U0001f600",
    ]
    frame = make_people(**{name: RANDOM.normal(size=N) for name in names})
    result = draft(frame)
    assert (
        Contract.model_validate(yaml.safe_load(writer.render_contract(result))) == result.contract
    )
    assert "# numbers" in writer.render_contract(result)


def test_guessed_encoding_is_a_question(project_folder: Path) -> None:
    (project_folder / "old.csv").write_bytes(
        make_people(k=repeat(["café", "thé"])).to_csv(index=False).encode("cp1252")
    )
    result = planning.draft_from_plan(planning.plan_draft(project_folder, "old.csv"), "y")
    assert missing_facts(result.contract.questions[0].decided, "UTF-8", "cp1252", "café") == []
    assert result.contract.file.encoding == "cp1252"
    assert result.contract.columns["k"].categories == ["café", "thé"]
    (project_folder / "new.csv").write_text(
        make_people(k=repeat(["café", "thé"])).to_csv(index=False), encoding="utf-8"
    )
    result = planning.draft_from_plan(planning.plan_draft(project_folder, "new.csv"), "y")
    assert not result.contract.questions


def test_file_without_header_suggests_columns_option(project_folder: Path) -> None:
    (project_folder / "bare.csv").write_text(make_people().to_csv(index=False, header=False))
    with pytest.raises(DataError, match="has no column 'y'") as exc_info:
        planning.draft_from_plan(planning.plan_draft(project_folder, "bare.csv"), "y")
    assert "--columns" in exc_info.value.next


def test_invalid_tables_raise_modelbook_errors(project_folder: Path) -> None:
    (project_folder / "bad.csv").write_text("")
    with pytest.raises(ModelbookError):
        planning.draft_from_plan(planning.plan_draft(project_folder, "bad.csv"), "y")
