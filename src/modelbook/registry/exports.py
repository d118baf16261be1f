"""Export a version: its files, its evidence and the history of its decisions.

An export is a folder whose name is the digest of its manifest, ``version.json``, which
holds the digest of every file. The name thus verifies all files, and they never change.
``modelbook serve --from`` serves it, and ``modelbook import`` registers it in another store.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelbook import __version__
from modelbook.errors import StoreError
from modelbook.redaction import redact_uri
from modelbook.registry import artifact_storage, history
from modelbook.registry.aliases import (
    DIGEST_TAG,
    SOURCE_DIGEST_TAG,
    RegisteredVersion,
    find_version,
    require_champion,
    require_version,
)
from modelbook.registry.artifact_storage import compute_folder_digest
from modelbook.registry.history import HistoryEntry
from modelbook.registry.location import display_uri, get_cache_folder
from modelbook.stage.project import NO_COMMIT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_FILE = "version.sig"  # Ed25519 signature of the manifest
MANIFEST_FILE = "version.json"  # written last: an export with this file is complete
ARTIFACTS_FOLDER = "parts"  # what a service reads; exports of 1.0.0 have this name
MODEL_FOLDER = "model"  # the rest of the MLflow model, which an import registers
ROWS_FILE = "reference.parquet"  # holdout rows, perhaps personal; golden rows stay


def export_version(
    root: Path,
    model_name: str,
    destination: str,
    version: int | None = None,
    *,
    with_rows: bool = False,
    commit: str = NO_COMMIT,
    signing_key: Ed25519PrivateKey | None = None,
) -> str:
    """Copy a version to a folder named by the digest of its contents; return the folder's URI.

    Parameters
    ----------
    destination : str
        A folder, or a URI such as ``s3://bucket/models``.
    version : int, optional
        Version to export; default: the champion.
    with_rows : bool
        Whether to include the holdout rows, which monitoring and the gate compare with. The history
        records the URI then, so that an entity can be removed from it.
    commit : str
        Commit of the project, for the history.
    signing_key : Ed25519PrivateKey, optional
        Key that signs the export.

    Raises
    ------
    StoreError
        When the version does not exist, its files do not match the registered digest, or the upload
        is refused.
    """
    registered = (
        require_version(root, model_name, version)
        if version
        else require_champion(root, model_name)
    )
    registered.verify_files()
    with TemporaryDirectory(prefix="modelbook-export-") as folder_text:
        folder = Path(folder_text)
        _collect_files(registered, folder, with_rows=with_rows)
        manifest = _build_manifest(root, registered, folder, with_rows=with_rows)
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        export_uri = f"{artifact_storage.resolve_uri(destination)}/{digest}"
        for name in (ARTIFACTS_FOLDER, MODEL_FOLDER):
            if (folder / name).is_dir():
                artifact_storage.upload_folder(folder / name, f"{export_uri}/{name}")
                shutil.rmtree(folder / name)
        (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
        artifact_storage.upload_folder(folder, export_uri)
        if signing_key is not None:
            signature = folder / SIGNATURE_FILE
            signature.write_bytes(signing_key.sign(text.encode()))
            artifact_storage.upload_file(signature, export_uri)
    if with_rows:
        history.record_export(root, model_name, registered.number, export_uri, commit)
    return export_uri


def open_export(root: Path, export_uri: str) -> RegisteredVersion:
    """Return the version that was exported to a URI.

    Raises
    ------
    StoreError
        When the URI does not end with a digest, holds no export, or the digests differ.
    """
    export_uri = artifact_storage.resolve_uri(export_uri)
    manifest = read_manifest(export_uri)
    try:
        return RegisteredVersion(
            manifest["name"],
            int(manifest["number"]),
            manifest["tags"],
            get_cache_folder(root) / manifest["tags"][DIGEST_TAG],
            f"{export_uri}/{ARTIFACTS_FOLDER}",
        )
    except (ValueError, KeyError, TypeError):
        raise _make_invalid_manifest_error(export_uri) from None


def read_manifest(export_uri: str) -> dict[str, Any]:
    """Return the manifest of an export, verified by the digest in its URI.

    Raises
    ------
    StoreError
        When the URI does not end with a digest, holds no export, or the digests differ.
    """
    export_uri = artifact_storage.resolve_uri(export_uri)
    digest = export_uri.rpartition("/")[2]
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise StoreError(
            f"{redact_uri(export_uri)} is not the path or URI of an export",
            expected="a path or URI that ends with a digest of 64 hexadecimal digits",
            next="use the one that modelbook export printed",
        )
    text = artifact_storage.read_file(f"{export_uri}/{MANIFEST_FILE}")
    actual_digest = hashlib.sha256(text).hexdigest()
    if actual_digest != digest:
        raise StoreError(
            f"{redact_uri(export_uri)}/{MANIFEST_FILE} was changed or moved after the export: "
            f"its digest is {actual_digest[:12]}",
            expected=f"the digest in the URI, {digest[:12]}",
            next="export the version again",
        )
    try:
        manifest = json.loads(text)
    except ValueError:
        raise _make_invalid_manifest_error(export_uri) from None
    if not isinstance(manifest, dict):
        raise _make_invalid_manifest_error(export_uri)
    return manifest


def verify_signature(export_uri: str, key: Ed25519PublicKey) -> str:
    """Check that the owner of a key has signed an export; return the key's fingerprint.

    Raises
    ------
    StoreError
        When the export has no signature, or that of another key.
    """
    from modelbook.registry import signing

    text = artifact_storage.read_file(f"{export_uri}/{MANIFEST_FILE}")
    signature = artifact_storage.read_file(f"{export_uri}/{SIGNATURE_FILE}")
    return signing.verify_signature(signature, text, key, redact_uri(export_uri))


def _make_invalid_manifest_error(export_uri: str) -> StoreError:
    return StoreError(
        f"{redact_uri(export_uri)}/{MANIFEST_FILE} is not a valid export",
        next="export the version again",
    )


def _collect_files(registered: RegisteredVersion, folder: Path, *, with_rows: bool) -> None:
    """Copy a version's files: the artifacts, and the rest of the MLflow model."""
    ignore = None if with_rows else shutil.ignore_patterns(ROWS_FILE)
    shutil.copytree(registered.artifact_folder, folder / ARTIFACTS_FOLDER, ignore=ignore)
    if registered.source_uri:
        with TemporaryDirectory(prefix="modelbook-export-") as temporary_folder:
            model_folder = Path(temporary_folder) / MODEL_FOLDER
            uri = registered.source_uri.rpartition("/")[0]
            artifact_storage.download_folder(uri, model_folder)
            _copy_model(model_folder, folder / MODEL_FOLDER)
    else:
        _copy_model(registered.artifact_folder.parent, folder / MODEL_FOLDER)


