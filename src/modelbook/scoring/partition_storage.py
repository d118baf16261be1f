"""Where a run reads partitions and writes results: folders that workers share, or object stores.

Both keep what an interrupted run has finished. Folders appear only when all results are there; in
an object store, a marker says until then that they are incomplete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from modelbook.atomic import write_text
from modelbook.dataset import parquet_folder
from modelbook.dataset.object_store import COMMIT_MARKER, INCOMPLETE_MARKERS, RemotePath
from modelbook.errors import DataError, ModelbookError
from modelbook.scoring import batch

if TYPE_CHECKING:
    from modelbook.registry.aliases import RegisteredVersion

VERSION_FOLDER, RUN_FILE = "version", "run.json"  # names in the staging folder
RUN_FOLDER = "_run"  # folder in an object store; readers of Parquet skip it
INCOMPLETE_MARKER = INCOMPLETE_MARKERS[0]


class PartitionStorage(Protocol):
    """Reads partitions by name, and writes their results; workers get a copy."""

    @property
    def source(self) -> Path | RemotePath: ...

    @property
    def rejects(self) -> Path | RemotePath: ...

    def check(self) -> list[str]:
        """Return the partitions' names; raise DataError where the results cannot be written."""

    def lock(self) -> AbstractContextManager[Any]:
        """Keep other runs from writing the same results."""

    def prepare(self, version: RegisteredVersion) -> RegisteredVersion:
        """Copy the version's files to where workers can read them; keep the same run's results."""

    def fetch_version(self, version: RegisteredVersion) -> RegisteredVersion:
        """Return the prepared version as a worker can load it."""

    def describe_state(self, name: str) -> Any:
        """Return what changes when the partition does."""

    def read_record(self, name: str) -> dict[str, Any] | None:
        """Return what ``write_record`` has written of a partition."""

    def write_record(self, name: str, record: dict[str, Any]) -> None:
        """Record a partition as done."""

    def open_partition(self, name: str) -> AbstractContextManager[tuple[Path, Path]]:
        """Yield the paths of the partition and of its result; keep the result, and its rejects."""

    def publish(self, names: list[str]) -> None:
        """Show the results of these partitions, rejects first, as complete."""


def open_storage(
    source: Path | RemotePath, target: Path | RemotePath
) -> SharedFolders | ObjectStoreFolders:
    """Return the storage of two folders, or of two URIs."""
    if isinstance(source, RemotePath) and isinstance(target, RemotePath):
        return ObjectStoreFolders(source, target)
    if isinstance(source, Path) and isinstance(target, Path):
        return SharedFolders(source.resolve(), target.resolve())
    raise TypeError("one of source and target is a folder, the other a URI")


