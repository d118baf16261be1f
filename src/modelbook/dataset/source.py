"""Table sources: bundled datasets, local files, URLs and databases."""

from __future__ import annotations

import hashlib
import os
import re
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from modelbook.dataset.object_store import RemotePath, is_remote_uri
from modelbook.errors import DataError
from modelbook.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.file_layout import FileLayout

BUNDLED_TABLES = ("rand-hie",)


class TableSource(Protocol):
    """A source that a table can be read from."""

    def compute_source_digest(self) -> str:
        """A value that changes when the table does, and is cheap to compute."""

    def read(
        self, layout: FileLayout, column_names: list[str] | None
    ) -> tuple[pd.DataFrame, FileLayout]:
        """Read the table without parsing, and its layout with detected properties.

        ``column_names`` are for a file without a header.
        """


def resolve_source(table: str, root: Path) -> TableSource:
    """Resolve a table's name, path or URL to its source.

    Raises
    ------
    DataError
        If an environment variable is not set, a file does not exist, or the name is unknown.
    """
    from modelbook.dataset import database

    table = _expand_leading_variable(table)
    if table in BUNDLED_TABLES:
        return BundledSource(table)
    if database.DATABASE_URL.match(table):
        return database.DatabaseSource(table, root)
    if is_remote_uri(table):
        return RemoteSource(table)
    table = table.removeprefix("file://")
    path = root / table
    if path.is_dir():
        return FolderSource(path)
    if not path.is_file():
        raise _make_no_file_error(table, path)
    return FileSource(path)


def is_remote_folder(table: str) -> bool:
    """Whether a table is a folder in an object store."""
    from modelbook.dataset import database

    table = _expand_leading_variable(table)
    if not is_remote_uri(table) or database.DATABASE_URL.match(table):
        return False
    return bool(RemotePath(expand_environment(table, table), table).list_files())


def _expand_leading_variable(table: str) -> str:
    """Expand a table that begins with ``${NAME}``: the environment may hold the whole URL."""
    return expand_environment(table, table) if re.match(r"\$\{\w+\}", table) else table


def expand_environment(text: str, table: str) -> str:
    """Replace each ``${NAME}`` by the environment variable's value."""

    def look_up_variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise DataError(
                f"the environment variable {match[1]} is not set, but the table "
                f"{redact(table)} uses it",
                next=f"set it: export {match[1]}=...",
            )
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", look_up_variable, text)


def _make_no_file_error(table: str, path: Path) -> DataError:
    if "." in path.name:
        return DataError(
            f"there is no file {path}",
            next="check the path; in a build, the parameter `table` (env.yaml)",
        )
    similar_names = get_close_matches(table, BUNDLED_TABLES, n=1)
    return DataError(
        f"{table!r} is not a table"
        + (f"; did you mean {similar_names[0]!r}?" if similar_names else ""),
        expected=f"a bundled table ({', '.join(BUNDLED_TABLES)}), the path or URL of a file, "
        "or the URL of a database",
        next="check the name; in a build, the parameter `table` (env.yaml)",
    )


class BundledSource:
    """A dataset bundled with a library."""

    def __init__(self, name: str) -> None:
        self._name = name

    def compute_source_digest(self) -> str:
        return f"statsmodels {version('statsmodels')}"

    def read(
        self, layout: FileLayout, column_names: list[str] | None
    ) -> tuple[pd.DataFrame, FileLayout]:
        from modelbook.dataset.bundled import TABLE_LOADERS

        return TABLE_LOADERS[self._name](), layout


class FileSource:
    """A local file."""

    def __init__(self, path: Path, display_name: str = "") -> None:
        self.path = path
        self._display_name = display_name or str(path)

    def compute_source_digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(
        self, layout: FileLayout, column_names: list[str] | None
    ) -> tuple[pd.DataFrame, FileLayout]:
        from modelbook.dataset import file_formats

        stamp_before = self._read_file_stamp()
        try:
            frame_and_layout = file_formats.read_file(
                self.path, self._display_name, layout, column_names
            )
        except OSError as error:
            raise DataError(
                f"{self._display_name} cannot be read: {error}", next="check the file"
            ) from None
        finally:
            if self._read_file_stamp() != stamp_before:
                raise DataError(
                    f"{self._display_name} changed while it was read",
                    expected="a file that is not being written",
                    next="wait until it is complete, then try again",
                )
        return frame_and_layout

    def _read_file_stamp(self) -> tuple[int, int, int] | None:
        try:
            file_stat = self.path.stat()
        except OSError:
            return None
        return file_stat.st_size, file_stat.st_mtime_ns, file_stat.st_ino


class FolderSource:
    """A folder of Parquet files that is one table, or a Delta table."""

    def __init__(self, path: Path, display_name: str = "") -> None:
        self._path = path
        self._display_name = display_name or str(path)

    def compute_source_digest(self) -> str:
        from modelbook.dataset import parquet_folder

        return parquet_folder.hash_file_stats(self._path)

    def read(
        self, layout: FileLayout, column_names: list[str] | None
    ) -> tuple[pd.DataFrame, FileLayout]:
        from modelbook.dataset import parquet_folder

        return parquet_folder.read_folder(self._path, self._display_name), layout


class RemoteSource:
    """A file or folder at a URL (HTTP or object store): downloaded, then read like a local one."""

    def __init__(self, table: str) -> None:
        self._remote_path = RemotePath(expand_environment(table, table), table)

    def compute_source_digest(self) -> str:
        return self._remote_path.fingerprint()

    def read(
        self, layout: FileLayout, column_names: list[str] | None
    ) -> tuple[pd.DataFrame, FileLayout]:
        with TemporaryDirectory() as folder:
            fingerprint_before = self.compute_source_digest()
            path = self._remote_path.download(Path(folder))
            if self.compute_source_digest() != fingerprint_before:
                raise DataError(
                    f"{self._remote_path.redacted_uri} changed while it was read",
                    next="try again when it is complete",
                )
            name = self._remote_path.redacted_uri
            source = FolderSource(path, name) if path.is_dir() else FileSource(path, name)
            return source.read(layout, column_names)
