"""Contract: keys, validation of tables, conversion of values, model features."""

from __future__ import annotations

import copy
import operator
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import CONTRACT
from text_facts import missing_facts, raises_stating

from modelbook.contract import Column, Contract, dates, parsing
from modelbook.contract.text_hashes import hash_text
from modelbook.contract.violations import MAX_LISTED
from modelbook.dataset import read_table
from modelbook.errors import ContractError, ContractViolationError, DataError

ROOT = Path(__file__).parents[1]
REMOVED = object()
BUNDLED = Contract.load(ROOT / "contracts" / "rand-hie.yaml")


def contract_yaml(column: str | None = None, **changes: Any) -> str:
    """YAML of the small contract with changed keys of the contract or of a column; REMOVED deletes one."""
    values = copy.deepcopy(CONTRACT)
    target = values["columns"].setdefault(column, {}) if column else values
    for key, value in changes.items():
        if value is REMOVED:
            del target[key]
        else:
            target[key] = value
    return yaml.safe_dump(values, sort_keys=False)


# The file


def test_contract_survives_dump_and_load(contract: Contract, tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(contract.to_yaml(), encoding="utf-8")
    assert Contract.load(path) == contract
    assert list(Contract.load(path).columns) == list(contract.columns)
    assert "nullable: false" not in contract.to_yaml()


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("a: [1", ["YAML"]),
        ("just words", ["contract"]),
        ("", ["contract"]),
        (contract_yaml(colours=1), ["colours = 1: Extra inputs"]),
        (
            contract_yaml(task="ranking"),
            ["task = 'ranking'", "'binary', 'multiclass' or 'regression'"],
        ),
        (contract_yaml(question=REMOVED), ["question: Field required"]),
        (contract_yaml("size", colour=1), ["columns.size.colour = 1: Extra inputs"]),
        (contract_yaml("size", type="float"), ["columns.size.type = 'float'"]),
        (contract_yaml("size", role="input"), ["columns.size.role = 'input'"]),
        (contract_yaml("size", meaning=""), ["columns.size.meaning = ''"]),
        (contract_yaml("size", min=101), ["columns.size", 101, 100]),
        (contract_yaml("colour", categories=REMOVED), ["columns.colour", "categories"]),
        (contract_yaml("flag", labels={"2": "two"}), ["columns.flag", "labels", "'2'", "0, 1"]),
        (contract_yaml("after", reason=REMOVED), ["columns.after", "reason"]),
        (contract_yaml("flag", role="target"), ["role", "target", "'happened', 'flag'"]),
        (contract_yaml("happened", role="feature"), ["role", "target"]),
        (contract_yaml("size", role="entity"), ["role", "entity"]),
        (contract_yaml("size", role="time"), ["role", "time"]),
        (contract_yaml("happened", type="number"), ["happened", "binary", "boolean", "number"]),
        (contract_yaml("happened", nullable=True), ["target", "happened", "nullable"]),
        (contract_yaml("who", nullable=True), ["entity", "who", "nullable"]),
        (contract_yaml("year", nullable=True), ["time", "year", "nullable"]),
        (contract_yaml("year", type="boolean"), ["time", "year", "integer", "date"]),
        (contract_yaml(key=["who", "when"]), ["'when'"]),
        (contract_yaml(slices=["shape"]), ["'shape'"]),
    ],
)
def test_invalid_contract_raises(content: str, facts: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ContractError) as exc_info:
        Contract.load(path)
    assert missing_facts(exc_info.value.problem, str(path), *facts) == []
    assert exc_info.value.next


def test_contract_without_features_raises(tmp_path: Path) -> None:
    values = copy.deepcopy(CONTRACT)
    for name in ("colour", "size", "noise", "flag"):
        del values["columns"][name]
    values["slices"] = []
    path = tmp_path / "contract.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ContractError, match="role feature"):
        Contract.load(path)


def test_missing_or_unparsable_contract_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"none\.yaml"):
        Contract.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: é".encode("latin-1"))
    with pytest.raises(ContractError, match=r"latin\.yaml.*YAML"):
        Contract.load(tmp_path / "latin.yaml")


