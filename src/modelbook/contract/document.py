"""The contract: columns, types, ranges, categories and roles of one book's table, in one reviewed YAML file.

The same contract checks training rows, production batches and whatever is asked of the model; ``Contract.features``
is the one place where a frame becomes what a model sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from modelbook.contract.column import Column, Role
from modelbook.contract.layout import Layout
from modelbook.contract.parsing import as_text, without
from modelbook.errors import ContractError, DataError

if TYPE_CHECKING:
    import pandas as pd

Text = Annotated[str, StringConstraints(strip_whitespace=True)]  # what only blanks fill is empty


class Contract(BaseModel):
    """One book's contract.

    Raises
    ------
    ContractError
        From ``load``: when the file is absent, is no YAML, or says something that a contract cannot say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    question: str
    source: str
    licence: str
    task: Literal["binary", "multiclass", "regression"]
    key: list[str] = []
    slices: list[str] = []
    use: Text = ""
    not_for: list[Text] = []
    limits: list[Text] = []
    contact: Text = ""
    file: Layout = Layout()
    missing: list[str] = []
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _whole(self) -> Contract:
        if len(self.named("target")) != 1:
            raise ValueError(f"exactly one column has the role target, found {self.named('target') or 'none'}")
        single: tuple[Role, ...] = ("entity", "time")
        for role in single:
            if len(self.named(role)) > 1:
                raise ValueError(f"at most one column has the role {role}, found {self.named(role)}")
        needed: tuple[Role, ...] = ("target", "entity", "time")
        for role in needed:
            if gaps := [name for name in self.named(role) if self.columns[name].nullable]:
                raise ValueError(f"the {role} column {gaps[0]} is not nullable")
        self.columns[self.target].check_answers(self.target, self.task)
        if self.time and self.columns[self.time].type not in ("number", "integer", "date"):
            raise ValueError(
                f"the time column {self.time} is a number, an integer or a date, not {self.columns[self.time].type}"
            )
        if not self.inputs_:
            raise ValueError("at least one column has the role feature")
        parts = [part for name in self.inputs_ for part in self.columns[name].seen(name) if part != name]
        if twice := [name for name in parts if name in self.columns or parts.count(name) > 1]:
            raise ValueError(f"{twice[0]} is a part of a date; no column may have its name")
        if unknown := [name for name in [*self.key, *self.slices] if name not in self.columns]:
            raise ValueError(f"key and slices name columns of the contract, not {unknown}")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Contract:
        """Read a contract from its YAML file."""
        path = Path(path)
        if not path.is_file():
            raise ContractError(
                f"there is no contract at {path}", next="name one with the parameter `contract` (env.yaml)"
            )
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ContractError(f"{path} is no YAML: {error}", next="mend its syntax") from None
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'contract'}: {e['msg']}" for e in error.errors())
            raise ContractError(
                f"{path}: {told}", next="see docs/contract.md for the keys a contract may hold"
            ) from None

    def dump(self) -> str:
        """The contract as YAML, without the defaults."""
        return yaml.safe_dump(self.model_dump(exclude_defaults=True), sort_keys=False, allow_unicode=True)

    def named(self, role: Role) -> list[str]:
        """Names of the columns that have a role, in the contract's order."""
        return [name for name, column in self.columns.items() if column.role == role]

    @property
    def target(self) -> str:
        return self.named("target")[0]

    @property
    def entity(self) -> str | None:
        """The column that says whose row it is; None where each row stands for itself."""
        return next(iter(self.named("entity")), None)

    @property
    def who(self) -> str:
        """What an entity is called: the entity column's label, or ``row``."""
        return self.label(self.entity) if self.entity else "row"

    @property
    def classes(self) -> list[str]:
        """What the target may answer, in the order of its codes: 0, 1, and so on. None for a number."""
        return self.columns[self.target].classes

    @property
    def time(self) -> str | None:
        return next(iter(self.named("time")), None)

    @property
    def inputs_(self) -> list[str]:
        """Names of the feature columns, as a table or a request has them."""
        return self.named("feature")

    @property
    def seen(self) -> dict[str, Column]:
        """What a model sees, by name: the feature columns, dates as their parts."""
        return {name: column for input in self.inputs_ for name, column in self.columns[input].seen(input).items()}

    @property
    def features_(self) -> list[str]:
        """Names of what a model sees."""
        return list(self.seen)

    @property
    def numeric(self) -> list[str]:
        return [name for name, column in self.seen.items() if column.type != "category"]

    @property
    def categorical(self) -> list[str]:
        return [name for name, column in self.seen.items() if column.type == "category"]

    def label(self, name: str) -> str:
        """A column's name for people."""
        base, gap, _ = name.partition(" (missing)")
        column = self.columns.get(base) or self.seen.get(base)
        return (column.label or base if column else base) + gap

    def labelled(self, table: pd.DataFrame, column: str) -> pd.DataFrame:
        """A table whose ``column`` holds names of columns, with labels in their place."""
        return table.assign(**{column: table[column].map(self.label)})

    def known(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame with a gap for each text that is blank or that the contract lists under ``missing``."""
        return frame.assign(**{
            name: without(frame[name], self.missing) for name in frame.columns if frame[name].dtype == object
        })  # fmt: skip

    def conform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The contract's columns in its order, each value as its column's type has it.

        Categories and texts become text, whole numbers without gaps int64 (entity, time, target), dates moments with
        their parts behind them, all others double. Gaps are NaN. Order and kind of gap are no nicety: PyCaret's
        fitted pipelines answer silently wrong when columns come in another order, and do not fill ``None``. What is
        conformed already stays as it is.

        Raises
        ------
        ViolationError
            When a value cannot be read as its column's type.
        """
        import pandas as pd

        out: dict[str, pd.Series] = {}
        for name, column in self.columns.items():
            parts = [part for part in column.seen(name) if part != name] if column.role == "feature" else []
            if name in frame.columns:
                given = without(frame[name], self.missing)
                out[name] = column.conformed(name, given)
                out.update(column.derived(name, out[name]) if parts else {})
            else:
                out.update({part: frame[part].astype("float64") for part in parts if part in frame.columns})
        return pd.DataFrame(out, index=frame.index)

    def features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What a model sees: the feature columns, conformed, dates as their parts."""
        return self.conform(frame[[name for name in dict.fromkeys((*self.inputs_, *self.features_)) if name in frame]])[
            self.features_
        ]

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What a model is asked with: the feature columns, conformed, dates still dates."""
        return self.conform(frame[self.inputs_])[self.inputs_]

    def codes(self, frame: pd.DataFrame) -> pd.Series:
        """The target as a model learns it: the code of its class (``classes``), or the number."""
        values = self.conform(frame[[self.target]])[self.target]
        if self.columns[self.target].type == "category":
            return as_text(values).map({name: code for code, name in enumerate(self.classes)}).astype("int64")
        return values.astype("int64" if self.classes else "float64")

    def outcome(self, frame: pd.DataFrame) -> pd.Series:
        """``codes``, of which there are several.

        Raises
        ------
        DataError
            When the column is absent or holds one value only.
        """
        if self.target not in frame.columns:
            raise DataError(
                f"the table has no target column {self.target!r}",
                expected=f"one of its columns: {', '.join(map(str, frame.columns[:12]))}",
                next="name the target's column in the contract (role: target)",
            )
        outcome = self.codes(frame)
        if outcome.nunique() < 2:
            found = ", ".join(map(str, frame[self.target].unique())) or "no rows"
            raise DataError(
                f"the target {self.target!r} holds one {'class' if self.classes else 'value'} only ({found})",
                expected=f"rows of both classes, {' and '.join(self.classes)}" if len(self.classes) == 2
                else "rows with more than one answer",
                next="check how the target is made, or take more rows (sample)",
            )  # fmt: skip
        return outcome

    def entities(self, frame: pd.DataFrame) -> pd.Series:
        """Whose row each row is.

        Without an entity column each row is an entity of its own, known by a hash of its key; without a key, by a hash
        of all that it holds. So a row keeps its side when others are added or sorted, and rows that are alike in
        everything, which a model could learn by heart, stay together.
        """
        import pandas as pd

        if self.entity:
            return frame[self.entity]
        known = self.key or [name for name in self.columns if name in frame.columns]
        return pd.util.hash_pandas_object(frame[known], index=False).rename("row")

    def periods(self, frame: pd.DataFrame) -> pd.Series:
        """The period of each row; ``all`` where the contract has no time column."""
        import pandas as pd

        return frame[self.time] if self.time else pd.Series("all", index=frame.index)

    def violations(self, frame: pd.DataFrame, *, target: bool = True) -> pd.DataFrame:
        """Every place where a frame breaks the contract: see ``violations.find``."""
        from modelbook.contract import violations

        return violations.find(self, frame, target=target)

    def check(self, frame: pd.DataFrame) -> None:
        """Raise on an empty table, an absent target, any violation, or a single class.

        Raises
        ------
        DataError, ViolationError
        """
        if frame.empty:
            raise DataError(
                "the table has no rows", expected="at least one row of each class", next="check the table's path"
            )
        if self.target not in frame.columns:
            self.outcome(frame)
        from modelbook.contract import violations

        violations.refuse(self.violations(frame), "the table")
        self.outcome(frame)
