"""Registered versions and their aliases, read by MLflow's client and cached in a small file.

MLflow takes seconds to import. The last state is therefore cached in a file, which a service polls,
and which is valid as long as an embedded store has not changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.atomic import write_text
from modelbook.config.renamed_keys import RENAMED_VERSION_KEYS
from modelbook.errors import ModelbookError, StoreError
from modelbook.registry import artifact_storage, connection, libraries
from modelbook.registry.artifact_storage import compute_folder_digest
from modelbook.registry.location import (
    ALIAS_CACHE_FOLDER,
    RELATIVE_SCHEME,
    display_uri,
    get_artifact_uri,
    get_cache_folder,
    get_database_path,
    get_local_path,
    get_registry_uri,
    get_tracking_uri,
    has_store,
    is_embedded,
)
from modelbook.registry.store import call_or_none, create_client, make_old_store_error

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "digest"  # tag with the digest of a version's files
SOURCE_DIGEST_TAG = "source_digest"  # an imported version's digest in the store it comes from
SQLITE_COUNTER = slice(24, 28)  # bytes of the header that count changes


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version: its tags, and the folder of its artifacts, on this machine or remote.

    Attributes
    ----------
    source_uri : str
        URI from which ``verify_files`` downloads artifacts; empty for local ones.
    """

    name: str
    number: int
    tags: dict[str, str]
    artifact_folder: Path
    source_uri: str = ""

    @property
    def model_uri(self) -> str:
        """The URI by which MLflow loads the version from its store."""
        return f"models:/{self.name}/{self.number}"

    def is_same_version(self, other: RegisteredVersion | None) -> bool:
        """Whether both are one version of one model."""
        return other is not None and self.model_uri == other.model_uri

    @property
    def metrics(self) -> dict[str, Any]:
        """Holdout metrics with confidence intervals, feature importance and threshold."""
        text = (self.artifact_folder / "metrics.json").read_text(encoding="utf-8")
        return {RENAMED_VERSION_KEYS.get(key, key): item for key, item in json.loads(text).items()}

    @property
    def source_digest(self) -> str:
        """Digest of the files in the store where the version was made."""
        return self.tags.get(SOURCE_DIGEST_TAG) or self.tags[DIGEST_TAG]

    def verify_files(self) -> None:
        """Download remote files if needed, and check that all files match the registered digest.

        Raises
        ------
        StoreError
            When the version has no digest, its files are elsewhere, or they were altered.
        """
        registered = self.tags.get(DIGEST_TAG)
        if registered is None:
            raise StoreError(
                f"version {self.number} of {self.name} was registered without a digest of its "
                "files",
                next="build finalize again to register a version with a digest",
            )
        if self.source_uri:
            artifact_storage.download_verified_folder(
                self.source_uri, self.artifact_folder, registered
            )
        self.require_folder()
        if compute_folder_digest(self.artifact_folder) != registered:
            raise StoreError(
                f"the files of version {self.number} of {self.name} were altered",
                expected=f"files with the digest {registered[:12]} in {self.artifact_folder}",
                next="restore the folder from a backup, or promote another version",
            )

    def require_libraries(self) -> None:
        """Raise StoreError when the installed libraries cannot load the version's pickles."""
        if differences := libraries.find_differences(self.tags):
            raise StoreError(
                f"version {self.number} of {self.name} was registered with "
                f"{libraries.describe_differences(differences)}",
                expected="the same minor release of Python and scikit-learn, and major release of "
                "NumPy and pandas, because the model is a pickle",
                next=f"fit it again: modelbook retrain --book {self.name}; or load it in an "
                "environment with those versions",
            )

    def load_pipeline(self, name: str) -> Any:
        """Load a fitted pipeline: ``model``, of all rows, or ``evaluated``, of the train rows.

        Raises
        ------
        StoreError
            When the installed libraries cannot load it.
        """
        import cloudpickle

        self.require_libraries()
        # Unpickling imports PyCaret, which would write logs.log into the working folder.
        os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
        path = self.artifact_folder / f"{name}.pkl"
        with path.open("rb") as file, self.explain_unpickling():
            return cloudpickle.load(file)

    @contextmanager
    def explain_unpickling(self) -> Iterator[None]:
        """Convert errors of pickles of other libraries, or of another Modelbook, to StoreErrors."""
        try:
            yield
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("modelbook."):
                raise
            raise StoreError(
                f"version {self.number} of {self.name} needs {error.name}, which this Modelbook "
                "does not have: another Modelbook registered it",
                expected="a version that this Modelbook has registered",
                next=(
                    "build the book again: modelbook build; or load the version with the Modelbook "
                    f"of its commit, {self.tags.get('commit', 'unknown')}"
                ),
            ) from None
        except Exception:  # unpickling may raise anything
            self.require_libraries()
            raise

    def require_folder(self) -> None:
        """Raise StoreError when the folder of the files does not exist."""
        if not self.artifact_folder.is_dir():
            raise StoreError(
                f"the files of version {self.number} of {self.name} are missing",
                expected=f"the folder {self.artifact_folder}",
                next="copy the whole folder models with the project, or restore it from a backup",
            )