def test_roles_and_labels_are_read(contract: Contract) -> None:
    assert (contract.target, contract.entity, contract.time) == ("happened", "who", "year")
    assert contract.feature_names == ["colour", "size", "noise", "flag"]
    assert (contract.categorical_features, contract.numeric_features) == (
        ["colour"],
        ["size", "noise", "flag"],
    )
    assert [contract.label(name) for name in ("size", "size (missing)", "flag", "unknown")] == [
        "Size",
        "Size (missing)",
        "flag",
        "unknown",
    ]
    table = contract.replace_with_labels(
        pd.DataFrame({"column": ["size", "who"], "n": [1, 2]}), "column"
    )
    assert table.to_dict("list") == {"column": ["Size", "member"], "n": [1, 2]}


def test_rules_are_described_in_words(contract: Contract) -> None:
    rules = {name: column.describe_allowed_values() for name, column in contract.columns.items()}
    assert missing_facts(rules["colour"], "1, 2, 11") == []
    assert missing_facts(rules["flag"], 0, 1) == []
    assert missing_facts(rules["size"], "number", 0, 100) == []
    assert missing_facts(rules["who"], "integer", 0) == []
    assert missing_facts(rules["noise"], "number") == []


# Violations


def test_valid_table_has_no_violations(contract: Contract, frame: pd.DataFrame) -> None:
    assert contract.find_violations(frame).empty
    contract.check(frame)
    contract.check(frame[frame.columns[::-1]].set_axis(range(1000, 1600)))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("size", -0.1), ("size", 100.1), ("size", "tall"), ("size", float("inf")), ("size", np.nan),
        ("noise", float("inf")), ("noise", -float("inf")), ("noise", "loud"),
        ("flag", 0.5), ("flag", 2), ("flag", "yes"), ("happened", 0.5), ("happened", None), ("group", -1),
        ("who", 1.5), ("who", -1), ("colour", "3"), ("colour", "1.5"), ("colour", None),
    ],
)  # fmt: skip
def test_invalid_value_is_located_by_row_and_column(
    column: str, value: Any, contract: Contract, frame: pd.DataFrame
) -> None:
    frame = frame.set_axis(np.arange(600) + 5000)
    frame[column] = frame[column].astype(object)
    frame.iloc[7, frame.columns.get_loc(column)] = value
    result = contract.find_violations(frame)
    assert result[["row", "column"]].values.tolist() == [[7, column]]
    [rule] = result["rule"]
    assert (
        "missing" if pd.isna(value) else contract.columns[column].describe_allowed_values()
    ) in rule
    with pytest.raises(ContractViolationError) as exc_info:
        contract.check(frame)
    assert missing_facts(exc_info.value.problem, "1 place\n", 7, column, repr(value), rule) == []
    assert exc_info.value.next


@pytest.mark.parametrize("column", ["group", "noise"])
def test_missing_value_is_allowed_in_nullable_column(
    column: str, contract: Contract, frame: pd.DataFrame
) -> None:
    frame[column] = None
    assert contract.find_violations(frame).empty


def test_dates_in_numeric_column_are_violations(contract: Contract, frame: pd.DataFrame) -> None:
    frame["noise"] = pd.Timestamp("2020-01-01")
    assert len(contract.find_violations(frame)) == len(frame)


def test_missing_and_extra_columns_are_violations_of_table(
    contract: Contract, frame: pd.DataFrame
) -> None:
    result = contract.find_violations(frame.drop(columns="noise").assign(shape=1))
    assert result["row"].isna().all()
    assert result["column"].tolist() == ["noise", "shape"]
    assert result["rule"].nunique() == 2
    with pytest.raises(ContractViolationError, match="column shape"):
        contract.check(frame.assign(shape=1))


def test_duplicate_key_names_both_rows(contract: Contract, frame: pd.DataFrame) -> None:
    frame.loc[5, ["who", "year"]] = frame.loc[3, ["who", "year"]].to_numpy()
    result = contract.find_violations(frame)
    assert set(result["row"]) == {3, 5}
    [rule] = set(result["rule"])
    assert missing_facts(rule, "who", "year") == []


def test_all_kinds_of_violations_are_found_together(
    contract: Contract, frame: pd.DataFrame
) -> None:
    frame["colour"] = frame["colour"].astype(object)
    frame.loc[1, "colour"] = "9"
    frame.loc[0, "size"] = 101
    result = contract.find_violations(frame.drop(columns="flag"))
    assert result["column"].tolist() == ["flag", "size", "colour"]


