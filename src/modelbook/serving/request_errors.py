"""Errors of a request: what the response says, and with which HTTP status."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class InvalidValue:
    """A value that breaks the contract; ``row`` counts from 0 and is None for a single object."""

    row: int | None
    field: str
    value: str
    expected: str

    def __str__(self) -> str:
        prefix = "" if self.row is None else f"row {self.row}: "
        return f"{prefix}{self.field or 'the row'} = {self.value}: must be {self.expected}"


@dataclass
class RequestError(Exception):
    """A rejected request.

    Attributes
    ----------
    status : int
        HTTP status code.
    message, expected : str
        What is wrong, and what was expected.
    invalid_values : list of InvalidValue
        Each value that breaks the contract.
    headers : dict
        Additional response headers.
    """

    status: int
    message: str
    expected: str = ""
    invalid_values: list[InvalidValue] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the error response."""
        body: dict[str, Any] = {"error": self.message}
        if self.expected:
            body["expected"] = self.expected
        if self.invalid_values:
            body["rejected"] = [asdict(invalid) for invalid in self.invalid_values]
        return body
