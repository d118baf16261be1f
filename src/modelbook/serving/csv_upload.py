"""CSV requests and responses: parse an uploaded table and write the predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from modelbook.config import suggest_name
from modelbook.contract import Contract
from modelbook.contract.parsing import MISSING_VALUE_TEXTS, DecimalMark
from modelbook.contract.text_layout import UTF16_BOMS, find_text_layout
from modelbook.errors import DataError
from modelbook.formatting import format_count
from modelbook.serving.http_request import (
    MAX_EXTRA_COLUMNS,
    InvalidValue,
    RequestError,
    check_table,
)
from modelbook.serving.schemas import (
    MAX_LISTED_VALUES,
    MAX_SHOWN_CHARACTERS,
    CellParser,
    RowReader,
    describe_expectation,
    find_duplicate,
    format_request_value,
    make_contract_violation,
)
from modelbook.tasks.conformal_prediction import SET_SEPARATOR

if TYPE_CHECKING:
    from modelbook.serving.served_models import ServedModel

Row = dict[str, Any]
CHUNK_ROWS = 500  # rows per chunk, so that other requests are served in between


def read_table(
    body: bytes, model: ServedModel, max_rows: int
) -> tuple[list[str], list[list[str]], list[list[Row]]]:
    """Parse and validate a CSV body; returns header, cells, and typed rows in chunks.

    Raises
    ------
    RequestError
        See ``parse_csv`` and ``read_chunks``; also 413 for too many rows or columns.
    """
    check_table(body, max_rows, len(model.contract.columns) + MAX_EXTRA_COLUMNS)
    header, cells, rows = parse_csv(body, model.contract)
    return header, cells, read_chunks(rows, model.row_reader)


def parse_csv(body: bytes, contract: Contract) -> tuple[list[str], list[list[str]], list[Row]]:
    """Parse an upload, laid out as the contract's file or as CSV, into header, cells, typed rows.

    Columns may come in any order; columns that are not features are passed through.

    Raises
    ------
    RequestError
        400 if the body is not delimited text, 422 if columns or cells break the contract.
    """
    header, cells, decimal = _read_cells(body, contract)
    _check_columns(header, cells, contract)
    column_names = [
        name
        for name in header
        if name in contract.input_names or name in contract.columns_with_role("entity")
    ]
    missing_markers = MISSING_VALUE_TEXTS.union(contract.missing)
    parsers = [
        (name, header.index(name), CellParser(contract.columns[name], missing_markers, decimal))
        for name in column_names
    ]
    rows = [{name: values[line[i]] for name, i, values in parsers} for line in cells]
    return header, cells, rows


def _read_cells(body: bytes, contract: Contract) -> tuple[list[str], list[list[str]], DecimalMark]:
    """Read column names, cells and decimal mark of an upload."""
    layout = contract.file
    text, encoding = _decode(body, layout.encoding)
    if not text.strip():
        raise RequestError(422, "the upload is empty", expected="a header and rows")
    names = None if layout.header else list(contract.columns)
    try:
        found_layout = find_text_layout(
            text, encoding, layout, "the upload", names, contract.input_names
        )
        lines: Iterator[str] = io.StringIO(text, newline="")
        for _ in range(found_layout.skip_rows):
            next(lines)
        if layout.comment:
            lines = (line.partition(layout.comment)[0] for line in lines)
        reader = csv.reader(lines, delimiter=found_layout.delimiter, strict=True)
        table = [line for line in reader if line]
    except csv.Error as error:
        raise RequestError(
            400, f"the upload is not valid CSV: {error}", expected="CSV with commas and a header"
        ) from None
    except DataError as error:
        raise RequestError(422, error.problem, expected=error.expected) from None
    # An upload has no footer of the contract's file: all of its rows are predicted.
    return found_layout.columns, table[1:] if layout.header else table, found_layout.decimal


def _decode(body: bytes, contract_encoding: str | None) -> tuple[str, str]:
    """Decode an upload as UTF-16, UTF-8 or the contract's file; returns text and encoding."""
    encodings = ["utf-8-sig", *([contract_encoding] if contract_encoding else [])]
    if body.startswith(UTF16_BOMS):
        encodings = ["utf-16"]
    for encoding in encodings:
        try:
            return body.decode(encoding), encoding
        except UnicodeDecodeError as error:
            failure = error
    raise RequestError(
        400,
        f"the upload is not valid {failure.encoding.upper()} at byte {failure.start}",
        expected=f"text in {contract_encoding or 'UTF-8'}",
    )


