"""History: every decision of the gate and every change of an alias, in an append-only log.

The log is in the store, so everyone who shares the store shares its history. Each entry holds the
hash of the previous one, and ``find_integrity_errors`` detects tampering. The entry is written
first, then the alias, then a tag of the model with the last entry whose alias is set. After a crash
between them, the next writer, or ``reconcile``, completes the move that the last entry describes. A
move by another tool, without an entry, gets one.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from modelbook import __version__, formatting
from modelbook.errors import PromotionError, StoreError
from modelbook.file_lock import acquire_lock
from modelbook.formatting import format_count
from modelbook.redaction import redact, redact_all
from modelbook.registry import aliases, connection, history_log
from modelbook.registry.aliases import CHALLENGER, CHAMPION
from modelbook.registry.history_log import (
    EntryTakenError,
    HistoryLog,
    LogEntry,
    repeat_after_conflict,
)
from modelbook.registry.location import get_database_path, has_store, is_embedded

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

USER_VARIABLE = "MODELBOOK_BY"  # name of the user where the machine's user is generic, as in CI
DECISION, ALIAS_CHANGE, TRAFFIC, TRANSFER = "decision", "move", "traffic", "transfer"
IMPORT, EXPORT, ERASURE, FORGET, PRUNE = "import", "export", "erasure", "forget", "prune"
APPLIED_TAG = "modelbook.history_applied"  # last entry whose aliases are set
LOCK_TIMEOUT_SECONDS = 30.0  # longest wait of a writer for another
MAX_ATTEMPTS = 20  # attempts to write an entry, while other writers take its number
# Actions of entries besides the gate's.
ROLL_BACK, EXTERNAL_MOVE = "roll back", "external move"
START_CHALLENGE, END_CHALLENGE = "challenge", "end of challenge"


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of the history.

    Attributes
    ----------
    number : int
        Position in the model's history, from 1; 0 before it is written.
    kind, action : str
        ``decision`` of the gate (promote, hold), ``move`` of the champion alias (promote, roll
        back; external move: by another tool), ``traffic`` (challenge, end of challenge),
        ``transfer`` (import; export with people's rows) or ``erasure`` (forget, prune).
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

    @property
    def export_uri(self) -> str:
        """Folder or URI of the export that the entry is about."""
        return self.evidence.get("export_uri") or self.evidence["passport"]  # entries of 1.0.0

    def describe(self) -> str:
        """Describe the change of an alias."""
        if self.kind == "traffic":
            return (
                f"{self.action}: {_format_version(self.version)} of {self.model}; "
                f"entry {self.number} in history"
            )
        predecessor_text = (
            f" after {_format_version(self.champion_before)}" if self.champion_before else ""
        )
        golden_text = (
            f"{format_count(self.evidence.get('golden_rows', 0), 'golden row')} reproduced"
        )
        return (
            f"{_format_version(self.champion_after)} of {self.model} is the "
            f"champion{predecessor_text}; {golden_text}; entry {self.number} in history"
        )


def read_history(root: Path, model_name: str | None = None) -> list[HistoryEntry]:
    """Return the history of one model or of all, oldest first; empty when there is none.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    entries = [entry for log in _open_logs(root, model_name) for entry in _read_entries(log)]
    return entries if model_name else sorted(entries, key=lambda entry: entry.timestamp)


def find_integrity_errors(root: Path, model_name: str | None = None) -> list[str]:
    """Check histories for gaps and changes; return one sentence for each problem."""
    return [
        problem for log in _open_logs(root, model_name) for problem in _find_log_problems(root, log)
    ]


def _find_log_problems(root: Path, log: HistoryLog) -> list[str]:
    problems = []
    previous_hash = ""
    last_number = 0
    with connection.convert_errors(root):
        entries = log.read_entries()
        log_problems = log.find_tampering()
    for number, text, entry_hash in entries:
        if number != last_number + 1:
            problems.append(
                f"Entries are missing: {number - 1 - last_number} before entry {number}."
            )
        elif _is_valid_entry(text) and json.loads(text)["previous_hash"] != previous_hash:
            problems.append(
                f"Entry {number} does not follow entry {last_number}: one of the two was replaced."
            )
        if history_log.hash_entry(text) != entry_hash:
            problems.append(f"Entry {number} was changed: its content does not match its hash.")
        previous_hash = entry_hash
        last_number = number
    return problems + log_problems


def reconcile(root: Path, model_name: str, commit: str) -> str:
    """Complete an interrupted move, or record one by another tool; describe a remaining mismatch.

    Returns
    -------
    str
        The difference between alias and history that this user may not repair; otherwise empty.
    """
    for log in _open_logs(root, model_name):
        mismatch = describe_alias_mismatch(root, model_name)
        try:
            if mismatch or _find_unapplied(log.read_model(), _read_entries(log)):
                with _write_history(root, model_name) as writable_log:
                    _reconcile(root, writable_log, _describe_code(commit))
        except StoreError as error:  # a reader without permission to write
            return f"{mismatch} {error.problem}".strip()
    return ""


