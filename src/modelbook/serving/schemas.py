"""Request schemas: pydantic types and JSON schemas of rows and outcomes, from the contract."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from pydantic import (
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    StrictBool,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json
from typing_extensions import TypedDict

from modelbook.config import suggest_name
from modelbook.contract.parsing import (
    MISSING_VALUE_TEXTS,
    DecimalMark,
    parse_float_text,
    parse_number,
)
from modelbook.formatting import format_count
from modelbook.serving.http_request import (
    BodyLimits,
    InvalidValue,
    RequestError,
    derive_body_limits,
)

if TYPE_CHECKING:
    from modelbook.contract import Column, Contract
    from modelbook.tasks.decision_rule import DecisionRule

MAX_SHOWN_CHARACTERS = 80  # length of a value in a message
MAX_LISTED_VALUES = 100  # invalid values listed in one response; further ones are not searched
Row = dict[str, Any]
PredictionID = Annotated[
    str, Field(min_length=1, max_length=64, description="id of the prediction")
]


def build_field_type(
    column: Column, name: str, missing_markers: Sequence[str] = (), example: Any = None
) -> Any:
    """Build the pydantic type of a field, with its JSON schema.

    Parameters
    ----------
    missing_markers : sequence of str
        Texts that mean a missing value; accepted for nullable columns only.
    """
    metadata: dict[str, Any] = {"title": column.label or name, "description": column.full_meaning}
    if example is not None:
        metadata["examples"] = [example]
    field_type, schema = _make_base_type_and_schema(column)
    validated_type = Annotated[Any, PlainValidator(_build_validator(column, missing_markers))]
    if field_type is None:
        field_type = validated_type
    else:
        # Common values are validated without calling Python code.
        field_type = Annotated[field_type | validated_type, Field(union_mode="left_to_right")]
    if column.nullable:
        return Annotated[
            field_type | None, WithJsonSchema({"anyOf": [schema, {"type": "null"}], **metadata})
        ]
    return Annotated[field_type, WithJsonSchema({**schema, **metadata})]


class CellParser(dict[str, Any]):
    """JSON values of a column's table cells or form fields by text; each text is parsed once.

    Unreadable text stays text, which the contract rejects later.
    """

    def __init__(
        self,
        column: Column,
        missing_markers: frozenset[str] = MISSING_VALUE_TEXTS,
        decimal: DecimalMark = ".",
    ) -> None:
        super().__init__()
        self._missing_texts = {"", *missing_markers.difference(column.categories or ())}
        self._is_text = bool(column.number_format) or column.type in ("category", "text", "date")
        self._is_boolean = column.type == "boolean"
        self._decimal = decimal

    def __missing__(self, cell: str) -> Any:
        self[cell] = value = self._parse(cell.strip())
        return value

    def _parse(self, text: str) -> Any:
        if text in self._missing_texts:
            return None
        if self._is_text:
            return text
        if self._is_boolean and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if self._decimal == ".":
            number = parse_float_text(text)
        else:
            number = parse_number(text, "number", self._decimal)
        return number if math.isfinite(number) else text


def _build_validator(column: Column, missing_markers: Sequence[str]) -> Any:
    missing_texts = {*missing_markers, *MISSING_VALUE_TEXTS.difference(column.categories or ())}

    def validate(value: Any) -> Any:
        if column.nullable and (
            value is None or (isinstance(value, str) and value.strip() in missing_texts)
        ):
            return None
        # A number may come as text, as in a file: CSV and JSON are read alike.
        parsed = column.parse_value(value)
        if parsed is None:
            raise ValueError("breaks the contract")
        return parsed

    return validate


def _make_base_type_and_schema(column: Column) -> tuple[Any, dict[str, Any]]:
    """Return the type that pydantic validates natively (or None), and the JSON schema."""
    bounds = _select_present(ge=column.min, le=column.max)
    schema_bounds = _select_present(minimum=column.min, maximum=column.max)
    if column.number_format:
        return None, {
            "anyOf": [
                {"type": "number", **schema_bounds},
                {"type": "string", "description": f"as {column.number_format}"},
            ]
        }
    if column.type in ("text", "date") or column.allow_unseen or column.replacements:
        examples = {"examples": column.categories} if column.categories else {}
        return None, {"type": "string", **examples}
    if column.type == "category":
        categories = column.categories or []
        numbers = [int(text) for text in categories if is_integer_text(text)]
        return Literal[(*categories, *numbers)], {"enum": [*categories, *numbers]}
    if column.type == "boolean":
        boolean_type: Any = _make_integer_type(ge=0, le=1) | StrictBool
        return Annotated[boolean_type, Field(union_mode="left_to_right")], {
            "enum": [0, 1, False, True]
        }
    if column.type == "integer":
        return _make_integer_type(**bounds), {"type": "number", "multipleOf": 1, **schema_bounds}
    return Annotated[float, Field(strict=True, allow_inf_nan=False, **bounds)], {
        "type": "number",
        **schema_bounds,
    }


def _select_present(**values: float | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def is_integer_text(text: str) -> bool:
    """Whether a category is an integer, which a request may send as a number."""
    return text.isdecimal() and str(int(text)) == text


def _make_integer_type(**bounds: Any) -> Any:
    """Integer type that also accepts whole floats such as 3.0, as pandas writes them."""
    return Annotated[float, Field(strict=True, allow_inf_nan=False, multiple_of=1, **bounds)]


class JsonReader:
    """Parses JSON bodies: one object with exactly these fields, or a list of such objects."""

    def __init__(self, name: str, field_types: dict[str, Any]) -> None:
        model = TypedDict(name, field_types)  # type: ignore[misc]
        setattr(model, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010
        self._object_adapter: TypeAdapter[Any] = TypeAdapter(model)
        self._list_adapter: TypeAdapter[Any] = TypeAdapter(Annotated[list[model], FailFast()])

    def _validate(self, body: bytes, limits: BodyLimits) -> tuple[list[dict[str, Any]], bool]:
        """Return the objects of a body, and whether it was a list."""
        is_list = body.lstrip(b" \t\r\n")[:1] == b"["
        limits.check_json(body, is_list)
        try:
            if is_list:
                return self._list_adapter.validate_json(body), True
            return [self._object_adapter.validate_json(body)], False
        except ValidationError as error:
            raise self._to_request_error(body, error, is_list) from None

    def _to_request_error(self, body: bytes, error: ValidationError, is_list: bool) -> RequestError:
        raise NotImplementedError


class RowReader(JsonReader):
    """Parses and validates the rows of a request, and converts them to model features.

    Unknown fields are rejected. Dates become the features that the model was trained on.

    Attributes
    ----------
    derived_features : dict
        Date or text column to the names of the model's features made of it.
    """

    def __init__(self, contract: Contract, typical_row: Row, max_rows: int) -> None:
        self._contract = contract
        self.example = {
            name: typical_row[name]
            for name in contract.input_names
            if typical_row.get(name) is not None
        }
        field_types: dict[str, Any] = {
            name: self._make_field_type(name) for name in contract.input_names
        }
        field_types |= {
            name: NotRequired[build_field_type(contract.columns[name], name)]
            for role in ("entity", "time")  # for the journal
            for name in contract.columns_with_role(role)
        }
        super().__init__("Row", field_types)
        columns = {name: contract.columns[name] for name in field_types}
        self._field_names = set(columns)
        self.limits = derive_body_limits(columns, max_rows)
        self._missing_defaults = dict.fromkeys(
            name for name in contract.input_names if columns[name].nullable
        )
        self._integer_fields = [
            name
            for name, definition in columns.items()
            if definition.type in ("boolean", "integer") and not definition.number_format
        ]
        self._integer_categories = [
            name
            for name, definition in columns.items()
            if any(is_integer_text(text) for text in definition.categories or ())
        ]
        for column in columns.values():
            if column.type == "date":
                column.parse_value("1970-01-01")  # load the slow date parser now
        self.derived_features = {
            name: features
            for name in contract.input_names
            if (features := list(columns[name].model_features(name))) != [name]
        }

    def read_body(self, body: bytes, max_rows: int | None = None) -> tuple[list[Row], bool]:
        """Parse a JSON body; returns its rows and whether it was a list.

        Parameters
        ----------
        max_rows : int, optional
            Overrides the reader's maximum number of rows.

        Raises
        ------
        RequestError
            400 if the body is not JSON, 413 for too many rows or values, 422 with invalid fields,
            their values and what was expected.
        """
        limits = replace(self.limits, max_rows=max_rows) if max_rows else self.limits
        rows, is_list = self._validate(body, limits)
        # An additional colon is either a duplicate key or part of a text.
        if body.count(b":") != sum(map(len, rows)):
            _reject_duplicate_keys(body)
        return [
            self._complete_row(row, i if is_list else None) for i, row in enumerate(rows)
        ], is_list

    def _complete_row(self, row: Row, row_number: int | None) -> Row:
        row = {**self._missing_defaults, **row}
        for name in self._integer_fields:
            # pydantic's multiple_of accepts near-integers such as 1e-42.
            if (value := row.get(name)) is not None and value % 1:
                expected = describe_expectation(self._contract.columns[name])
                invalid = InvalidValue(row_number, name, format_request_value(value), expected)
                raise make_contract_violation([invalid])
        for name in self._integer_categories:
            if row.get(name).__class__ is int:
                row[name] = str(row[name])
        for name, features in self.derived_features.items():
            row.update(zip(features, row.pop(name) or [None] * len(features)))
        return row

    def _make_field_type(self, name: str) -> Any:
        column = self._contract.columns[name]
        field_type = build_field_type(column, name, self._contract.missing, self.example.get(name))
        return NotRequired[field_type] if column.nullable else field_type

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of one row."""
        return {
            **self._object_adapter.json_schema(),
            "title": "Row",
            "description": self._contract.question,
            "example": self.example,
        }

    def _to_request_error(self, body: bytes, error: ValidationError, is_list: bool) -> RequestError:
        try:
            rows = from_json(body)
        except ValueError as json_error:
            return RequestError(
                400,
                f"the body is not valid JSON: {json_error}",
                expected="one object or a list of objects",
            )
        invalid_values: list[InvalidValue] = []
        for i, row in enumerate(rows if is_list else [rows]):
            invalid_values += self._find_invalid_values(row, i if is_list else None)
            if len(invalid_values) >= MAX_LISTED_VALUES:
                break
        if not invalid_values:  # valid as Python values, not as JSON
            problem = error.errors(include_url=False)[0]
            location = problem["loc"] if is_list else (None, *problem["loc"])
            invalid_values = [self._to_invalid_value(location[:2], problem)]
        return make_contract_violation(invalid_values)

    def _find_invalid_values(self, row: Any, number: int | None) -> list[InvalidValue]:
        """Return a row's invalid values, or as many as a response lists."""
        if not isinstance(row, dict):
            return [self._to_invalid_value((number,), {"type": "", "input": row})]
        unknown_names = islice((n for n in row if n not in self._field_names), MAX_LISTED_VALUES)
        invalid_values = [
            self._to_invalid_value((number, name), {"type": "extra_forbidden", "input": row[name]})
            for name in unknown_names
        ]
        try:
            known_values = {name: row[name] for name in self._field_names if name in row}
            self._object_adapter.validate_python(known_values)
        except ValidationError as error:
            problems = {p["loc"][:1]: p for p in error.errors(include_url=False)}
            invalid_values += [
                self._to_invalid_value((number, *location), problem)
                for location, problem in problems.items()
            ]
        return invalid_values

    def _to_invalid_value(self, location: tuple, problem: Any) -> InvalidValue:
        row, name = (*location, None)[:2]
        value = _format_input(problem)
        if name is None:
            return InvalidValue(row, "", value, "an object with a value for each field")
        column = self._contract.columns.get(str(name))
        if problem["type"] == "extra_forbidden" or column is None:
            shown_name = str(name)[:MAX_SHOWN_CHARACTERS]
            return InvalidValue(row, shown_name, value, suggest_field(str(name), self._contract))
        return InvalidValue(row, str(name), value, describe_expectation(column))


