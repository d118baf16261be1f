"""Exports: a version's parts at an address of their own, by their digest, for a service that has no store."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from modelbook.errors import StoreError
from modelbook.redaction import redact
from modelbook.registry import files
from modelbook.registry.place import cache
from modelbook.registry.pointer import CHAMPION, DIGEST, Pointed, aliases, version

ABOUT = "version.json"  # beside the parts; written last, so that what has it is whole


def export(root: Path, model: str, address: str, number: int | None = None) -> str:
    """Copy a version's parts below an address, in a folder named by their digest; returns the folder's address.

    Parameters
    ----------
    number : int, optional
        The version; the champion unless given.

    Raises
    ------
    StoreError
        When it is no address, there is no such version, its files are not those that were registered, or the address
        refuses.
    """
    if "://" not in address:
        raise StoreError(
            f"{redact(address)} is no address", expected="one with its scheme, as s3://bucket/models",
            next=f"a folder of this machine is {Path(address).resolve().as_uri()}",
        )  # fmt: skip
    found = version(root, model, number) if number else aliases(root, model).get(CHAMPION)
    if found is None:
        raise StoreError(
            f"{model} has no version {number}" if number else f"no version of {model!r} bears the alias champion",
            expected="a version that finalize has registered", next="look at modelbook history",
        )  # fmt: skip
    found.check()
    place = f"{address.rstrip('/')}/{found.tags[DIGEST]}"
    files.put(found.folder, f"{place}/parts")
    with TemporaryDirectory() as folder:
        about = {"name": found.name, "number": found.number, "tags": found.tags}
        (Path(folder) / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
        files.put(Path(folder), place)
    return place


def find(root: Path, place: str) -> Pointed:
    """The version that was exported to an address.

    Raises
    ------
    StoreError
        When the address does not end with a digest, there is no such export, or it is of other files.
    """
    place = place.rstrip("/")
    digest = place.rpartition("/")[2]
    if "://" not in place or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StoreError(
            f"{redact(place)} names no export",
            expected="an address that ends with a digest: 64 digits and letters from a to f",
            next="take the address that modelbook export has printed",
        )
    told = files.read(f"{place}/{ABOUT}")
    try:
        about = json.loads(told)
        found = Pointed(about["name"], int(about["number"]), about["tags"], cache(root) / digest, f"{place}/parts")
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{redact(place)}/{ABOUT} is not what was exported", next="export the version again") from None
    if found.tags.get(DIGEST) != digest:
        raise StoreError(
            f"{redact(place)} is of the files {str(found.tags.get(DIGEST))[:12]}", expected=digest[:12],
            next="export the version again",
        )  # fmt: skip
    return found