def describe_alias_mismatch(root: Path, model_name: str) -> str:
    """Describe a difference between alias and history, after a move by another tool; else empty."""
    current = aliases.find_champion_number(root, model_name)
    recorded_version = find_recorded_champion(read_history(root, model_name))
    if current == recorded_version:
        return ""
    return (
        f"The alias champion points to {_format_version(current)}, the history records "
        f"{_format_version(recorded_version)}: another tool has moved it, or a move was "
        "interrupted."
    )


def list_recorded_champions(entries: list[HistoryEntry]) -> list[int | None]:
    """Return the champion after each recorded move, oldest first."""
    return [entry.champion_after for entry in entries if entry.kind == ALIAS_CHANGE]


def find_recorded_champion(entries: list[HistoryEntry]) -> int | None:
    """Return the champion after the last recorded move."""
    champions = list_recorded_champions(entries)
    return champions[-1] if champions else None


def find_first_champion(entries: list[HistoryEntry]) -> int | None:
    """Return the first version that became champion: a reference that promotions do not change."""
    return next((number for number in list_recorded_champions(entries) if number is not None), None)


def find_rollback_target(entries: list[HistoryEntry]) -> int | None:
    """Return the version that a rollback restores: the champion's latest valid predecessor."""
    stack: list[int] = []
    for entry in entries:
        if entry.kind != ALIAS_CHANGE or entry.champion_after is None:
            continue
        if entry.action == ROLL_BACK:
            while stack and stack[-1] != entry.champion_after:
                stack.pop()
        if not stack or stack[-1] != entry.champion_after:
            stack.append(entry.champion_after)
    return stack[-2] if len(stack) > 1 else None


def find_last_decision(entries: list[HistoryEntry], version: int) -> HistoryEntry | None:
    """Return the gate's last decision about a version."""
    decisions = [entry for entry in entries if entry.kind == DECISION and entry.version == version]
    return decisions[-1] if decisions else None


def find_last_import(entries: list[HistoryEntry], version: int) -> HistoryEntry | None:
    """Return the entry about the import of a version."""
    imports = [entry for entry in entries if entry.action == IMPORT and entry.version == version]
    return imports[-1] if imports else None


def record_import(
    root: Path, model_name: str, version: int, reason: str, evidence: dict[str, Any], commit: str
) -> HistoryEntry:
    """Record that a version was imported from another store."""
    return _record(root, model_name, TRANSFER, IMPORT, version, reason, evidence, commit)


def record_export(
    root: Path, model_name: str, version: int, export_uri: str, commit: str
) -> HistoryEntry:
    """Record where a version was exported to with the holdout rows, which are people's."""
    reason = "Exported with its holdout rows."
    evidence = {"export_uri": export_uri}
    return _record(root, model_name, TRANSFER, EXPORT, version, reason, evidence, commit)


def record_erasure(
    root: Path, model_name: str, evidence: dict[str, Any], commit: str
) -> HistoryEntry:
    """Record that an entity's rows were removed."""
    reason = "An entity's rows were removed."
    return _record(root, model_name, ERASURE, FORGET, None, reason, evidence, commit)


def record_retention(
    root: Path, model_name: str, evidence: dict[str, Any], commit: str
) -> HistoryEntry:
    """Record that versions were deleted which were no longer needed."""
    reason = "Versions that are no longer needed were deleted."
    return _record(root, model_name, ERASURE, PRUNE, None, reason, evidence, commit)


