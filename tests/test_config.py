"""Stage parameters: validation, error messages, origins and formats."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from text_facts import missing_facts, raises_stating

from modelbook import config
from modelbook.config.stages import COMBINED_PREFIX
from modelbook.errors import ParameterError

INFINITE = float("inf")

# stage, parameter, values at the ends of its range, values just outside
BOUNDS = [
    ("ingest", "holdout", (0.05, 0.5), (0.049, 0.51)),
    ("ingest", "sample", (1e-9, 1), (0, 1.01)),
    ("ingest", "seed", (0, 2**31 - 1), (-1, 2**31)),
    ("ingest", "table", ("x",), ("",)),
    ("explore", "columns_shown", (1, 40), (0, 41)),
    ("explore", "leak_threshold", (0.51, 1), (0.5, 1.1)),
    ("explore", "shift_smd", (0.01, 3), (0, 3.1)),
    ("compare", "folds", (2, 20), (1, 21)),
    ("compare", "time_budget", (0.1, 86_400), (0, 86_401)),
    ("compare", "families", (["lr"],), ([],)),
    ("compare", "search_rows", (100,), (99,)),
    ("compare", "min_category_frequency", (0, 0.2), (-0.01, 0.21)),
    ("compare", "transformers", (["none"], ["a.B", "b.c_2"]), ([],)),
    ("finalize", "n_trials", (1, 500), (0, 501)),
    ("finalize", "blend_size", (2, 8), (1, 9)),
    ("finalize", "cost_fn", (0.01, 1000), (0, -1, INFINITE)),
    ("finalize", "cost_fp", (0.01, 1000), (0, INFINITE)),
    ("finalize", "cost_tp", (-1000, 3.99), (4, INFINITE)),
    ("finalize", "cost_tn", (-1000, 0.99), (1, INFINITE)),
    ("finalize", "leak_threshold", (0.51, 1), (0.5, 1.1)),
    ("finalize", "cost_under", (0.01, 1000), (0, INFINITE)),
    ("finalize", "cost_over", (0.01, 1000), (0, INFINITE)),
    ("finalize", "capacity", (1, 10**9, None), (0, 1.5)),
    ("finalize", "max_fairness_gap", (0, 1), (-0.01, 1.01)),
    ("finalize", "slice_rows", (10,), (9,)),
    ("finalize", "resamples", (100, 10_000), (99, 10_001)),
    ("deploy", "non_inferiority_margin", (-0.5, 0, 0.5), (-0.51, 0.51)),
    ("deploy", "max_cost_increase", (0, 10), (-0.01, 10.01)),
    ("deploy", "max_selection_change", (0, 1), (-0.01, 1.01)),
    ("deploy", "code_version", ("any", "committed"), ("none", True)),
    ("deploy", "max_slice_drop", (0, 0.5), (-0.01, 0.51)),
    ("deploy", "max_fairness_gap", (0, 1), (-0.01, 1.01)),
    ("deploy", "max_calibration_error", (0.01, 1), (0, 1.01)),
    ("deploy", "max_latency_ms", (0.01, 1000), (0, INFINITE)),
    ("deploy", "max_size_mb", (0.01, 10_000), (0, INFINITE)),
    ("deploy", "slice_rows", (10,), (9,)),
    ("deploy", "min_quality", (0, 1, "auto"), (-0.01, 1.01)),
    ("deploy", "paired_rows", (50,), (49,)),
    ("monitor", "min_rows", (20,), (19,)),
    ("monitor", "drift_threshold", (0.01, 0.83), (0, 0.84)),
    ("monitor", "missing_rate_change", (0.01, 1), (0, 1.01)),
    ("monitor", "drift_share", (0.01, 1), (0, 1.01)),
    ("monitor", "max_metric_drop", (0.01, 0.5), (0, 0.51)),
    ("monitor", "max_calibration_error", (0.01, 0.5), (0, 0.51)),
    ("monitor", "windows", (1, 100), (0, 101)),
    ("monitor", "min_failing_windows", (1, 100), (0, 101)),
]


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [(s, n, v) for s, n, valid_values, _ in BOUNDS for v in valid_values],
)
def test_values_at_range_limits_are_accepted(stage: str, name: str, value: Any) -> None:
    assert getattr(config.validate(stage, {name: value}), name) == value


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [(s, n, v) for s, n, _, invalid_values in BOUNDS for v in invalid_values],
)
def test_value_out_of_range_raises_with_meaning(stage: str, name: str, value: Any) -> None:
    with pytest.raises(ParameterError) as exc_info:
        config.validate(stage, {name: value})
    assert missing_facts(exc_info.value.problem, stage, name, repr(value)) == []
    description = config.STAGES[stage].model_fields[name].description
    assert missing_facts(exc_info.value.expected, name, description) == []
    assert "env.yaml" in exc_info.value.next


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [
        ("ingest", "train_until", "three"),
        ("ingest", "train_until", INFINITE),
        ("ingest", "seed", 1.5),
        ("explore", "columns_shown", "many"),
        ("compare", "metric", "roc auc"),
        ("compare", "folds", None),
        ("compare", "families", 3),
        ("finalize", "strategy", "vote"),
        ("finalize", "class_costs", "low=5"),
        ("finalize", "class_costs", "low/low=5"),
        ("finalize", "class_costs", "low/high=5, low/high=2"),
        ("finalize", "calibrate", "platt"),
        ("deploy", "gate", "off"),
        ("deploy", "gate", True),
        ("monitor", "drift_threshold", "a lot"),
        ("monitor", "book", "Not A Name"),
        ("monitor", "book", "../up"),
    ],
)
def test_value_of_wrong_type_raises(stage: str, name: str, value: Any) -> None:
    with pytest.raises(ParameterError) as exc_info:
        config.validate(stage, {name: value})
    assert missing_facts(exc_info.value.problem, name, repr(value)) == []


def test_value_too_long_to_be_shown_raises_with_meaning() -> None:
    with pytest.raises(ParameterError) as exc_info:
        config.validate("compare", {"metric": "roc auc " * 20})
    assert "roc auc" not in exc_info.value.problem
    description = config.Compare.model_fields["metric"].description
    assert missing_facts(exc_info.value.expected, "metric", description) == []


@pytest.mark.parametrize("stage", config.STAGES)
def test_unknown_parameter_raises_with_nearest_name(stage: str) -> None:
    name = list(config.STAGES[stage].model_fields)[1]
    with raises_stating(ParameterError, name + "s", 1, name):
        config.validate(stage, {name + "s": 1})


def test_unknown_parameter_without_similar_name_lists_all() -> None:
    with raises_stating(ParameterError, *config.STAGES["explore"].model_fields):
        config.validate("explore", {"qqqqqq": 1})


def test_all_errors_are_reported_together() -> None:
    with pytest.raises(ParameterError) as exc_info:
        config.validate("compare", {"folds": 1, "time_budget": -1, "famillies": "rf", "seed": 7})
    facts = ("folds", 1, "time_budget", -1, "'famillies'", "families")
    assert missing_facts(exc_info.value.problem, *facts) == []
    fields = config.STAGES["compare"].model_fields
    descriptions = [fields[name].description for name in ("folds", "time_budget", "seed")]
    assert missing_facts(exc_info.value.expected, *descriptions) == descriptions[2:]


@pytest.mark.parametrize(
    "value", ["lr, rf lightgbm", "lr rf lightgbm", "lr,rf,lightgbm", ["lr", "rf", "lightgbm"]]
)
def test_families_accept_text_and_lists(value: Any) -> None:
    assert config.validate("compare", {"families": value}).families == ["lr", "rf", "lightgbm"]


@pytest.mark.parametrize(
    ("value", "facts"), [("lr lgbm", ["lgbm", "lightgbm"]), ("lr rf lr", ["lr rf lr"]), (" ", [1])]
)
def test_invalid_families_raise(value: str, facts: list[Any]) -> None:
    with pytest.raises(ParameterError) as exc_info:
        config.validate("compare", {"families": value})
    assert missing_facts(exc_info.value.problem, "families", *facts) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3), (2.5, 2.5), (None, None), ("none", None), ("None", None), ("null", None)],
)
def test_train_until_accepts_text(value: Any, expected: Any) -> None:
    assert config.validate("ingest", {"train_until": value}).train_until == expected


@pytest.mark.parametrize("table", ["data/claims", "./data/claims/", "data/claims/rows.parquet"])
def test_table_in_the_folder_of_the_books_products_raises(table: str) -> None:
    with raises_stating(ParameterError, table, "data/claims", "make clean"):
        config.validate("ingest", {"book": "claims", "table": table})
    combined = f"data/claims/{COMBINED_PREFIX}c0ffee.parquet"  # written by modelbook retrain
    for book, table_path in [("other", table), ("claims", "data/claims.csv"), ("claims", combined)]:
        config.validate("ingest", {"book": book, "table": table_path})


def test_parameters_are_immutable() -> None:
    params = config.validate("compare", {})
    with pytest.raises(ValidationError):
        params.folds = 1


@pytest.mark.parametrize("stage", config.STAGES)
def test_every_parameter_has_description(stage: str) -> None:
    rows = config.describe_parameters(config.validate(stage, {}), {})
    assert [row["name"] for row in rows] == list(config.STAGES[stage].model_fields)
    assert all(row["meaning"] and row["origin"] == "default" for row in rows)


def test_describe_lists_origin_of_each_value() -> None:
    result = config.describe_parameters(
        config.validate("compare", {"folds": 3}), {"folds": "command line"}
    )
    rows = {row["name"]: row for row in result}
    assert (rows["folds"]["value"], rows["folds"]["origin"]) == (3, "command line")
    assert rows["time_budget"]["origin"] == "default"


def test_error_names_origin_of_value() -> None:
    origins = {"folds": "environment MODELBOOK_FOLDS", "time_budget": "env file env.yaml"}
    with pytest.raises(ParameterError) as exc_info:
        config.validate("compare", {"folds": "many", "time_budget": 10}, origins)
    for text in (exc_info.value.problem, exc_info.value.next):
        assert missing_facts(text, *origins.values()) == ["env file env.yaml"]


def test_stage_stem_numbers_stages_in_order() -> None:
    stems = [config.stage_stem(stage) for stage in config.STAGES]
    assert stems[:6] == [
        "01_ingest",
        "02_explore",
        "03_compare",
        "04_finalize",
        "05_deploy",
        "06_monitor",
    ]
    assert [stem[:3] for stem in stems] == [f"{index + 1:02d}_" for index in range(len(stems))]


@pytest.mark.parametrize(
    ("value", "text"), [(300.0, "300"), (0.1, "0.1"), (["lr", "nb"], "lr nb"), (None, "none")]
)
def test_format_value_is_canonical(value, text):
    assert config.format_value(value) == text


def test_calibrate_accepts_none_in_every_form():
    for value in (None, "none"):
        assert config.validate("finalize", {"calibrate": value}).calibrate == "none"


@pytest.mark.parametrize("value", [None, "none", ["none"]])
def test_transformers_accept_none_in_every_form(value: Any) -> None:
    params = config.validate("compare", {"transformers": value})
    assert params.transformers == ["none"]
    assert (
        config.format_value(value) == "none"
    )  # so that Ploomber's None is no other value than the env file's


def test_transformers_accept_file_and_class_names() -> None:
    assert config.validate("compare", {"transformers": "a.B c.d"}).transformers == ["a.B", "c.d"]
    for wrong in ("PerRoom", "a.b.C", "a.B a.B", "../a.B"):
        with raises_stating(ParameterError, "transformers", wrong):
            config.validate("compare", {"transformers": wrong})
