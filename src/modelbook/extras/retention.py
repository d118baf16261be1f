"""Delete what is no longer needed: versions and candidates by number and age, and cached files.

Never deleted are versions that an alias names, and those that have been champion: a rollback may
restore them, and later candidates are compared with the first. The runs of deleted versions stay,
because they count the evaluations of a holdout. So do the runs of candidates whose models are
deleted; a registered candidate keeps its model.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelbook.build import locks
from modelbook.registry import artifact_storage, candidate_runs, connection, history
from modelbook.registry.aliases import (
    find_alias_versions,
    find_version,
    read_aliases,
    refresh_aliases,
)
from modelbook.registry.location import get_local_path, has_store, list_downloads
from modelbook.registry.store import check_store, create_client

SECONDS_PER_DAY = 86_400.0


@dataclass
class Retention:
    """What is deleted, or would be.

    Attributes
    ----------
    kept_for : dict
        Versions that only number and age would delete, with the reason why they stay.
    candidate_models : dict
        Ids of the candidates' models in MLflow, with the URIs of their files.
    """

    versions: list[int] = field(default_factory=list)
    kept_for: dict[int, str] = field(default_factory=dict)
    candidate_models: dict[str, str] = field(default_factory=dict)
    cached_folders: list[str] = field(default_factory=list)
    size_mb: float = 0.0

    @property
    def is_empty(self) -> bool:
        return not (self.versions or self.candidate_models or self.cached_folders)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def plan_retention(
    root: Path, book: str, keep: int, min_age_days: float, keep_comparisons: int
) -> Retention:
    """Find versions beyond the newest ``keep`` that are older than ``min_age_days``.

    The same holds for the candidates' models of comparisons beyond ``keep_comparisons``. Files that
    were downloaded, and not used for so many days, are deleted by age alone.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    retention = Retention()
    made_before = time.time() - min_age_days * SECONDS_PER_DAY
    check_store(root)
    if has_store(root):
        with connection.convert_errors(root):
            versions = create_client(root).search_model_versions(f"name = '{book}'")
        creation_times = {
            int(registered.version): registered.creation_timestamp / 1000 for registered in versions
        }
        needed = _find_needed_versions(root, book)
        for number in sorted(creation_times)[: -keep or None]:
            if creation_times[number] > made_before:
                continue
            if number in needed:
                retention.kept_for[number] = needed[number]
            else:
                retention.versions.append(number)
                version = find_version(root, book, number)
                retention.size_mb += _measure_size_mb(version.artifact_folder) if version else 0.0
        models = candidate_runs.find_prunable_models(root, book, keep_comparisons, made_before)
        for uri in models.values():
            folder = get_local_path(root, uri)
            retention.size_mb += _measure_size_mb(folder) if folder else 0.0
        retention.candidate_models = models
    for folder in _find_unused_downloads(root, book, made_before):
        retention.cached_folders.append(folder.as_posix())
        retention.size_mb += _measure_size_mb(folder)
    return retention


def apply_retention(root: Path, book: str, retention: Retention, commit: str) -> None:
    """Delete what was planned, and record the versions in the history.

    A version is deleted before its files: after an interruption only files without a version are
    left, never a version without its files.

    Raises
    ------
    BuildError
        When a build is running.
    StoreError
        When the store refuses; a version that is needed meanwhile stays.
    """
    with locks.lock_build(root):
        needed = _find_needed_versions(root, book)
        deleted = [number for number in retention.versions if number not in needed]
        for number in deleted:
            _delete_version(root, book, number)
        for model_id, uri in retention.candidate_models.items():
            candidate_runs.delete_model(root, model_id, uri)
        for name in retention.cached_folders:
            shutil.rmtree(name, ignore_errors=True)
        if deleted:
            history.record_retention(root, book, {"versions": deleted}, commit)
            refresh_aliases(root, book)


def _find_needed_versions(root: Path, book: str) -> dict[int, str]:
    """Return versions that must stay, with the reason."""
    champions = history.list_recorded_champions(history.read_history(root, book))
    needed = {number: "former champion" for number in champions if number is not None}
    with connection.convert_errors(root):
        aliases = find_alias_versions(create_client(root), book)
    return needed | {number: alias for alias, number in aliases.items()}


def _delete_version(root: Path, book: str, number: int) -> None:
    version = find_version(root, book, number)
    if version is None:
        return
    with connection.convert_errors(root):
        create_client(root).delete_model_version(book, str(number))
    if version.source_uri:
        artifact_storage.delete_folder(version.source_uri)
    shutil.rmtree(version.artifact_folder, ignore_errors=True)


def _find_unused_downloads(root: Path, book: str, made_before: float) -> Iterator[Path]:
    in_use = {version.artifact_folder for version in read_aliases(root, book).values()}
    for folder in list_downloads(root):
        if folder not in in_use and folder.stat().st_mtime <= made_before:
            yield folder


def _measure_size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
