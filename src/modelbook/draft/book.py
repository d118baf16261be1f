"""Draft a book from a table and its target: a contract that the table meets, and env values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from modelbook.contract import Contract
from modelbook.contract.file_layout import FileLayout
from modelbook.contract.violations import describe_violation
from modelbook.draft import column_types, leaks, roles
from modelbook.draft.column_guess import ColumnGuess
from modelbook.draft.target import describe_imbalance, draft_target
from modelbook.errors import DataError

MIN_ROWS = 20  # fewest rows of a table
MAX_SLICES = 4
MAX_NAME_LENGTH = 200  # characters in a column name


@dataclass(frozen=True)
class BookDraft:
    """A drafted contract, the last training period, the guesses behind them, and notes."""

    contract: Contract
    train_until: int | None
    guesses: list[ColumnGuess]
    n_rows: int
    notes: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Summarise the book in a sentence."""
        features = f"{len(self.contract.input_names)} of {len(self.guesses)} columns are features"
        return f"A {self.contract.task} book of {self.n_rows:,} rows; {features}."

    def guess_table(self) -> list[list[str]]:
        """Return the guesses as table rows: column, role, type, rule and reason."""
        columns = self.contract.columns
        return [
            [
                guess.name,
                guess.role,
                columns[guess.name].type,
                _shorten_rule(columns[guess.name].describe_rule()),
                guess.reason,
            ]
            for guess in self.guesses
        ]


def draft_book(
    frame: pd.DataFrame,
    target: str,
    *,
    title: str,
    source: str,
    task: str | None = None,
    missing_markers: Sequence[str] = (),
    dropped_columns: Sequence[str] = (),
    layout: FileLayout | None = None,
) -> BookDraft:
    """Draft a book from a table.

    Parameters
    ----------
    title, source : str
        Title of the table, and where it comes from.
    task : str, optional
        ``binary``, ``multiclass`` or ``regression``; inferred from the target unless given.
    missing_markers : list of str
        Texts that mean a missing value, in addition to those detected.
    dropped_columns : list of str
        Columns to drop without inspecting them.

    Raises
    ------
    DataError
        When nothing can be learned from the table, or a column must be corrected first.
    """
    _check_table(frame, target, dropped_columns)
    frame = frame.reset_index(drop=True)
    markers = column_types.find_missing_markers(
        frame.drop(columns=[*dropped_columns]), [*missing_markers]
    )
    frame = frame.assign(
        **{
            name: column_types.parsing.mask_missing_markers(frame[name], markers)
            for name in frame
            if frame[name].dtype == object
        }
    )
    inferred_task, target_guess = draft_target(frame, target, task)
    guesses = [
        target_guess if name == target else _guess_column(name, frame[name], dropped_columns)
        for name in frame.columns
    ]
    roles.assign_ids_and_entity(frame, guesses)
    train_until = roles.assign_time_column(frame, guesses)
    roles.drop_duplicate_columns(frame, guesses)
    notes = [f"Read as missing values: {', '.join(map(repr, markers))}."] if markers else []
    notes += [
        *(describe_imbalance(frame, target_guess) if inferred_task != "regression" else []),
        *roles.mark_sensitive_columns(guesses),
    ]
    header = {
        "title": title,
        "question": _phrase_question(target, target_guess, inferred_task),
        "source": source,
        "licence": "not stated",
        "task": inferred_task,
        "missing": markers,
        "file": layout or FileLayout(),
    }
    sample = frame.sample(leaks.MAX_ROWS, random_state=0) if len(frame) > leaks.MAX_ROWS else frame
    notes += _drop_suspected_leaks(sample, guesses, _build_contract(header, guesses))
    contract = _build_contract(header, guesses)
    _check_draft(contract, frame)
    return BookDraft(
        contract, train_until, guesses, len(frame), [*notes, *_describe_sampling(len(frame))]
    )


def _describe_sampling(n_rows: int) -> list[str]:
    if n_rows <= leaks.MAX_ROWS:
        return []
    return [
        f"Ranges, missing values and categories come from all {n_rows:,} rows; column types "
        "from up "
        f"to {column_types.MAX_SAMPLED_VALUES:,} distinct values of a column; the leak check used "
        f"{leaks.MAX_ROWS:,} rows."
    ]


