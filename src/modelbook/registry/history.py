"""History: every decision of the gate and every move of an alias, in a table that only grows.

The table stands in the store's own database. So whoever shares the store shares its history, and the alias and the
entry about it change in one transaction: whatever is killed when, they agree. Each entry bears the hash of the one
before; nothing here changes or removes one, the database refuses to, and whoever does it all the same is found.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from modelbook import __version__
from modelbook.errors import PromotionError
from modelbook.redaction import redact, redact_all
from modelbook.registry import connection as database
from modelbook.registry import ledger, pointer
from modelbook.registry.pointer import CHALLENGER

BY = "MODELBOOK_BY"  # who acts, where the machine's user says nothing: a CI's name
DECISION, MOVE, TRAFFIC = "decision", "move", "traffic"
ROLL_BACK, FOUND, CHALLENGE, END = "roll back", "found", "challenge", "end of challenge"  # besides what the gate says


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Attributes
    ----------
    number : int
        Place in the history of the store, from 1; 0 before it is written.
    kind, word : str
        ``decision`` of the gate (promote, hold), ``move`` of the champion's alias (promote, roll back; found: another
        tool had moved it), or ``traffic`` (challenge, end of challenge).
    version : int or None
        The version that it is about.
    before, after : int or None
        The champion before and after; the same, unless it was moved.
    at, by, why : str
        When (UTC), who, and the reason in words.
    evidence : dict
        Plain data: the gate's criteria and numbers, run, fingerprint, digest, golden rows.
    tool : str
        Modelbook's version, and the commit that it ran from.
    previous, hash : str
        The hash of the entry before, and of this one.
    """

    model: str
    kind: str
    word: str
    version: int | None
    before: int | None
    after: int | None
    why: str
    evidence: dict[str, Any]
    tool: str = ""
    at: str = ""
    by: str = ""
    number: int = 0
    previous: str = ""
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def moved(self) -> str:
        """A move in words."""
        after = f" after {_version(self.before)}" if self.before else ""
        proven = f"{self.evidence.get('golden_rows', 0)} golden rows came back exactly"
        return (
            f"{_version(self.after)} of {self.model} is the champion{after}; {proven}; entry {self.number} in history"
        )


def read(root: Path, model: str | None = None) -> list[Entry]:
    """The history of a store, or of one model in it, oldest first; empty where there is none.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    with database.reading(root) as connection:
        rows = ledger.rows(connection)
    entries = [_entry(*row) for row in rows if _readable(row[1])]
    return [entry for entry in entries if model in (None, entry.model)]


def breaks(root: Path) -> list[str]:
    """What does not fit together in a store's history, a sentence each; nothing where it is whole."""
    with database.reading(root) as connection:
        rows, written = ledger.rows(connection), ledger.written(connection)
    told, previous, place = [], "", 0
    for number, text, hashed in rows:
        if number != place + 1:
            told.append(f"Entries are gone: {number - 1 - place} before entry {number}.")
        elif _readable(text) and json.loads(text)["previous"] != previous:
            told.append(f"Entry {number} does not follow entry {place}: one of the two was exchanged.")
        if ledger.hashed(text) != hashed:
            told.append(f"Entry {number} was changed: its content does not have its hash.")
        previous, place = hashed, number
    if written > place:
        told.append(f"Entries are gone: {written - place} after entry {place}.")
    return told


def strayed(root: Path, model: str) -> str:
    """A sentence where the alias does not name what the history says, because another tool moved it; else empty."""
    pointed, known = pointer.aliases(root, model).get(pointer.CHAMPION), champion(read(root, model))
    now = pointed.number if pointed else None
    if now == known:
        return ""
    return f"The alias champion names {_version(now)}, the history says {_version(known)}: another tool has moved it."


def champion(entries: list[Entry]) -> int | None:
    """The champion after the last move."""
    moves = [entry for entry in entries if entry.kind == MOVE]
    return moves[-1].after if moves else None


def former(entries: list[Entry]) -> int | None:
    """The version that a rollback goes to: the one that the champion took the place of, and was not taken back."""
    stack: list[int] = []
    for entry in entries:
        if entry.kind != MOVE or entry.after is None:
            continue
        if entry.word == ROLL_BACK:
            while stack and stack[-1] != entry.after:
                stack.pop()
        if not stack or stack[-1] != entry.after:
            stack.append(entry.after)
    return stack[-2] if len(stack) > 1 else None


