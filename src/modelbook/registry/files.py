"""Files of versions: their digest, and those that stand in an object store, fetched once and kept by it."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelbook.errors import ModelbookError, StoreError
from modelbook.redaction import redact

EXTRAS = {"s3": "s3", "s3a": "s3"}  # the extra that brings what a scheme needs
MENDS = {
    r"NoCredentials|Unable to locate credentials|PartialCredentials": (
        "give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role"
    ),
    r"InvalidAccessKey|SignatureDoesNotMatch|ExpiredToken|InvalidToken": "correct the credentials, or renew them",
    r"NoSuchBucket|bucket does not exist": "make the bucket, or correct the setting artifacts",
    r"AccessDenied|PermissionError|Forbidden|Access Denied": (
        "let the bucket's owner grant it: s3:GetObject, PutObject, DeleteObject, ListBucket (docs/stores.md)"
    ),
    r"Connect|timed out|Timeout|resolve|Endpoint": "see that the store is up: the network, AWS_ENDPOINT_URL",
}


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()


def fetch(source: str, folder: Path, expected: str) -> None:
    """Fetch what is below an address into a folder, whole or not at all; a folder that is there is left alone.

    Parameters
    ----------
    expected : str
        The digest that the files have.

    Raises
    ------
    StoreError
        When they cannot be fetched, or are others.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        with told(source):
            _get(source, Path(part) / "files")
        if digest(Path(part) / "files") != expected:
            raise StoreError(
                f"the files in {redact(source)} are not those that were registered",
                expected=f"files with the digest {expected[:12]}",
                next="put them back from a copy, or promote another version",
            )
        try:
            os.rename(Path(part) / "files", folder)
        except OSError:  # another process was a moment faster
            if not folder.is_dir():
                raise


def put(folder: Path, place: str) -> int:
    """Copy what is below a folder to an address, but for files that are there in the same size; returns how many.

    Raises
    ------
    StoreError
        When the store refuses.
    """
    with told(place):
        files, base = _opened(place)
        there = files.find(base, detail=True) if files.exists(base) else {}
        found = {f"{base}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}
        wanted = {
            name: str(path) for name, path in found.items() if there.get(name, {}).get("size") != path.stat().st_size
        }
        if wanted:
            files.put(list(wanted.values()), list(wanted))
    return len(found)


def read(place: str) -> bytes:
    """What one file at an address holds.

    Raises
    ------
    StoreError
        When it is not there, or the store refuses.
    """
    with told(place):
        files, path = _opened(place)
        return files.cat_file(path)


def probe(place: str) -> None:
    """Write a file below an address, read it and remove it: what a build does there.

    Raises
    ------
    StoreError
        When one of these is refused.
    """
    with told(place):
        files, path = _opened(f"{place}/.modelbook-{uuid.uuid4().hex}")
        files.pipe_file(path, b"probe")
        files.cat_file(path)
        files.rm_file(path)


@contextmanager
def told(place: str) -> Iterator[None]:
    """Errors of an object store, as what can be done about them, without secrets."""
    try:
        yield
    except ModelbookError:
        raise
    except ImportError as error:
        extra = EXTRAS.get(place.partition("://")[0])
        raise StoreError(
            f"{redact(place)} needs a library that is not installed: {error}",
            next=f"make extras (it installs modelbook[{extra}])" if extra else "install what it names",
        ) from None
    except Exception as error:  # each store has errors of its own
        cause = error.__cause__ or error
        said = redact(f"{type(cause).__name__}: {str(cause)[:300]}")
        mends = (mend for found, mend in MENDS.items() if re.search(found, f"{type(error).__name__} {said}", re.I))
        raise StoreError(
            f"{redact(place)} cannot be used: {said}", expected="a store that answers, and leave to read and write it",
            next=next(mends, "check the address, the network, and the credentials (docs/stores.md)"),
        ) from None  # fmt: skip


def _opened(place: str) -> tuple[Any, str]:
    """The store behind an address, and the path within."""
    import fsspec

    more = {"auto_mkdir": True} if place.startswith("file:") else {}
    return fsspec.core.url_to_fs(place, use_listings_cache=False, **more)


def _get(source: str, folder: Path) -> None:
    files, path = _opened(source)
    found = sorted(files.find(path))
    if not found:
        raise FileNotFoundError(source)
    names = [folder / Path(name).relative_to(path) for name in found]
    for parent in {name.parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    files.get(found, [str(name) for name in names])
