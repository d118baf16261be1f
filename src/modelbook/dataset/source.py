"""Where a table stands: bundled, in a file, at an address, or in a database."""

from __future__ import annotations

import hashlib
import os
import re
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from modelbook.errors import DataError
from modelbook.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

    from modelbook.contract.layout import Layout

BUNDLED = ("rand-hie",)
EXTRAS = {"s3": "s3", "s3a": "s3"}  # the extra that brings what a scheme needs
SECONDS = 20  # that a server may take to answer


class Source(Protocol):
    """A place that a table can be read from."""

    def state(self) -> str:
        """What tells cheaply whether the table has changed."""

    def read(self, layout: Layout, missing: list[str], names: list[str] | None) -> pd.DataFrame:
        """The table; ``names`` are those of a file that has none."""


def find(table: str, root: Path) -> Source:
    """The place that a table's name means.

    Raises
    ------
    DataError
        When it names an environment variable that is not set, a file that is not there, or nothing at all.
    """
    from modelbook.dataset import database

    if table in BUNDLED:
        return Bundled(table)
    if re.match(r"\$\{\w+\}", table):  # the whole address may stand in the environment
        table = expanded(table, table)
    if database.URL.match(table):
        return database.Database(table, root)
    scheme, separator, _ = table.partition("://")
    if separator and scheme != "file":
        return Remote(table, scheme)
    return File(_file(table.removeprefix("file://"), root))


def expanded(text: str, table: str) -> str:
    """Text with the environment's value for each ``${NAME}``."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise DataError(
                f"the environment has no {found[1]}, which the table {redact(table)} names",
                next=f"set it: export {found[1]}=...",
            )
        return os.environ[found[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)


def _file(table: str, root: Path) -> Path:
    path = root / table
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"{path} is a folder", expected="a file that holds one table", next="name the file")
    if "." not in path.name:
        close = get_close_matches(table, BUNDLED, n=1)
        raise DataError(
            f"{table!r} is no table" + (f"; did you mean {close[0]!r}?" if close else ""),
            expected=f"a bundled table ({', '.join(BUNDLED)}), the path or address of a file, or the URL of a database",
            next="check the name; in a build, the parameter `table` (env.yaml)",
        )
    raise DataError(f"there is no file {path}", next="check the path; in a build, the parameter `table` (env.yaml)")


class Bundled:
    """A table that comes with a library."""

    def __init__(self, name: str) -> None:
        self._name = name

    def state(self) -> str:
        return f"statsmodels {version('statsmodels')}"

    def read(self, layout: Layout, missing: list[str], names: list[str] | None) -> pd.DataFrame:
        from modelbook.dataset.bundled import TABLES

        return TABLES[self._name]()


class File:
    """A file on this machine."""

    def __init__(self, path: Path, name: str = "") -> None:
        self.path, self._name = path, name or str(path)

    def state(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, layout: Layout, missing: list[str], names: list[str] | None) -> pd.DataFrame:
        from modelbook.dataset import formats

        before = self._stamp()
        try:
            frame = formats.load(self.path, self._name, layout, missing, names)
        except OSError as error:
            raise DataError(f"{self._name} cannot be read: {error}", next="check the file") from None
        finally:
            if self._stamp() != before:
                raise DataError(
                    f"{self._name} changed while it was read",
                    expected="a file that nobody writes to", next="wait until it is written, then begin again",
                )  # fmt: skip
        return frame

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino


class Remote:
    """A file at an address: http, or an object store. It is fetched whole, then read like any file."""

    def __init__(self, table: str, scheme: str) -> None:
        self._shown, self._scheme = redact(table), scheme
        self._url = expanded(table, table)

    def state(self) -> str:
        known = {key: str(value) for key, value in self._asked(lambda files, path: files.info(path)).items()}
        marks = [
            known[key] for key in ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "size") if key in known
        ]
        return hashlib.sha256(" ".join([self._shown, *marks]).encode()).hexdigest()

    def read(self, layout: Layout, missing: list[str], names: list[str] | None) -> pd.DataFrame:
        with TemporaryDirectory() as folder:
            name = re.sub(r"[^\w.-]", "_", self._url.split("?")[0].rstrip("/").rsplit("/", 1)[-1])
            path, before = Path(folder) / (name or "table"), self.state()
            self._asked(lambda files, source: files.get_file(source, str(path)))
            if self.state() != before:
                raise DataError(f"{self._shown} changed while it was read", next="begin again when it is complete")
            return File(path, self._shown).read(layout, missing, names)

    def _asked(self, what: Any) -> Any:
        import fsspec

        try:
            files, path = fsspec.core.url_to_fs(self._url, use_listings_cache=False, **self._options())
            return what(files, path)
        except ImportError as error:
            mend = f"make extras (it installs modelbook[{EXTRAS[self._scheme]}])" if self._scheme in EXTRAS else ""
            raise DataError(
                f"{self._shown} needs a library that is not installed: {error}",
                next=mend or "install what it names into the project's environment",
            ) from None
        except ValueError as error:
            raise DataError(f"{self._shown} is no address: {redact(str(error))}", next="check the address") from None
        except Exception as error:  # each store has errors of its own
            cause = error.__cause__ or error  # fsspec tells a refused connection as a file that is not found
            told = redact(f"{type(cause).__name__}: {str(cause)[:300]}".replace(self._url, self._shown))
            raise DataError(
                f"{self._shown} cannot be fetched: {told}",
                expected="an address that answers, and leave to read it",
                next="check the address, the network, and the credentials in the environment (docs/your-own-table.md)",
            ) from None

    def _options(self) -> dict[str, Any]:
        if not self._scheme.startswith("http"):
            return {}
        from aiohttp import ClientTimeout

        return {"client_kwargs": {"timeout": ClientTimeout(total=None, connect=SECONDS, sock_read=SECONDS)}}
