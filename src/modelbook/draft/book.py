"""A draft of a book: from a table and its target to a contract that the table keeps, and values for an env file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from modelbook.contract import Contract
from modelbook.contract.layout import Layout
from modelbook.contract.violations import sentence
from modelbook.draft import kinds, leaks, roles
from modelbook.draft.answer import answer, imbalance
from modelbook.draft.guess import Guess
from modelbook.errors import DataError

FEWEST = 20  # rows of a table
SLICES = 4
LONGEST = 200  # signs of a column's name


@dataclass(frozen=True)
class Draft:
    """A contract, the last period that trains, the guesses behind them, and what is worth knowing."""

    contract: Contract
    train_until: int | None
    guesses: list[Guess]
    height: int
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """What the book is, in a sentence."""
        features = f"{len(self.contract.inputs_)} of {len(self.guesses)} columns are features"
        return f"A {self.contract.task} book of {self.height:,} rows; {features}."

    def rows(self) -> list[list[str]]:
        """The guesses as rows of a table: column, role, type, what it may hold, and why."""
        columns = self.contract.columns
        return [
            [some.name, some.role, columns[some.name].type, _held(columns[some.name].rule()), some.why]
            for some in self.guesses
        ]


def draft(
    frame: pd.DataFrame, target: str, *, title: str, source: str, task: str | None = None, missing: Sequence[str] = (),
    drop: Sequence[str] = (), layout: Layout | None = None,
) -> Draft:  # fmt: skip
    """Draft a book from a table.

    Parameters
    ----------
    title, source : str
        What the table is called, and where it comes from.
    task : str, optional
        ``binary``, ``multiclass`` or ``regression``; otherwise told by the target.
    missing : list of str
        Texts that stand for a gap, besides those that are found.
    drop : list of str
        Columns that are left out without a look.

    Raises
    ------
    DataError
        When nothing can be learned from the table, or a column must be mended first.
    """
    _check(frame, target, drop)
    frame = frame.reset_index(drop=True)
    marks = kinds.markers(frame.drop(columns=[*drop]), [*missing])
    frame = frame.assign(
        **{name: kinds.parsing.without(frame[name], marks) for name in frame if frame[name].dtype == object}
    )
    found, goal = answer(frame, target, task)
    guesses = [goal if name == target else _guess(name, frame[name], drop) for name in frame.columns]
    roles.identify(frame, guesses)
    border = roles.period(frame, guesses)
    roles.copies(frame, guesses)
    notes = [f"Taken for gaps: {', '.join(map(repr, marks))}."] if marks else []
    notes += [*(imbalance(frame, goal) if found != "regression" else []), *roles.protect(guesses)]
    top = {"title": title, "question": _question(target, goal, found), "source": source, "licence": "not stated",
           "task": found, "missing": marks, "file": layout or Layout()}  # fmt: skip
    some = frame.sample(leaks.ROWS, random_state=0) if len(frame) > leaks.ROWS else frame
    notes += _without_leaks(some, guesses, _contract(top, guesses))
    contract = _contract(top, guesses)
    _prove(contract, frame)
    return Draft(contract, border, guesses, len(frame), [*notes, *_sampled(len(frame))])


def _sampled(rows: int) -> list[str]:
    if rows <= leaks.ROWS:
        return []
    return [
        f"Ranges, gaps and categories are those of all {rows:,} rows; kinds were told by up to {kinds.LOOKED_AT:,} "
        f"values of a column, leaks by {leaks.ROWS:,} rows."
    ]


def _check(frame: pd.DataFrame, target: str, drop: Sequence[str]) -> None:
    if len(frame.columns) < 2:
        raise DataError(
            f"the table has one column only, {frame.columns[0]!r}"
            if len(frame.columns)
            else "the table has no columns",
            expected="the target, and at least one column to tell it by",
            next="check the file: its fields may be parted by something else than , ; tab | ^ ~",
        )
    if len(frame) < FEWEST:
        raise DataError(
            f"the table has {len(frame)} row{'s' * (len(frame) != 1)}", expected=f"at least {FEWEST}",
            next="check the table, or collect more rows",
        )  # fmt: skip
    if long := [name for name in frame.columns if len(name) > LONGEST or not name.isprintable() or not name]:
        raise DataError(
            f"{long[0][:60]!r} is no name of a column", expected=f"1 to {LONGEST} printable signs",
            next="rename the column; a file without a header needs --columns",
        )  # fmt: skip
    if unknown := [name for name in drop if name not in frame.columns or name == target]:
        raise DataError(
            f"{unknown[0]!r} cannot be left out", expected="a column that is not the target", next="correct --drop"
        )


def _guess(name: str, values: pd.Series, drop: Sequence[str]) -> Guess:
    if name not in drop:
        return kinds.guess(name, values)
    some = Guess(name, {"role": "feature", "type": "text"}, "")
    some.become("dropped", "left out, as you said")
    return some


def _contract(top: dict[str, Any], guesses: list[Guess]) -> Contract:
    if not any(some.role == "feature" for some in guesses):
        told = "; ".join(f"{some.name}: {some.why}" for some in guesses if some.role not in ("target",))
        raise DataError(
            f"no column is left to learn from: {told[:400]}", expected="at least one feature",
            next="check the table; it may need columns that say more",
        )  # fmt: skip
    slices = [
        some.name for some in sorted(guesses, key=lambda some: some.role != "sensitive")
        if some.role == "sensitive" or (some.role == "feature" and some.keys["type"] in ("boolean", "category")
                                        and 2 <= some.distinct <= 6)
    ]  # fmt: skip
    key = [some.name for some in guesses if some.role == "id" and some.distinct and not some.gaps][:1]
    try:
        return Contract(**top, key=key, slices=slices[:SLICES], columns={some.name: some.column() for some in guesses})
    except ValueError as error:  # pydantic's among them: what it says stands before its own remarks
        told = str(error).split("Value error, ")[-1].split(" [type=")[0]
        raise DataError(
            f"the table cannot be described: {told}", next="rename or leave out (--drop) the column"
        ) from None


def _without_leaks(frame: pd.DataFrame, guesses: list[Guess], contract: Contract) -> list[str]:
    """Drop the features that alone tell the answer, but for the last one; returns notes on them."""
    found = leaks.strengths(frame, contract)
    metric = "ROC AUC" if contract.classes else "R²"
    notes = []
    for some in sorted(guesses, key=lambda some: found.get(some.name, 0)):
        strength = found.get(some.name, 0)
        if strength < leaks.BOUND or some.role != "feature":
            continue
        told = f"alone it tells the answer ({metric} {strength:.3f} in a small tree, bound {leaks.BOUND})"
        if sum(one.role == "feature" for one in guesses) == 1:
            notes.append(
                f"{some.name} is the only feature, and {told}: find out whether it is known before the answer."
            )
        else:
            some.become("dropped", f"suspected leak: {told}")
            notes.append(f"{some.name} was dropped: {told}. Make it a feature if it is known before the answer.")
    return notes


def _prove(contract: Contract, frame: pd.DataFrame) -> None:
    """The table keeps the contract that was drafted from it."""
    broken = contract.violations(frame)
    if len(broken):
        first = next(broken.itertuples())
        raise DataError(
            f"{first.column} holds values of mixed kinds, {int((broken['column'] == first.column).sum()):,} of them: "
            + sentence(first),
            expected="values of one kind", next=kinds._mend(str(first.column), str(first.value)),
        )  # fmt: skip


def _question(target: str, goal: Guess, task: str) -> str:
    if task == "regression":
        return f"How large is {target}?"
    if task == "multiclass":
        return f"Which {target} is it?"
    return f"Which rows have {target} = {goal.keys.get('positive', '1')}?"


def _held(rule: str) -> str:
    return rule if len(rule) <= 60 else f"{rule[:57]}..."
