"""Export a version's artifacts to a URI by digest, for a service without access to the store."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from modelbook.errors import StoreError
from modelbook.redaction import redact
from modelbook.registry import artifact_storage
from modelbook.registry.aliases import (
    CHAMPION,
    DIGEST_TAG,
    RegisteredVersion,
    find_version,
    read_aliases,
)
from modelbook.registry.location import cache_folder

MANIFEST_FILE = "version.json"  # written last: an export with this file is complete


def export_version(root: Path, model_name: str, address: str, version: int | None = None) -> str:
    """Upload a version's artifacts to a folder named by their digest; return the folder's URI.

    Parameters
    ----------
    version : int, optional
        Version to export; default: the champion.

    Raises
    ------
    StoreError
        When the address is not a URI, the version does not exist, its files do not match the
        registered digest, or the upload is refused.
    """
    if "://" not in address:
        raise StoreError(
            f"{redact(address)} is not a URI",
            expected="a URI such as s3://bucket/models",
            next=f"for a local folder: {Path(address).resolve().as_uri()}",
        )
    registered = (
        find_version(root, model_name, version)
        if version
        else read_aliases(root, model_name).get(CHAMPION)
    )
    if registered is None:
        raise StoreError(
            f"{model_name} has no version {version}"
            if version
            else f"{model_name} has no champion",
            expected="a registered version",
            next="list the versions: modelbook history",
        )
    registered.verify_files()
    export_address = f"{address.rstrip('/')}/{registered.tags[DIGEST_TAG]}"
    artifact_storage.upload_folder(registered.artifact_folder, f"{export_address}/parts")
    with TemporaryDirectory() as folder:
        manifest = {"name": registered.name, "number": registered.number, "tags": registered.tags}
        (Path(folder) / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        artifact_storage.upload_folder(Path(folder), export_address)
    return export_address


def open_export(root: Path, address: str) -> RegisteredVersion:
    """Return the version that was exported to an address.

    Raises
    ------
    StoreError
        When the address does not end with a digest, holds no export, or the digests differ.
    """
    address = address.rstrip("/")
    digest = address.rpartition("/")[2]
    if "://" not in address or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StoreError(
            f"{redact(address)} is not the address of an export",
            expected="an address that ends with a digest of 64 hexadecimal digits",
            next="use the address that modelbook export printed",
        )
    manifest_text = artifact_storage.read_file(f"{address}/{MANIFEST_FILE}")
    try:
        manifest = json.loads(manifest_text)
        exported = RegisteredVersion(
            manifest["name"],
            int(manifest["number"]),
            manifest["tags"],
            cache_folder(root) / digest,
            f"{address}/parts",
        )
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{redact(address)}/{MANIFEST_FILE} is not a valid export",
            next="export the version again",
        ) from None
    if exported.tags.get(DIGEST_TAG) != digest:
        raise StoreError(
            (
                f"{redact(address)} holds files with the digest "
                f"{str(exported.tags.get(DIGEST_TAG))[:12]}"
            ),
            expected=digest[:12],
            next="export the version again",
        )
    return exported
