"""Files and folders at URIs such as ``s3://bucket/rows``: list, download and upload them.

Tables and model artifacts are accessed by the same client, and errors are explained alike.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelbook.errors import DataError, ModelbookError
from modelbook.redaction import redact, redact_uri

INSTALLATION_BY_SCHEME = {
    **dict.fromkeys(("s3", "s3a"), "make extras (it installs modelbook[s3])"),
    **dict.fromkeys(("gs", "gcs"), ".venv/bin/uv pip install gcsfs (the extra modelbook[gs])"),
    **dict.fromkeys(("az", "abfs"), ".venv/bin/uv pip install adlfs (the extra modelbook[az])"),
}
S3_HINTS = {  # by pattern of the error
    r"NoCredentials|Unable to locate credentials|PartialCredentials": (
        "set credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the "
        "machine's role"
    ),
    r"InvalidAccessKey|SignatureDoesNotMatch|ExpiredToken|InvalidToken": (
        "correct the credentials, or renew them"
    ),
    r"NoSuchBucket|bucket does not exist": (
        "create the bucket, or correct the URI (of versions: the setting artifacts)"
    ),
    r"AccessDenied|PermissionError|Forbidden|Access Denied": (
        "ask the bucket's owner for s3:GetObject and ListBucket; to write, also for PutObject and "
        "DeleteObject (docs/stores.md)"
    ),
    r"Connect|timed out|Timeout|resolve|Endpoint": (
        "check that the store is up, the network, and AWS_ENDPOINT_URL"
    ),
}
TIMEOUT_SECONDS = 20  # timeout of a server's response
COMMIT_MARKER = "_SUCCESS"  # written last into a folder, as Spark and Hadoop do
INCOMPLETE_MARKERS = ("_INCOMPLETE", "_temporary")  # markers of a folder that is being written
VERSION_FIELDS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "size", "created")
URI_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote_uri(text: str) -> bool:
    """Whether a text is a URI such as ``s3://bucket/out.csv``, not a path or ``file://``."""
    return bool(URI_PATTERN.match(text)) and not text.startswith("file://")