def make_contract_violation(invalid_values: Iterable[InvalidValue]) -> RequestError:
    """Build the error for values that break the contract."""
    values = list(invalid_values)[:MAX_LISTED_VALUES]
    or_more = "or more " if len(values) == MAX_LISTED_VALUES else ""
    count = format_count(len(values), "value breaks", f"{or_more}values break")
    return RequestError(422, f"{count} the contract: {values[0]}", invalid_values=values)


def describe_expectation(column: Column) -> str:
    """Describe the values that a column accepts."""
    return column.describe_allowed_values("null")


def _format_input(problem: Any) -> str:
    return "missing" if problem["type"] == "missing" else format_request_value(problem["input"])


def format_request_value(value: Any) -> str:
    """Format a value for a message: as JSON, shortened if it is long."""
    is_long_text = isinstance(value, str) and len(value) > MAX_SHOWN_CHARACTERS
    text = value if is_long_text else json.dumps(value, default=str)
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return f"{text[:MAX_SHOWN_CHARACTERS]}... ({len(text):,} characters)"


def suggest_field(name: str, contract: Contract) -> str:
    """Return the expectation text for an unknown field, with similar names."""
    suggestion = suggest_name(name[:MAX_SHOWN_CHARACTERS], contract.input_names)
    return f"a field of the contract; {suggestion}"


