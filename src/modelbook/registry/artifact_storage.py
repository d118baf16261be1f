"""Artifact files of versions: compute digests, upload to an object store, download and cache."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from modelbook.dataset.object_store import convert_storage_errors, open_filesystem
from modelbook.errors import StoreError
from modelbook.redaction import redact_uri

SERVER_SCHEME = "mlflow-artifacts:"  # files that an MLflow server hands out
explain_storage_errors = partial(
    convert_storage_errors, error_class=StoreError, docs="docs/stores.md"
)


def resolve_uri(path_or_uri: str) -> str:
    """Return the URI of a path; a URI is unchanged, except for slashes at its end."""
    uri = path_or_uri if "://" in path_or_uri else f"file://{Path(path_or_uri).resolve()}"
    return uri.rstrip("/")


def compute_file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compute_folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all files in a folder."""
    digests = compute_file_digests(folder).items()
    return hashlib.sha256(
        "".join(f"{name}\0{digest}\n" for name, digest in digests).encode()
    ).hexdigest()


def download_verified_folder(uri: str, target_folder: Path, expected_digest: str) -> None:
    """Download a folder atomically and check its digest; an existing target folder is unchanged.

    Parameters
    ----------
    expected_digest : str
        Digest that the downloaded files must have.

    Raises
    ------
    StoreError
        When the files cannot be downloaded, or do not match the digest.
    """
    if target_folder.is_dir():
        return
    target_folder.parent.mkdir(parents=True, exist_ok=True)
    parent = target_folder.parent
    prefix = f".{target_folder.name}."
    with TemporaryDirectory(dir=parent, prefix=prefix) as temporary_folder:
        files = Path(temporary_folder) / "files"
        download_folder(uri, files)
        if compute_folder_digest(files) != expected_digest:
            raise StoreError(
                f"the files in {redact_uri(uri)} differ from those registered",
                expected=f"files with the digest {expected_digest[:12]}",
                next="restore them from a backup, or promote another version",
            )
        try:
            os.rename(files, target_folder)
        except OSError:  # another process was faster
            if not target_folder.is_dir():
                raise


def upload_folder(folder: Path, uri: str) -> None:
    """Upload a folder; skip files that exist remotely with the same size.

    Raises
    ------
    StoreError
        When the store refuses the upload.
    """
    with explain_storage_errors(uri):
        filesystem, base = open_filesystem(uri)
        existing_files = filesystem.find(base, detail=True) if filesystem.exists(base) else {}
        local_files = {
            f"{base}/{path.relative_to(folder).as_posix()}": path
            for path in folder.rglob("*")
            if path.is_file()
        }
        changed_files = {
            name: str(path)
            for name, path in local_files.items()
            if existing_files.get(name, {}).get("size") != path.stat().st_size
        }
        if changed_files:
            filesystem.put(list(changed_files.values()), list(changed_files))


def download_folder(uri: str, target_folder: Path) -> None:
    """Download a folder without checking its digest.

    Raises
    ------
    StoreError
        When the store refuses access, or there is no such folder.
    """
    with explain_storage_errors(uri):
        _download_files(uri, target_folder)


def upload_file(path: Path, folder_uri: str) -> None:
    """Upload a file to a folder, overwriting a file of the same name.

    Raises
    ------
    StoreError
        When the store refuses the upload.
    """
    with explain_storage_errors(folder_uri):
        if folder_uri.startswith(SERVER_SCHEME):
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            get_artifact_repository(folder_uri).log_artifact(str(path))
            return
        filesystem, folder = open_filesystem(folder_uri)
        filesystem.put_file(str(path), f"{folder}/{path.name}")


def read_file(uri: str) -> bytes:
    """Return the content of one file.

    Raises
    ------
    StoreError
        When the file does not exist, or the store refuses access.
    """
    with explain_storage_errors(uri):
        filesystem, path = open_filesystem(uri)
        return filesystem.cat_file(path)


def delete_folder(uri: str) -> None:
    """Delete a folder, if it exists.

    Raises
    ------
    StoreError
        When the store refuses access.
    """
    with explain_storage_errors(uri):
        if uri.startswith(SERVER_SCHEME):
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            get_artifact_repository(uri).delete_artifacts()
            return
        filesystem, path = open_filesystem(uri)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def check_write_access(uri: str) -> None:
    """Check the access that a build needs: write, read and delete a probe file.

    Raises
    ------
    StoreError
        When the store refuses one of these.
    """
    with explain_storage_errors(uri):
        filesystem, path = open_filesystem(f"{uri}/.modelbook-{uuid.uuid4().hex}")
        filesystem.pipe_file(path, b"probe")
        filesystem.cat_file(path)
        filesystem.rm_file(path)


def _download_files(uri: str, target_folder: Path) -> None:
    if uri.startswith(SERVER_SCHEME):
        import mlflow

        with TemporaryDirectory(dir=target_folder.parent) as folder:
            path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
            os.rename(path, target_folder)
        return
    filesystem, path = open_filesystem(uri)
    remote_paths = sorted(filesystem.find(path))
    if not remote_paths:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
    local_paths = [target_folder / Path(name).relative_to(path) for name in remote_paths]
    for parent in {name.parent for name in local_paths}:
        parent.mkdir(parents=True, exist_ok=True)
    filesystem.get(remote_paths, [str(name) for name in local_paths])
