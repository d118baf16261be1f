"""Read versions and aliases from MLflow's database, because importing MLflow takes seconds.

The tables are those of the pinned MLflow version. No other module refers to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from sqlalchemy import Connection, TextClause, text

from modelbook.errors import StoreError
from modelbook.registry import transactions as database
from modelbook.registry.artifact_storage import download_folder, folder_digest
from modelbook.registry.location import cache_folder

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "digest"  # tag with the digest of a version's files
SELECT_ALIASED_VERSIONS = text("""
    select alias, version, storage_location from registered_model_aliases
    join model_versions using (workspace, name, version) where name = :name
""")
SELECT_VERSION = text("""
    select '' as alias, version, storage_location from model_versions \
where name = :name and version = :number
""")
SELECT_ALIAS = text(
    "select version from registered_model_aliases where name = :name and alias = :alias"
)
SELECT_TAGS = text(
    "select key, value from model_version_tags where name = :name and version = :number"
)
SELECT_WORKSPACE = text(
    "select workspace from model_versions where name = :name and version = :number"
)
INSERT_ALIAS = text("""
    insert into registered_model_aliases (alias, version, name, workspace) \
values (:alias, :number, :name, :place)
""")
DELETE_ALIAS = text("delete from registered_model_aliases where name = :name and alias = :alias")
INSERT_TAG = text("""
    insert into model_version_tags (name, version, key, value, workspace) \
values (:name, :number, :key, :value, :place)
""")
DELETE_TAG = text(
    "delete from model_version_tags where name = :name and version = :number and key = :key"
)


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version: its tags, and the folder of its artifacts.

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

    def verify_files(self) -> None:
        """Download remote files if needed, and check that all files match the registered digest.

        Raises
        ------
        StoreError
            When the version has no digest, or its files do not match it.
        """
        registered = self.tags.get(DIGEST_TAG)
        if registered is None:
            raise StoreError(
                (
                    f"version {self.number} of {self.name} was registered without a digest of "
                    "its files"
                ),
                next="build finalize again to register a version with a digest",
            )
        if self.source_uri:
            download_folder(self.source_uri, self.artifact_folder, registered)
        if not self.artifact_folder.is_dir() or folder_digest(self.artifact_folder) != registered:
            raise StoreError(
                f"the files of version {self.number} of {self.name} differ from those registered",
                expected=f"files with the digest {registered[:12]} in {self.artifact_folder}",
                next="restore the folder from a backup, or promote another version",
            )


def read_aliases(root: Path, model_name: str) -> dict[str, RegisteredVersion]:
    """Return a model's versions by alias; empty when there is no store or no such model.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    return dict(_query_versions(root, model_name, SELECT_ALIASED_VERSIONS))


def find_version(root: Path, model_name: str, version: int) -> RegisteredVersion | None:
    """Return a version by its number, or None when it does not exist.

    Raises
    ------
    StoreError
        When the store cannot be read.
    """
    versions = _query_versions(root, model_name, SELECT_VERSION, number=version)
    return versions[0][1] if versions else None


def find_aliased_version(
    connection: Connection, model_name: str, alias: str = CHAMPION
) -> int | None:
    """Return the number of the version with an alias, or None."""
    row = connection.execute(SELECT_ALIAS, {"name": model_name, "alias": alias}).first()
    return int(row[0]) if row else None


def set_alias(
    connection: Connection,
    model_name: str,
    version: int,
    tags: dict[str, str],
    alias: str = CHAMPION,
) -> None:
    """Set an alias and tags of a version; both take effect when the transaction commits."""
    workspace = connection.execute(
        SELECT_WORKSPACE, {"name": model_name, "number": version}
    ).scalar_one()
    delete_alias(connection, model_name, alias)
    version_values = {"name": model_name, "number": version, "place": workspace}
    connection.execute(INSERT_ALIAS, {**version_values, "alias": alias})
    for key, value in tags.items():
        connection.execute(DELETE_TAG, {"name": model_name, "number": version, "key": key})
        connection.execute(INSERT_TAG, {**version_values, "key": key, "value": value})


def delete_alias(connection: Connection, model_name: str, alias: str) -> None:
    """Delete an alias."""
    connection.execute(DELETE_ALIAS, {"name": model_name, "alias": alias})


def _query_versions(
    root: Path, model_name: str, query: TextClause, **values: int
) -> list[tuple[str, RegisteredVersion]]:
    with database.read_transaction(root) as connection:
        if connection is None:
            return []
        rows = connection.execute(query, {"name": model_name, **values}).all()
        tags = {
            number: {
                row.key: row.value
                for row in connection.execute(SELECT_TAGS, {"name": model_name, "number": number})
            }
            for number in {row.version for row in rows}
        }
    return [
        (
            alias,
            RegisteredVersion(
                model_name,
                int(number),
                tags[number],
                *_locate_artifacts(root, storage_location, tags[number].get(DIGEST_TAG, "none")),
            ),
        )
        for alias, number, storage_location in rows
    ]


def _locate_artifacts(root: Path, storage_location: str, digest: str) -> tuple[Path, str]:
    """Return the local folder of a version's artifacts, and the URI to download them from."""
    parsed_url = urlparse(storage_location)
    if parsed_url.scheme in ("", "file"):
        return Path(unquote(parsed_url.path)) / "artifacts", ""
    return cache_folder(root) / digest, f"{storage_location}/artifacts"
