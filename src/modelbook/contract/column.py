"""One column of a contract: what it means, may hold, and is used for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["feature", "target", "entity", "time", "sensitive", "dropped"]
Kind = Literal["number", "integer", "boolean", "category"]
ANSWERS: dict[str, tuple[Kind, ...]] = {  # what a target may be, by task
    "binary": ("boolean", "category"), "multiclass": ("category",), "regression": ("number", "integer"),
}  # fmt: skip


class Column(BaseModel):
    """What one column means, may hold, and is used for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    type: Kind
    meaning: str = Field(min_length=1)
    label: str = ""
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None
    nullable: bool = False
    reason: str = ""
    positive: str = ""

    @model_validator(mode="after")
    def _coherent(self) -> Column:
        if self.type == "category" and not self.categories:
            raise ValueError("a category column names its categories")
        if self.role == "dropped" and not self.reason:
            raise ValueError("a dropped column gives its reason")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    @property
    def classes(self) -> list[str]:
        """What the column answers as a target, in the order of its codes; the positive one last. None for a number."""
        if self.type == "boolean":
            return ["no", "yes"]
        names = self.categories or []
        return sorted(names, key=lambda name: name == self.positive) if self.positive else names

    def check_answers(self, name: str, task: str) -> None:
        """Raise ValueError where the column, as the target of that name, does not fit the task."""
        kinds = ANSWERS[task]
        if self.type not in kinds:
            raise ValueError(f"the target column {name} of a {task} task is {' or '.join(kinds)}, not {self.type}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"the target column {name} names a category twice")
        if task == "multiclass" and len(self.classes) < 3:
            raise ValueError(f"the target column {name} of a multiclass task has at least three categories")
        if task == "binary" and self.type == "category" and (len(self.classes) != 2 or not self.positive):
            raise ValueError(f"the target column {name} of a binary task has two categories and names one as positive")
        if self.positive and self.positive not in self.classes:
            raise ValueError(f"positive names {self.positive!r}, which is no category of {name}")

    def rule(self) -> str:
        """The column's rule in words, as a violation shows it."""
        if self.type == "category":
            return f"one of {', '.join(self.categories or [])}"
        if self.type == "boolean":
            return "0 or 1"
        low = "" if self.min is None else f" from {self.min:g}"
        high = "" if self.max is None else f" to {self.max:g}"
        return f"{self.type}{low}{high}"

    def holds(self, values: pd.Series) -> pd.Series:
        """Whether each value keeps the column's rule; a gap does, for it has a rule of its own (``nullable``)."""
        if self.type == "category":
            return values.isna() | as_text(values).isin(self.categories or [])
        # A date is no number, though pandas would make one of it.
        numbers = pd.to_numeric(values if values.dtype.kind not in "mM" else values.astype(str), errors="coerce")
        right = np.isfinite(numbers)
        if self.type == "boolean":
            right &= numbers.isin([0, 1])
        if self.type == "integer":
            right &= numbers % 1 == 0
        if self.min is not None:
            right &= numbers >= self.min
        if self.max is not None:
            right &= numbers <= self.max
        return values.isna() | right


def as_text(values: pd.Series) -> pd.Series:
    """Category codes as text: 11, 11.0 and "11" are one category."""

    def text(value: Any) -> Any:
        if pd.isna(value):
            return None
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return values.map({value: text(value) for value in values.unique()}).astype(object)