@dataclass(frozen=True)
class AliasCache:
    """Aliases as last read from the store, and why it can no longer be read.

    Attributes
    ----------
    checked_at : float
        Unix time of the last check; with a problem, of the first check that had it.
    problem : str
        Why the last check could not read the store; empty when it could.
    is_current : bool
        Whether an embedded store has not changed since.
    path : Path
        The file that they were read from.
    """

    versions: dict[str, RegisteredVersion]
    checked_at: float
    problem: str
    is_current: bool
    path: Path


def make_missing_champion_error(error_type: type[ModelbookError], book: str) -> ModelbookError:
    """Return the error for a missing champion."""
    return error_type(
        f"no version of {book!r} has the alias champion",
        expected="a version that the gate has promoted",
        next=f"modelbook build --book {book}; if the gate held, the reason is in modelbook history "
        f"--book {book}",
    )


def find_champion_number(root: Path, model_name: str) -> int | None:
    """Return the number of the champion; None when there is none."""
    champion = read_aliases(root, model_name).get(CHAMPION)
    return champion.number if champion else None


def require_champion(
    root: Path, model_name: str, error_type: type[ModelbookError] = StoreError
) -> RegisteredVersion:
    """Return the champion; raise an error of this type when there is none."""
    champion = read_aliases(root, model_name).get(CHAMPION)
    if champion is None:
        raise make_missing_champion_error(error_type, model_name)
    return champion


def require_challenger(
    root: Path, model_name: str, error_type: type[ModelbookError]
) -> RegisteredVersion:
    """Return the challenger; raise an error of this type when there is none."""
    challenger = read_aliases(root, model_name).get(CHALLENGER)
    if challenger is None:
        raise error_type(
            f"{model_name} has no challenger",
            expected="a version with the alias challenger",
            next="set one: modelbook challenge V",
        )
    return challenger


def read_aliases(root: Path, model_name: str) -> dict[str, RegisteredVersion]:
    """Return a model's versions by alias; empty when there is no store or no such model.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    if not has_store(root):
        return {}
    cached_aliases = read_cached_aliases(root, model_name)
    return (
        cached_aliases.versions
        if cached_aliases and cached_aliases.is_current
        else refresh_aliases(root, model_name)
    )


def refresh_aliases(
    root: Path, model_name: str, *, download: bool = False
) -> dict[str, RegisteredVersion]:
    """Read a model's versions by alias from the store, and cache them.

    Parameters
    ----------
    download : bool
        Whether to download missing files of the versions before their aliases are cached.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    state = _read_store_state(root)  # before the aliases: a later change is seen
    versions = query_aliases(root, model_name)
    for version in versions.values() if download else ():
        if version.source_uri and not version.artifact_folder.is_dir():
            with suppress(ModelbookError):  # the service's worker that loads it reports the reason
                version.verify_files()
    _cache_aliases(root, model_name, versions, state)
    return versions


def _read_store_state(root: Path) -> list[int] | None:
    """Return what changes with each write to an embedded store; None for others.

    SQLite counts the changes of a file in its header.
    """
    path = get_database_path(root)
    if not is_embedded(root) or not path.is_file():
        return None
    with path.open("rb") as file:
        header = file.read(SQLITE_COUNTER.stop)
    return [int.from_bytes(header[SQLITE_COUNTER], "big"), path.stat().st_size]


def query_aliases(root: Path, model_name: str) -> dict[str, RegisteredVersion]:
    """Read a model's versions by alias from the store.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    with connection.convert_errors(root):
        client = create_client(root)
        return {
            alias: _get_version(client, root, model_name, number)
            for alias, number in find_alias_versions(client, model_name).items()
        }


def find_alias_versions(client: MlflowClient, model_name: str) -> dict[str, int]:
    """Return the numbers of a model's versions by alias; empty when there is no such model."""
    model = call_or_none(client.get_registered_model, model_name)
    return {alias: int(number) for alias, number in model.aliases.items()} if model else {}


