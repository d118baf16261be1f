"""Batch validation: numeric columns are validated by their extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from text_facts import missing_facts, raises_stating

from modelbook.contract import Column, Contract
from modelbook.errors import DataError
from modelbook.scoring.batch_validation import validate_rows

GOOD = [0, 1, 1, 0, None, 1]
COLUMNS = {
    "bounded number": {"type": "number", "min": 0, "max": 10},
    "unbounded number": {"type": "number"},
    "bounded integer": {"type": "integer", "min": 0, "max": 10},
    "boolean": {"type": "boolean"},
}
EXTRA_VALUES = {
    "valid": None, "above maximum": 11.0, "below minimum": -0.5, "non-integer": 0.5, "two": 2.0,
    "NaN": np.nan, "infinite": np.inf, "negative infinite": -np.inf,
}  # fmt: skip


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("extra_value", EXTRA_VALUES.values(), ids=EXTRA_VALUES)
@pytest.mark.parametrize("spec", COLUMNS.values(), ids=COLUMNS)
def test_numeric_column_is_validated_by_its_extremes(
    contract: Contract, spec: dict[str, Any], extra_value: float | None, nullable: bool
) -> None:
    column = Column(role="feature", meaning="a number", nullable=nullable, **spec)
    tested_contract = contract.model_copy(
        update={"columns": {"who": contract.columns["who"], "x": column}}
    )
    inputs = pa.table({"x": pa.array([*GOOD, extra_value], pa.float64())})
    columns, reasons = validate_rows(inputs, tested_contract)
    values = inputs["x"].to_pandas()
    expected = column.find_valid(values) & (values.notna() | nullable)
    assert (reasons == "").tolist() == expected.tolist()
    np.testing.assert_array_equal(columns["x"], values.where(expected))


@pytest.mark.parametrize("value", [[1.5], {"a": 1}])
def test_column_of_lists_or_objects_raises(contract: Contract, value: Any) -> None:
    column = Column(role="feature", type="number", meaning="a number")
    contract_with_column = contract.model_copy(
        update={"columns": {"who": contract.columns["who"], "x": column}}
    )
    with raises_stating(DataError, "'x'", "contract"):
        validate_rows(pa.table({"x": [value]}), contract_with_column)


@pytest.mark.parametrize(
    "values",
    [pa.array([0, 1, 10]), pa.array([0, None, 10]), pa.array([0, 3, 11]), pa.array([None, None], pa.float32()),
     pa.array([True, False]), pa.array(["1", "2"]), pa.array([], pa.int64())],
    ids=str,
)  # fmt: skip
def test_numeric_arrow_types_are_validated(contract: Contract, values: pa.Array) -> None:
    column = Column(role="feature", type="number", meaning="a number", nullable=True, min=0, max=10)
    contract_with_column = contract.model_copy(
        update={"columns": {"who": contract.columns["who"], "x": column}}
    )
    typed, reasons = validate_rows(pa.table({"x": values}), contract_with_column)
    expected = np.array(
        [
            np.nan if value is None or float(value) > 10 else float(value)
            for value in values.to_pylist()
        ]
    )
    np.testing.assert_array_equal(typed["x"], expected)
    texts = [reason for reason in reasons if reason]
    assert len(texts) == values.to_pylist().count(11)
    assert [
        text
        for text in texts
        if missing_facts(text, "x = 11", column.describe_allowed_values(), "missing")
    ] == []
