"""A guess of a column's type and role with its reason, to be reviewed by a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelbook.contract import Column
from modelbook.draft.questions import Question

UNDESCRIBED = "not described yet"


@dataclass
class ColumnGuess:
    """Guessed contract entry of one column, with the reason.

    Attributes
    ----------
    contract_keys : dict
        Keys of the contract's column: ``role``, ``type`` and so on.
    n_distinct : int
        Number of distinct values, missing ones not counted.
    missing_markers : list of str
        Texts of the column that are read as missing.
    """

    name: str
    contract_keys: dict[str, Any]
    reason: str
    missing_share: float = 0.0
    n_distinct: int = 0
    questions: list[Question] = field(default_factory=list)
    missing_markers: list[str] = field(default_factory=list)

    @property
    def role(self) -> str:
        return self.contract_keys["role"]

    def add_question(self, kind: str, **values: Any) -> None:
        """Add a question about the column."""
        self.questions.append(Question(kind, self.name, values))

    def change_role(self, role: str, reason: str) -> None:
        """Change role and reason, and remove the keys that the new role does not allow.

        Values of dropped columns and ids are not checked: questions about them are removed, too.
        """
        removed_keys = {"role", "date_parts", "n_hashes"}
        if role in ("dropped", "id"):
            self.questions.clear()
            removed_keys |= {"min", "max", "categories", "allow_unseen", "replacements"}
        remaining_keys: dict[str, Any] = {
            key: value for key, value in self.contract_keys.items() if key not in removed_keys
        }
        if role in ("dropped", "id") and remaining_keys["type"] == "category":
            remaining_keys["type"] = "text"
        self.contract_keys = {"role": role, **remaining_keys}
        self.reason = reason
        if role == "dropped":
            self.contract_keys |= {"reason": reason, "nullable": True}

    def to_column(self) -> Column:
        """Build the contract's column from the guess."""
        return Column(**{"meaning": UNDESCRIBED, **self.contract_keys})
