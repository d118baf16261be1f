"""One column of a contract: meaning, type, allowed values and role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from modelbook.contract import dates, text_hashes
from modelbook.contract.parsing import (
    BOOLEAN_TEXTS,
    MISSING_VALUE_TEXTS,
    DecimalMark,
    NumberFormat,
    normalize_text,
    normalize_texts,
    parse_booleans,
    parse_number,
    parse_numbers,
)
from modelbook.contract.renamed_keys import RENAMED_COLUMN_KEYS, rename_keys
from modelbook.errors import ContractViolationError
from modelbook.formatting import format_count, format_number

if TYPE_CHECKING:
    import pandas as pd  # not at run time: the service image reads contracts without pandas

Role = Literal["feature", "target", "entity", "time", "id", "sensitive", "dropped"]
ColumnType = Literal["number", "integer", "boolean", "category", "text", "date"]
ROLES_BY_TYPE: dict[str, tuple[Role, ...]] = {  # types that allow only some roles
    "text": ("feature", "entity", "id", "dropped"), "date": ("feature", "time", "dropped"),
}  # fmt: skip
TARGET_TYPES_BY_TASK: dict[str, tuple[ColumnType, ...]] = {  # types that a target may have, by task
    "binary": ("boolean", "category"), "multiclass": ("category",),
    "regression": ("number", "integer"),
}  # fmt: skip

MAX_TEXT_LENGTH = 200  # longest text of a date or an amount, in one request
MAX_ABSOLUTE_NUMBER = 1e300  # largest absolute number in one request


class Column(BaseModel):
    """Specification of one column: meaning, type, allowed values and role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    type: ColumnType
    meaning: str = Field(min_length=1)
    label: str = ""
    labels: dict[str, str] = {}
    min: float | None = None
    max: float | None = None
    categories: list[str] | None = None
    allow_unseen: bool = False
    replacements: dict[str, str] = {}
    number_format: NumberFormat | None = None
    decimal: DecimalMark = "."
    format: str = ""
    date_parts: list[dates.DatePart] = []
    period: dates.PeriodUnit | None = None
    n_hashes: int | None = Field(default=None, ge=1, le=text_hashes.MAX_N_HASHES)
    nullable: bool = False
    reason: str = ""
    no_leak_reason: str = ""
    positive: str = ""

    @property
    def full_meaning(self) -> str:
        """The meaning, with the labels of the values: ``sex of the member (0: men, 1: women)``."""
        labels = ", ".join(f"{value}: {label}" for value, label in self.labels.items())
        return f"{self.meaning} ({labels})" if labels else self.meaning

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, data: Any) -> Any:
        return rename_keys(data, RENAMED_COLUMN_KEYS)

    @field_validator("labels", mode="before")
    @classmethod
    def _read_codes_as_text(cls, labels: Any) -> Any:
        is_mapping = isinstance(labels, dict)  # YAML reads an unquoted 1 as a number
        return {str(value): label for value, label in labels.items()} if is_mapping else labels

    @model_validator(mode="after")
    def _check_coherence(self) -> Column:
        if self.type == "category" and not self.categories and not self.allow_unseen:
            raise ValueError(
                "a category column must list its categories, or set allow_unseen: true"
            )
        if self.role == "dropped" and not self.reason:
            raise ValueError("a dropped column must have a reason")
        if self.positive and self.role != "target":
            raise ValueError("only the target may have a positive category")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(
                f"min {format_number(self.min)} is above max {format_number(self.max)}"
            )
        if self.role not in ROLES_BY_TYPE.get(self.type, (self.role,)):
            raise ValueError(
                f"a {self.type} column cannot have the role {self.role}; "
                f"allowed: {', '.join(ROLES_BY_TYPE[self.type])}"
            )
        is_time_date = self.role == "time" and self.type == "date"
        is_applicable_by_key = {
            "categories": self.type == "category",
            "allow_unseen": self.type == "category",
            "replacements": self.type == "category",
            "labels": self.type not in ("text", "date"),
            "number_format": self.type in ("number", "integer"),
            "decimal": self.number_format is not None,
            "format": self.type == "date",
            "date_parts": self.role == "feature" and self.type == "date",
            "period": is_time_date,
            "n_hashes": self.role == "feature" and self.type == "text",
        }
        if inapplicable_keys := [
            key
            for key, is_applicable in is_applicable_by_key.items()
            if not is_applicable and getattr(self, key) != type(self).default_value(key)
        ]:
            raise ValueError(
                f"{inapplicable_keys[0]} does not apply to a {self.role} column of type {self.type}"
            )
        if unknown := {*self.replacements.values()}.difference(self.categories or ()):
            raise ValueError(
                f"replacements names {min(unknown)!r}, which is not one of the categories"
            )
        allowed_values = ["0", "1"] if self.type == "boolean" else self.categories
        if allowed_values and (unknown := set(self.labels).difference(allowed_values)):
            raise ValueError(
                f"labels names the value {min(unknown)!r}; expected: {', '.join(allowed_values)}"
            )
        if self.type == "date" and not self.format:
            raise ValueError("a date column must have a format, such as %Y-%m-%d or ISO8601")
        if self.type == "date" and (problem := dates.find_format_error(self.format)):
            raise ValueError(
                f"format {self.format!r} parses no date ({problem}); expected: a format of "
                "strptime such as %d.%m.%Y, or ISO8601, quarter, week"
            )
        if is_time_date and not self.period:
            raise ValueError("a time column of dates must have a period: year, month or day")
        return self

    @classmethod
    def default_value(cls, key: str) -> object:
        """Return the default of a key that the contract leaves out."""
        return cls.model_fields[key].default

    @property
    def classes(self) -> list[str]:
        """Class labels in the order of their codes, the positive class last; empty for a number."""
        if self.type == "boolean":
            return ["no", "yes"]
        names = self.categories or []
        return sorted(names, key=lambda name: name == self.positive) if self.positive else names

    def check_target(self, name: str, task: str) -> None:
        """Raise ValueError when the column cannot be the target of a task."""
        allowed_types = TARGET_TYPES_BY_TASK[task]
        if self.type not in allowed_types:
            raise ValueError(
                f"the target column {name} of a {task} task is {' or '.join(allowed_types)}, "
                f"not {self.type}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"the target column {name} lists a category twice")
        if task == "multiclass" and len(self.classes) < 3:
            raise ValueError(
                f"the target column {name} of a multiclass task needs at least three categories"
            )
        if (
            task == "binary"
            and self.type == "category"
            and (len(self.classes) != 2 or not self.positive)
        ):
            raise ValueError(
                f"the target column {name} of a binary task needs two categories, one of "
                "them positive"
            )
        if self.positive and (task != "binary" or self.positive not in self.classes):
            problem = (
                "which is not one of its categories"
                if task == "binary"
                else f"but a {task} task has none"
            )
            raise ValueError(
                f"the target column {name} names {self.positive!r} as positive, {problem}"
            )

    def describe_allowed_values(self, missing: str = "") -> str:
        """Describe the allowed values, as ``integer from 0 to 66``.

        Parameters
        ----------
        missing : str
            Word for a missing value, which is appended if the column is nullable.
        """
        or_missing = f", or {missing}" if missing and self.nullable else ""
        return self._describe_present_values() + or_missing

    def _describe_present_values(self) -> str:
        if self.type == "category" and not self.allow_unseen:
            return f"one of {', '.join(self.categories or [])}"
        if self.type == "date":
            return f"date as {self.format}"
        if self.type in ("boolean", "category", "text"):
            return {"boolean": "0 or 1", "category": "any category", "text": "text"}[self.type]
        min_text = "" if self.min is None else f" from {format_number(self.min)}"
        max_text = "" if self.max is None else f" to {format_number(self.max)}"
        format_text = f" as {self.number_format}" if self.number_format else ""
        return f"{self.type}{min_text}{max_text}{format_text}"

    def clean_cells(self, cells: pd.Series, file_decimal: DecimalMark = ".") -> pd.Series:
        """Parse text cells: missing values become NaN, plain numbers use the file's decimal mark.

        Texts such as ``NA`` mean a missing value unless they are categories.
        """
        markers = MISSING_VALUE_TEXTS.difference(self.categories or ())
        texts = [text for text in cells.unique() if isinstance(text, str)]
        missing_texts = [text for text in texts if text.strip() in markers]
        cells = cells.where(~cells.isin(missing_texts)) if missing_texts else cells
        if file_decimal == "." or self.number_format or self.type not in ("number", "integer"):
            return cells
        numbers = cells.map({text: parse_number(text, "number", file_decimal) for text in texts})
        return numbers.astype(object).where(numbers.notna(), cells)

    def parse_values(self, values: pd.Series) -> pd.Series:
        """Convert values to the column's type; NaN or NaT when missing or unparsable."""
        if self.type in ("category", "text"):
            texts = normalize_texts(values)
            return texts.replace(self.replacements) if self.replacements else texts
        if self.type == "date":
            if self.period:
                return dates.parse_periods(values, self.format, self.period)
            return dates.parse_timestamps(values, self.format)
        if self.type == "boolean":
            return parse_booleans(values)
        return parse_numbers(values, self.number_format, self.decimal)

    def conform_values(self, name: str, values: pd.Series) -> pd.Series:
        """Convert values to the column's type.

        Entity, time, target and id columns of integers, booleans or dates become int64 if they have
        no missing value; a date is then the number of its period.

        Raises
        ------
        ContractViolationError
            When a value cannot be read as that type.
        """
        parsed = self.parse_values(values)
        is_unreadable = (parsed.isna() & values.notna()).to_numpy()
        if is_unreadable.any():
            row = int(np.flatnonzero(is_unreadable)[0])
            raise ContractViolationError(
                f"{name} = {values.iloc[[row]].item()!r} in row {row} cannot be read; "
                f"{format_count(is_unreadable.sum(), 'such value')}",
                expected=self.describe_allowed_values(),
                next="correct the value, or set its format in the contract (docs/contract.md)",
            )
        stores_integers = self.role in ("entity", "time", "target", "id") and self.type not in (
            "number",
            "category",
            "text",
        )
        return parsed.astype("int64") if stores_integers and parsed.notna().all() else parsed

    def find_valid(self, values: pd.Series, parsed: pd.Series | None = None) -> pd.Series:
        """Return whether each value meets the column's rule.

        Missing values count as valid here, because ``nullable`` is a separate rule.

        Parameters
        ----------
        values : Series
            Values as the table has them.
        parsed : Series, optional
            Result of ``parse_values``, to avoid parsing twice.
        """
        parsed = self.parse_values(values) if parsed is None else parsed
        if self.type == "category" and not self.allow_unseen:
            return values.isna() | parsed.isin(self.categories or [])
        if self.type in ("category", "text", "date"):
            return values.isna() | parsed.notna()
        is_valid = np.isfinite(parsed)
        if self.type == "boolean":
            is_valid &= (parsed == 0) | (parsed == 1)
        if self.type == "integer":
            is_valid &= parsed % 1 == 0
        if self.min is not None:
            is_valid &= parsed >= self.min
        if self.max is not None:
            is_valid &= parsed <= self.max
        return values.isna() | is_valid

    def parse_value(self, value: Any) -> Any:
        """Parse one value of a request; None if the column does not allow it.

        A date of a feature and a text feature give a tuple of numbers, one for each model feature.
        The service parses each value alone, because building a series for it would be too slow.
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        if self.type in ("category", "text"):
            return self._parse_text(value)
        if (
            len(value) > MAX_TEXT_LENGTH
            if isinstance(value, str)
            else abs(value) > MAX_ABSOLUTE_NUMBER
        ):
            return None
        if self.type == "date":
            return dates.parse_date(value, self.format, self.period or self._date_parts)
        if self.type == "boolean" and value in BOOLEAN_TEXTS:
            return BOOLEAN_TEXTS[value]
        number = parse_number(value, self.number_format, self.decimal)
        return number if self.is_valid_number(number) else None

    def _parse_text(self, value: str | float) -> Any:
        text = normalize_text(value)
        if not isinstance(text, str):
            return None
        if self.type == "text" and self.role == "feature":
            return text_hashes.hash_text(text, self._n_hashes)
        category = self.replacements.get(text, text)
        is_valid = self.type == "text" or self.allow_unseen or category in (self.categories or ())
        return category if is_valid else None

    def is_valid_number(self, value: float) -> bool:
        """Return whether one number meets the column's rule, like ``find_valid`` for a series."""
        return bool(
            np.isfinite(value)
            and (self.type != "boolean" or value in (0, 1))
            and (self.type != "integer" or value % 1 == 0)
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
        )

    def model_features(self, name: str) -> dict[str, Column]:
        """Return the model's features from this column by name.

        A date becomes its parts, a text feature its hashes; others are features themselves.
        """
        meanings: dict[str, str]
        if self.type == "date":
            meanings = {part: dates.DATE_PART_MEANINGS[part] for part in self._date_parts}
        elif self.type == "text" and self.role == "feature":
            meanings = {
                f"hash{number}": f"MinHash {number} of its text"
                for number in range(1, self._n_hashes + 1)
            }
        else:
            return {name: self}
        label = self.label or name
        return {
            f"{name}_{part}": Column(
                role=self.role,
                type="number",
                meaning=f"{self.meaning}: {meaning}",
                label=f"{label} ({part})",
                nullable=self.nullable,
            )
            for part, meaning in meanings.items()
        }

    def derive_features(self, name: str, parsed: pd.Series) -> dict[str, pd.Series]:
        """Derive the features from parsed values, under the names that ``model_features`` gives."""
        if self.type == "date":
            values = [dates.extract_date_part(parsed, part) for part in self._date_parts]
        elif self.type == "text" and self.role == "feature":
            values = text_hashes.hash_texts(parsed, self._n_hashes)
        else:
            return {name: parsed}
        return dict(zip(self.model_features(name), values, strict=True))

    @property
    def _date_parts(self) -> tuple[dates.DatePart, ...]:
        return tuple(self.date_parts) or dates.DEFAULT_DATE_PARTS

    @property
    def _n_hashes(self) -> int:
        return self.n_hashes or text_hashes.DEFAULT_N_HASHES