def find_version(root: Path, model_name: str, version: int) -> RegisteredVersion | None:
    """Return a version by its number, or None when it does not exist.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    if not has_store(root):
        return None
    with connection.convert_errors(root):
        return call_or_none(_get_version, create_client(root), root, model_name, version)


def require_version(
    root: Path, model_name: str, version: int, error_type: type[ModelbookError] = StoreError
) -> RegisteredVersion:
    """Return a version by its number; raise an error of this type when it does not exist."""
    registered = find_version(root, model_name, version)
    if registered is None:
        raise error_type(
            f"model {model_name!r} has no version {version}",
            expected="a registered version",
            next="list the versions: modelbook history; build the book to register one: modelbook "
            "build",
        )
    return registered


def list_version_numbers(root: Path, model_name: str) -> list[int]:
    """Return the numbers of all versions of a model, in order.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    with connection.convert_errors(root):
        versions = create_client(root).search_model_versions(f"name = '{model_name}'")
    return sorted(int(version.version) for version in versions)


def set_version_tags(root: Path, version: RegisteredVersion, tags: dict[str, str | None]) -> None:
    """Set tags of a version; None deletes a tag.

    Raises
    ------
    StoreError
        When the store refuses.
    """
    number = str(version.number)
    with connection.convert_errors(root):
        client = create_client(root)
        for key, value in tags.items():
            if value is None:
                client.delete_model_version_tag(version.name, number, key)
            else:
                client.set_model_version_tag(version.name, number, key, value)


def _get_version(
    client: MlflowClient, root: Path, model_name: str, version: int
) -> RegisteredVersion:
    tags = client.get_model_version(model_name, str(version)).tags
    uri = client.get_model_version_download_uri(model_name, str(version))
    if get_artifact_uri(root) == f"{RELATIVE_SCHEME}:" and uri.startswith("file:"):
        raise make_old_store_error(root)
    folder = get_local_path(root, uri)
    if folder:
        return RegisteredVersion(model_name, version, dict(tags), folder / "artifacts")
    cached_folder = get_cache_folder(root) / tags.get(DIGEST_TAG, "none")
    return RegisteredVersion(model_name, version, dict(tags), cached_folder, f"{uri}/artifacts")


# The file of the last check


def read_cached_aliases(root: Path, model_name: str) -> AliasCache | None:
    """Return the aliases as last read from this store, or None; never imports MLflow."""
    path = _get_cache_path(root, model_name)
    try:
        text = path.read_text(encoding="utf-8")
        checked_at = path.stat().st_mtime
        content = json.loads(text)
        if content["store"] != _store_name(root):
            return None
        versions = {
            alias: _restore_version(root, value) for alias, value in content["aliases"].items()
        }
        state = content["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_current = state is not None and state == _read_store_state(root)
    return AliasCache(versions, checked_at, content.get("problem", ""), is_current, path)


def cache_problem(root: Path, model_name: str, problem: str) -> None:
    """Record that the store cannot be read; the aliases stay as last read."""
    path = _get_cache_path(root, model_name)
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["problem"] != problem:
            write_text(path, json.dumps({**content, "problem": problem}, indent=1))


def _cache_aliases(
    root: Path, model_name: str, versions: dict[str, RegisteredVersion], state: list[int] | None
) -> None:
    """Cache aliases that were just read from the store."""
    content = {
        "store": _store_name(root),
        "state": state,
        "problem": "",
        "aliases": {alias: _serialize_version(root, value) for alias, value in versions.items()},
    }
    text = json.dumps(content, indent=1)
    path = _get_cache_path(root, model_name)
    with suppress(OSError):  # a read-only project: each check reads the store
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            os.utime(path)
            return
        write_text(path, text)


def _get_cache_path(root: Path, model_name: str) -> Path:
    return _get_base_folder(root) / ALIAS_CACHE_FOLDER / f"{model_name}.json"


def _get_base_folder(root: Path) -> Path:
    """Return the folder that the paths in the cache are relative to."""
    return get_database_path(root).parent if is_embedded(root) else get_cache_folder(root)


def _store_name(root: Path) -> str:
    """Return a name of the store: the same for an embedded store and its copy elsewhere."""
    if is_embedded(root):
        return "embedded"
    uris = f"{get_tracking_uri(root)}\n{get_registry_uri(root)}".encode()
    return f"{display_uri(root)} {hashlib.sha256(uris).hexdigest()[:12]}"


def _serialize_version(root: Path, version: RegisteredVersion) -> dict[str, Any]:
    folder = version.artifact_folder.absolute()
    base = _get_base_folder(root).absolute()
    path = folder.relative_to(base) if folder.is_relative_to(base) else folder
    return {
        "name": version.name,
        "number": version.number,
        "tags": version.tags,
        "folder": str(path),
        "source_uri": version.source_uri,
    }


def _restore_version(root: Path, content: dict[str, Any]) -> RegisteredVersion:
    folder = _get_base_folder(root) / content["folder"]
    return RegisteredVersion(
        content["name"], content["number"], content["tags"], folder, content["source_uri"]
    )
