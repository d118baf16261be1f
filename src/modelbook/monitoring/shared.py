"""Shared traffic: what champion and challenger answered side by side, and what came of it, from the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.errors import ContractError, ServingError
from modelbook.monitoring import sources
from modelbook.registry import history
from modelbook.registry.pointer import CHALLENGER, CHAMPION, Pointed, aliases
from modelbook.tasks.scored import Scored

if TYPE_CHECKING:
    from modelbook.journal import Journal

ROWS = 5000  # that are turned into losses at a time


@dataclass(frozen=True)
class Shared:
    """The traffic that two versions share.

    Attributes
    ----------
    champion, challenger : int
        Numbers of the versions.
    loss : str
        What the loss of a row is.
    rows : DataFrame
        As ``ab.judge`` takes them.
    """

    book: str
    champion: int
    challenger: int
    loss: str
    rows: pd.DataFrame


def read(root: Path, book: str, journal: Journal, since: float | None = None) -> Shared:
    """What the two versions that bear the aliases have answered, since a time, or since the challenge began.

    A challenge that the history does not know began when both had answered.

    Raises
    ------
    ServingError
        When there are no two versions.
    ContractError
        When they do not answer the same question.
    """
    one, other = _versions(root, book)
    for version in (one, other):
        version.check()
    contract = Contract.load(one.folder / "contract.yaml")
    agree(contract, Contract.load(other.folder / "contract.yaml"), f"version {other.number}", f"version {one.number}")
    numbers = {CHAMPION: one.number, CHALLENGER: other.number}
    begun = _begun(root, book, other.number) if since is None else since
    found = journal.shared(begun or 0, [*numbers.values()])
    kept = (row for row in found if numbers[row["variant"]] == row["version"])
    rows = table(kept, contract)
    if begun is None and len(rows):  # what the champion shared with another before does not count
        rows = rows[rows["at"] >= rows.groupby("challenger")["at"].min().max()].reset_index(drop=True)
    return Shared(book, one.number, other.number, tasks.of(contract).loss, rows)


def table(found: Iterator[dict[str, Any]], contract: Contract) -> pd.DataFrame:
    """Rows of the journal as ``ab.judge`` takes them."""
    parts = []
    while some := list(islice(found, ROWS)):
        parts.append(_part(some, contract))
    return pd.concat(parts or [_part([], contract)], ignore_index=True)


def agree(one: Contract, other: Contract, who: str, whom: str) -> None:
    """Raise ContractError where two contracts do not ask the same question."""
    asked, wanted = ((it.target, it.task, it.classes) for it in (other, one))
    if asked != wanted:
        words = [f"{target!r} ({', '.join(classes) or task})" for target, task, classes in (asked, wanted)]
        raise ContractError(
            f"{who} answers {words[0]}, {whom} {words[1]}", expected="versions of one question",
            next="compare versions whose contracts have the same target",
        )  # fmt: skip


def _versions(root: Path, book: str) -> tuple[Pointed, Pointed]:
    named = aliases(root, book)
    absent = [alias for alias in (CHAMPION, CHALLENGER) if alias not in named]
    if absent or named[CHAMPION].number == named[CHALLENGER].number:
        what = f"no version of {book!r} bears the alias {absent[0]}" if absent else (
            f"version {named[CHAMPION].number} of {book!r} is champion and challenger"
        )  # fmt: skip
        raise ServingError(
            what, expected="two versions that share the traffic",
            next="modelbook challenge V names one; serving.yaml wants traffic.mode: split; see docs/ab.md",
        )  # fmt: skip
    return named[CHAMPION], named[CHALLENGER]


def _begun(root: Path, book: str, challenger: int) -> float | None:
    """When the version last became challenger by ``modelbook challenge``; None where another tool named it."""
    named = [entry for entry in history.read(root, book) if entry.word == history.CHALLENGE]
    times = [entry.at for entry in named if entry.version == challenger]
    return datetime.fromisoformat(times[-1]).timestamp() if times else None


def _part(rows: list[dict[str, Any]], contract: Contract) -> pd.DataFrame:
    part = pd.DataFrame({
        "at": np.array([row["at"] for row in rows], dtype=float),
        "challenger": np.array([row["variant"] == CHALLENGER for row in rows], dtype=bool),
        "lot": [row["lot"] for row in rows], "loss": np.nan,
    })  # fmt: skip
    known = [place for place, row in enumerate(rows) if row["outcome"] is not None]
    if known:
        some = [rows[place] for place in known]
        outcome = contract.codes(pd.DataFrame({contract.target: [row["outcome"] for row in some]}))
        scored = Scored.of(outcome, sources.scores(some, contract), part["lot"].iloc[known])
        part.loc[known, "loss"] = tasks.of(contract).losses(scored)
    return part