def test_message_lists_ten_violations_and_counts_the_rest(
    contract: Contract, frame: pd.DataFrame
) -> None:
    frame.loc[: MAX_LISTED + 4, "size"] = -1
    with pytest.raises(ContractViolationError) as exc_info:
        contract.check(frame)
    lines = exc_info.value.problem.splitlines()
    assert missing_facts(lines[0], "15 places") == []
    assert sum("size = " in line for line in lines) == MAX_LISTED == len(lines) - 2
    assert missing_facts(lines[-1], 5) == []


def test_batch_without_outcomes_is_valid(contract: Contract, frame: pd.DataFrame) -> None:
    batch = frame.drop(columns="happened")
    assert contract.find_violations(batch, require_target=False).empty
    assert contract.find_violations(batch)["column"].tolist() == ["happened"]
    wrong = frame.assign(happened=2)
    assert len(contract.find_violations(wrong, require_target=False)) == len(frame)


def test_empty_batch_has_no_violations(contract: Contract, frame: pd.DataFrame) -> None:
    assert contract.find_violations(frame.iloc[:0]).empty


def test_empty_table_raises_in_training(contract: Contract, frame: pd.DataFrame) -> None:
    with pytest.raises(DataError) as exc_info:
        contract.check(frame.iloc[:0])
    assert not isinstance(exc_info.value, ContractViolationError)


def test_missing_target_raises_with_columns_of_table(
    contract: Contract, frame: pd.DataFrame
) -> None:
    with pytest.raises(DataError) as exc_info:
        contract.check(frame.drop(columns="happened"))
    assert "'happened'" in exc_info.value.problem
    assert "who, year, group" in exc_info.value.expected
    assert "role: target" in exc_info.value.next


@pytest.mark.parametrize("only", [0, 1])
def test_single_class_raises_in_training(
    only: int, contract: Contract, frame: pd.DataFrame
) -> None:
    with pytest.raises(DataError, match=rf"'happened'.*\b{only}\b"):
        contract.check(frame.assign(happened=only))


# Features of the model


def test_select_features_keeps_contract_order(contract: Contract, frame: pd.DataFrame) -> None:
    assert list(contract.select_features(frame[frame.columns[::-1]]).columns) == [
        "colour",
        "size",
        "noise",
        "flag",
    ]
    pd.testing.assert_frame_equal(
        contract.select_features(frame[frame.columns[::-1]]), contract.select_features(frame)
    )


def test_missing_values_of_every_kind_become_nan(contract: Contract, frame: pd.DataFrame) -> None:
    rows = frame.head(3).astype({"noise": object, "colour": object})
    rows["noise"] = [None, pd.NA, 1]
    rows["colour"] = [None, pd.NA, "2"]
    result = contract.select_features(rows)
    assert result["noise"].dtype == "float64"
    for column in ("noise", "colour"):
        assert [isinstance(value, float) and np.isnan(value) for value in result[column]] == [
            True,
            True,
            False,
        ]


def test_none_nan_and_large_integers_are_separate_values() -> None:
    missing = pd.Series([None, np.nan], dtype=object)
    assert parsing.normalize_texts(missing).isna().all()
    assert parsing.parse_numbers(missing, "currency").isna().all()
    assert dates.parse_timestamps(missing, "ISO8601").isna().all()
    assert dates.parse_timestamps(missing[:0], "quarter").dtype == "datetime64[ns]"
    large = pd.Series([10**18, 10**18 + 1, None], dtype=object)
    assert parsing.normalize_texts(large).tolist()[:2] == [str(10**18), str(10**18 + 1)]


@pytest.mark.parametrize(
    "codes", [[11, 2], [11.0, 2.0], ["11", "2"], [np.int8(11), 2.0], [11.0, np.nan]]
)
def test_category_code_is_equal_as_number_and_text(
    codes: list[Any], contract: Contract, frame: pd.DataFrame
) -> None:
    rows = frame.head(2).astype({"colour": object})
    rows["colour"] = pd.Series(codes, index=rows.index)
    assert contract.select_features(rows)["colour"].tolist()[0] == "11"
    assert contract.find_violations(rows)["column"].tolist() == (
        ["colour"] if pd.isna(codes[1]) else []
    )