def _check_table(frame: pd.DataFrame, target: str, dropped_columns: Sequence[str]) -> None:
    if len(frame.columns) < 2:
        raise DataError(
            f"the table has only one column, {frame.columns[0]!r}"
            if len(frame.columns)
            else "the table has no columns",
            expected="the target, and at least one column to predict it from",
            next="check the file: its delimiter may be none of , ; tab | ^ ~",
        )
    if len(frame) < MIN_ROWS:
        raise DataError(
            f"the table has {len(frame)} row{'s' * (len(frame) != 1)}",
            expected=f"at least {MIN_ROWS}",
            next="check the table, or collect more rows",
        )
    if invalid_names := [
        name
        for name in frame.columns
        if len(name) > MAX_NAME_LENGTH or not name.isprintable() or not name
    ]:
        raise DataError(
            f"{invalid_names[0][:60]!r} is not a valid column name",
            expected=f"1 to {MAX_NAME_LENGTH} printable characters",
            next="rename the column; a file without a header needs --columns",
        )
    if undroppable_columns := [
        name for name in dropped_columns if name not in frame.columns or name == target
    ]:
        raise DataError(
            f"{undroppable_columns[0]!r} cannot be dropped",
            expected="a column of the table, and not the target",
            next="correct --drop",
        )


def _guess_column(name: str, values: pd.Series, dropped_columns: Sequence[str]) -> ColumnGuess:
    if name not in dropped_columns:
        return column_types.guess_column(name, values)
    guess = ColumnGuess(name, {"role": "feature", "type": "text"}, "")
    guess.change_role("dropped", "dropped by --drop")
    return guess


def _build_contract(header: dict[str, Any], guesses: list[ColumnGuess]) -> Contract:
    if not any(guess.role == "feature" for guess in guesses):
        details = "; ".join(
            f"{guess.name}: {guess.reason}" for guess in guesses if guess.role not in ("target",)
        )
        raise DataError(
            f"no column can be a feature: {details[:400]}",
            expected="at least one feature",
            next="check the table, or add columns that help to predict the target",
        )
    slices = [
        guess.name
        for guess in sorted(guesses, key=lambda guess: guess.role != "sensitive")
        if guess.role == "sensitive"
        or (
            guess.role == "feature"
            and guess.contract_keys["type"] in ("boolean", "category")
            and 2 <= guess.n_distinct <= 6
        )
    ]
    key = [
        guess.name
        for guess in guesses
        if guess.role == "id" and guess.n_distinct and not guess.missing_share
    ][:1]
    try:
        return Contract(
            **header,
            key=key,
            slices=slices[:MAX_SLICES],
            columns={guess.name: guess.to_column() for guess in guesses},
        )
    except ValueError as error:  # includes pydantic's, which wraps our message
        details = str(error).split("Value error, ")[-1].split(" [type=")[0]
        raise DataError(
            f"no valid contract for the table: {details}",
            next="rename the column, or drop it (--drop)",
        ) from None


def _drop_suspected_leaks(
    frame: pd.DataFrame, guesses: list[ColumnGuess], contract: Contract
) -> list[str]:
    """Drop features that predict the target alone, but keep at least one; return notes."""
    scores = leaks.score_features(frame, contract)
    metric = "ROC AUC" if contract.classes else "R²"
    notes = []
    for guess in sorted(guesses, key=lambda guess: scores.get(guess.name, 0)):
        score = scores.get(guess.name, 0)
        if score < leaks.SUSPECT_SCORE or guess.role != "feature":
            continue
        finding = (
            f"it predicts the target on its own ({metric} {score:.3f} in a small tree, limit "
            f"{leaks.SUSPECT_SCORE})"
        )
        if sum(other_guess.role == "feature" for other_guess in guesses) == 1:
            notes.append(
                f"{guess.name} is the only feature, and {finding}: check whether it is known "
                "before the outcome."
            )
        else:
            guess.change_role("dropped", f"suspected leak: {finding}")
            notes.append(
                f"{guess.name} was dropped: {finding}. Make it a feature if it is known "
                "before the outcome."
            )
    return notes


def _check_draft(contract: Contract, frame: pd.DataFrame) -> None:
    """Check that the table meets the contract drafted from it."""
    violations = contract.find_violations(frame)
    if len(violations):
        first_violation = next(violations.itertuples())
        raise DataError(
            (
                f"{first_violation.column} holds values of mixed types, "
                f"{int((violations['column'] == first_violation.column).sum()):,} of them: "
            )
            + describe_violation(first_violation),
            expected="values of one type",
            next=column_types._next_step(str(first_violation.column), str(first_violation.value)),
        )


def _phrase_question(target: str, target_guess: ColumnGuess, task: str) -> str:
    if task == "regression":
        return f"How large is {target}?"
    if task == "multiclass":
        return f"Which {target} is it?"
    return f"Which rows have {target} = {target_guess.contract_keys.get('positive', '1')}?"


def _shorten_rule(rule: str) -> str:
    return rule if len(rule) <= 60 else f"{rule[:57]}..."