def _check_columns(header: list[str], cells: list[list[str]], contract: Contract) -> None:
    if (duplicate := find_duplicate(header)) is not None:
        raise RequestError(
            422,
            f"the column {format_request_value(duplicate)} occurs twice",
            expected="each column once",
        )
    missing_columns = [name for name in contract.input_names if name not in header]
    if missing_columns:
        unknown_columns = [name for name in header if name not in contract.columns]
        invalid_values = [
            InvalidValue(None, name, "no such column", describe_expectation(contract.columns[name]))
            for name in missing_columns
        ]
        error = make_contract_violation(invalid_values)
        error.expected = "a column for each feature"
        if unknown_columns:
            hint = suggest_name(unknown_columns[0][:MAX_SHOWN_CHARACTERS], contract.input_names)
            error.expected += f"; {format_request_value(unknown_columns[0])}: {hint}"
        raise error
    for row_number, line in enumerate(cells):
        if len(line) != len(header):
            raise RequestError(
                422,
                f"row {row_number} has {format_count(len(line), 'cell')}",
                expected=f"{len(header)}, as in the header",
            )


def read_chunks(rows: list[Row], reader: RowReader) -> list[list[Row]]:
    """Validate typed rows in chunks, with the same reader as JSON bodies.

    Raises
    ------
    RequestError
        422 if a row breaks the contract; row numbers count from the first row of the table.
    """
    chunks, invalid_values = [], []
    for start in range(0, len(rows), CHUNK_ROWS):
        try:
            chunks.append(
                reader.read_body(orjson.dumps(rows[start : start + CHUNK_ROWS]), CHUNK_ROWS)[0]
            )
        except RequestError as error:
            invalid_values += [
                replace(invalid, row=start + (invalid.row or 0)) for invalid in error.invalid_values
            ]
            if len(invalid_values) >= MAX_LISTED_VALUES:
                break
    if invalid_values:
        raise make_contract_violation(invalid_values)
    return chunks


def write_csv(header: list[str], cells: list[list[str]], predictions: list[Row]) -> bytes:
    """Write the uploaded rows as CSV, with the predictions appended as columns."""
    added_cells = [_make_prediction_cells(prediction) for prediction in predictions]
    # A row of a version without intervals or sets has fewer cells.
    added_columns = max([*added_cells, _make_prediction_cells({})], key=len)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*header, *(f"{name}_" if name in header else name for name in added_columns)])
    for line, added in zip(cells, added_cells):
        writer.writerow([*line, *(added.get(name) for name in added_columns)])
    return out.getvalue().encode()


def _make_prediction_cells(prediction: Row) -> dict[str, Any]:
    """Return a prediction's cells by column; interval and set are those of ``modelbook score``."""
    cells = {"id": prediction.get("id"), "prediction": prediction.get("prediction")}
    for name, probability in prediction.get("probabilities", {}).items():
        cells[f"probability_{name}"] = probability
    for end, value in prediction.get("interval", {}).items():
        cells[f"prediction_{end}"] = value
    if "prediction_set" in prediction:
        cells["prediction_set"] = SET_SEPARATOR.join(prediction["prediction_set"])
    return cells | {name: prediction.get(name) for name in ("model_version", "variant", "row_hash")}