def _reject_duplicate_keys(body: bytes) -> None:
    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) < len(pairs):
            duplicate = find_duplicate(name for name, _ in pairs)
            raise RequestError(
                422,
                f"the field {format_request_value(duplicate)} occurs twice",
                expected="each field once",
            )
        return names

    json.loads(body, object_pairs_hook=reject_duplicates)


def find_duplicate(names: Iterable[str]) -> str | None:
    """Return the first name that occurs a second time, or None."""
    seen_names: set[str] = set()
    for name in names:
        if name in seen_names:
            return name
        seen_names.add(name)
    return None


class OutcomeReader(JsonReader):
    """Parses and validates the outcomes of a request."""

    def __init__(self, contract: Contract, decision_rule: DecisionRule) -> None:
        target = contract.columns[contract.target]
        if decision_rule.classes:
            accepted_values = [
                *decision_rule.classes,
                *([False, True] if set(decision_rule.classes) == {0, 1} else []),
            ]
            outcome_type: Any = Annotated[
                Literal[tuple(accepted_values)],
                WithJsonSchema({"enum": accepted_values, "description": target.meaning}),
            ]
            self._expected_outcome = f"one of {', '.join(map(str, decision_rule.classes))}"
        else:
            outcome_type = Annotated[
                float, Field(strict=True, allow_inf_nan=False, description=target.meaning)
            ]
            self._expected_outcome = "a number"
        super().__init__("Outcome", {"id": PredictionID, "outcome": outcome_type})

    def read_body(self, body: bytes, max_rows: int) -> dict[str, Any]:
        """Parse a JSON body; returns outcomes by prediction id.

        Raises
        ------
        RequestError
            400, 413 or 422, as for rows; 409 if one id has two different outcomes.
        """
        outcomes: dict[str, Any] = {}
        for entry in self._validate(body, BodyLimits(max_rows, max_fields=2))[0]:
            outcome = (
                int(entry["outcome"]) if isinstance(entry["outcome"], bool) else entry["outcome"]
            )
            if outcomes.setdefault(entry["id"], outcome) != outcome:
                raise RequestError(
                    409,
                    f"two different outcomes for {format_request_value(entry['id'])}",
                    expected="one outcome for each prediction",
                )
        return outcomes

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of one outcome."""
        return {**self._object_adapter.json_schema(), "title": "Outcome"}

    def _to_request_error(self, body: bytes, error: ValidationError, is_list: bool) -> RequestError:
        problems = error.errors(include_url=False)[:MAX_LISTED_VALUES]
        if problems[0]["type"] == "json_invalid":
            return RequestError(
                400,
                f"the body is not valid JSON: {problems[0]['ctx']['error']}",
                expected="an object or a list",
            )
        expectations = {"id": "text of 1 to 64 characters", "outcome": self._expected_outcome}
        invalid_values: dict[Any, InvalidValue] = {}
        for problem in problems:
            row, name = (*(problem["loc"] if is_list else (None, *problem["loc"])), None, None)[:2]
            expected = expectations.get(
                str(name), "an object with id and outcome, and nothing else"
            )
            value = _format_input(problem)
            invalid_values.setdefault(
                (row, name),
                InvalidValue(
                    row if isinstance(row, int) else None, str(name or "")[:80], value, expected
                ),
            )
        return make_contract_violation(invalid_values.values())