def test_conform_casts_entity_time_and_target_to_integers(
    contract: Contract, frame: pd.DataFrame
) -> None:
    result = contract.conform(
        frame.astype({"who": float, "year": float, "happened": bool, "flag": bool}).assign(extra=1)
    )
    assert "extra" not in result.columns
    assert result.dtypes[["who", "year", "happened"]].astype(str).tolist() == ["int64"] * 3
    assert result.dtypes[["flag", "size"]].astype(str).tolist() == ["float64"] * 2
    pd.testing.assert_frame_equal(result, frame)


# The bundled contract


@pytest.fixture(scope="module")
def rand() -> pd.DataFrame:
    return read_table("rand-hie", ROOT)


def test_bundled_table_meets_bundled_contract(rand: pd.DataFrame) -> None:
    assert len(rand) == 20_190
    BUNDLED.check(rand)
    assert list(BUNDLED.conform(rand).columns) == list(BUNDLED.columns)


def test_bundled_contract_excludes_race_and_same_year_care_from_features() -> None:
    features = set(BUNDLED.feature_names)
    assert BUNDLED.columns_with_role("sensitive") == ["black"]
    assert "black" in BUNDLED.slices
    same_year = {
        "meddol", "lnmeddol", "binexp", "outpdol", "drugdol", "suppdol", "inpdol", "mentdol", "inpmis", "totadm",
        "mdvis", "notmdvis", "mentvis", "black", "zper", "year", "expensive",
    }  # fmt: skip
    assert same_year <= set(BUNDLED.columns)
    assert not features & same_year
    assert "prev_meddol" in features


def test_bundled_contract_states_coinsurance_without_claiming_payments(rand: pd.DataFrame) -> None:
    column = BUNDLED.columns["coins"]
    assert {f"members with coinsurance {value}%" for value in column.labels} == set(
        column.labels.values()
    )
    # A deductible, which is not coinsurance, is paid on these plans.
    deductible_plans = rand.loc[(rand["coins"] == 0) & (rand["idp"] == 1), "plan"].unique()
    assert missing_facts(column.meaning, *map(str, deductible_plans)) == []


def test_bundled_contract_states_shares_of_imputed_values(rand: pd.DataFrame) -> None:
    is_imputed = {
        name: rand[name] == rand.groupby("site")[name].transform(lambda values: values.mode()[0])
        for name in ("disea", "mhi", "income")
    }
    is_imputed["physlm"] = ~rand["physlm"].isin([0, 1])
    shares = [mask.mean() for mask in is_imputed.values()]
    shares.append(is_imputed["disea"][rand["child"] == 1].mean())
    joined_late = rand.groupby("zper")["year"].transform("min") > 1
    is_unrated = rand[["hlthg", "hlthf", "hlthp"]].sum(axis=1) == 0
    late_share = f"{is_unrated[joined_late].mean():.1%}"
    assert missing_facts(" ".join(BUNDLED.limits), *[f"{x:.0%}" for x in shares], late_share) == []


def test_bundled_contract_states_share_of_rows_with_probable_family(rand: pd.DataFrame) -> None:
    family = ["site", "plan", "income", "educdec", "pioff", "mdeoff"]
    members = rand.groupby(family, dropna=False)["zper"].transform("nunique")
    assert missing_facts(" ".join(BUNDLED.limits), f"{(members > 1).mean():.0%}") == []


def test_bundled_contract_states_where_general_health_is_missing(rand: pd.DataFrame) -> None:
    assert rand.loc[rand["site"] == 1, "ghindx"].isna().all()
    members = rand[rand["site"] != 1].groupby("zper")
    is_missing = members["ghindx"].apply(lambda values: values.isna().any())
    shares = is_missing.groupby(members["year"].min() > 1).mean()
    assert missing_facts(BUNDLED.columns["ghindx"].meaning, *[f"{x:.0%}" for x in shares]) == []


def test_bundled_columns_dropped_as_functions_are_functions(rand: pd.DataFrame) -> None:
    reasons = {name: BUNDLED.columns[name].reason for name in BUNDLED.columns_with_role("dropped")}
    assert not [name for name, reason in reasons.items() if "a copy of" in reason]
    functions = {
        name: re.findall(r"\w+", reason)
        for name, reason in reasons.items()
        if reason.startswith(("a function of", "follows from", "product of", "equal to"))
    }
    assert {"lfam", "lnum", "lpi", "linc", "logc", "fmde", "idp", "fchild"} == set(functions)
    for name, words in functions.items():
        arguments = [word for word in words if word in BUNDLED.columns]
        assert (rand.groupby(arguments, dropna=False)[name].nunique(dropna=False) == 1).all(), name


