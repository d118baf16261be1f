"""Property tests: any table or file is drafted, or raises a ModelbookError."""

from __future__ import annotations

import math
import string
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbook.contract import Contract
from modelbook.contract.file_layout import FileLayout
from modelbook.dataset import read_table, read_without_contract
from modelbook.draft import DraftOptions, draft_book, writer
from modelbook.errors import ModelbookError

SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    derandomize=True,
)  # fmt: skip
TEXT = st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=12)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), TEXT,
    st.sampled_from(["?", "£1,200.50", "3 %", "2020-01-02"]),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
)  # fmt: skip
NAMES = st.text(string.printable, min_size=1, max_size=4) | st.text("abc_id ", min_size=2)
VALUE_STRATEGIES = [
    st.integers(0, 1), st.integers(-5, 100), st.floats(-1e6, 1e6), st.floats(), st.sampled_from("abc"), st.booleans(),
    st.one_of(st.none(), st.floats(0, 1)), st.sampled_from(["£5", "£1,200.50", "£7"]), TEXT,
    st.dates().map(str), st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), VALUES,
]  # fmt: skip


@st.composite
def tables(draw: Any) -> pd.DataFrame:
    rows = draw(st.sampled_from([0, 1, 20, 30, 60, 61]))
    names = draw(
        st.lists(
            st.text(string.printable, min_size=1, max_size=4) | st.text("abc_id ", min_size=2),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    columns = {}
    for name in [*names, "y"]:
        value_strategy = draw(
            st.sampled_from(VALUE_STRATEGIES if name != "y" else VALUE_STRATEGIES[:6])
        )
        distinct_values = draw(st.lists(value_strategy, min_size=2, max_size=12))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        columns[name] = pd.Series(
            [distinct_values[index] for index in rng.integers(0, len(distinct_values), rows)],
            dtype=object,
        )
    frame = pd.DataFrame(columns)
    return frame.infer_objects() if draw(st.booleans()) else frame


@pytest.mark.long
@SETTINGS
@given(tables(), st.sampled_from([None, "binary", "multiclass", "regression"]))
def test_any_table_is_drafted_or_raises_modelbook_error(
    frame: pd.DataFrame, task: str | None
) -> None:
    try:
        draft = draft_book(frame, "y", title="t", source="s", options=DraftOptions(task=task))
    except ModelbookError:
        return
    contract = draft.contract
    assert contract.find_violations(frame).empty
    assert Contract.model_validate(yaml.safe_load(writer.render_contract(draft))) == contract
    frame = contract.select_training_rows(frame)
    result = contract.conform(frame)
    assert contract.find_violations(result).empty
    pd.testing.assert_frame_equal(contract.conform(result), result)
    assert list(contract.select_features(frame).columns) == contract.feature_names
    assert contract.encode_checked_target(frame).notna().all()


@pytest.mark.long
@SETTINGS
@given(tables(), tables())
def test_contract_lists_violations_of_any_table(
    frame: pd.DataFrame, other_frame: pd.DataFrame
) -> None:
    try:
        draft_contract = draft_book(frame, "y", title="t", source="s").contract
    except ModelbookError:
        return
    result = draft_contract.find_violations(other_frame)
    assert list(result.columns) == ["row", "column", "value", "rule"]
    assert set(result["row"].dropna()) <= set(range(len(other_frame)))
    if result.empty:
        draft_contract.conform(other_frame)


@pytest.mark.long
@SETTINGS
@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_raise_modelbook_error(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_bytes(content)
        try:
            frame = read_table("t.csv", Path(folder))
        except ModelbookError:
            return
        assert not frame.columns.duplicated().any()


@pytest.mark.long
@SETTINGS
@given(
    tables(),
    st.sampled_from(
        [("csv", {}), ("csv", {"sep": ";"}), ("parquet", {}), ("xlsx", {}), ("json", {})]
    ),
)
def test_any_table_file_is_drafted_or_raises_modelbook_error(
    frame: pd.DataFrame, file_format: tuple[str, dict[str, str]]
) -> None:
    name, options = file_format
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t.{name}"
        try:
            if name == "json":
                frame.to_json(path, orient="records", lines=True)
            else:
                getattr(
                    frame, {"csv": "to_csv", "parquet": "to_parquet", "xlsx": "to_excel"}[name]
                )(path, index=False, **options)
        except Exception:  # pandas cannot write each table in each kind of file
            return
        try:
            contract = draft_book(
                read_without_contract(path.name, path.parent, FileLayout(), [])[0],
                "y",
                title="t",
                source="s",
            ).contract
            table = read_table(path.name, path.parent, contract)
        except ModelbookError:
            return
    assert contract.find_violations(table).empty
    assert set(contract.columns) <= set(table.columns)


def test_drafted_bounds_are_finite() -> None:
    frame = pd.DataFrame({"x": [1e308, -1e308, 5e-324, 0.0] * 10, "y": [0, 1] * 20})
    column = draft_book(frame, "y", title="t", source="s").contract.columns["x"]
    assert all(bound is None or math.isfinite(bound) for bound in (column.min, column.max))
