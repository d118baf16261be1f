"""History: every decision of the gate and every move of an alias, in an append-only table.

The table is in the store's database, so everyone who shares the store shares its history, and an
alias and its entry change in one transaction. Each entry holds the hash of the previous one. The
database refuses to change or delete entries, and ``find_integrity_errors`` detects tampering.
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
from modelbook.registry import aliases, history_table
from modelbook.registry import transactions as database
from modelbook.registry.aliases import CHALLENGER

USER_VARIABLE = "MODELBOOK_BY"  # name of the user when the machine's user says little, as in CI
DECISION, ALIAS_MOVE, TRAFFIC = "decision", "move", "traffic"
ROLL_BACK, EXTERNAL_MOVE, START_CHALLENGE, END_CHALLENGE = (
    "roll back",
    "found",
    "challenge",
    "end of challenge",
)  # in addition to the gate's actions


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of the history.

    Attributes
    ----------
    number : int
        Position in the store's history, from 1; 0 before it is written.
    kind, action : str
        ``decision`` of the gate (promote, hold), ``move`` of the champion alias (promote, roll
        back; found: moved by another tool), or ``traffic`` (challenge, end of challenge).
    version : int or None
        Version that the entry is about.
    champion_before, champion_after : int or None
        The champion before and after; equal unless the alias moved.
    timestamp, user, reason : str
        Time (UTC), user and reason.
    evidence : dict
        Plain data: the gate's criteria and numbers, run, fingerprint, digest, golden rows.
    code_version : str
        Version of Modelbook, and the commit that it ran from.
    previous_hash, hash : str
        Hash of the previous entry, and of this one.
    """

    model: str
    kind: str
    action: str
    version: int | None
    champion_before: int | None
    champion_after: int | None
    reason: str
    evidence: dict[str, Any]
    code_version: str = ""
    timestamp: str = ""
    user: str = ""
    number: int = 0
    previous_hash: str = ""
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        return asdict(self)

    def describe_move(self) -> str:
        """Describe a move of the alias in words."""
        predecessor_text = (
            f" after {_format_version(self.champion_before)}" if self.champion_before else ""
        )
        proof_text = f"{self.evidence.get('golden_rows', 0)} golden rows reproduced exactly"
        return (
            f"{_format_version(self.champion_after)} of {self.model} is the "
            f"champion{predecessor_text}; {proof_text}; entry {self.number} in history"
        )


def read_history(root: Path, model_name: str | None = None) -> list[HistoryEntry]:
    """Return the history of a store or of one model, oldest first; empty when there is none.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    with database.read_transaction(root) as connection:
        rows = history_table.read_entries(connection)
    entries = [_parse_entry(*row) for row in rows if _is_valid_entry(row[1])]
    return [entry for entry in entries if model_name in (None, entry.model)]


def find_integrity_errors(root: Path) -> list[str]:
    """Check the store's history for gaps and changes; return one sentence for each problem."""
    with database.read_transaction(root) as connection:
        rows, written_count = (
            history_table.read_entries(connection),
            history_table.count_written_entries(connection),
        )
    problems, previous_hash, last_number = [], "", 0
    for number, text, entry_hash in rows:
        if number != last_number + 1:
            problems.append(
                f"Entries are missing: {number - 1 - last_number} before entry {number}."
            )
        elif _is_valid_entry(text) and json.loads(text)["previous_hash"] != previous_hash:
            problems.append(
                f"Entry {number} does not follow entry {last_number}: one of the two was replaced."
            )
        if history_table.hash_entry(text) != entry_hash:
            problems.append(f"Entry {number} was changed: its content does not match its hash.")
        previous_hash, last_number = entry_hash, number
    if written_count > last_number:
        problems.append(
            f"Entries are missing: {written_count - last_number} after entry {last_number}."
        )
    return problems


def alias_mismatch(root: Path, model_name: str) -> str:
    """Describe a difference between alias and history, after a move by another tool; else empty."""
    aliased_version, recorded = (
        aliases.read_aliases(root, model_name).get(aliases.CHAMPION),
        recorded_champion(read_history(root, model_name)),
    )
    current = aliased_version.number if aliased_version else None
    if current == recorded:
        return ""
    return (
        f"The alias champion names {_format_version(current)}, the history records "
        f"{_format_version(recorded)}: another tool has moved it."
    )


def recorded_champion(entries: list[HistoryEntry]) -> int | None:
    """Return the champion after the last recorded move."""
    moves = [entry for entry in entries if entry.kind == ALIAS_MOVE]
    return moves[-1].champion_after if moves else None


def find_rollback_target(entries: list[HistoryEntry]) -> int | None:
    """Return the version that a rollback restores: the champion's latest valid predecessor."""
    stack: list[int] = []
    for entry in entries:
        if entry.kind != ALIAS_MOVE or entry.champion_after is None:
            continue
        if entry.action == ROLL_BACK:
            while stack and stack[-1] != entry.champion_after:
                stack.pop()
        if not stack or stack[-1] != entry.champion_after:
            stack.append(entry.champion_after)
    return stack[-2] if len(stack) > 1 else None


def last_decision(entries: list[HistoryEntry], version: int) -> HistoryEntry | None:
    """Return the gate's last decision about a version."""
    decisions = [entry for entry in entries if entry.kind == DECISION and entry.version == version]
    return decisions[-1] if decisions else None