@dataclass
class SharedFolders:
    """Folders by paths that all workers have; results are staged, and renamed at the end."""

    source: Path
    target: Path

    @property
    def rejects(self) -> Path:
        return self.target.with_name(f"{self.target.name}.rejects")

    @property
    def _staging(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part")

    def check(self) -> list[str]:
        if self.target.exists():
            raise DataError(
                f"{self.target} exists already", next="move it away, or name another folder"
            )
        if self.target.is_relative_to(self.source):
            raise _make_inside_error(self.target, self.source)
        return parquet_folder.list_parquet_files(self.source)

    def lock(self) -> AbstractContextManager[Any]:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        return batch.lock_target(self.target, "folder")

    def prepare(self, version: RegisteredVersion) -> RegisteredVersion:
        staging = self._staging
        description = _describe_run(self.source, version)
        is_finished = (staging / "finished").exists()
        is_resumable = (
            (staging / RUN_FILE).is_file()
            and (staging / RUN_FILE).read_text() == description
            # Without predictions, a finished run was published, up to deleting its staging folder.
            and (not is_finished or (staging / "predictions").exists())
        )
        if self.rejects.exists() and not (is_resumable and is_finished):
            raise DataError(
                f"{self.rejects} exists already", next="move it away, or name another folder"
            )
        if not is_resumable:
            version.verify_files()
            shutil.rmtree(staging, ignore_errors=True)
            shutil.copytree(version.artifact_folder, staging / VERSION_FOLDER)
            write_text(staging / RUN_FILE, description)
        return replace(version, artifact_folder=staging / VERSION_FOLDER, source_uri="")

    def fetch_version(self, version: RegisteredVersion) -> RegisteredVersion:
        return version

    def describe_state(self, name: str) -> Any:
        stat = (self.source / name).stat()
        return [stat.st_size, stat.st_mtime_ns]

    def read_record(self, name: str) -> dict[str, Any] | None:
        path = self._record_path(name)
        return json.loads(path.read_text()) if path.is_file() else None

    def write_record(self, name: str, record: dict[str, Any]) -> None:
        write_text(self._record_path(name), json.dumps(record))

    def _record_path(self, name: str) -> Path:
        path = self._staging / "done" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def open_partition(self, name: str) -> Iterator[tuple[Path, Path]]:
        output_path = self._staging / "predictions" / name
        rejects_path = (self._staging / "rejects" / name).with_suffix(".csv")
        written_rejects = batch.name_rejects(output_path)
        for path in (output_path, rejects_path, written_rejects):  # files of a dead worker
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        yield self.source / name, output_path
        if written_rejects.exists():
            written_rejects.replace(rejects_path)

    def publish(self, names: list[str]) -> None:
        (self._staging / "finished").touch()
        for folder in (self._staging / "predictions", self._staging / "rejects"):
            for path in [entry for entry in folder.rglob("*") if entry.is_file()]:
                # Of partitions removed between attempts.
                if path.relative_to(folder).with_suffix(".parquet").as_posix() not in names:
                    path.unlink()
        if any(path.is_file() for path in (self._staging / "rejects").rglob("*")):
            (self._staging / "rejects").replace(self.rejects)
        (self._staging / "predictions").replace(self.target)
        shutil.rmtree(self._staging)


@dataclass
class ObjectStoreFolders:
    """Folders at URIs: each worker downloads a partition, and uploads its result.

    An object store renames nothing. The folder has ``_INCOMPLETE``, with the run's description,
    until all results are there, and ``_SUCCESS`` from then on.
    """

    source: RemotePath
    target: RemotePath
    _version_folder: TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def rejects(self) -> RemotePath:
        return self.target.sibling(f"{self.target.name}.rejects")

    def check(self) -> list[str]:
        if f"{self.target.uri}/".startswith(f"{self.source.uri}/"):
            raise _make_inside_error(self.target, self.source)
        if self.target.exists() and (
            self.target.child(COMMIT_MARKER).exists() or self._read_run() is None
        ):
            raise DataError(f"{self.target} exists already", next="name another one, or delete it")
        return parquet_folder.list_remote_parquet_files(self.source)

    def lock(self) -> AbstractContextManager[Any]:
        return nullcontext()  # object stores have no locks

    def prepare(self, version: RegisteredVersion) -> RegisteredVersion:
        description = _describe_run(self.source, version)
        earlier_run = self._read_run()
        if earlier_run not in (None, description):
            raise DataError(
                f"{self.target} was started by a run of other rows or another version",
                expected="the same rows and version, to continue that run, or another folder",
                next="delete it, or name another one",
            )
        if earlier_run is None:
            if self.rejects.exists():
                raise DataError(
                    f"{self.rejects} exists already", next="name another folder, or delete it"
                )
            self.target.child(INCOMPLETE_MARKER).write_text(description)
        version.verify_files()
        self._run_child(VERSION_FOLDER).upload(version.artifact_folder)
        return replace(version, source_uri=self._run_child(VERSION_FOLDER).uri)

    def fetch_version(self, version: RegisteredVersion) -> RegisteredVersion:
        self._version_folder = TemporaryDirectory()  # as long as the worker scores
        return replace(version, artifact_folder=Path(self._version_folder.name, VERSION_FOLDER))

    def describe_state(self, name: str) -> Any:
        return self.source.child(name).fingerprint()

    def read_record(self, name: str) -> dict[str, Any] | None:
        text = self._run_child(f"done/{name}.json").read_text()
        return None if text is None else json.loads(text)

    def write_record(self, name: str, record: dict[str, Any]) -> None:
        self._run_child(f"done/{name}.json").write_text(json.dumps(record))

    @contextmanager
    def open_partition(self, name: str) -> Iterator[tuple[Path, Path]]:
        with TemporaryDirectory() as folder:
            source, target = self.source.child(name), self.target.child(name)
            input_path = Path(folder, "in", source.name)
            output_path = Path(folder, target.name)
            input_path.parent.mkdir()
            source.download(input_path.parent)
            try:
                yield input_path, output_path
            except ModelbookError as error:
                problem = error.problem.replace(str(input_path), str(source))
                raise type(error)(problem, expected=error.expected, next=error.next) from None
            target.upload(output_path)
            rejects = self.rejects.child(_name_partition_rejects(name))
            if batch.name_rejects(output_path).exists():
                rejects.upload(batch.name_rejects(output_path))
            else:  # the partition as it was before an interruption
                rejects.remove_folder()

    def publish(self, names: list[str]) -> None:
        for folder, results in (
            (self.target, {*names}),
            (self.rejects, {_name_partition_rejects(name) for name in names}),
        ):
            files = {name for name in folder.list_files(allow_incomplete=True) if name[0] != "_"}
            for name in files - results:  # of partitions that were removed between attempts
                folder.child(name).remove()
        self.target.child(COMMIT_MARKER).write_text(json.dumps({"files": len(names)}))
        self._run_child("").remove_folder()
        self.target.child(INCOMPLETE_MARKER).remove()

    def _read_run(self) -> str | None:
        return self.target.child(INCOMPLETE_MARKER).read_text()

    def _run_child(self, name: str) -> RemotePath:
        return self.target.child(f"{RUN_FOLDER}/{name}".rstrip("/"))


def _make_inside_error(target: object, source: object) -> DataError:
    return DataError(
        f"{target} is inside {source}", expected="a folder outside it", next="name another folder"
    )


def _name_partition_rejects(name: str) -> str:
    return f"{name.removesuffix('.parquet')}.csv"


def _describe_run(source: Path | RemotePath, version: RegisteredVersion) -> str:
    return json.dumps({"source": str(source), "version": version.number, "tags": version.tags})
