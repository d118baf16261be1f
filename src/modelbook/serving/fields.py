"""Fields of a request: how each column of a contract is typed, read as in training, and told in the manual."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator, StrictBool, WithJsonSchema

from modelbook.contract.parsing import GAPS

if TYPE_CHECKING:
    from modelbook.contract import Column


def field(column: Column, name: str, missing: Sequence[str] = (), example: Any = None) -> Any:
    """The type of a field, for pydantic: what it takes, and its schema.

    Parameters
    ----------
    missing : sequence of str
        Texts that stand for a gap; only a nullable column may have one.
    """
    about: dict[str, Any] = {"title": column.label or name, "description": column.meaning}
    if example is not None:
        about["examples"] = [example]
    kind, schema = _kind(column)
    reader = Annotated[Any, PlainValidator(_reader(column, missing))]
    if kind is None:
        kind = reader
    elif column.type == "category" or (missing and column.nullable):
        kind = Annotated[kind | reader, Field(union_mode="left_to_right")]  # what is usual is read without Python
    if column.nullable:
        return Annotated[kind | None, WithJsonSchema({"anyOf": [schema, {"type": "null"}], **about})]
    return Annotated[kind, WithJsonSchema({**schema, **about})]


def cell(column: Column, text: str, gaps: frozenset[str] = GAPS) -> Any:
    """A cell of a table, or a field of a form, as JSON would have it; what cannot be read stays text."""
    text = text.strip()
    if not text or (text in gaps and text not in (column.categories or ())):
        return None
    if column.parse or column.type in ("category", "text", "date"):
        return text
    if column.type == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text  # the contract will say what it should have been
    return number if math.isfinite(number) and "_" not in text else text


def _reader(column: Column, missing: Sequence[str]) -> Any:
    gaps = {"", *missing}

    def read(value: Any) -> Any:
        if column.nullable and (value is None or (isinstance(value, str) and value.strip() in gaps)):
            return None
        # Text where a number is wanted is none, unless the contract says how it is written.
        told = column.read(value)
        if told is None:
            raise ValueError("breaks the contract")
        return told

    return read


def _kind(column: Column) -> tuple[Any, dict[str, Any]]:
    """What pydantic reads by itself, if anything, and the schema."""
    bounds: dict[str, Any] = {
        key: value for key, value in (("ge", column.min), ("le", column.max)) if value is not None
    }
    told: dict[str, Any] = {
        key: value for key, value in (("minimum", column.min), ("maximum", column.max)) if value is not None
    }
    if column.parse:
        return None, {"anyOf": [{"type": "number", **told}, {"type": "string", "description": f"as {column.parse}"}]}
    if column.type in ("text", "date") or column.unseen:
        return None, {"type": "string"}
    if column.type == "category":
        kinds = column.categories or []
        numbers = [int(text) for text in kinds if whole(text)]
        return Literal[(*kinds, *numbers)], {"enum": [*kinds, *numbers]}
    if column.type == "boolean":
        both: Any = _whole(ge=0, le=1) | StrictBool
        return Annotated[both, Field(union_mode="left_to_right")], {"enum": [0, 1, False, True]}
    if column.type == "integer":
        return _whole(**bounds), {"type": "number", "multipleOf": 1, **told}
    return Annotated[float, Field(strict=True, allow_inf_nan=False, **bounds)], {"type": "number", **told}


def whole(text: str) -> bool:
    """Whether a category is a whole number, which may come as one."""
    return text.isdecimal() and str(int(text)) == text


def _whole(**bounds: Any) -> Any:
    """A whole number; 3.0 is one too, and what pandas makes of one."""
    return Annotated[float, Field(strict=True, allow_inf_nan=False, multiple_of=1, **bounds)]
