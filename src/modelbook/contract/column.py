"""One column of a contract: what it means, may hold, and is used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelbook.contract import dates
from modelbook.contract.parsing import Decimal, Parse, as_text, number, numbers, text, truths
from modelbook.errors import ViolationError

if TYPE_CHECKING:
    import pandas as pd  # a service reads contracts without it

Role = Literal["feature", "target", "entity", "time", "id", "sensitive", "dropped"]
Kind = Literal["number", "integer", "boolean", "category", "text", "date"]
ROLES: dict[str, tuple[Role, ...]] = {  # what a column of some types cannot be, it is not
    "text": ("entity", "id", "dropped"), "date": ("feature", "time", "dropped"),
}  # fmt: skip
ANSWERS: dict[str, tuple[Kind, ...]] = {  # what a target may be, by task
    "binary": ("boolean", "category"), "multiclass": ("category",), "regression": ("number", "integer"),
}  # fmt: skip

LONGEST, LARGEST = 200, 1e300  # characters of a date or an amount, and size of a number, that one request may hold


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
    unseen: bool = False
    parse: Parse | None = None
    decimal: Decimal = "."
    format: str = ""
    parts: list[dates.Part] = []
    period: dates.Period | None = None
    nullable: bool = False
    reason: str = ""
    positive: str = ""

    @model_validator(mode="after")
    def _coherent(self) -> Column:
        if self.type == "category" and not self.categories and not self.unseen:
            raise ValueError("a category column names its categories, or allows unseen ones")
        if self.role == "dropped" and not self.reason:
            raise ValueError("a dropped column gives its reason")
        if self.positive and self.role != "target":
            raise ValueError("only the target names a positive category")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        if self.role not in ROLES.get(self.type, (self.role,)):
            raise ValueError(f"a {self.type} column is {' or '.join(ROLES[self.type])}, not {self.role}")
        timed = self.role == "time" and self.type == "date"
        fits = {
            "categories": self.type == "category", "unseen": self.type == "category",
            "parse": self.type in ("number", "integer"), "decimal": self.parse is not None,
            "format": self.type == "date", "parts": self.role == "feature" and self.type == "date", "period": timed,
        }  # fmt: skip
        if wrong := [key for key, fit in fits.items() if not fit and getattr(self, key) != type(self).default(key)]:
            raise ValueError(f"{wrong[0]} says nothing of a {self.role} column of type {self.type}")
        if self.type == "date" and not self.format:
            raise ValueError("a date column names its format, such as %Y-%m-%d or ISO8601")
        if timed and not self.period:
            raise ValueError("a time column of dates names its period: year, month or day")
        return self

    @classmethod
    def default(cls, key: str) -> object:
        """What a key is when the contract does not say it."""
        return cls.model_fields[key].default

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
        if self.positive and (task != "binary" or self.positive not in self.classes):
            why = "which is no category of it" if task == "binary" else f"but a {task} task has no yes"
            raise ValueError(f"the target column {name} names {self.positive!r} as positive, {why}")

    def rule(self) -> str:
        """The column's rule in words, as a violation shows it."""
        if self.type == "category" and not self.unseen:
            return f"one of {', '.join(self.categories or [])}"
        if self.type == "date":
            return f"date as {self.format}"
        if self.type in ("boolean", "category", "text"):
            return {"boolean": "0 or 1", "category": "any category", "text": "text"}[self.type]
        low = "" if self.min is None else f" from {self.min:g}"
        high = "" if self.max is None else f" to {self.max:g}"
        how = f" as {self.parse}" if self.parse else ""
        return f"{self.type}{low}{high}{how}"

    def parsed(self, values: pd.Series) -> pd.Series:
        """Values as the column's type has them; NaN, or NaT, where there is a gap or something of another type."""
        if self.type in ("category", "text"):
            return as_text(values)
        if self.type == "date":
            return (
                dates.periods(values, self.format, self.period) if self.period else dates.moments(values, self.format)
            )
        return truths(values) if self.type == "boolean" else numbers(values, self.parse, self.decimal)

    def conformed(self, name: str, values: pd.Series) -> pd.Series:
        """Values as the column's type has them; whole numbers without gaps that no model sees are int64.

        Raises
        ------
        ViolationError
            When a value cannot be read as that type.
        """
        parsed = self.parsed(values)
        lost = (parsed.isna() & values.notna()).to_numpy()
        if lost.any():
            row = int(np.flatnonzero(lost)[0])
            raise ViolationError(
                f"{name} = {values.iloc[row]!r} in row {row} cannot be read; {lost.sum():,} such values",
                expected=self.rule(),
                next="mend the value, or say in the contract how it is written (docs/contract.md)",
            )
        whole = self.role in ("entity", "time", "target", "id") and self.type not in ("number", "category", "text")
        return parsed.astype("int64") if whole and parsed.notna().all() else parsed

    def holds(self, values: pd.Series, parsed: pd.Series | None = None) -> pd.Series:
        """Whether each value keeps the column's rule; a gap does, for it has a rule of its own (``nullable``).

        ``parsed`` saves reading the values, where they are read already.
        """
        parsed = self.parsed(values) if parsed is None else parsed
        if self.type == "category" and not self.unseen:
            return values.isna() | parsed.isin(self.categories or [])
        if self.type in ("category", "text", "date"):
            return values.isna() | parsed.notna()
        right = np.isfinite(parsed)
        if self.type == "boolean":
            right &= (parsed == 0) | (parsed == 1)
        if self.type == "integer":
            right &= parsed % 1 == 0
        if self.min is not None:
            right &= parsed >= self.min
        if self.max is not None:
            right &= parsed <= self.max
        return values.isna() | right

    def read(self, value: Any) -> Any:
        """One value as ``parsed`` has it: text, a number, the parts of a date; None where it breaks the column's rule.

        It is what a service reads requests by, where a series for each value would take too long.
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        if self.type in ("category", "text"):
            told, free = text(value), self.unseen or self.type == "text"
            return told if isinstance(told, str) and (free or told in (self.categories or ())) else None
        if len(value) > LONGEST if isinstance(value, str) else abs(value) > LARGEST:
            return None
        if self.type == "date":
            return dates.one(value, self.format, self.period or tuple(self.parts or dates.PARTS))
        told = number(value, self.parse, self.decimal) if self.parse else value
        return float(told) if not isinstance(told, str) and self.keeps(told) else None

    def keeps(self, value: float) -> bool:
        """``holds`` of one number."""
        return bool(
            np.isfinite(value)
            and (self.type != "boolean" or value in (0, 1))
            and (self.type != "integer" or value % 1 == 0)
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
        )

    def seen(self, name: str) -> dict[str, Column]:
        """What a model sees of this column, by name: itself, or the parts of a date as numbers."""
        if self.type != "date":
            return {name: self}
        label = self.label or name
        return {
            f"{name}_{part}": Column(
                role=self.role, type="number", meaning=f"{self.meaning}: {dates.MEANINGS[part]}",
                label=f"{label} ({part})", nullable=self.nullable,
            )
            for part in self.parts or dates.PARTS
        }  # fmt: skip

    def derived(self, name: str, at: pd.Series) -> dict[str, pd.Series]:
        """The parts of a date feature's moments, by the names that ``seen`` gives them."""
        return {f"{name}_{part}": dates.part(at, part) for part in self.parts or dates.PARTS}