def _copy_model(source: Path, target: Path) -> None:
    shutil.copytree(
        source,
        target,
        ignore=lambda at, names: ["artifacts"] if Path(at) == source else ["__pycache__"],
    )


def _build_manifest(
    root: Path, registered: RegisteredVersion, folder: Path, *, with_rows: bool
) -> dict[str, Any]:
    entries = history.read_history(root, registered.name)
    digest = compute_folder_digest(folder / ARTIFACTS_FOLDER)
    tags = {**registered.tags, DIGEST_TAG: digest}
    tags.setdefault(SOURCE_DIGEST_TAG, registered.tags[DIGEST_TAG])
    return {
        "modelbook": __version__,
        "name": registered.name,
        "number": registered.number,
        "tags": tags,
        "files": artifact_storage.compute_file_digests(folder),
        "with_rows": with_rows,
        "source": display_uri(root),
        "gate": _describe_gate(root, registered.name, registered.number, entries),
        "history": [entry.to_dict() for entry in entries],
        "sbom": _list_components(folder / MODEL_FOLDER / "requirements.txt"),
    }


def _describe_gate(
    root: Path, model_name: str, version: int, entries: list[HistoryEntry]
) -> dict[str, Any] | None:
    """Describe the gate's last decision, and the champion that it compared the version with.

    An imported version that no gate of this store has seen keeps the decision of its source.
    """
    decision = history.find_last_decision(entries, version)
    if decision is None:
        imported = history.find_last_import(entries, version)
        return imported.evidence.get("gate") if imported else None
    champion = (
        find_version(root, model_name, decision.champion_before)
        if decision.champion_before
        else None
    )
    return {
        "action": decision.action,
        "reason": decision.reason,
        "entry": decision.number,
        "champion_digest": champion.source_digest if champion else None,
    }


def _list_components(requirements: Path) -> dict[str, Any]:
    """Return a CycloneDX list of the packages that the model requires."""
    lines = requirements.read_text(encoding="utf-8").splitlines() if requirements.is_file() else []
    pinned = [line.split("==", 1) for line in lines if "==" in line]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": [
            {
                "type": "library",
                "name": name.strip(),
                "version": version.strip(),
                "purl": f"pkg:pypi/{name.strip().lower()}@{version.strip()}",
            }
            for name, version in pinned
        ],
    }