def record_decision(
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
    """Record the gate's decision about a version.

    Parameters
    ----------
    expected_champion : int or None
        Champion that the gate compared it with.

    Raises
    ------
    PromotionError
        When the champion has changed since.
    """
    change = (model_name, DECISION, action, version, reason, evidence, commit)
    return _record(root, *change, expected_champion)


def set_champion(
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
    """Record a change of the alias ``champion``, and set it.

    Parameters
    ----------
    expected_champion : int or None
        Champion at the time of the decision.

    Raises
    ------
    PromotionError
        When the champion has changed since.
    """
    change = (model_name, ALIAS_CHANGE, action, version, reason, evidence, commit)
    return _record(root, *change, expected_champion)


def set_challenger(
    root: Path,
    model_name: str,
    version: int | None,
    reason: str,
    evidence: dict[str, Any],
    commit: str,
) -> HistoryEntry:
    """Record the start of a challenge, or its end with None, and set or delete the alias."""
    action = END_CHALLENGE if version is None else START_CHALLENGE
    return _record(root, model_name, TRAFFIC, action, version, reason, evidence, commit)


def _record(
    root: Path,
    model_name: str,
    kind: str,
    action: str,
    version: int | None,
    reason: str,
    evidence: dict[str, Any],
    commit: str,
    expected_champion: int | EllipsisType | None = ...,
) -> HistoryEntry:
    """Append an entry about the current champion, and set the aliases that it describes.

    Raises
    ------
    PromotionError
        When the champion is another one than expected.
    """
    draft = HistoryEntry(
        model_name, kind, action, version, None, None, reason, evidence, _describe_code(commit)
    )
    with _write_history(root, model_name) as log:
        entry = _append_entry(root, log, draft, expected_champion)
        if entry.kind in (ALIAS_CHANGE, TRAFFIC):
            _apply_entry(root, log, entry)
    return entry


def _describe_code(commit: str) -> str:
    return f"modelbook {__version__} at {commit}"


def current_user() -> str:
    """Return the acting user: ``MODELBOOK_BY``, else user@host."""
    if configured_name := os.environ.get(USER_VARIABLE, "").strip():
        return configured_name
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _reconcile(root: Path, log: HistoryLog, code_version: str) -> tuple[int | None, list[LogEntry]]:
    """Return the current champion, and the log; first complete what a crash interrupted.

    A move is completed when the alias is as before it or after it. Otherwise another tool has moved
    the alias, which is recorded.
    """
    for _ in range(MAX_ATTEMPTS):
        logged = log.read_entries()
        entries = _parse_entries(logged)
        model = log.read_model()
        aliased = _read_alias_number(model, CHAMPION)
        unapplied = [
            entry
            for entry in _find_unapplied(model, entries)
            if entry.kind == TRAFFIC or aliased in (entry.champion_before, entry.champion_after)
        ]
        recorded_version = find_recorded_champion(entries)
        if not unapplied and aliased == recorded_version:
            return aliased, logged
        for entry in unapplied:
            _apply_entry(root, log, entry)
        if not unapplied:
            external_move = HistoryEntry(
                model=log.model_name,
                kind=ALIAS_CHANGE,
                action=EXTERNAL_MOVE,
                version=aliased,
                champion_before=recorded_version,
                champion_after=aliased,
                reason="The alias was moved by another tool, or before the history began.",
                evidence={},
                code_version=code_version,
            )
            with suppress(EntryTakenError):
                _mark_applied(log, _write_entry(log, external_move, logged))
    raise _make_busy_error(log)


def _find_unapplied(model: RegisteredModel, entries: list[HistoryEntry]) -> list[HistoryEntry]:
    """Return the last move and the last change of traffic, when their aliases may not be set."""
    applied = int(model.tags.get(APPLIED_TAG, "0"))
    last_entries = {entry.kind: entry for entry in entries if entry.kind in (ALIAS_CHANGE, TRAFFIC)}
    return sorted(
        (
            entry
            for entry in last_entries.values()
            if entry.number > applied and entry.action != EXTERNAL_MOVE
        ),
        key=lambda entry: entry.number,
    )


def _read_alias_number(model: RegisteredModel, alias: str) -> int | None:
    return int(model.aliases[alias]) if alias in model.aliases else None


def _apply_entry(root: Path, log: HistoryLog, entry: HistoryEntry) -> None:
    """Set the aliases that an entry describes; a later entry, written meanwhile, prevails."""
    client, model_name = log.client, log.model_name
    while True:
        if entry.kind == ALIAS_CHANGE and entry.champion_after is not None:
            _set_champion(log, entry)
        elif entry.action == START_CHALLENGE:
            repeat_after_conflict(
                client.set_registered_model_alias, model_name, CHALLENGER, str(entry.version)
            )
        elif entry.action == END_CHALLENGE:
            client.delete_registered_model_alias(model_name, CHALLENGER)
        _mark_applied(log, entry)
        latest = [other for other in _read_entries(log) if other.kind == entry.kind][-1]
        if latest.number == entry.number:
            break
        entry = latest
    aliases.refresh_aliases(root, model_name)


def _set_champion(log: HistoryLog, entry: HistoryEntry) -> None:
    client = log.client
    model_name = log.model_name
    version = str(entry.champion_after)
    tags = {
        "promoted_at": entry.timestamp,
        "promoted_after": str(entry.champion_before or "none"),
        "promoted_because": entry.reason[:4000],
    }
    repeat_after_conflict(client.set_registered_model_alias, model_name, CHAMPION, version)
    for key, value in tags.items():
        repeat_after_conflict(client.set_model_version_tag, model_name, version, key, value)
    if _read_alias_number(log.read_model(), CHALLENGER) == entry.champion_after:  # it won
        client.delete_registered_model_alias(model_name, CHALLENGER)


def _mark_applied(log: HistoryLog, entry: HistoryEntry) -> None:
    repeat_after_conflict(
        log.client.set_registered_model_tag, log.model_name, APPLIED_TAG, str(entry.number)
    )


def _append_entry(
    root: Path, log: HistoryLog, draft: HistoryEntry, expected_champion: int | EllipsisType | None
) -> HistoryEntry:
    """Append an entry about the current champion; repeated after a concurrent write."""
    for _ in range(MAX_ATTEMPTS):
        champion, logged = _reconcile(root, log, draft.code_version)
        if expected_champion is not ...:
            _require_expected_champion(log, champion, expected_champion)
        with suppress(EntryTakenError):
            return _write_entry(log, _complete_draft(log, draft, champion), logged)
    raise _make_busy_error(log)


def _complete_draft(log: HistoryLog, draft: HistoryEntry, champion: int | None) -> HistoryEntry:
    """Add the current champion to an entry, and to the end of a challenge the challenger."""
    version = draft.version
    if draft.action == END_CHALLENGE:
        version = _read_alias_number(log.read_model(), CHALLENGER)
    after = version if draft.kind == ALIAS_CHANGE else champion
    return replace(draft, version=version, champion_before=champion, champion_after=after)


def _write_entry(log: HistoryLog, entry: HistoryEntry, log_entries: list[LogEntry]) -> HistoryEntry:
    entry = replace(
        entry,
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        user=redact(current_user()),
        reason=redact(entry.reason),
        evidence=formatting.replace_non_finite_numbers(redact_all(entry.evidence)),
        previous_hash=log_entries[-1].hash if log_entries else "",
    )
    fields = {
        name: value for name, value in asdict(entry).items() if name not in ("number", "hash")
    }
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    number = log_entries[-1].number + 1 if log_entries else 1
    return replace(entry, number=number, hash=log.append(number, text))


def _make_busy_error(log: HistoryLog) -> StoreError:
    return StoreError(
        f"other commands keep writing the history of {log.model_name}",
        next="nothing was changed; try again",
    )


def _open_logs(root: Path, model_name: str | None) -> list[HistoryLog]:
    if not has_store(root):
        return []
    with connection.convert_errors(root):
        names = [model_name] if model_name else history_log.list_models(root)
        logs = [history_log.open_log(root, name, create=False) for name in names]
    return [log for log in logs if log]


@contextmanager
def _write_history(root: Path, model_name: str) -> Iterator[HistoryLog]:
    """Open a model's log for writing; writers of an embedded store wait for one another."""
    with _lock_embedded_store(root), connection.convert_errors(root):
        log = history_log.open_log(root, model_name, create=True)
        assert log is not None
        yield log


@contextmanager
def _lock_embedded_store(root: Path) -> Iterator[None]:
    if not is_embedded(root):
        yield
        return
    path = get_database_path(root).with_suffix(".history.lock")
    error = StoreError(
        f"another command has been writing the history for {LOCK_TIMEOUT_SECONDS} seconds",
        expected=f"the lock of {path}",
        next="nothing was changed; check who else uses the store, and try again",
    )
    with acquire_lock(path, error, LOCK_TIMEOUT_SECONDS):
        yield


def _read_entries(log: HistoryLog) -> list[HistoryEntry]:
    return _parse_entries(log.read_entries())


def _parse_entries(logged: list[LogEntry]) -> list[HistoryEntry]:
    return [
        HistoryEntry(**json.loads(text), number=number, hash=entry_hash)
        for number, text, entry_hash in logged
        if _is_valid_entry(text)
    ]


def _is_valid_entry(text: str) -> bool:
    """Return whether an entry can be parsed; ``find_integrity_errors`` reports the others."""
    try:
        return set(json.loads(text)) == set(HistoryEntry.__dataclass_fields__) - {"number", "hash"}
    except (TypeError, ValueError):
        return False


def _require_expected_champion(log: HistoryLog, champion: int | None, expected: int | None) -> None:
    """Raise PromotionError when another command has moved the alias meanwhile."""
    if champion != expected:
        raise PromotionError(
            f"the champion of {log.model_name} is {_format_version(champion)} "
            f"now{_describe_last_move(log)}",
            expected=f"{_format_version(expected)}, as when this command started",
            next="the alias was not moved; check modelbook history, and decide again",
        )


def _describe_last_move(log: HistoryLog) -> str:
    moves = [entry for entry in _read_entries(log) if entry.kind == ALIAS_CHANGE]
    return f": {moves[-1].user} at {moves[-1].timestamp} ({moves[-1].action})" if moves else ""


def _format_version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