def open_filesystem(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it."""
    import fsspec

    options: dict[str, Any] = {"auto_mkdir": True} if uri.startswith("file:") else {}
    if uri.startswith("http"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
        options = {"client_kwargs": {"timeout": timeout}}
    return fsspec.core.url_to_fs(uri, use_listings_cache=False, **options)


@contextmanager
def convert_storage_errors(
    uri: str,
    error_class: type[ModelbookError] = DataError,
    *,
    shown_as: str = "",
    docs: str = "docs/your-own-table.md",
) -> Iterator[None]:
    """Convert a store's errors to ones that say what to do, secrets redacted.

    Parameters
    ----------
    shown_as : str, optional
        The URI with its variables, as the user wrote it.
    docs : str, optional
        The page that says how such a URI is set up.
    """
    name = redact_uri(shown_as or uri)
    try:
        yield
    except ModelbookError:
        raise
    except ImportError as error:
        raise error_class(
            f"{name} needs a library that is not installed: {error}",
            next=INSTALLATION_BY_SCHEME.get(
                uri.partition("://")[0], "install that library in the project's environment"
            ),
        ) from None
    except UnicodeDecodeError:
        raise error_class(
            f"{name} is not UTF-8 text",
            expected="a text file in UTF-8",
            next="check the file, or write it again",
        ) from None
    except ValueError as error:
        raise error_class(
            f"{name} is not a valid URI: {redact(str(error))}", next="check the URI"
        ) from None
    except Exception as error:  # each store raises its own types
        if uri.startswith("file:") and isinstance(error, OSError):
            raise error_class(
                f"{name}: {(error.strerror or str(error)).lower()}",
                expected="an existing path, and the permission to use it",
                next="check the path, the disk, and who may read and write there",
            ) from None
        cause = error.__cause__ or error  # fsspec reports refused connections as absent
        message = redact(f"{type(cause).__name__}: {str(cause)[:300]}".replace(uri, name))
        # Without the URI, whose words are not the error's.
        searched = f"{type(error).__name__} {message.replace(name, '')}"
        hints = (
            hint
            for pattern, hint in S3_HINTS.items()
            if uri.startswith(("s3:", "s3a:")) and re.search(pattern, searched, re.I)
        )
        raise error_class(
            f"{name} cannot be reached: {message}",
            expected="a reachable URI, and the permission to use it",
            next=next(hints, f"check the URI, the network, and the credentials ({docs})"),
        ) from None


class RemotePath:
    """A file or folder at a URI; secrets in it are never shown."""

    def __init__(self, uri: str, shown_as: str = "") -> None:
        self._scheme = uri.partition("://")[0]
        self.uri = uri if self._scheme.startswith("http") else uri.rstrip("/")
        self.redacted_uri = redact(shown_as or uri)

    def __str__(self) -> str:
        return self.redacted_uri

    @property
    def name(self) -> str:
        """Last part of the URI, as a file name."""
        return re.sub(r"[^\w.-]", "_", self.uri.split("?")[0].rsplit("/", 1)[-1]) or "table"

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return bool(self._call(lambda filesystem, path: filesystem.exists(path)))

    def list_files(self, *, allow_incomplete: bool = False) -> dict[str, dict[str, Any]]:
        """Return the details of a folder's files by relative path; nothing for a file.

        Parameters
        ----------
        allow_incomplete : bool, optional
            Whether to list a folder that is still being written, instead of raising.

        Raises
        ------
        DataError
            When another program is writing the folder.
        """
        if self._scheme.startswith("http"):  # web servers have no folders
            return {}
        listing = self._call(_list_folder)
        if climbing_names := [name for name in listing if ".." in name.split("/")]:
            raise DataError(
                f"{self.redacted_uri} has the file {climbing_names[0]!r}, which leads out of it",
                expected="files in the folder",
                next="rename the file",
            )
        markers = {name.split("/")[0] for name in listing} & {*INCOMPLETE_MARKERS}
        if markers and COMMIT_MARKER not in listing and not allow_incomplete:
            raise DataError(
                f"{self.redacted_uri} is being written, or its writer was killed: it has "
                f"{min(markers)}, and no {COMMIT_MARKER}",
                expected="a complete folder",
                next="wait until it is complete; delete what a killed writer left",
            )
        return listing

    def fingerprint(self) -> str:
        """SHA-256 of the files' names, and of the version fields of each that the store reports.

        A store that reports the size alone hides changes that keep it.
        """
        files = self.list_files() or {
            "": self._call(lambda filesystem, path: filesystem.info(path))
        }
        versions = [
            (name, *(str(info[key]) for key in VERSION_FIELDS if key in info))
            for name, info in sorted(files.items())
        ]
        return hashlib.sha256(repr([self.redacted_uri, versions]).encode()).hexdigest()

    def download(self, folder: Path) -> Path:
        """Download the file or folder into a folder; return its local path."""
        target = folder / self.name
        names = list(self.list_files())
        if not names:
            self._call(lambda filesystem, path: filesystem.get_file(path, str(target)))
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        self._call(
            lambda filesystem, path: [
                filesystem.get_file(f"{path}/{name}", str(target / name)) for name in names
            ]
        )
        return target

    def upload(self, local_path: Path) -> None:
        """Upload a file, or the files of a folder."""
        files = [local_path]
        if local_path.is_dir():
            files = [path for path in sorted(local_path.rglob("*")) if path.is_file()]
        for file in files:
            name = file.relative_to(local_path).as_posix()
            self._call(
                lambda filesystem, path, file=file, name=name: filesystem.put_file(
                    str(file), path if name == "." else f"{path}/{name}"
                )
            )

    def child(self, name: str) -> RemotePath:
        """Return the path of a file in the folder."""
        return RemotePath(f"{self.uri}/{name}", f"{self.redacted_uri.rstrip('/')}/{name}")

    def sibling(self, name: str) -> RemotePath:
        """Return the path of another file in the same folder."""
        parents = (self.uri.rpartition("/")[0], self.redacted_uri.rstrip("/").rpartition("/")[0])
        return RemotePath(*(f"{parent}/{name}" for parent in parents))

    def write_text(self, text: str) -> None:
        """Write a small file."""
        self._call(lambda filesystem, path: filesystem.pipe_file(path, text.encode()))

    def read_text(self) -> str | None:
        """Return the content of a small file; None where there is none."""
        return self._call(
            lambda filesystem, path: (
                filesystem.cat_file(path).decode() if filesystem.exists(path) else None
            )
        )

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open the file for reading; only what is read is downloaded."""
        opened = self._call(lambda filesystem, path: filesystem.open(path))
        with opened as file:  # errors of the caller's block are not those of the store
            yield file

    def remove(self) -> None:
        """Delete the file."""
        self._call(lambda filesystem, path: filesystem.rm_file(path))

    def remove_folder(self) -> None:
        """Delete the folder, or the file; nothing happens where there is none."""
        self._call(
            lambda filesystem, path: (
                filesystem.rm(path, recursive=True) if filesystem.exists(path) else None
            )
        )

    def _call(self, operation: Any) -> Any:
        with convert_storage_errors(self.uri, shown_as=self.redacted_uri):
            return operation(*open_filesystem(self.uri))


@contextmanager
def open_input(path_or_uri: str) -> Iterator[Path]:
    """Yield the local path of a file or folder; what is at a URI is downloaded for it."""
    if not is_remote_uri(path_or_uri):
        yield Path(path_or_uri.removeprefix("file://"))
        return
    with TemporaryDirectory() as folder:
        yield RemotePath(path_or_uri).download(Path(folder))


@contextmanager
def open_output(path_or_uri: str, *, is_folder: bool) -> Iterator[Path]:
    """Yield a local path to write to; for a URI, upload the written file and files next to it.

    A folder has the file ``_INCOMPLETE`` while it is uploaded, and at the end ``_SUCCESS``. A file
    is uploaded after those next to it, such as rejected rows.

    Raises
    ------
    DataError
        Before anything is written: when there is something at the URI, or it cannot be written.
    """
    if not is_remote_uri(path_or_uri):
        yield Path(path_or_uri.removeprefix("file://"))
        return
    remote = RemotePath(path_or_uri)
    if remote.exists():
        raise DataError(
            f"{remote.redacted_uri} exists already", next="name another one, or delete it"
        )
    start_marker = (
        remote.child(INCOMPLETE_MARKERS[0]) if is_folder else remote.sibling(f".{remote.name}.part")
    )
    start_marker.write_text("")  # fails now where nothing may be written
    with TemporaryDirectory() as folder:
        target = Path(folder) / remote.name
        try:
            yield target
        except BaseException:
            start_marker.remove()
            raise
        for path in sorted(Path(folder).iterdir(), key=lambda path: path == target):
            (remote if path == target else remote.sibling(path.name)).upload(path)
        if is_folder:
            names = [path.name for path in target.rglob("*") if path.is_file()]
            remote.child(COMMIT_MARKER).write_text(json.dumps({"files": len(names)}))
    start_marker.remove()


def _list_folder(filesystem: Any, path: str) -> dict[str, dict[str, Any]]:
    if not filesystem.isdir(path):
        return {}
    listing = filesystem.find(path, detail=True)
    return {name.removeprefix(path).lstrip("/"): info for name, info in listing.items()}
