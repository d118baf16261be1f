"""Forget an entity: remove its rows from a book, and record what was removed.

This removes its rows in the book's tables, its predictions and outcomes in the journal, its rows
among the holdout rows of each version, and all exports with rows of it, because the URI of an
export ends with the digest of its content. A version's files change, so its digest is updated; the
history records both digests, and a hash of the entity. A model that was trained on the entity's
rows stays: the result names these versions. So do golden rows, which do not name the entity.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from modelbook.atomic import atomic_write
from modelbook.build import locks
from modelbook.contract import Column, Contract
from modelbook.errors import StoreError
from modelbook.journal import Journal
from modelbook.registry import artifact_storage, connection, history
from modelbook.registry.aliases import (
    DIGEST_TAG,
    RegisteredVersion,
    find_version,
    list_version_numbers,
    refresh_aliases,
    set_version_tags,
)
from modelbook.registry.artifact_storage import compute_folder_digest
from modelbook.registry.exports import ARTIFACTS_FOLDER, ROWS_FILE
from modelbook.registry.location import list_downloads

ERASING_TAG = "erasing"  # tag of a version whose files are being changed


@dataclass
class Erasure:
    """What was removed.

    Attributes
    ----------
    table_rows : dict
        Rows by the path of the table, below the project.
    trained_versions : list of int
        Versions that were fitted on the entity's rows, as far as the project knows: those with
        such holdout rows, which the final fit includes, and those of the table that was read last.
    unread : dict
        By the name of a version or export: why its files could not be read.
    """

    table_rows: dict[str, int] = field(default_factory=dict)
    journal_rows: int = 0
    version_rows: dict[int, int] = field(default_factory=dict)
    trained_versions: list[int] = field(default_factory=list)
    digests: dict[str, list[str]] = field(default_factory=dict)
    exports: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.table_rows or self.journal_rows or self.version_rows or self.exports)


def forget_entity(
    root: Path, book: str, contract: Contract, journal: Journal | None, entity: str, commit: str
) -> Erasure:
    """Remove an entity's rows from a book's tables, journal, versions, exports and downloads.

    Raises
    ------
    BuildError
        When a build is running.
    StoreError
        When the contract has no entity, the text is not a value of its column, or the store
        refuses a change.
    """
    if contract.entity is None:
        raise StoreError(
            f"the contract of {book} has no column with the role entity",
            expected="a column that identifies the entity of each row",
            next="give it the role entity in the contract, and build again",
        )
    selection = EntitySelection(contract.entity, contract.columns[contract.entity], entity)
    with locks.lock_build(root):
        erasure = Erasure()
        for path in sorted((root / "data" / book).rglob("*.parquet")):
            if count := _erase_rows(path, selection):
                erasure.table_rows[path.relative_to(root).as_posix()] = count
        if journal:
            erasure.journal_rows = journal.delete_rows(selection.matches_input)
        with connection.convert_errors(root):
            _erase_from_versions(root, book, selection, erasure)
        _delete_exports(root, book, selection, erasure)
        if not erasure.is_empty:
            for folder in list_downloads(root):
                shutil.rmtree(folder, ignore_errors=True)
            history.record_erasure(root, book, _describe(erasure, selection), commit)
    return erasure


class EntitySelection:
    """The rows of an entity: those whose value of its column is read as the same value.

    So ``7`` selects 7, 7.0 and the text "7" of an integer column.

    Parameters
    ----------
    name : str
        Name of the entity column.
    text : str
        The entity, as the user wrote it.

    Raises
    ------
    StoreError
        When the text is not a value of that column.
    """

    def __init__(self, name: str, column: Column, text: str) -> None:
        self.name = name
        self._column = column
        self.value = column.parse_values(pd.Series([text])).iloc[0]
        if pd.isna(self.value):
            raise StoreError(
                f"{text!r} is not a valid value of {name}, the entity column",
                expected=column.describe_allowed_values(),
                next="give the entity as it is written in that column of the table",
            )

    def matches(self, table: pd.DataFrame) -> pd.Series:
        """Return whether each row of a table is the entity's."""
        return self._column.parse_values(table[self.name]) == self.value

    def matches_input(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether the inputs of a prediction are the entity's."""
        value = inputs.get(self.name)
        return value is not None and self._column.parse_value(value) == self.value

    def hash(self) -> str:
        """Return a hash of the entity, which is the same however its number was written."""
        value = self.value
        is_whole = isinstance(value, float) and value.is_integer()
        return hashlib.sha256(str(int(value) if is_whole else value).encode()).hexdigest()


def _erase_from_versions(
    root: Path, book: str, selection: EntitySelection, erasure: Erasure
) -> None:
    fingerprint = _read_fingerprint(root, book)
    for number in list_version_numbers(root, book):
        version = find_version(root, book, number)
        if version is None:
            continue
        try:
            count = _erase_from_files(root, version, selection, erasure)
        except StoreError as error:  # its files are gone, or elsewhere
            erasure.unread[f"version {number}"] = error.problem
            continue
        is_of_last_table = version.tags.get("fingerprint") == fingerprint
        if count or (is_of_last_table and erasure.table_rows):
            erasure.trained_versions.append(version.number)
    refresh_aliases(root, book)


def _erase_from_files(
    root: Path, version: RegisteredVersion, selection: EntitySelection, erasure: Erasure
) -> int:
    """Remove an entity's rows from a version's files, and set its digest; return their number.

    A tag marks the version meanwhile: after an interruption the next call sets the digest.
    """
    with _open_files(version) as folder:
        path = folder / ROWS_FILE
        count = _count_rows(path, selection)
        if not count and ERASING_TAG not in version.tags:
            return 0
        set_version_tags(root, version, {ERASING_TAG: "yes"})
        _erase_rows(path, selection)
        if count and version.source_uri:
            artifact_storage.upload_file(path, version.source_uri)
        digest = compute_folder_digest(folder)
    set_version_tags(root, version, {DIGEST_TAG: digest, ERASING_TAG: None})
    erasure.digests[str(version.number)] = [version.tags.get(DIGEST_TAG, ""), digest]
    erasure.version_rows[version.number] = count
    return count


@contextmanager
def _open_files(version: RegisteredVersion) -> Iterator[Path]:
    """Yield the folder of a version's files; a copy, where they are in an object store."""
    if not version.source_uri:
        version.require_folder()
        yield version.artifact_folder
        return
    with TemporaryDirectory(prefix="modelbook-forget-") as name:
        artifact_storage.download_folder(version.source_uri, Path(name) / "files")
        yield Path(name) / "files"


def _delete_exports(root: Path, book: str, selection: EntitySelection, erasure: Erasure) -> None:
    """Delete the exports with rows of the entity; the history has their URIs."""
    entries = history.read_history(root, book)
    deleted = {export_uri for entry in entries for export_uri in entry.evidence.get("exports", [])}
    exported = [entry.export_uri for entry in entries if entry.action == history.EXPORT]
    for export_uri in dict.fromkeys(exported):
        if export_uri in deleted:
            continue
        try:
            if _count_exported_rows(export_uri, selection):
                artifact_storage.delete_folder(export_uri)
                erasure.exports.append(export_uri)
        except StoreError as error:
            erasure.unread[f"export {export_uri}"] = error.problem


def _count_exported_rows(export_uri: str, selection: EntitySelection) -> int:
    with TemporaryDirectory(prefix="modelbook-forget-") as name:
        folder = Path(name) / ARTIFACTS_FOLDER
        artifact_storage.download_folder(f"{export_uri}/{ARTIFACTS_FOLDER}", folder)
        return _count_rows(folder / ROWS_FILE, selection)


def _count_rows(path: Path, selection: EntitySelection) -> int:
    if not path.is_file() or selection.name not in pq.read_schema(path).names:
        return 0
    return int(selection.matches(pd.read_parquet(path, columns=[selection.name])).sum())


def _erase_rows(path: Path, selection: EntitySelection) -> int:
    """Remove an entity's rows from a table; return how many there were."""
    count = _count_rows(path, selection)
    if count:
        table = pd.read_parquet(path)
        remaining_rows = table[~selection.matches(table)].reset_index(drop=True)
        with atomic_write(path) as temporary_path:
            remaining_rows.to_parquet(temporary_path, index=False)
    return count


def _read_fingerprint(root: Path, book: str) -> str:
    """Return the fingerprint of the table that was read last; empty when there is none."""
    path = root / "models" / book / "ingest.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content.get("details", {}).get("fingerprint", "")


def _describe(erasure: Erasure, selection: EntitySelection) -> dict[str, Any]:
    return {
        "entity_hash": selection.hash(),
        "table_rows": erasure.table_rows,
        "journal_rows": erasure.journal_rows,
        "trained_versions": erasure.trained_versions,
        "exports": erasure.exports,
        "version_rows": {str(number): count for number, count in erasure.version_rows.items()},
        "digests": erasure.digests,
    }
