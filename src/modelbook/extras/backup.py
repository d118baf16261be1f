"""Back up a project and restore it: store, journals, contracts, settings and receipts.

Databases are copied by SQLite's own backup, which is consistent while a service writes; no build
may run. Each file's digest is in ``backup.json``, which is written last: a backup with this file is
complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelbook import __version__
from modelbook.build import locks
from modelbook.config.store import STORE_FILE
from modelbook.errors import StoreError
from modelbook.formatting import format_count
from modelbook.redaction import redact, redact_uri
from modelbook.registry import artifact_storage
from modelbook.registry.location import (
    display_uri,
    get_cache_folder,
    get_database_path,
    is_embedded,
)
from modelbook.stage.project import BY_HAND

MANIFEST_FILE = "backup.json"
FILES_FOLDER = "files"
SETTING_PATTERNS = (
    "*.yaml", "*.yml", "serving.keys.json", "contracts/**/*", "custom/**/*", "data/*.dvc",
    "notebooks/**/*.ipynb",
)  # fmt: skip
DATA_PATTERNS = ("models/**/*", "data/*/journal.db", "data/*/labelled.parquet")
TRANSIENT_SUFFIXES = (".lock", ".part", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class BackupSummary:
    """What was copied.

    Attributes
    ----------
    notes : list of str
        What the backup does not contain, one sentence each.
    """

    address: str
    files: int
    bytes: int
    notes: list[str]


def back_up(root: Path, destination: str) -> BackupSummary:
    """Copy a project's state to a new folder at the destination.

    Parameters
    ----------
    destination : str
        A folder, or a URI such as ``s3://bucket/backups``.

    Raises
    ------
    BuildError
        When a build is running.
    StoreError
        When a file cannot be read, or the destination cannot be written.
    """
    name = datetime.now(UTC).strftime(f"{root.name}-%Y%m%dT%H%M%SZ")
    target = f"{artifact_storage.resolve_uri(destination)}/{name}"
    with locks.lock_build(root), TemporaryDirectory(prefix="modelbook-backup-") as folder:
        files_folder = Path(folder) / FILES_FOLDER
        _copy_files(root, files_folder)
        digests = artifact_storage.compute_file_digests(files_folder)
        size = sum(path.stat().st_size for path in files_folder.rglob("*") if path.is_file())
        notes = _describe_omissions(root)
        manifest = {
            "modelbook": __version__,
            "project": root.name,
            "files": digests,
            "notes": notes,
        }
        (Path(folder) / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        artifact_storage.upload_folder(files_folder, f"{target}/{FILES_FOLDER}")
        shutil.rmtree(files_folder)
        artifact_storage.upload_folder(Path(folder), target)
    return BackupSummary(redact_uri(target), len(digests), size, notes)


def restore(root: Path, backup_uri: str) -> BackupSummary:
    """Copy a backup into a project's folder; nothing is changed when a digest is wrong.

    Raises
    ------
    StoreError
        When the backup is not complete or was altered, or a file of the project would change.
    """
    uri = artifact_storage.resolve_uri(backup_uri)
    manifest = _read_manifest(backup_uri)
    digests: dict[str, str] = manifest["files"]
    root.mkdir(parents=True, exist_ok=True)
    _require_no_conflict(root, digests)
    with TemporaryDirectory(dir=root, prefix=".restore-") as folder:
        files_folder = Path(folder) / FILES_FOLDER
        artifact_storage.download_folder(f"{uri}/{FILES_FOLDER}", files_folder)
        copied = artifact_storage.compute_file_digests(files_folder)
        altered = [name for name, digest in digests.items() if copied.get(name) != digest]
        if altered:
            raise StoreError(
                f"{format_count(len(altered), 'file is', 'files are')} missing or altered in "
                f"{redact_uri(backup_uri)}: {', '.join(altered[:5])}",
                expected=f"the digests in {MANIFEST_FILE}",
                next="nothing was restored; use another backup",
            )
        size = sum((files_folder / name).stat().st_size for name in digests)
        # Databases last: an interrupted restore leaves none that refers to missing files.
        for name in sorted(digests, key=lambda name: name.endswith(".db")):
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (files_folder / name).replace(target)
    return BackupSummary(str(root), len(digests), size, manifest["notes"])


def _read_manifest(backup_uri: str) -> dict[str, Any]:
    text = artifact_storage.read_file(f"{artifact_storage.resolve_uri(backup_uri)}/{MANIFEST_FILE}")
    try:
        manifest = json.loads(text)
        is_valid = isinstance(manifest["files"], dict) and isinstance(manifest["notes"], list)
    except (ValueError, KeyError, TypeError):
        is_valid = False
    if not is_valid:
        raise StoreError(
            f"{redact_uri(backup_uri)}/{MANIFEST_FILE} is not the list of a backup",
            expected="the path or URI that modelbook backup printed",
            next="use another backup",
        )
    return manifest


def _copy_files(root: Path, target_folder: Path) -> None:
    # Databases first: files that they refer to are never removed, so they are copied afterwards.
    paths = sorted(_list_files(root), key=lambda path: path.suffix != ".db")
    for path in paths:
        target = target_folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".db":
            copy_database(path, target)
        else:
            shutil.copy2(path, target)


def _list_files(root: Path) -> Iterable[Path]:
    cache = get_cache_folder(root)
    paths = {path for pattern in (*SETTING_PATTERNS, *DATA_PATTERNS) for path in root.glob(pattern)}
    for path in paths:
        is_by_hand = BY_HAND in path.relative_to(root).parts
        is_transient = is_by_hand or path.name.endswith(TRANSIENT_SUFFIXES)
        if path.is_file() and not is_transient and not path.is_relative_to(cache):
            yield path


def copy_database(path: Path, target: Path) -> None:
    """Copy an SQLite database as of one moment, while others write it.

    Raises
    ------
    StoreError
        When one of the two cannot be read or written.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with (
            closing(sqlite3.connect(uri, uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} cannot be copied to {target}: {error}",
            expected="an SQLite file",
            next="move the file away, or restore it from an older backup",
        ) from None


def _describe_omissions(root: Path) -> list[str]:
    from modelbook.serving import settings

    notes = []
    if not is_embedded(root):
        notes.append(f"Runs, versions and history are in {display_uri(root)}: back that up too.")
    elif not get_database_path(root).is_relative_to(root / "models"):
        notes.append(f"The store {get_database_path(root)} is outside models: back that up too.")
    for path in root.glob("data/*"):
        url = settings.load_settings(root, path.name).journal.url if path.is_dir() else ""
        if url:
            notes.append(f"The journal of {path.name} is in {redact(url)}: back that up too.")
    return notes


def _require_no_conflict(root: Path, digests: dict[str, str]) -> None:
    conflicts = [
        name
        for name, digest in digests.items()
        if (root / name).is_file() and _compute_digest(root / name) != digest
    ]
    if conflicts:
        raise StoreError(
            f"{format_count(len(conflicts), 'file differs', 'files differ')} in {root} and in the "
            f"backup: {', '.join(conflicts[:5])}",
            expected="a folder without them, such as an empty one or a fresh clone",
            next=f"restore into an empty folder, or move these away; {STORE_FILE} included",
        )


def _compute_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