def judged(entries: list[Entry], version: int) -> Entry | None:
    """The gate's last decision about a version."""
    found = [entry for entry in entries if entry.kind == DECISION and entry.version == version]
    return found[-1] if found else None


def decided(root: Path, model: str, word: str, version: int, why: str, evidence: dict[str, Any], commit: str) -> Entry:
    """Write down what the gate decided about a version."""
    with _writing(root) as connection:
        now = _caught_up(connection, model, commit)
        return _append(connection, Entry(model, DECISION, word, version, now, now, why, evidence, commit))


def move(
    root: Path, model: str, word: str, version: int, why: str, evidence: dict[str, Any], commit: str,
    *, instead_of: int | None,
) -> Entry:  # fmt: skip
    """Move the alias ``champion`` and write that down, both or neither.

    Parameters
    ----------
    instead_of : int or None
        The champion on which the decision to move was made.

    Raises
    ------
    PromotionError
        When the alias names another version by now.
    """
    with _writing(root) as connection:
        now = _caught_up(connection, model, commit)
        if now != instead_of:
            raise PromotionError(
                f"the champion of {model} is {_version(now)} by now{_who(connection, model)}",
                expected=f"{_version(instead_of)}, as when this command began",
                next="nothing was moved; look at modelbook history, and decide again",
            )
        wrote = _append(connection, Entry(model, MOVE, word, version, now, version, why, evidence, commit))
        tags = {"promoted_at": wrote.at, "promoted_after": str(now or "none"), "promoted_because": wrote.why[:4000]}
        pointer.point(connection, model, version, tags)
        if pointer.named(connection, model, CHALLENGER) == version:  # it has won
            pointer.unpoint(connection, model, CHALLENGER)
    return wrote


def challenge(root: Path, model: str, version: int | None, why: str, evidence: dict[str, Any], commit: str) -> Entry:
    """Let the alias ``challenger`` name a version, or with None nothing, and write that down, both or neither."""
    with _writing(root) as connection:
        now, other = _caught_up(connection, model, commit), pointer.named(connection, model, CHALLENGER)
        word, about = (END, other) if version is None else (CHALLENGE, version)
        wrote = _append(connection, Entry(model, TRAFFIC, word, about, now, now, why, evidence, commit))
        if version is None:
            pointer.unpoint(connection, model, CHALLENGER)
        else:
            pointer.point(connection, model, version, {}, CHALLENGER)
    return wrote


def by() -> str:
    """Who acts: ``MODELBOOK_BY``, else user@host."""
    if named := os.environ.get(BY, "").strip():
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _caught_up(connection: Connection, model: str, commit: str) -> int | None:
    """The champion now; where another tool has moved the alias, that is written down first."""
    now, known = pointer.named(connection, model), champion(_entries(connection, model))
    if now != known:
        why = "The alias was moved by another tool, or before there was a history."
        _append(connection, Entry(model, MOVE, FOUND, now, known, now, why, {}, commit))
    return now


def _append(connection: Connection, entry: Entry) -> Entry:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    evidence = json.loads(json.dumps(redact_all(entry.evidence)), parse_constant=lambda _: None)  # JSON knows no NaN
    entry = replace(
        entry, at=at, by=redact(by()), why=redact(entry.why), evidence=evidence,
        tool=f"modelbook {__version__} at {entry.tool}", previous=ledger.last(connection),
    )  # fmt: skip
    kept = {name: value for name, value in asdict(entry).items() if name not in ("number", "hash")}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    number, hashed = ledger.add(connection, text)
    return replace(entry, number=number, hash=hashed)


@contextmanager
def _writing(root: Path) -> Iterator[Connection]:
    """A transaction that writes, in a store with a history."""
    with database.writing(root) as connection:
        ledger.begin(connection)
        yield connection


def _entries(connection: Connection, model: str) -> list[Entry]:
    entries = [_entry(*row) for row in ledger.rows(connection) if _readable(row[1])]
    return [entry for entry in entries if entry.model == model]


def _readable(text: str) -> bool:
    """Whether an entry is still one; ``breaks`` tells of those that are not."""
    try:
        return set(json.loads(text)) == set(Entry.__dataclass_fields__) - {"number", "hash"}
    except (TypeError, ValueError):
        return False


def _entry(number: int, text: str, hashed: str) -> Entry:
    return Entry(**json.loads(text), number=number, hash=hashed)


def _who(connection: Connection, model: str) -> str:
    moves = [entry for entry in _entries(connection, model) if entry.kind == MOVE]
    return f": {moves[-1].by} at {moves[-1].at} ({moves[-1].word})" if moves else ""


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