# Messy values, dates and gaps

RICH = {
    "title": "Rich", "question": "?", "source": "made up", "licence": "none", "task": "regression",
    "missing": ["?", "unknown"],
    "columns": {
        "number": {"role": "id", "type": "text", "meaning": "order number"},
        "at": {"role": "time", "type": "date", "format": "%d.%m.%Y", "period": "month", "meaning": "day of the order"},
        "born": {"role": "feature", "type": "date", "format": "ISO8601", "nullable": True, "label": "Birth",
                 "date_parts": ["days", "weekday"], "meaning": "date of birth"},
        "price": {"role": "feature", "type": "number", "number_format": "currency", "min": 0, "nullable": True,
                  "meaning": "price"},
        "share": {"role": "feature", "type": "number", "number_format": "percent", "decimal": ",", "meaning": "percent"},
        "town": {"role": "feature", "type": "category", "allow_unseen": True, "nullable": True, "meaning": "town"},
        "paid": {"role": "target", "type": "number", "meaning": "paid"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def rich() -> Contract:
    return Contract.model_validate(RICH)


@pytest.fixture
def messy() -> pd.DataFrame:
    return pd.DataFrame({
        "number": ["A1", "A2", "A3"], "at": ["01.03.2021", "28.03.2021", "02.04.2021"],
        "born": ["1970-01-02", "?", "2000-02-29T12:00:00Z"], "price": ["£1,623.85 ", " unknown", "(2.50 EUR)"],
        "share": ["12,5 %", "7", "1.000%"], "town": [" Bath", " ", "Ely"], "paid": [1, 2, 3],
    })  # fmt: skip


def test_values_are_parsed_as_contract_specifies(rich: Contract, messy: pd.DataFrame) -> None:
    result = rich.conform(messy)
    assert list(result.columns) == [
        "number",
        "at",
        "born",
        "born_days",
        "born_weekday",
        "price",
        "share",
        "town",
        "paid",
    ]
    assert result["at"].tolist() == [202103, 202103, 202104]
    assert result["price"].tolist()[::2] == [1623.85, -2.5]
    assert result["share"].tolist() == [12.5, 7, 1000]
    assert result["born_days"].tolist()[::2] == [1, 11016.5]
    assert result["born_weekday"].tolist()[::2] == [4, 1]
    assert result.isna().sum().to_dict() == {
        "number": 0, "at": 0, "born": 1, "born_days": 1, "born_weekday": 1, "price": 1, "share": 0, "town": 1, "paid": 0
    }  # fmt: skip
    match = rich.find_violations(messy)
    assert match[["row", "column"]].values.tolist() == [[2, "price"]]
    assert missing_facts(match["rule"].iloc[0], "number", 0, "currency") == []


def test_conform_is_idempotent(rich: Contract, messy: pd.DataFrame, tmp_path: Path) -> None:
    once = rich.conform(messy)
    once.to_parquet(tmp_path / "rows.parquet")
    conformed = pd.read_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(rich.conform(conformed), once)
    assert rich.find_violations(conformed)["column"].tolist() == ["price"]
    pd.testing.assert_frame_equal(
        rich.select_features(messy), rich.select_features(rich.select_features(messy))
    )
    pd.testing.assert_frame_equal(
        rich.select_features(messy), rich.select_features(rich.select_inputs(messy))
    )


def test_date_is_one_input_and_several_model_features(rich: Contract, messy: pd.DataFrame) -> None:
    assert rich.input_names == ["born", "price", "share", "town"]
    assert (
        rich.feature_names
        == [*rich.numeric_features, "town"]
        == ["born_days", "born_weekday", "price", "share", "town"]
    )
    assert list(rich.select_features(messy).columns) == rich.feature_names
    assert rich.label("born_weekday") == "Birth (weekday)"


def test_similar_texts_share_hash_features() -> None:
    column = Column(role="feature", type="text", n_hashes=32, nullable=True, meaning="name")
    texts = pd.Series(
        ["Braund, Mr. Owen", " braund,  mr.  OWEN ", "Braund, Mr. Ian", "Wu Li", None]
    )
    parsed = column.parse_values(texts)
    hashes = pd.DataFrame(column.derive_features("name", parsed))
    assert [*hashes] == [*column.model_features("name")] == [f"name_hash{i}" for i in range(1, 33)]
    assert hashes.iloc[4].isna().all()
    assert hashes.iloc[:4].stack().between(0, 1).all()
    shared = [int((hashes.iloc[0] == hashes.iloc[i]).sum()) for i in (1, 2, 3)]
    assert shared[0] == 32 > shared[1] > 8 > shared[2] == 0
    single = [column.parse_value(contract_yaml) for contract_yaml in texts[:4]]
    assert single == [tuple(row) for row in hashes.iloc[:4].to_numpy().tolist()]


def test_text_hashes_are_equal_in_every_process() -> None:
    assert hash_text("Bath", 2) == pytest.approx(
        (0.00725208665140882, 0.19695266666560507), abs=1e-15
    )


def test_unparsable_value_is_a_violation_not_missing(rich: Contract, messy: pd.DataFrame) -> None:
    messy.loc[1, "price"] = "1,62"
    with pytest.raises(ContractViolationError, match=r"price = '1,62' in row 1"):
        rich.select_features(messy)
    assert rich.find_violations(messy)["row"].tolist() == [1, 2]


def test_unseen_categories_are_valid_with_unseen_true(rich: Contract, messy: pd.DataFrame) -> None:
    assert rich.find_violations(messy.assign(town="Nowhere", price=None)).empty
    assert "category" in rich.columns["town"].describe_allowed_values()


@pytest.mark.parametrize(
    ("contract_yaml", "number"),
    [
        ("$5", 5), ("5 €", 5), ("USD 1,000,000.5", 1_000_000.5), ("-£3", -3), ("£-3", -3), ("3-", -3), ("(4)", -4),
        ("1 234.5", 1234.5), ("1\u00a0234 kr", 1234), ("CHF 1'000", 1000), (".5", 0.5), ("R$ 7.25", 7.25), (7, 7),
        ("1,23", None), ("12.5.1", None), ("five", None), ("", None), ("1e5", None), ("$", None), ("--1", None),
    ],
)  # fmt: skip
def test_currency_amounts_are_parsed(contract_yaml: Any, number: float | None) -> None:
    result = parsing.parse_numbers(pd.Series([contract_yaml], dtype=object), "currency")[0]
    assert (result == number) if number is not None else np.isnan(result)


def test_texts_are_read_as_the_nearest_number() -> None:
    numbers = np.random.default_rng(0).normal(0, 1e4, 200)
    texts = pd.Series([repr(float(number)) for number in numbers], dtype=object)
    texts.index = [0] * len(texts)
    assert (parsing.parse_numbers(texts).to_numpy() == numbers).all()
    mixed = parsing.parse_numbers(pd.Series(["0.30000000000000004", None, "1_0", "x"]))
    assert mixed[0] == 0.1 + 0.2
    assert mixed[1:].isna().all()


@pytest.mark.parametrize(
    ("contract_yaml", "number"),
    [("-1.5e3", -1500), (".5", 0.5), ("+7.", 7), ("1e999", np.inf), ("1_000", None),
     ("١٢", None), ("inf", None), ("nan", None), ("1,5", None), ("0x10", None), ("", None)],
)  # fmt: skip
def test_plain_numbers_are_those_that_files_hold(contract_yaml: str, number: float | None) -> None:
    result = parsing.parse_float_text(contract_yaml)
    assert result == number if number is not None else np.isnan(result)


@pytest.mark.parametrize(
    ("value", "format", "month"),
    [
        ("2021-03-31", "%Y-%m-%d", 202103), (20210331, "%Y%m%d", 202103), (202103, "%Y%m%d", 202103),
        (pd.Timestamp("2021-03-31 23:30", tz="America/New_York"), "ISO8601", 202104),
        (date(2021, 3, 5), "%d/%m/%y", 202103), ("31/03/2021", "%Y-%m-%d", None), (3.5, "%Y%m%d", None),
        ("9999-12-31", "ISO8601", None), ("2263Q1", "quarter", None), ("2024-W05", "week", 202401),
        ("2023-W53", "week", None), (date(1600, 1, 1), "%d/%m/%y", None),
    ],
)  # fmt: skip
def test_dates_are_parsed_to_periods(value: Any, format: str, month: int | None) -> None:
    result = dates.parse_periods(pd.Series([value]), format, "month")[0]
    assert (result == month) if month is not None else np.isnan(result)


@pytest.mark.parametrize(
    ("column", "changes", "facts"),
    [
        ("born", {"format": REMOVED}, ["date", "format"]),
        ("born", {"format": "%G-W%V"}, ["'%G-W%V'", "ISO8601", "week"]),
        ("born", {"format": "%Q"}, ["'%Q'", "directive"]),
        ("at", {"period": REMOVED}, ["period", "year", "month", "day"]),
        ("price", {"format": "%Y"}, ["format", "feature", "number"]),
        ("town", {"number_format": "currency"}, ["number_format", "feature", "category"]),
        ("number", {"role": "sensitive"}, ["text", "entity", "id", "dropped", "feature"]),
        ("number", {"n_hashes": 4}, ["n_hashes", "text"]),
        ("town", {"allow_unseen": False}, ["categories", "allow_unseen"]),
        ("share", {"decimal": ";"}, ["decimal"]),
    ],
)
def test_inconsistent_column_keys_raise(
    column: str, changes: dict[str, Any], facts: list[str], tmp_path: Path
) -> None:
    values = copy.deepcopy(RICH)
    for key, value in changes.items():
        if value is REMOVED:
            del values["columns"][column][key]
        else:
            values["columns"][column][key] = value
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ContractError) as exc_info:
        Contract.load(tmp_path / "c.yaml")
    assert missing_facts(exc_info.value.problem, f"columns.{column}", *facts) == []


@pytest.mark.parametrize("role", ["dropped", "feature"])
def test_column_named_like_derived_date_part_raises(role: str) -> None:
    column = {"role": role, "type": "number", "meaning": "m", "reason": "r"}
    with pytest.raises(ValueError, match="born_days"):
        Contract.model_validate({**RICH, "columns": {**RICH["columns"], "born_days": column}})


def test_repr_shows_each_column_with_role_and_values(contract: Contract) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", contract._repr_html_())
    cells = [re.findall(r">([^<>]+)</t[hd]>", row) for row in rows]
    assert len(cells) == 1 + len(contract.columns)
    assert ["size", "Size", "feature", "number", "number from 0 to 100", "decides"] in cells
    assert ["colour", "–", "feature", "category", "one of 1, 2, 11", "code"] in cells
    assert ["who", "member", "entity", "integer", "integer from 0", "number of the entity"] in cells
    [noise] = [row for row in cells if row[0] == "noise"]
    assert noise[4] == "number, or missing"


def test_contract_of_a_version_of_1_0_0_is_read_by_its_names(contract: Contract) -> None:
    data = contract.model_dump(exclude_defaults=True)
    texts = {"role": "feature", "type": "text", "meaning": "name", "nullable": True}
    dates = {"role": "feature", "type": "date", "meaning": "day", "format": "ISO8601"}
    numbers = {"role": "feature", "type": "number", "meaning": "price"}
    columns = data["columns"]["colour"], texts, dates, numbers
    former: tuple[dict[str, Any], ...] = (
        {"joined": {"9": "1"}, "unseen": True},
        {"hashes": 4},
        {"parts": ["year"]},
        {"parse": "currency", "confirmed": "known before"},
    )
    new: tuple[dict[str, Any], ...] = (
        {"replacements": {"9": "1"}, "allow_unseen": True},
        {"n_hashes": 4},
        {"date_parts": ["year"]},
        {"number_format": "currency", "no_leak_reason": "known before"},
    )
    old_target = {"target_gaps": "leave_out", "left_out_classes": ["x"]}
    new_target = {"missing_target": "exclude", "excluded_classes": ["x"]}
    contracts = [
        Contract.model_validate(
            data
            | target
            | {"columns": data["columns"] | dict(zip("abcd", map(operator.or_, columns, keys)))}
        )
        for target, keys in ((old_target, former), (new_target, new))
    ]
    assert contracts[0] == contracts[1]
    assert contracts[0].columns["c"].date_parts == ["year"]
    assert contracts[0].is_confirmed("d")
    with raises_stating(ValueError, "parts"):
        Column.model_validate(dates | former[2] | new[2])
