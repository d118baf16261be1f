"""Replay: what another version would have answered to the rows that were served, and whom it would answer otherwise.

Rows come from the journal part by part and are forgotten again; what is kept does not grow with them.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.errors import ContractError, DataError
from modelbook.report.numbers import counting
from modelbook.whole import complete

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.tasks.answering import Answering

ROWS = 2000  # of a part
SAMPLE = 100_000  # changes that quantiles are made of
MOST = 10  # rows that are named
VALUES = 30  # of a slice that are told apart
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
OTHERS = "others"


@dataclass(frozen=True)
class Part:
    """Some rows and both answers to each.

    Attributes
    ----------
    rows : list of dict
        As the journal has them.
    after : list
        What the other version answers.
    change : ndarray
        What moved, see ``Answering.moved``.
    otherwise : ndarray of bool
        Whether it is another answer.
    """

    rows: list[dict[str, Any]]
    after: list[Any]
    change: np.ndarray
    otherwise: np.ndarray

    def table(self) -> list[dict[str, Any]]:
        """A row each, flat: for a file."""
        told = zip(self.rows, self.after, self.change.tolist(), self.otherwise.tolist(), strict=True)
        return [
            {"id": row["id"], "at": row["at"], "version": row["version"], **row["inputs"], "before": row["prediction"],
             "after": after, "change": change, "otherwise": other} for row, after, change, other in told
        ]  # fmt: skip


@dataclass
class Replayed:
    """What came of it; everything in it can be added up part after part."""

    moving: str
    slices: list[str]
    rows: int = 0
    otherwise: int = 0
    total: float = 0.0
    size: float = 0.0
    most: list[dict[str, Any]] = field(default_factory=list)
    sample: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    groups: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0.0]))

    def add(self, part: Part, random: np.random.Generator) -> None:
        """Take a part in."""
        self.rows += len(part.rows)
        self.otherwise += int(part.otherwise.sum())
        self.total += float(part.change.sum())
        self.size += float(np.abs(part.change).sum())
        drawn = np.column_stack([random.uniform(size=len(part.rows)), part.change])
        self.sample = np.concatenate([self.sample, drawn])
        if len(self.sample) > SAMPLE:  # those with the smallest lots: each row has the same chance
            self.sample = self.sample[np.argpartition(self.sample[:, 0], SAMPLE)[:SAMPLE]]
        furthest = np.argsort(-np.abs(part.change), kind="stable")[:MOST]
        found = [
            {"id": part.rows[i]["id"], "at": part.rows[i]["at"], "before": part.rows[i]["prediction"],
             "after": part.after[i], "change": float(part.change[i]), "inputs": part.rows[i]["inputs"]}
            for i in furthest
        ]  # fmt: skip
        self.most = sorted([*self.most, *found], key=lambda one: -abs(one["change"]))[:MOST]
        for name in self.slices:
            self._group(name, part)

    def _group(self, name: str, part: Part) -> None:
        for row, change, other in zip(part.rows, part.change.tolist(), part.otherwise.tolist(), strict=True):
            value = row["inputs"].get(name)
            key = (name, "missing" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
            if key not in self.groups and sum(one == name for one, _ in self.groups) >= VALUES:
                key = (name, OTHERS)
            told = self.groups[key]
            told[:] = told[0] + 1, told[1] + other, told[2] + change

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        changes = self.sample[:, 1]
        return {
            "rows": self.rows, "otherwise": self.otherwise, "share": self.otherwise / self.rows, "moving": self.moving,
            "mean": self.total / self.rows, "mean_size": self.size / self.rows,
            "quantiles": {f"{level:g}": float(np.quantile(changes, level)) for level in QUANTILES},
            "slices": [
                {"slice": name, "value": value, "rows": int(rows), "otherwise": int(other), "mean": total / rows}
                for (name, value), (rows, other, total) in sorted(self.groups.items(), key=_order)
            ],
            "most": self.most,
        }  # fmt: skip


def replay(
    found: Iterator[dict[str, Any]], scorer: Any, contract: Contract, who: str,
    *, tell: Callable[[int, float], None], keep: Callable[[Part], None] = lambda part: None,
) -> Replayed:  # fmt: skip
    """Ask a version what was asked before.

    Parameters
    ----------
    found : iterator of dict
        Rows of the journal, with ``inputs``, ``prediction`` and ``probabilities``.
    scorer : Scorer or Itself
        Of the other version.
    contract : Contract
        Its contract.
    who : str
        What the version is called in messages.
    tell : callable
        Called with rows so far and seconds after each part.
    keep : callable
        Called with each part.

    Raises
    ------
    DataError
        When there are no rows.
    ContractError
        When the version reads or answers something else than what was journaled.
    """
    features = contract.features_
    known = [name for name in contract.slices if name in features]
    told, random, began = Replayed(scorer.answering.moving, known), np.random.default_rng(0), time.monotonic()
    while rows := list(islice(found, ROWS)):
        part = _part(rows, scorer, features, who)
        told.add(part, random)
        keep(part)
        tell(told.rows, time.monotonic() - began)
    if not told.rows:
        raise DataError(
            f"nothing was answered in that time by another version than {who.removeprefix('version ')}",
            expected="rows in the journal", next="name an earlier time: --since 30d",
        )  # fmt: skip
    return told


def _order(group: tuple[tuple[str, str], Any]) -> tuple[str, tuple[float, str]]:
    name, value = group[0]
    return name, counting(value)


@contextmanager
def file(path: Path | None) -> Iterator[Callable[[Part], None]]:
    """Give what writes parts to a CSV file that is there whole or not at all; without a path it does nothing.

    Raises
    ------
    DataError
        When the file is there already.
    """
    if path is None:
        yield lambda part: None
        return
    if path.exists():
        raise DataError(f"{path} is there already", next="move it away, or name another file")
    with complete(path) as aside, aside.open("w", newline="", encoding="utf-8") as text:
        lines = csv.writer(text)

        def write(part: Part) -> None:
            table = part.table()
            if not text.tell():
                lines.writerow(table[0])
            lines.writerows(row.values() for row in table)

        yield write


def _part(rows: list[dict[str, Any]], scorer: Any, features: list[str], who: str) -> Part:
    answering = scorer.answering
    before = np.array([_numbers(row, answering, who) for row in rows])
    for row in rows:
        if absent := [name for name in features if name not in row["inputs"]]:
            raise ContractError(
                f"{who} reads {', '.join(absent)}, which the row {row['id']} does not have: version {row['version']} "
                "was asked without",
                expected="rows with all fields that the version reads",
                next="name a later --since, or a version of the same contract; journal.redact leaves columns out",
            )
    answers = scorer.many([{name: row["inputs"][name] for name in features} for row in rows])
    after = np.array([[one.prediction] if one.probabilities is None else list(one.probabilities) for one in answers])
    otherwise = answering.differ([row["prediction"] for row in rows], [one.prediction for one in answers])
    return Part(rows, [one.prediction for one in answers], answering.moved(before, after), otherwise)


def _numbers(row: dict[str, Any], answering: Answering, who: str) -> list[float]:
    classes, sure = [str(one) for one in answering.classes], row["probabilities"]
    if sorted(sure or []) != sorted(classes):
        raise ContractError(
            f"{who} answers {', '.join(classes) or 'a number'}, version {row['version']} answered "
            f"{', '.join(sure or []) or 'a number'}",
            expected="versions of one question", next="name a later --since, or a version of the same contract",
        )  # fmt: skip
    return [sure[name] for name in classes] if sure else [row["prediction"]]
