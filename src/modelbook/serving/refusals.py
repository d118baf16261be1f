"""Refusals: what a caller is told when there is no answer, with the status that HTTP has for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wrong:
    """One value that breaks the contract; ``row`` counts from 0, and is None for a single object."""

    row: int | None
    field: str
    value: str
    expected: str

    def __str__(self) -> str:
        where = "" if self.row is None else f"row {self.row}: "
        return f"{where}{self.field or 'the row'} = {self.value}: must be {self.expected}"


@dataclass
class Refusal(Exception):
    """A request that gets no answer.

    Attributes
    ----------
    status : int
        Of HTTP.
    what, expected : str
        What was wrong, and what would have been right.
    rejected : list of Wrong
        Each value that breaks the contract.
    headers : dict
        Sent with it.
    """

    status: int
    what: str
    expected: str = ""
    rejected: list[Wrong] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        told: dict[str, Any] = {"error": self.what}
        if self.expected:
            told["expected"] = self.expected
        if self.rejected:
            told["rejected"] = [asdict(one) for one in self.rejected]
        return told
