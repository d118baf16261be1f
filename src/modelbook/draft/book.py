"""Draft a book from a table and its target: a contract that the table meets, and env values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from modelbook.contract import Contract, parsing, text_hashes
from modelbook.contract.file_layout import FileLayout
from modelbook.contract.open_question import OpenQuestion
from modelbook.contract.parsing import DecimalMark
from modelbook.contract.violations import describe_violation
from modelbook.draft import column_types, leaks, roles
from modelbook.draft.column_guess import ColumnGuess
from modelbook.draft.questions import Question
from modelbook.draft.target import (
    TargetDecisions,
    describe_imbalance,
    draft_target,
    find_excluded_rows,
    raise_missing_target,
)
from modelbook.errors import DataError
from modelbook.formatting import format_count

RareClasses = Literal["exclude", "join"]
MIN_ROWS = 20  # fewest rows of a table
MAX_SLICES = 4
MIN_QUESTION_SCORE = 0.1  # univariate score at which a time column raises a question
MAX_NAME_LENGTH = 200  # characters in a column name


@dataclass(frozen=True)
class DraftOptions:
    """What a person decided beforehand.

    Attributes
    ----------
    task : str or None
        ``binary``, ``multiclass`` or ``regression``; None: inferred from the target.
    missing_markers : list of str
        Texts that mean a missing value, in addition to those detected.
    day_first : bool or None
        How to read dates such as 01/02/2024.
    rare_classes : {"exclude", "join"}
        Treatment of classes with a single row.
    """

    task: str | None = None
    missing_markers: Sequence[str] = ()
    dropped_columns: Sequence[str] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    decimal: DecimalMark | None = None
    day_first: bool | None = None
    rare_classes: RareClasses = "exclude"


@dataclass(frozen=True)
class BookDraft:
    """A drafted contract, the last training period, the inferred types and roles, and notes."""

    contract: Contract
    train_until: int | None
    guesses: list[ColumnGuess]
    n_rows: int
    notes: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Summarise the book in a sentence."""
        n_features = len(self.contract.input_names)
        features = "is a feature" if n_features == 1 else "are features"
        return (
            f"A {self.contract.task} book of {self.n_rows:,} rows; "
            f"{n_features} of {len(self.guesses)} columns {features}."
        )

    def make_role_table(self) -> list[list[str]]:
        """Return the guesses as table rows: column, role, type, allowed values and reason."""
        columns = self.contract.columns
        return [
            [
                guess.name,
                guess.role,
                columns[guess.name].type,
                _shorten(columns[guess.name].describe_allowed_values()),
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
    options: DraftOptions | None = None,
    layout: FileLayout | None = None,
    questions: Sequence[Question] = (),
    on_progress: leaks.ProgressCallback = lambda text, count, total: None,
) -> BookDraft:
    """Draft a book from a table.

    Parameters
    ----------
    title, source : str
        Title of the table, and where it comes from.
    on_progress : callable, optional
        Called with a description, the number of steps done, and their total.

    Raises
    ------
    DataError
        If a model cannot be trained on the table.
    """
    options = options or DraftOptions()
    _check_table(frame, target, options)
    frame, markers, decisions = _prepare_rows(frame.reset_index(drop=True), target, options)
    task, guesses = _guess_columns(frame, target, decisions, options)
    column_markers = [text for guess in guesses for text in guess.missing_markers]
    markers = list(dict.fromkeys([*markers, *column_markers]))
    frame = parsing.mask_markers_in_table(frame, markers)
    target_guess = next(guess for guess in guesses if guess.name == target)
    contract_fields: dict[str, Any] = {
        "title": title,
        "question": _phrase_question(target, target_guess, task),
        "source": source,
        "licence": "not stated",
        "task": task,
        "missing": markers,
        "missing_target": decisions.missing_target,
        "excluded_classes": decisions.excluded_classes,
        "file": layout or FileLayout(),
    }
    train_until, notes = _assign_roles(frame, guesses, contract_fields, options, on_progress)
    if markers:
        notes.insert(0, f"Read as missing values: {', '.join(map(repr, markers))}.")
    if task != "regression":
        notes += describe_imbalance(frame, target_guess)
    contract = _drop_violating_columns(frame, guesses, contract_fields)
    open_questions = _collect_questions([*questions, *decisions.questions], guesses)
    contract = contract.model_copy(update={"questions": open_questions})
    notes += _describe_sampling(len(frame))
    return BookDraft(contract, train_until, guesses, len(frame), notes)


def _prepare_rows(
    frame: pd.DataFrame, target: str, options: DraftOptions
) -> tuple[pd.DataFrame, list[str], TargetDecisions]:
    """Mask missing-value markers, and take the rows that can be used for training."""
    inspected = frame.drop(columns=[*options.dropped_columns])
    markers = column_types.find_missing_markers(inspected, [*options.missing_markers])
    frame = parsing.mask_markers_in_table(frame, markers)
    # A target's few texts among numbers are missing values: their rows are left out, too.
    column_markers = column_types.guess_column(
        target, frame[target], decimal=options.decimal
    ).missing_markers
    markers = [*markers, *column_markers]
    frame, decisions = _take_target_rows(
        parsing.mask_markers_in_table(frame, column_markers), target, options
    )
    return frame, markers, decisions


def _guess_columns(
    frame: pd.DataFrame, target: str, decisions: TargetDecisions, options: DraftOptions
) -> tuple[str, list[ColumnGuess]]:
    """Return the task, and a guess for each column."""
    task, target_guess = draft_target(frame, target, options.task, options.decimal)
    if decisions.replacements:
        target_guess.contract_keys["replacements"] = decisions.replacements
    return task, [
        target_guess if name == target else _guess_column(name, frame[name], options)
        for name in frame.columns
    ]


def _assign_roles(
    frame: pd.DataFrame,
    guesses: list[ColumnGuess],
    contract_fields: dict[str, Any],
    options: DraftOptions,
    on_progress: leaks.ProgressCallback,
) -> tuple[int | None, list[str]]:
    """Assign the roles that the user set, then those that names and values suggest."""
    undecided_guesses = [guess for guess in guesses if guess.name not in options.roles]
    comparable = [
        guess for guess in guesses if guess.name not in options.roles or guess.role == "target"
    ]
    roles.drop_duplicate_columns(frame, comparable)
    roles.assign_ids_and_entity(frame, undecided_guesses)
    notes = roles.mark_sensitive_columns(undecided_guesses)
    train_until = None
    for guess in guesses:
        if guess.name in options.roles:
            train_until = _set_role(frame, guess, options.roles[guess.name]) or train_until
    sample = frame.sample(leaks.MAX_ROWS, random_state=0) if len(frame) > leaks.MAX_ROWS else frame
    contract = _build_contract(contract_fields, guesses, len(frame))
    scores = leaks.score_features(sample, contract, on_progress)
    if not any(guess.role == "time" for guess in guesses):
        train_until = (
            _assign_time(frame, undecided_guesses, scores, contract_fields["task"]) or train_until
        )
    _assign_text_roles(frame, undecided_guesses, scores, contract_fields["task"])
    return train_until, notes + _drop_suspected_leaks(
        undecided_guesses, guesses, scores, contract_fields
    )


def _assign_text_roles(
    frame: pd.DataFrame, undecided_guesses: list[ColumnGuess], scores: dict[str, float], task: str
) -> None:
    """Make text columns features if they predict the target; others are ids or dropped."""
    for guess in undecided_guesses:
        if guess.role != "feature" or guess.contract_keys["type"] != "text":
            continue
        score = scores.get(guess.name, 0.0)
        metric = leaks.get_metric_label(task)
        if leaks.is_predictive(score, task):
            guess.contract_keys["n_hashes"] = text_hashes.DEFAULT_N_HASHES
            guess.add_question("text_feature", reason=guess.reason, score=score, metric=metric)
            continue
        reason = (
            f"{guess.reason}; its character trigrams do not predict the target ({metric} "
            f"{score:.2f})"
        )
        is_unique = guess.n_distinct == len(frame) and not guess.missing_share
        n_words = column_types.count_words(frame[guess.name].dropna().tolist())
        if is_unique and n_words < column_types.MIN_PROSE_WORDS:
            guess.change_role("id", reason)
        else:
            guess.change_role("dropped", reason)
            guess.add_question("many_texts", reason=reason)


def _set_role(frame: pd.DataFrame, guess: ColumnGuess, role: str) -> int | None:
    """Assign a role that the user chose; return the last training period of a time column."""
    guess.questions.clear()
    if role in ("time", "entity"):
        _check_group_column(frame[guess.name], role)
    if role == "time":
        parsed = roles.parse_periods(frame[guess.name], guess)
        if parsed is None:
            raise DataError(
                f"{guess.name} cannot be the time column: it has neither dates nor integers",
                expected="dates, or numbers of periods",
                next="correct --role",
            )
        return roles.assign_time(guess, *parsed, "time by --role")
    if role in ("dropped", "id"):
        guess.change_role(role, f"{role} by --role")
    elif role == "entity":
        is_integer = guess.contract_keys["type"] == "integer"
        guess.contract_keys = {"role": role, "type": "integer" if is_integer else "text"}
        guess.reason = "entity by --role"
    else:
        guess.contract_keys["role"] = role
    return None


def _check_group_column(values: pd.Series, role: str) -> None:
    """Refuse an entity or time column with missing values or a single value."""
    column = f"{values.name} cannot be the {role} column"
    if n_missing := int(values.isna().sum()):
        raise DataError(
            f"{column}: it is missing in {n_missing:,} of {len(values):,} rows",
            expected="a value in each row",
            next="fill in the values, or remove these rows; or correct --role",
        )
    if values.nunique() < 2:
        raise DataError(
            f"{column}: it is always {values.iloc[:1].item()!r}",
            expected="several values, to split the rows by",
            next="correct --role, or drop the column (--drop)",
        )


def _assign_time(
    frame: pd.DataFrame, guesses: list[ColumnGuess], scores: dict[str, float], task: str
) -> int | None:
    time_guess = roles.find_time_column(frame, guesses)
    if time_guess is None or sum(guess.role == "feature" for guess in guesses) < 2:
        return None
    guess, periods, time_keys = time_guess
    score = scores.get(guess.name, 0.0)
    if score >= MIN_QUESTION_SCORE:
        guess.add_question("time", score=score, metric=leaks.get_metric_label(task))
    return roles.assign_time(
        guess, periods, time_keys, "time by its name and the order of the rows"
    )


def _collect_questions(questions: list[Question], guesses: list[ColumnGuess]) -> list[OpenQuestion]:
    ranked = sorted(
        [*questions, *(question for guess in guesses for question in guess.questions)],
        key=lambda question: question.rank,
    )
    return [question.to_open_question() for question in ranked]


def _describe_sampling(n_rows: int) -> list[str]:
    if n_rows <= leaks.MAX_ROWS:
        return []
    return [
        f"Ranges, missing values and categories come from all {n_rows:,} rows; column types from "
        f"up to {column_types.MAX_SAMPLED_VALUES:,} distinct values of a column; the leak check "
        f"used {leaks.MAX_ROWS:,} rows."
    ]


def _take_target_rows(
    frame: pd.DataFrame, target: str, options: DraftOptions
) -> tuple[pd.DataFrame, TargetDecisions]:
    """Drop the rows that cannot be used for training, and optionally merge rare classes."""
    is_excluded, decisions = find_excluded_rows(
        frame, target, options.task, merge_rare_classes=options.rare_classes == "join"
    )
    frame = frame[~is_excluded].reset_index(drop=True)
    frame[target] = decisions.replace_values(frame[target])
    if len(frame) < MIN_ROWS:
        raise DataError(
            f"only {format_count(len(frame), 'row')} can be used for training: in other rows the "
            f"target {target!r} is missing, or has a value that occurs once",
            expected=f"at least {MIN_ROWS} rows",
            next="fill in target values, or name another --target",
        )
    return frame, decisions


def _check_table(frame: pd.DataFrame, target: str, options: DraftOptions) -> None:
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
            f"the table has {format_count(len(frame), 'row')}",
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
    if invalid_columns := [
        name
        for name in [*options.dropped_columns, *options.roles]
        if name not in frame.columns or name == target
    ]:
        raise DataError(
            f"{invalid_columns[0]!r} cannot be dropped or given a role",
            expected="a column of the table, and not the target",
            next="correct --drop or --role",
        )
    if target not in frame.columns:
        raise_missing_target(frame, target)


def _guess_column(name: str, values: pd.Series, options: DraftOptions) -> ColumnGuess:
    if name not in options.dropped_columns:
        return column_types.guess_column(
            name, values, decimal=options.decimal, day_first=options.day_first
        )
    guess = ColumnGuess(name, {"role": "feature", "type": "text"}, "")
    guess.change_role("dropped", "dropped by --drop")
    return guess


def _build_contract(
    contract_fields: dict[str, Any], guesses: list[ColumnGuess], n_rows: int
) -> Contract:
    if not any(guess.role == "feature" for guess in guesses):
        details = "; ".join(
            f"{guess.name}: {guess.reason}" for guess in guesses if guess.role != "target"
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
    unique_ids = [
        guess.name for guess in guesses if guess.role == "id" and guess.n_distinct == n_rows
    ]
    try:
        return Contract(
            **contract_fields,
            key=unique_ids[:1],
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
    undecided_guesses: list[ColumnGuess],
    guesses: list[ColumnGuess],
    scores: dict[str, float],
    contract_fields: dict[str, Any],
) -> list[str]:
    """Drop features that alone predict the target, but keep at least one; return notes."""
    scores = {
        guess.name: scores[guess.name]
        for guess in undecided_guesses
        if guess.role == "feature" and guess.name in scores
    }
    suspects = leaks.find_leaks(scores)
    suspects = [name for name in suspects if not roles.TIME_NAME_PATTERN.search(name)]
    metric = leaks.get_metric_label(contract_fields["task"])
    notes = []
    for guess in sorted(undecided_guesses, key=lambda guess: scores.get(guess.name, 0)):
        if scores.get(guess.name, 0) < leaks.SUSPECT_SCORE:
            continue
        finding = (
            f"it predicts the target on its own ({metric} {scores[guess.name]:.3f} in a small "
            f"tree, limit {leaks.SUSPECT_SCORE})"
        )
        is_only_feature = sum(other.role == "feature" for other in guesses) == 1
        if is_only_feature:
            notes.append(
                f"{guess.name} is the only feature, and {finding}: check whether it is known "
                "before the outcome."
            )
        if is_only_feature or guess.name not in suspects:
            guess.add_question("strong_feature", finding=finding)
            continue
        guess.change_role("dropped", f"suspected leak: {finding}")
        guess.add_question("leak", finding=finding)
        notes.append(
            f"{guess.name} was dropped: {finding}. Make it a feature if it is known "
            "before the outcome."
        )
    return notes


def _drop_violating_columns(
    frame: pd.DataFrame, guesses: list[ColumnGuess], contract_fields: dict[str, Any]
) -> Contract:
    """Build a contract that the table meets: columns that break it are dropped."""
    contract = _build_contract(contract_fields, guesses, len(frame))
    violations = contract.find_violations(frame)
    for violation in violations.drop_duplicates("column").itertuples():
        guess = next(guess for guess in guesses if guess.name == violation.column)
        finding = describe_violation(violation)
        if guess.role == "target":
            raise DataError(
                f"the target {guess.name!r} holds values of mixed types: {finding}",
                expected="values of one type",
                next="correct the table, or mark the text as missing (--missing)",
            )
        guess.contract_keys = {"role": "feature", "type": "text"}
        guess.change_role("dropped", f"values of mixed types: {finding}")
        guess.add_question("mixed_values", finding=finding)
    return _build_contract(contract_fields, guesses, len(frame)) if len(violations) else contract


def _phrase_question(target: str, target_guess: ColumnGuess, task: str) -> str:
    if task == "regression":
        return f"How large is {target}?"
    if task == "multiclass":
        return f"Which {target} is it?"
    return f"Which rows have {target} = {target_guess.contract_keys.get('positive', '1')}?"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
