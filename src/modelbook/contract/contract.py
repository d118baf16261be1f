"""The contract: columns, types, ranges, categories and roles of one book's table, in a YAML file.

The same contract validates training rows, production batches and prediction requests.
``Contract.select_features`` is the one place where a frame becomes model features.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from modelbook.contract.column import Column, Role
from modelbook.contract.file_layout import FileLayout
from modelbook.contract.open_question import OpenQuestion
from modelbook.contract.parsing import mask_markers_in_table, mask_missing_markers, normalize_texts
from modelbook.contract.renamed_keys import RENAMED_KEYS, RENAMED_VALUES, rename_keys
from modelbook.errors import ContractError, DataError
from modelbook.formatting import format_code, pluralize, render_html_table
from modelbook.redaction import describe_problem
from modelbook.yaml_reading import load_yaml

if TYPE_CHECKING:
    import pandas as pd

StrippedText = Annotated[str, StringConstraints(strip_whitespace=True)]  # blanks become empty


class Contract(BaseModel):
    """The data contract of one book."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    question: str
    source: str
    licence: str
    task: Literal["binary", "multiclass", "regression"]
    key: list[str] = []
    slices: list[str] = []
    strata: list[str] = []
    use: StrippedText = ""
    not_for: list[StrippedText] = []
    limits: list[StrippedText] = []
    contact: StrippedText = ""
    file: FileLayout = FileLayout()
    missing: list[str] = []
    missing_target: Literal["refuse", "exclude"] = "refuse"
    excluded_classes: list[str] = []
    questions: list[OpenQuestion] = []
    columns: dict[str, Column]

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, data: Any) -> Any:
        return rename_keys(data, RENAMED_KEYS)

    @field_validator("missing_target", mode="before")
    @classmethod
    def _rename_missing_target(cls, value: Any) -> Any:
        return RENAMED_VALUES["missing_target"].get(str(value), value)

    @field_validator("questions", mode="before")
    @classmethod
    def _accept_no_questions(cls, questions: Any) -> Any:
        return [] if questions is None else questions  # the last line of the list was deleted

    @model_validator(mode="after")
    def _check_coherence(self) -> Contract:
        self._check_roles()
        self.columns[self.target].check_target(self.target, self.task)
        if self.time and self.columns[self.time].type not in ("number", "integer", "date"):
            raise ValueError(
                f"the time column {self.time} has the type {self.columns[self.time].type}; "
                "it must be a number, an integer or a date"
            )
        self._check_feature_names()
        if unknown_columns := [
            name for name in [*self.key, *self.slices, *self.strata] if name not in self.columns
        ]:
            raise ValueError(
                f"key, slices and strata must list columns of the contract, not {unknown_columns}"
            )
        if self.target in self.strata:
            raise ValueError(f"strata must list columns other than the target, {self.target}")
        return self

    def _check_roles(self) -> None:
        if len(self.columns_with_role("target")) != 1:
            raise ValueError(
                "exactly one column must have the role target, not "
                f"{self.columns_with_role('target') or 'none'}"
            )
        single_roles: tuple[Role, ...] = ("entity", "time")
        for role in single_roles:
            if len(self.columns_with_role(role)) > 1:
                raise ValueError(
                    f"at most one column may have the role {role}, not "
                    f"{self.columns_with_role(role)}"
                )
        required_roles: tuple[Role, ...] = ("target", "entity", "time")
        for role in required_roles:
            if nullable_columns := [
                name for name in self.columns_with_role(role) if self.columns[name].nullable
            ]:
                raise ValueError(f"the {role} column {nullable_columns[0]} must not be nullable")
        if not self.input_names:
            raise ValueError("at least one column must have the role feature")

    def _check_feature_names(self) -> None:
        part_names = [
            part
            for name in self.input_names
            for part in self.columns[name].model_features(name)
            if part != name
        ]
        if clashing_names := [
            name for name in part_names if name in self.columns or part_names.count(name) > 1
        ]:
            raise ValueError(
                f"{clashing_names[0]} is the name of a column and of a feature derived from "
                "another column"
            )

    @classmethod
    def load(cls, path: str | Path) -> Contract:
        """Read a contract from its YAML file.

        Raises
        ------
        ContractError
            When the file is missing, is not valid YAML, or breaks the schema.
        """
        path = Path(path)
        if not path.is_file():
            raise ContractError(
                f"there is no contract at {path}",
                next="name one with the parameter `contract` (env.yaml)",
            )
        try:
            return cls.model_validate(load_yaml(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ContractError(
                f"{path} is not valid YAML: {error}", next="correct its syntax"
            ) from None
        except ValidationError as error:
            problems = "; ".join(map(describe_problem, error.errors()))
            raise ContractError(
                f"{path}: {problems}",
                next="correct the file; docs/contract.md lists the keys of a contract",
            ) from None

    def _repr_html_(self) -> str:
        """HTML for notebooks: the question, and a row for each column."""
        rows = [
            (
                name,
                column.label,
                column.role,
                column.type,
                column.describe_allowed_values("missing"),
                column.meaning,
            )
            for name, column in self.columns.items()
        ]
        header = ("column", "label", "role", "type", "allowed values", "meaning")
        return render_html_table(
            header, rows, caption=f"{self.title}: {self.question} ({self.task})"
        )

    def to_yaml(self) -> str:
        """Return the contract as YAML, without default values."""
        return yaml.safe_dump(
            self.model_dump(exclude_defaults=True), sort_keys=False, allow_unicode=True
        )

    def columns_with_role(self, role: Role) -> list[str]:
        """Return the names of the columns with a role, in the contract's order."""
        return [name for name, column in self.columns.items() if column.role == role]

    @property
    def target(self) -> str:
        return self.columns_with_role("target")[0]

    @property
    def entity(self) -> str | None:
        """The entity column, or None when rows with equal features are an entity."""
        return next(iter(self.columns_with_role("entity")), None)

    @property
    def entity_label(self) -> str:
        """Label of the entity column, or ``row`` without one."""
        return self.label(self.entity) if self.entity else "row"

    @property
    def entity_label_plural(self) -> str:
        return pluralize(self.entity_label)

    @property
    def classes(self) -> list[str]:
        """Class labels of the target in the order of their codes; empty for a regression."""
        return self.columns[self.target].classes

    @property
    def time(self) -> str | None:
        return next(iter(self.columns_with_role("time")), None)

    @property
    def input_names(self) -> list[str]:
        """Names of the feature columns, as in tables and requests."""
        return self.columns_with_role("feature")

    @property
    def model_features(self) -> dict[str, Column]:
        """The model's features by name: feature columns, and those derived from dates and texts."""
        return {
            name: column
            for input_name in self.input_names
            for name, column in self.columns[input_name].model_features(input_name).items()
        }

    @property
    def feature_names(self) -> list[str]:
        """Names of the model's features."""
        return list(self.model_features)

    @property
    def numeric_features(self) -> list[str]:
        return [name for name, column in self.model_features.items() if column.type != "category"]

    @property
    def categorical_features(self) -> list[str]:
        return [name for name, column in self.model_features.items() if column.type == "category"]

    def label(self, name: str) -> str:
        """Return a column's label, or its name when it has none."""
        base_name, missing_suffix, _ = name.partition(" (missing)")
        column = self.columns.get(base_name) or self.model_features.get(base_name)
        return (column.label or base_name if column else base_name) + missing_suffix

    def label_group(self, column: str, value: str) -> str:
        """The label of a group: ``children``, or ``coinsurance 25``."""
        label = self.label(column)
        column_spec = self.columns.get(column)
        if column_spec is not None and value in column_spec.labels:
            return column_spec.labels[value]
        if column_spec is not None and column_spec.type == "boolean" and value in ("0", "1"):
            return label if value == "1" else f"not {label}"
        return f"{label} {value}"

    def label_value(self, column: str, value: Any) -> Any:
        """The label of a coded value, ``Franklin County`` or ``yes``; any other value as it is."""
        column_spec = self.columns.get(column)
        if column_spec is None:
            return value
        labels = {"0": "no", "1": "yes"} if column_spec.type == "boolean" else {}
        return (labels | column_spec.labels).get(format_code(value), value)

    def replace_with_labels(
        self, table: pd.DataFrame, column: str, values: str = ""
    ) -> pd.DataFrame:
        """Replace column names in ``column`` of a table, and their ``values``, with labels."""
        labels: dict[str, Any] = {column: table[column].map(self.label)}
        if values:
            pairs = zip(table[column], table[values], strict=True)
            labels[values] = [self.label_value(*pair) for pair in pairs]
        return table.assign(**labels)

    def label_groups(self, table: pd.DataFrame) -> pd.DataFrame:
        """Label the columns ``slice`` and ``value`` of a table of slices, and add ``group``."""
        pairs = zip(table["slice"], table["value"], strict=True)
        groups = [self.label_group(*pair) for pair in pairs]
        return self.replace_with_labels(table, "slice", "value").assign(group=groups)

    def label_codes(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Replace coded values of categories and booleans with their labels."""
        coded = [
            name
            for name in frame.columns
            if name in self.columns
            and (self.columns[name].type == "boolean" or self.columns[name].labels)
        ]
        return frame.assign(
            **{
                name: frame[name].astype(object).map(partial(self.label_value, name), "ignore")
                for name in coded
            }
        )

    def mask_missing_markers(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Replace blank texts, and texts that the contract lists under ``missing``, with NaN."""
        return mask_markers_in_table(frame, self.missing)

    def conform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the contract's columns in the contract's order, converted to their types.

        Categories and texts become text; integers, booleans and periods without missing values in
        entity, time, target and id columns become int64; other dates become timestamps; everything
        else becomes float64. A date or text that is a feature is followed by the model's features
        from it. Missing values are NaN.
        Order and NaN matter: PyCaret's fitted pipelines predict wrongly, without an error, when
        columns are reordered, and do not impute ``None``. Frames that already conform are
        unchanged.

        Raises
        ------
        ContractViolationError
            When a value cannot be read as its column's type.
        """
        import pandas as pd

        columns: dict[str, pd.Series] = {}
        for name, column in self.columns.items():
            part_names = (
                [part for part in column.model_features(name) if part != name]
                if column.role == "feature"
                else []
            )
            if name in frame.columns:
                values = mask_missing_markers(frame[name], self.missing)
                columns[name] = column.conform_values(name, values)
                columns.update(column.derive_features(name, columns[name]) if part_names else {})
            else:
                columns.update(
                    {
                        part: frame[part].astype("float64")
                        for part in part_names
                        if part in frame.columns
                    }
                )
        return pd.DataFrame(columns, index=frame.index)

    def select_training_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the training rows: without those whose target the contract excludes."""
        if self.target not in frame or not (
            self.missing_target == "exclude" or self.excluded_classes
        ):
            return frame
        is_excluded = frame[self.target].isin([])
        values = mask_missing_markers(frame[self.target], self.missing)
        if self.missing_target == "exclude":
            is_excluded |= values.isna()
        if self.excluded_classes:
            is_excluded |= normalize_texts(values).isin(self.excluded_classes)
        return frame[~is_excluded].reset_index(drop=True)

    def select_features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the model's features: conformed, with those derived from dates and texts."""
        names = dict.fromkeys((*self.input_names, *self.feature_names))
        present_names = [name for name in names if name in frame]
        return self.conform(frame[present_names])[self.feature_names]

    def select_inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the model's inputs: conformed feature columns, with dates and texts unchanged."""
        return self.conform(frame[self.input_names])[self.input_names]

    def encode_target(self, frame: pd.DataFrame) -> pd.Series:
        """Encode the target for training: class codes in the order of ``classes``, or numbers."""
        values = self.conform(frame[[self.target]])[self.target]
        if self.columns[self.target].type == "category":
            codes = {name: code for code, name in enumerate(self.classes)}
            return normalize_texts(values).map(codes).astype("int64")
        return values.astype("int64" if self.classes else "float64")

    def encode_checked_target(self, frame: pd.DataFrame) -> pd.Series:
        """Encode the target, and check that it holds at least two distinct values.

        Raises
        ------
        DataError
            When the target column is missing or holds only one value.
        """
        if self.target not in frame.columns:
            raise DataError(
                f"the table has no target column {self.target!r}",
                expected=f"one of its columns: {', '.join(map(str, frame.columns[:12]))}",
                next="set role: target for the target's column in the contract",
            )
        outcome = self.encode_target(frame)
        if outcome.nunique() < 2:
            values_text = ", ".join(map(str, frame[self.target].unique())) or "no rows"
            raise DataError(
                f"the target {self.target!r} holds one "
                f"{'class' if self.classes else 'value'} only ({values_text})",
                expected=f"rows of both classes, {' and '.join(self.classes)}"
                if len(self.classes) == 2
                else "rows with at least two values",
                next="check how the target is computed, or use more rows (sample)",
            )
        return outcome

    def entity_ids(self, frame: pd.DataFrame) -> pd.Series:
        """Return the entity of each row.

        Without an entity column rows with equal features are one entity, identified by a hash of
        the features. So a row stays on its side of the split when other rows are added or sorted,
        and copies, which a model could memorise, stay together whatever their key.
        """
        if self.entity:
            return frame[self.entity]
        return self.hash_features(frame)

    def hash_features(self, frame: pd.DataFrame) -> pd.Series:
        """Return a hash of each row's features: equal for rows that a model cannot distinguish."""
        import pandas as pd

        names = [
            part
            for name in self.input_names
            for part in ([name] if name in frame else self.columns[name].model_features(name))
            if part in frame
        ]
        conformed = self.conform(frame[names])[names]
        return pd.util.hash_pandas_object(conformed, index=False).rename("row")

    def is_confirmed(self, name: str) -> bool:
        """Whether a reason confirms that a column, or the column of a date part, is not a leak."""
        return any(
            column.no_leak_reason
            and (name == column_name or name in column.model_features(column_name))
            for column_name, column in self.columns.items()
        )

    def row_periods(self, frame: pd.DataFrame) -> pd.Series:
        """Return the period of each row; ``all`` when the contract has no time column."""
        import pandas as pd

        return frame[self.time] if self.time else pd.Series("all", index=frame.index)

    def find_violations(self, frame: pd.DataFrame, *, require_target: bool = True) -> pd.DataFrame:
        """Return every violation of the contract: see ``violations.find_violations``."""
        from modelbook.contract import violations

        return violations.find_violations(self, frame, require_target=require_target)

    def check(self, frame: pd.DataFrame) -> None:
        """Check a training table against the contract.

        Raises
        ------
        DataError
            When the table is empty, has no target column, or holds only one class.
        ContractViolationError
            When a row or column breaks the contract.
        """
        if frame.empty:
            raise DataError(
                "the table has no rows",
                expected="at least one row of each class",
                next="check the table's path",
            )
        if self.target not in frame.columns:
            self.encode_checked_target(frame)  # raises, and lists the table's columns
        from modelbook.contract import violations

        frame = self.select_training_rows(frame)
        violations.raise_on_violations(self.find_violations(frame), "the table")
        self.encode_checked_target(frame)
