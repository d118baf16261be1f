"""What a column may be: a guess with its reason, to be reviewed by a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelbook.contract import Column

UNDESCRIBED = "not described yet"


@dataclass
class Guess:
    """One column's part of a contract, and why.

    Attributes
    ----------
    keys : dict
        Keys of the contract's column: ``role``, ``type`` and so on.
    gaps : float
        Share of missing values.
    distinct : int
        How many values there are, without gaps.
    """

    name: str
    keys: dict[str, Any]
    why: str
    gaps: float = 0.0
    distinct: int = 0

    @property
    def role(self) -> str:
        return self.keys["role"]

    def become(self, role: str, why: str) -> None:
        """Take another role, for another reason; what only other roles may say is left out."""
        gone = {"role", "parts"}
        if role in ("dropped", "id"):  # of these, values are not judged
            gone |= {"min", "max", "categories", "unseen"}
        kept: dict[str, Any] = {key: value for key, value in self.keys.items() if key not in gone}
        if role in ("dropped", "id") and kept["type"] == "category":
            kept["type"] = "text"
        self.keys, self.why = {"role": role, **kept}, why
        if role == "dropped":
            self.keys |= {"reason": why, "nullable": True}

    def column(self) -> Column:
        """The contract's column."""
        return Column(**{"meaning": UNDESCRIBED, **self.keys})