def record_decision(
    root: Path,
    model_name: str,
    action: str,
    version: int,
    reason: str,
    evidence: dict[str, Any],
    commit: str,
) -> HistoryEntry:
    """Record the gate's decision about a version."""
    with _write_history(root) as connection:
        current_champion = _record_external_move(connection, model_name, commit)
        return _append_entry(
            connection,
            HistoryEntry(
                model_name,
                DECISION,
                action,
                version,
                current_champion,
                current_champion,
                reason,
                evidence,
                commit,
            ),
        )


def move_champion(
    root: Path,
    model_name: str,
    action: str,
    version: int,
    reason: str,
    evidence: dict[str, Any],
    commit: str,
    *,
    expected_champion: int | None,
) -> HistoryEntry:
    """Move the alias ``champion`` and record the move, both or neither.

    Parameters
    ----------
    expected_champion : int or None
        Champion at the time of the decision.

    Raises
    ------
    PromotionError
        When the champion has changed since.
    """
    with _write_history(root) as connection:
        current_champion = _record_external_move(connection, model_name, commit)
        if current_champion != expected_champion:
            raise PromotionError(
                (
                    f"the champion of {model_name} is {_format_version(current_champion)} "
                    f"now{_describe_last_move(connection, model_name)}"
                ),
                expected=f"{_format_version(expected_champion)}, as when this command started",
                next="the alias was not moved; check modelbook history, and decide again",
            )
        entry = _append_entry(
            connection,
            HistoryEntry(
                model_name,
                ALIAS_MOVE,
                action,
                version,
                current_champion,
                version,
                reason,
                evidence,
                commit,
            ),
        )
        tags = {
            "promoted_at": entry.timestamp,
            "promoted_after": str(current_champion or "none"),
            "promoted_because": entry.reason[:4000],
        }
        aliases.set_alias(connection, model_name, version, tags)
        if aliases.find_aliased_version(connection, model_name, CHALLENGER) == version:  # it won
            aliases.delete_alias(connection, model_name, CHALLENGER)
    return entry


def move_challenger(
    root: Path,
    model_name: str,
    version: int | None,
    reason: str,
    evidence: dict[str, Any],
    commit: str,
) -> HistoryEntry:
    """Set the alias ``challenger``, or delete it with None, and record that, both or neither."""
    with _write_history(root) as connection:
        current_champion, current_challenger = (
            _record_external_move(connection, model_name, commit),
            aliases.find_aliased_version(connection, model_name, CHALLENGER),
        )
        action, subject_version = (
            (END_CHALLENGE, current_challenger) if version is None else (START_CHALLENGE, version)
        )
        entry = _append_entry(
            connection,
            HistoryEntry(
                model_name,
                TRAFFIC,
                action,
                subject_version,
                current_champion,
                current_champion,
                reason,
                evidence,
                commit,
            ),
        )
        if version is None:
            aliases.delete_alias(connection, model_name, CHALLENGER)
        else:
            aliases.set_alias(connection, model_name, version, {}, CHALLENGER)
    return entry


def current_user() -> str:
    """Return the acting user: ``MODELBOOK_BY``, else user@host."""
    if configured_name := os.environ.get(USER_VARIABLE, "").strip():
        return configured_name
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _record_external_move(connection: Connection, model_name: str, commit: str) -> int | None:
    """Return the current champion; first record a move of the alias by another tool, if any."""
    current_champion, recorded = (
        aliases.find_aliased_version(connection, model_name),
        recorded_champion(_read_entries(connection, model_name)),
    )
    if current_champion != recorded:
        reason = "The alias was moved by another tool, or before the history began."
        _append_entry(
            connection,
            HistoryEntry(
                model_name,
                ALIAS_MOVE,
                EXTERNAL_MOVE,
                current_champion,
                recorded,
                current_champion,
                reason,
                {},
                commit,
            ),
        )
    return current_champion


def _append_entry(connection: Connection, entry: HistoryEntry) -> HistoryEntry:
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    evidence = json.loads(
        json.dumps(redact_all(entry.evidence)), parse_constant=lambda _: None
    )  # JSON knows no NaN
    entry = replace(
        entry,
        timestamp=timestamp,
        user=redact(current_user()),
        reason=redact(entry.reason),
        evidence=evidence,
        code_version=f"modelbook {__version__} at {entry.code_version}",
        previous_hash=history_table.read_last_hash(connection),
    )
    fields = {
        name: value for name, value in asdict(entry).items() if name not in ("number", "hash")
    }
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    number, entry_hash = history_table.append_entry(connection, text)
    return replace(entry, number=number, hash=entry_hash)


@contextmanager
def _write_history(root: Path) -> Iterator[Connection]:
    """Open a write transaction, and create the history tables when needed."""
    with database.write_transaction(root) as connection:
        history_table.create_tables(connection)
        yield connection


def _read_entries(connection: Connection, model_name: str) -> list[HistoryEntry]:
    entries = [
        _parse_entry(*row)
        for row in history_table.read_entries(connection)
        if _is_valid_entry(row[1])
    ]
    return [entry for entry in entries if entry.model == model_name]


def _is_valid_entry(text: str) -> bool:
    """Return whether an entry can be parsed; ``find_integrity_errors`` reports the others."""
    try:
        return set(json.loads(text)) == set(HistoryEntry.__dataclass_fields__) - {"number", "hash"}
    except (TypeError, ValueError):
        return False


def _parse_entry(number: int, text: str, entry_hash: str) -> HistoryEntry:
    return HistoryEntry(**json.loads(text), number=number, hash=entry_hash)


def _describe_last_move(connection: Connection, model_name: str) -> str:
    moves = [entry for entry in _read_entries(connection, model_name) if entry.kind == ALIAS_MOVE]
    return f": {moves[-1].user} at {moves[-1].timestamp} ({moves[-1].action})" if moves else ""


def _format_version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
