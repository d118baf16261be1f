"""Check that ingest, ``check``, ``score``, CSV upload and JSON requests read a table alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import dataset
from modelbook.contract.violations import raise_on_violations
from modelbook.dataset import table_chunks
from modelbook.errors import ContractError
from modelbook.scoring.batch_validation import validate_rows
from modelbook.serving import csv_upload
from modelbook.serving.http_request import RequestError
from modelbook.serving.schemas import RowReader

if TYPE_CHECKING:
    from modelbook.contract import Contract

CHUNK_ROWS = 50_000  # rows that score reads for the check
MAX_REQUEST_ROWS = 200  # rows that are sent as requests


def check_readings(table: str, root: Path, contract: Contract) -> None:
    """Read a table in every way, and compare the model's features.

    Raises
    ------
    ContractError
        When two ways differ, with the column and the values.
    ContractViolationError
        When the table breaks the contract.
    """
    all_rows = dataset.read_table(table, root, contract)
    frame = contract.select_training_rows(all_rows)
    raise_on_violations(contract.find_violations(frame), table)
    features = contract.select_features(frame)
    if (root / table).is_file():
        first_rows = contract.select_features(all_rows.head(CHUNK_ROWS))
        _compare("score", first_rows, _read_for_score(root / table, contract))
    step = max(1, len(frame) // MAX_REQUEST_ROWS)
    inputs = frame[contract.input_names].iloc[::step]
    expected = features.iloc[::step]
    reader = RowReader(contract, {}, len(inputs))
    try:
        _compare("CSV upload", expected, _read_upload(inputs, contract, reader))
        _compare("a JSON request", expected, _read_json(inputs, reader))
        _compare("a JSON request of texts", expected, _read_json(_to_texts(inputs), reader))
    except RequestError as error:
        raise ContractError(
            f"the service refuses a row that ingest accepts: {error.message}",
            expected="one reading of each value",
            next="drop the column (--drop), or report the table",
        ) from None


def _read_for_score(path: Path, contract: Contract) -> pd.DataFrame:
    chunks, decimal = table_chunks.open_chunks(path, contract, CHUNK_ROWS)
    columns, reasons = validate_rows(next(iter(chunks)), contract, decimal)
    if (rejected := np.flatnonzero(reasons != "")).size:
        raise ContractError(
            f"score refuses row {rejected[0]}, which ingest accepts: {reasons[rejected[0]]}",
            expected="one reading of each value",
            next="drop the column (--drop), or report the table",
        )
    return pd.DataFrame(columns)


def _read_upload(inputs: pd.DataFrame, contract: Contract, reader: RowReader) -> pd.DataFrame:
    body = _to_texts(inputs).to_csv(index=False).encode()
    _, _, rows = csv_upload.parse_csv(body, contract)
    chunks = csv_upload.read_chunks(rows, reader)
    return pd.DataFrame([row for chunk in chunks for row in chunk])


def _read_json(inputs: pd.DataFrame, reader: RowReader) -> pd.DataFrame:
    return pd.DataFrame(reader.read_body(_to_json(inputs))[0])


def _to_json(inputs: pd.DataFrame) -> bytes:
    rows = [
        {name: None if pd.isna(value) else _to_plain(value) for name, value in row.items()}
        for row in inputs.to_dict("records")
    ]
    return json.dumps(rows).encode()


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool) else str(value)


def _to_texts(inputs: pd.DataFrame) -> pd.DataFrame:
    return inputs.map(lambda value: value if pd.isna(value) else str(_to_plain(value)))


def _compare(reader_name: str, expected: pd.DataFrame, actual: pd.DataFrame) -> None:
    for name in expected:
        values = expected[name].to_numpy()
        read_values = actual[name].to_numpy()[: len(expected)]
        values = values[: len(read_values)]
        is_missing = pd.isna(values) & pd.isna(read_values)
        differs = ~is_missing & (values != read_values)
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            value, read_value = _to_plain(values[row]), _to_plain(read_values[row])
            raise ContractError(
                f"{name} in row {row} is {value!r} in ingest and {read_value!r} in {reader_name}",
                expected="one reading of each value",
                next="drop the column (--drop), or report the table",
            )
