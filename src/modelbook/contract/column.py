"""One column of a contract: what it means, may hold, and is used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import pandas as pd  # a service reads contracts without it

Role = Literal["feature", "target", "entity", "time", "sensitive", "dropped"]
Kind = Literal["number", "integer", "boolean", "category"]


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

    @model_validator(mode="after")
    def _coherent(self) -> Column:
        if self.type == "category" and not self.categories:
            raise ValueError("a category column names its categories")
        if self.role == "dropped" and not self.reason:
            raise ValueError("a dropped column gives its reason")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

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
        import numpy as np
        import pandas as pd

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
    import pandas as pd

    def text(value: Any) -> Any:
        if pd.isna(value):
            return None
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return values.map({value: text(value) for value in values.unique()}).astype(object)
