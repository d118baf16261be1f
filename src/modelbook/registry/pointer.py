"""Which version an alias names and where its files are, without MLflow: importing it would take a service seconds.

The tables are those of the MLflow that the lock pins, and are named here only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from sqlalchemy import Connection, TextClause, text

from modelbook.errors import StoreError
from modelbook.registry import connection as database
from modelbook.registry.files import digest, fetch
from modelbook.registry.place import cache

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST = "digest"  # the tag that a version's files are checked by
ALIASED = text("""
    select alias, version, storage_location from registered_model_aliases
    join model_versions using (workspace, name, version) where name = :name
""")
NUMBERED = text("""
    select '' as alias, version, storage_location from model_versions where name = :name and version = :number
""")
NAMED = text("select version from registered_model_aliases where name = :name and alias = :alias")
TAGS = text("select key, value from model_version_tags where name = :name and version = :number")
WORKSPACE = text("select workspace from model_versions where name = :name and version = :number")
POINT = text("""
    insert into registered_model_aliases (alias, version, name, workspace) values (:alias, :number, :name, :place)
""")
UNPOINT = text("delete from registered_model_aliases where name = :name and alias = :alias")
TAG = text("""
    insert into model_version_tags (name, version, key, value, workspace) values (:name, :number, :key, :value, :place)
""")
UNTAG = text("delete from model_version_tags where name = :name and version = :number and key = :key")


@dataclass(frozen=True)
class Pointed:
    """A version that an alias names: its tags, and the folder of its parts.

    Attributes
    ----------
    source : str
        The address from which ``check`` fetches the parts, unless they have been; empty for those of this machine.
    """

    name: str
    number: int
    tags: dict[str, str]
    folder: Path
    source: str = ""

    def check(self) -> None:
        """Raise where the files are not those that were registered; fetch those that stand elsewhere.

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
        if self.source:
            fetch(self.source, self.folder, registered)
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
    return dict(_found(root, name, ALIASED))


def version(root: Path, name: str, number: int) -> Pointed | None:
    """A version by its number; None where there is none.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    found = _found(root, name, NUMBERED, number=number)
    return found[0][1] if found else None


def named(connection: Connection, name: str, alias: str = CHAMPION) -> int | None:
    """The number of the version that an alias names."""
    row = connection.execute(NAMED, {"name": name, "alias": alias}).first()
    return int(row[0]) if row else None


def point(connection: Connection, name: str, number: int, tags: dict[str, str], alias: str = CHAMPION) -> None:
    """Let an alias name a version, and give the version tags; both are there once the transaction is."""
    place = connection.execute(WORKSPACE, {"name": name, "number": number}).scalar_one()
    unpoint(connection, name, alias)
    about = {"name": name, "number": number, "place": place}
    connection.execute(POINT, {**about, "alias": alias})
    for key, value in tags.items():
        connection.execute(UNTAG, {"name": name, "number": number, "key": key})
        connection.execute(TAG, {**about, "key": key, "value": value})


def unpoint(connection: Connection, name: str, alias: str) -> None:
    """Let an alias name nothing."""
    connection.execute(UNPOINT, {"name": name, "alias": alias})


def _found(root: Path, name: str, asked: TextClause, **values: int) -> list[tuple[str, Pointed]]:
    with database.reading(root) as connection:
        if connection is None:
            return []
        rows = connection.execute(asked, {"name": name, **values}).all()
        tags = {
            number: {row.key: row.value for row in connection.execute(TAGS, {"name": name, "number": number})}
            for number in {row.version for row in rows}
        }
    return [
        (alias, Pointed(name, int(number), tags[number], *_parts(root, place, tags[number].get(DIGEST, "none"))))
        for alias, number, place in rows
    ]


def _parts(root: Path, place: str, digest: str) -> tuple[Path, str]:
    """The folder of a version's parts on this machine, and the address where they come from."""
    found = urlparse(place)
    if found.scheme in ("", "file"):
        return Path(unquote(found.path)) / "artifacts", ""
    return cache(root) / digest, f"{place}/artifacts"
