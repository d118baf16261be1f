"""Which version an alias names and where its files are, read without MLflow: importing it would take a service seconds.

The tables are those of the MLflow that the lock pins. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from modelbook.errors import StoreError
from modelbook.registry.store import database

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST = "digest"  # the tag that a version's files are checked by
FOUND = """
    select alias, version, storage_location from registered_model_aliases
    join model_versions using (workspace, name, version) where name = ?
"""
TAGS = "select key, value from model_version_tags where name = ? and version = ?"


@dataclass(frozen=True)
class Pointed:
    """A version that an alias names: its tags, and the folder of its parts."""

    name: str
    number: int
    tags: dict[str, str]
    folder: Path

    def check(self) -> None:
        """Raise where the files are not those that were registered.

        Raises
        ------
        StoreError
        """
        registered = self.tags.get(DIGEST)
        if registered is None:
            raise StoreError(
                f"version {self.number} of {self.name} was registered without a digest of its files",
                next="build finalize again, so that a version with one is registered",
            )
        if not self.folder.is_dir() or digest(self.folder) != registered:
            raise StoreError(
                f"the files of version {self.number} of {self.name} are not those that were registered",
                expected=f"files with the digest {registered[:12]} in {self.folder}",
                next="put the folder back from a copy, or promote another version",
            )


def aliases(root: Path, name: str) -> dict[str, Pointed]:
    """What each alias of a model names; empty where there is no store or no such model.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    path = database(root)
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            rows = connection.execute(FOUND, (name,)).fetchall()
            tags = {row[1]: dict(connection.execute(TAGS, (name, row[1])).fetchall()) for row in rows}
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}", expected="an SQLite file that MLflow made") from None
    return {
        alias: Pointed(name, int(number), tags[number], Path(unquote(urlparse(place).path)) / "artifacts")
        for alias, number, place in rows
    }


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()
