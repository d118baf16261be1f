"""Rows of requests: the model of a request made from a contract, and what is told of a row that breaks it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from modelbook.serving.fields import field, whole
from modelbook.serving.refusals import Refusal, Wrong

if TYPE_CHECKING:
    from modelbook.contract import Column, Contract

SHOWN = 80  # characters of a value that a message shows
MOST = 100  # wrong values that an answer lists
Row = dict[str, Any]


class Rows:
    """Reads the rows of a request: typed, bounded, nothing unknown; as the model sees them, dates as their parts.

    Parameters
    ----------
    typical : dict
        An example, by feature.
    limit : int
        Most rows of one request.

    Attributes
    ----------
    parts : dict
        Of each date the names of the parts that the model sees.
    """

    def __init__(self, contract: Contract, typical: Row, limit: int) -> None:
        self._contract, self._limit = contract, limit
        self.example = {name: typical[name] for name in contract.inputs_ if typical.get(name) is not None}
        kinds: dict[str, Any] = {name: self._field(name) for name in contract.inputs_}
        about = [*contract.named("entity"), *contract.named("time")]  # whose row, and when: to be journaled
        kinds |= {name: NotRequired[field(contract.columns[name], name)] for name in about}
        self._one, self._many = readers("Row", kinds)
        columns = {name: contract.columns[name] for name in kinds}
        self._gaps = dict.fromkeys(name for name in contract.inputs_ if columns[name].nullable)
        self._wholes = [name for name, one in columns.items() if one.type in ("boolean", "integer") and not one.parse]
        self._texts = [name for name, one in columns.items() if any(whole(text) for text in one.categories or ())]
        for column in columns.values():
            if column.type == "date":
                column.read("1970-01-01")  # what reads dates takes seconds to load: now, and not in a request
        self.parts = {name: list(columns[name].seen(name)) for name in contract.inputs_ if columns[name].type == "date"}

    def read(self, body: bytes, limit: int | None = None) -> tuple[list[Row], bool]:
        """The rows of a JSON body, and whether it was a list; ``limit`` is in the place of the reader's own.

        Raises
        ------
        Refusal
            400 for what is no JSON, 413 for too many rows, 422 naming each wrong field with value and expectation.
        """
        several = body.lstrip(b" \t\r\n")[:1] == b"["
        try:
            rows: list[Row] = self._many.validate_json(body) if several else [self._one.validate_json(body)]
        except ValidationError as error:
            raise self._refusal(body, error, several) from None
        most = limit or self._limit
        if len(rows) > most:
            raise Refusal(413, f"{len(rows):,} rows in one request", expected=f"at most {most:,} rows")
        # A colon too many is a key that was given twice, or one within a text.
        if body.count(b":") != sum(map(len, rows)):
            _refuse_twice(body)
        return [self._filled(row, i if several else None) for i, row in enumerate(rows)], several

    def _filled(self, row: Row, number: int | None) -> Row:
        row = {**self._gaps, **row}
        for name in self._wholes:
            # pydantic's multiple_of takes what is almost a whole number: 1e-42.
            if (value := row.get(name)) is not None and value % 1:
                raise rejected([Wrong(number, name, shown(value), expectation(self._contract.columns[name]))])
        for name in self._texts:
            if row.get(name).__class__ is int:
                row[name] = str(row[name])
        for name, parts in self.parts.items():
            row.update(zip(parts, row.pop(name) or [None] * len(parts)))
        return row

    def _field(self, name: str) -> Any:
        column = self._contract.columns[name]
        kind = field(column, name, self._contract.missing, self.example.get(name))
        return NotRequired[kind] if column.nullable else kind

    def schema(self) -> dict[str, Any]:
        """JSON schema of one row."""
        return {
            **self._one.json_schema(), "title": "Row", "description": self._contract.question, "example": self.example,
        }  # fmt: skip

    def _refusal(self, body: bytes, error: ValidationError, several: bool) -> Refusal:
        problems = error.errors(include_url=False, include_context=True)
        broken = next((problem for problem in problems if problem["type"] == "json_invalid"), None)
        if broken:
            return Refusal(
                400, f"the body is no JSON: {broken['ctx']['error']}", expected="one object or a list of objects"
            )
        wrong: dict[Any, Wrong] = {}
        for problem in problems:
            place = problem["loc"] if several else (None, *problem["loc"])
            key = place[:2]
            wrong.setdefault(key, self._wrong(key, problem))
        return rejected(wrong.values())

    def _wrong(self, place: tuple, problem: Any) -> Wrong:
        row, name = (*place, None)[:2]
        value = "missing" if problem["type"] == "missing" else shown(problem["input"])
        if name is None:
            return Wrong(row, "", value, "an object with a value for each field")
        column = self._contract.columns.get(str(name))
        if problem["type"] == "extra_forbidden" or column is None:
            return Wrong(row, str(name)[:SHOWN], value, nearest(str(name), self._contract))
        return Wrong(row, str(name), value, expectation(column))


def readers(name: str, kinds: dict[str, Any]) -> tuple[TypeAdapter, TypeAdapter]:
    """What reads one object with fields of these kinds and no others, and what reads a list of them."""
    model = TypedDict(name, kinds)  # type: ignore[misc]
    setattr(model, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010
    return TypeAdapter(model), TypeAdapter(list[model])


def rejected(wrong: Iterable[Wrong]) -> Refusal:
    """The refusal of rows that break the contract."""
    told = list(wrong)
    count = "1 value breaks" if len(told) == 1 else f"{len(told):,} values break"
    return Refusal(422, f"{count} the contract: {told[0]}", rejected=told[:MOST])


def expectation(column: Column) -> str:
    """What a column may hold, in words."""
    return column.rule() + (", or null" if column.nullable else "")


def shown(value: Any) -> str:
    """A value as a message shows it: as JSON, and not for ever."""
    text = value if isinstance(value, str) and len(value) > SHOWN else json.dumps(value, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def nearest(name: str, contract: Contract) -> str:
    """What is said of a field that the contract does not know."""
    from modelbook.config import nearest as near

    return f"a field of the contract; {near(name[:SHOWN], contract.inputs_)}"


def _refuse_twice(body: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise Refusal(422, f"the field {shown(twice)} is given twice", expected="each field once")
        return dict(pairs)

    json.loads(body, object_pairs_hook=once)
