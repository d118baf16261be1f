"""The target: which task it asks for, and whether anything can be learned of it."""

from __future__ import annotations

import re

import pandas as pd

from modelbook.config import nearest
from modelbook.contract import parsing
from modelbook.contract.counts import count_values
from modelbook.draft import kinds
from modelbook.draft.guess import Guess
from modelbook.errors import DataError

TASKS = ("binary", "multiclass", "regression")
CLASSES = 10  # different whole numbers up to which they are taken for classes
MOST = 50  # classes of a task
SPARSE = 20  # rows of a class below which intervals get wide
LOPSIDED = 0.1  # share of the smaller class below which classes are called imbalanced
YES = re.compile(
    r"(?i)y|yes|true|t|1|\+|pos.*|bad|default.*|churn.*|left|fraud.*|dead|died|positive|abnormal|ill|sick|disease"
)


def answer(frame: pd.DataFrame, target: str, task: str | None) -> tuple[str, Guess]:
    """The task, and the target's part of the contract.

    Raises
    ------
    DataError
        When the target is absent, has gaps, one value only, a class with one row, or does not fit the task.
    """
    if target not in frame.columns:
        bare = any(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in frame.columns)
        raise DataError(
            f"the table has no column {target!r}",
            expected=nearest(target, frame.columns[:30]),
            next="name the column that holds the answer: --target"
            + ("; a file without a header needs --columns" if bare else ""),
        )
    if task is not None and task not in TASKS:
        raise DataError(f"{task!r} is no task", expected=nearest(task, TASKS), next="correct --task, or leave it out")
    values = frame[target]
    if gaps := int(values.isna().sum()):
        raise DataError(
            f"the target {target!r} is missing in {gaps:,} of {len(values):,} rows, the first of them row "
            f"{int(values.index[values.isna()][0])}",
            expected="an answer in each row", next="leave these rows out of the table, or find out their answers",
        )  # fmt: skip
    some = kinds.guess(target, values)
    if some.distinct < 2:
        raise DataError(
            f"the target {target!r} is always {values.iloc[0]!r}", expected="at least two different answers",
            next="check the column, or take rows with other answers",
        )  # fmt: skip
    found = task or _task(some)
    if found == "regression":
        _amount(some, values, task)
    else:
        _classes(some, values, found)
    return found, some


def imbalance(frame: pd.DataFrame, some: Guess) -> list[str]:
    """What is worth knowing of the classes' sizes, in sentences."""
    counts = count_values(parsing.as_text(frame[some.name]))
    least = f"{counts.index[-1]!r} of {some.name}"
    told = []
    if counts.iloc[-1] < SPARSE:
        told.append(f"Only {counts.iloc[-1]} rows have {least}: intervals will be wide.")
    if counts.iloc[-1] / counts.sum() < LOPSIDED:
        told.append(f"The classes are imbalanced: {counts.iloc[-1] / counts.sum():.1%} of the rows have {least}.")
    return told


def _task(some: Guess) -> str:
    if some.distinct == 2:
        return "binary"
    number = some.keys["type"] in ("number", "integer")
    return "regression" if number and (some.keys["type"] == "number" or some.distinct > CLASSES) else "multiclass"


def _amount(some: Guess, values: pd.Series, task: str | None) -> None:
    target = some.name
    if some.keys["type"] == "boolean":
        some.keys |= {"type": "integer"}
    if some.keys["type"] not in ("number", "integer"):
        raise DataError(
            f"the target {target!r} holds no numbers: {some.why}", expected="numbers, for a regression",
            next="leave --task out, or name another target",
        )  # fmt: skip
    numbers = pd.to_numeric(values, errors="coerce")
    if task is None and some.distinct == len(values) == numbers.max() - numbers.min() + 1:
        raise DataError(
            f"the target {target!r} numbers the rows: it is each number from {numbers.min():g} to {numbers.max():g} "
            "once",
            expected="an answer that the other columns may tell",
            next="name another --target; where it is an answer all the same, add --task regression",
        )
    some.keys |= {"role": "target", "nullable": False}
    why = "as you said" if task else f"{some.distinct:,} different numbers"
    some.why = f"regression, {why}; {some.why}"


def _classes(some: Guess, values: pd.Series, task: str) -> None:
    texts = parsing.as_text(values)
    counts = count_values(texts)
    wrong = ""
    if len(counts) == len(values):
        wrong = "a different answer in each row"
    elif len(counts) > MOST:
        wrong = f"{len(counts):,} different answers"
    elif (task == "binary") != (len(counts) == 2):
        wrong = f"{len(counts)} different answers, and the task is {task}"
    elif counts.iloc[-1] < 2:
        wrong = f"the answer {counts.index[-1]!r} in one row only"
    if wrong:
        raise DataError(
            f"the target {some.name!r} has {wrong}",
            expected=f"2 answers for binary, 3 to {MOST} for multiclass, each in several rows; numbers for regression",
            next="name another --target or --task, or put rare answers together",
        )
    shares = ", ".join(f"{name} {count / len(values):.1%}" for name, count in counts.head(6).items())
    plain = some.keys["type"] == "boolean"
    some.keys = {"role": "target", "type": "boolean"} if plain else {
        "role": "target", "type": "category", "categories": sorted(counts.index, key=kinds._in_order),
    }  # fmt: skip
    some.why = f"{task}, {len(counts)} answers: {shares}"
    if task == "binary" and not plain:
        some.keys["positive"] = next((name for name in counts.index[::-1] if YES.fullmatch(name)), counts.index[-1])
        some.why += f"; {some.keys['positive']!r} counts as yes"
