"""Infer the task from the target, and check that the target can be learned."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NoReturn

import pandas as pd

from modelbook.config import suggest_name
from modelbook.contract import parsing
from modelbook.contract.counts import count_values
from modelbook.draft import column_types
from modelbook.draft.column_guess import ColumnGuess
from modelbook.draft.questions import Question
from modelbook.errors import DataError
from modelbook.formatting import format_count, format_number, natural_sort_key

MERGED_CLASS = "other"  # class that replaces classes of one row
TASKS = ("binary", "multiclass", "regression")
MAX_INTEGER_CLASSES = 10  # most distinct integers that are read as classes
MAX_HEADER_LINES = 20  # first rows that are searched for a header with the target's name
MAX_CLASSES = 50  # most classes of a multiclass task
MIN_CLASS_ROWS = 20  # rows of a class below which confidence intervals are wide
IMBALANCE_SHARE = 0.1  # share of the smallest class below which classes are imbalanced
POSITIVE_CLASS_PATTERN = re.compile(
    r"(?i)y|yes|true|t|1|\+|pos.*|bad|default.*|churn.*|left|fraud.*|dead|died|"
    r"positive|abnormal|ill|sick|disease"
)


@dataclass(frozen=True)
class TargetDecisions:
    """Treatment of rows without a target value and of classes of one row, and the questions.

    Attributes
    ----------
    replacements : dict of str to str
        Values that are read as another class: other spellings of it, and classes of one row.
    """

    missing_target: Literal["refuse", "exclude"]
    excluded_classes: list[str] = field(default_factory=list)
    replacements: dict[str, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)

    def replace_values(self, values: pd.Series) -> pd.Series:
        """Replace other spellings of a class, and merged classes."""
        return column_types.replace_values(values, self.replacements)


def draft_target(
    frame: pd.DataFrame, target: str, task: str | None, decimal: parsing.DecimalMark | None = None
) -> tuple[str, ColumnGuess]:
    """Return the task and the target's contract entry.

    Raises
    ------
    DataError
        When the target holds only one value or infinite ones, or does not fit the task.
    """
    if task is not None and task not in TASKS:
        raise DataError(
            f"{task!r} is not a task",
            expected=suggest_name(task, TASKS),
            next="correct --task, or omit it",
        )
    values = frame[target]
    guess = column_types.guess_column(target, values, decimal=decimal)
    if guess.missing_markers:  # only the merged class: others are masked already
        guess.missing_markers.clear()
        guess.questions.clear()
        guess.contract_keys["type"] = "category"
    if any(question.kind == "infinite" for question in guess.questions):
        raise DataError(
            f"the target {target!r} has {guess.reason}",
            expected="finite numbers",
            next="correct these rows, or leave their target empty",
        )
    if guess.n_distinct < 2:
        raise DataError(
            f"the target {target!r} is always {values.iloc[:1].item()!r}",
            expected="at least two distinct values",
            next="check the column, or add rows with other values",
        )
    inferred_task = task or _infer_task(guess)
    if inferred_task == "regression":
        _set_numeric_target(guess, values, task)
    else:
        _set_class_target(guess, values, inferred_task)
    return inferred_task, guess


def raise_missing_target(frame: pd.DataFrame, target: str, n_skipped: int = 0) -> NoReturn:
    """Raise DataError for a table without the target column.

    Parameters
    ----------
    n_skipped : int
        Lines above the header that were left out.
    """
    hints = ["name the target column: --target"]
    if any(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in frame.columns):
        hints.append("a file without a header needs --columns")
    cells = frame.head(MAX_HEADER_LINES).astype(str)
    if (is_named := (cells == target).any(axis=1)).any():
        n_above = n_skipped + int(is_named.to_numpy().argmax()) + 1
        hints = [f"if line {n_above + 1} is the header, which has this name: --skip-rows {n_above}"]
    elif n_skipped:
        hints.append(
            f"if a line was left out by mistake ({n_skipped} above the header): --skip-rows 0"
        )
    raise DataError(
        f"the table has no column {target!r}",
        expected=suggest_name(target, frame.columns[:30]),
        next="; ".join(hints),
    )


def find_excluded_rows(
    frame: pd.DataFrame, target: str, task: str | None, *, merge_rare_classes: bool
) -> tuple[pd.Series, TargetDecisions]:
    """Find rows to exclude from training: without a target value, or of a class of one row.

    With ``merge_rare_classes``, several classes of one row are merged into one instead.
    """
    values = frame[target]
    questions = []
    is_excluded = values.isna()
    missing_target: Literal["refuse", "exclude"] = "exclude" if is_excluded.any() else "refuse"
    if n_missing := int(is_excluded.sum()):
        row_counts = {"count": n_missing, "total": len(values), "rest": len(values) - n_missing}
        questions.append(Question("missing_target", target, row_counts))
    replacements = column_types.find_case_variants(values)
    if replacements:
        questions.append(Question("case_variants", target, {"replacements": replacements}))
    values = column_types.replace_values(values, replacements)
    counts = count_values(parsing.normalize_texts(values.dropna()))
    rare_classes = [str(name) for name in counts.index[counts == 1]]
    is_classification = task in ("binary", "multiclass") or (
        task is None and parsing.may_contain_text(values) and len(counts) <= MAX_CLASSES
    )
    if not is_classification or len(counts) - len(rare_classes) < 2:
        rare_classes = []
    if merge_rare_classes and len(rare_classes) > 1:
        merge = {"classes": rare_classes, "merged_class": MERGED_CLASS}
        questions.append(Question("merged_classes", target, merge))
        replacements = replacements | dict.fromkeys(rare_classes, MERGED_CLASS)
        rare_classes = []
    if rare_classes:
        questions.append(Question("rare_classes", target, {"classes": rare_classes}))
        is_excluded |= parsing.normalize_texts(values).isin(rare_classes)
    return is_excluded, TargetDecisions(missing_target, rare_classes, replacements, questions)


def describe_imbalance(frame: pd.DataFrame, guess: ColumnGuess) -> list[str]:
    """Return notes on small or imbalanced classes."""
    counts = count_values(parsing.normalize_texts(frame[guess.name]))
    rarest_class = f"{counts.index[-1]!r} of {guess.name}"
    notes = []
    if counts.iloc[-1] < MIN_CLASS_ROWS:
        notes.append(
            f"Only {format_count(counts.iloc[-1], 'row has', 'rows have')} {rarest_class}: "
            "intervals will be wide."
        )
    if counts.iloc[-1] / counts.sum() < IMBALANCE_SHARE:
        notes.append(
            f"The classes are imbalanced: {counts.iloc[-1] / counts.sum():.1%} of the rows "
            f"have {rarest_class}."
        )
    return notes


def _infer_task(guess: ColumnGuess) -> str:
    if guess.n_distinct == 2:
        return "binary"
    is_numeric = guess.contract_keys["type"] in ("number", "integer")
    return (
        "regression"
        if is_numeric
        and (guess.contract_keys["type"] == "number" or guess.n_distinct > MAX_INTEGER_CLASSES)
        else "multiclass"
    )


def _set_numeric_target(guess: ColumnGuess, values: pd.Series, task: str | None) -> None:
    target = guess.name
    if guess.contract_keys["type"] == "boolean":
        guess.contract_keys |= {"type": "integer"}
    if guess.contract_keys["type"] not in ("number", "integer"):
        raise DataError(
            f"the target {target!r} holds no numbers: {guess.reason}",
            expected="numbers, for a regression",
            next="omit --task, or name another target",
        )
    numbers = pd.to_numeric(values, errors="coerce")
    if task is None and guess.n_distinct == len(values) == numbers.max() - numbers.min() + 1:
        raise DataError(
            f"the target {target!r} looks like a row number: each number from "
            f"{format_number(numbers.min())} to {format_number(numbers.max())} occurs once",
            expected="a target that the other columns can predict",
            next="name another --target; if it is the target, add --task regression",
        )
    guess.contract_keys |= {"role": "target", "nullable": False}
    reason = "set by --task" if task else f"{guess.n_distinct:,} distinct numbers"
    guess.reason = f"regression, {reason}; {guess.reason}"


def _set_class_target(guess: ColumnGuess, values: pd.Series, task: str) -> None:
    texts = parsing.normalize_texts(values)
    counts = count_values(texts)
    problem = ""
    if len(counts) == len(values):
        problem = "a different value in each row"
    elif len(counts) > MAX_CLASSES:
        problem = f"{len(counts):,} distinct values"
    elif (task == "binary") != (len(counts) == 2):
        problem = f"{len(counts)} distinct values, and the task is {task}"
    elif counts.iloc[-1] < 2:
        problem = f"the value {counts.index[-1]!r} in only one row"
    if problem:
        raise DataError(
            f"the target {guess.name!r} has {problem}",
            expected=f"2 classes for binary, 3 to {MAX_CLASSES} for multiclass, each in several "
            "rows; numbers for regression",
            next="name another --target or --task, or merge rare classes",
        )
    shares = ", ".join(
        f"{name} {count / len(values):.1%}" for name, count in counts.head(6).items()
    )
    is_boolean = guess.contract_keys["type"] == "boolean"
    guess.contract_keys = (
        {"role": "target", "type": "boolean"}
        if is_boolean
        else {
            "role": "target",
            "type": "category",
            "categories": sorted(counts.index, key=natural_sort_key),
        }
    )
    guess.reason = f"{task}, {len(counts)} classes: {shares}"
    if task == "binary" and not is_boolean:
        guess.contract_keys["positive"] = next(
            (name for name in counts.index[::-1] if POSITIVE_CLASS_PATTERN.fullmatch(name)),
            counts.index[-1],
        )
        guess.reason += f"; {guess.contract_keys['positive']!r} is the positive class"
