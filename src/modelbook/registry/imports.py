"""Import a version from another environment: verify its manifest and golden rows, and register it.

Everything is verified before anything is registered. The history entry holds the hash of the
source's last entry, and the manifest holds the source's history. So the histories of development,
staging and production are one chain.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelbook.errors import StoreError
from modelbook.redaction import redact, redact_uri
from modelbook.registry import (
    artifact_storage,
    connection,
    exports,
    history,
    history_log,
    promotion,
)
from modelbook.registry.aliases import DIGEST_TAG, SOURCE_DIGEST_TAG
from modelbook.registry.artifact_storage import compute_folder_digest
from modelbook.registry.exports import ARTIFACTS_FOLDER, MODEL_FOLDER, read_manifest
from modelbook.registry.history import HistoryEntry
from modelbook.registry.store import ensure_experiment_id, ensure_store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EXPORT_URI_TAG = "export_uri"  # of the export that a version was imported from


@dataclass(frozen=True)
class ImportResult:
    """A version that was imported, and the entry about it.

    Attributes
    ----------
    is_new : bool
        False when the same version had been imported before.
    """

    version: int
    entry: HistoryEntry
    is_new: bool


def import_version(
    root: Path,
    model_name: str,
    export_uri: str,
    commit: str,
    verify_key: Ed25519PublicKey | None = None,
) -> ImportResult:
    """Register an exported version under the next number, once its golden rows are reproduced.

    Parameters
    ----------
    export_uri : str
        The folder of the export, or its URI.
    verify_key : Ed25519PublicKey, optional
        Public key that the signature must match.

    Raises
    ------
    StoreError
        When the export is of another model, a digest or signature is wrong, or the source's history
        was altered.
    ReproductionError
        When the version does not reproduce its golden rows in a clean process.
    """
    export_uri = artifact_storage.resolve_uri(export_uri)
    manifest = read_manifest(export_uri)
    _require_model(manifest, model_name, export_uri)
    _verify_history(manifest, export_uri)
    signer = {"signed_by": exports.verify_signature(export_uri, verify_key)} if verify_key else {}
    ensure_store(root)
    with TemporaryDirectory(prefix="modelbook-import-") as name:
        model_folder = Path(name) / MODEL_FOLDER
        _download_model(manifest, export_uri, model_folder)
        golden_rows = promotion.verify_golden_rows(root, model_folder.as_uri())
        with connection.convert_errors(root):
            number, is_new = _register(root, model_name, manifest, export_uri, model_folder)
    entry = history.find_last_import(history.read_history(root, model_name), number)
    if entry is None:
        reason = f"Imported from {manifest['source']}, version {manifest['number']}."
        evidence = _collect_evidence(manifest, export_uri) | signer | {"golden_rows": golden_rows}
        entry = history.record_import(root, model_name, number, reason, evidence, commit)
    return ImportResult(number, entry, is_new)


def _require_model(manifest: dict[str, Any], model_name: str, export_uri: str) -> None:
    if manifest.get("name") != model_name:
        raise StoreError(
            f"{redact_uri(export_uri)} is a version of {manifest.get('name')!r}",
            expected=f"a version of {model_name!r}",
            next=f"name its book: modelbook import URI --book {manifest.get('name')}",
        )
    if not isinstance(manifest.get("files"), dict) or not manifest.get("files"):
        raise StoreError(
            f"{redact_uri(export_uri)} has a manifest that lists no files",
            expected="an export that modelbook export has written",
            next="export the version again",
        )


def _verify_history(manifest: dict[str, Any], export_uri: str) -> None:
    """Raise StoreError unless each entry of the source's history follows from the one before."""
    previous_hash = ""
    for content in manifest["history"]:
        fields = {name: value for name, value in content.items() if name not in ("number", "hash")}
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
        is_next = content["previous_hash"] == previous_hash
        if not is_next or history_log.hash_entry(text) != content["hash"]:
            raise StoreError(
                f"entry {content['number']} of the history in {redact_uri(export_uri)} was changed",
                expected="a history in which each entry holds the hash of the one before",
                next="check modelbook history where the version was exported",
            )
        previous_hash = content["hash"]


def _download_model(manifest: dict[str, Any], export_uri: str, model_folder: Path) -> None:
    """Download the MLflow model, and verify the digest of each file."""
    downloads = model_folder.parent
    for name in (ARTIFACTS_FOLDER, MODEL_FOLDER):
        artifact_storage.download_folder(f"{export_uri}/{name}", downloads / name)
    digests = artifact_storage.compute_file_digests(downloads)
    mismatched_files = sorted(
        name
        for name in digests.keys() | manifest["files"].keys()
        if digests.get(name) != manifest["files"].get(name)
    )
    if mismatched_files:
        raise StoreError(
            f"files of {redact_uri(export_uri)} are missing, were altered or added: "
            f"{', '.join(mismatched_files[:5])}",
            expected="the files and digests of its manifest",
            next="nothing was imported; export the version again",
        )
    artifacts_digest = compute_folder_digest(downloads / ARTIFACTS_FOLDER)
    if artifacts_digest != manifest["tags"][DIGEST_TAG]:
        raise StoreError(
            f"the artifacts of {redact_uri(export_uri)} have the digest {artifacts_digest[:12]}",
            expected=f"{manifest['tags'][DIGEST_TAG][:12]}, as its manifest states",
            next="nothing was imported; export the version again",
        )
    shutil.move(downloads / ARTIFACTS_FOLDER, model_folder / "artifacts")


def _register(
    root: Path, model_name: str, manifest: dict[str, Any], export_uri: str, model_folder: Path
) -> tuple[int, bool]:
    """Register the model; return its number, and False when it is registered already."""
    log = history_log.open_log(root, model_name, create=True)
    assert log is not None
    client = log.client
    digest = manifest["tags"][SOURCE_DIGEST_TAG]
    for version in client.search_model_versions(f"name = '{model_name}'"):
        if digest in (version.tags.get(SOURCE_DIGEST_TAG), version.tags.get(DIGEST_TAG)):
            return int(version.version), False
    run = client.create_run(
        ensure_experiment_id(client, root, model_name), run_name="import", tags={"stage": "import"}
    )
    client.log_artifacts(run.info.run_id, str(model_folder), MODEL_FOLDER)
    client.set_terminated(run.info.run_id)
    tags = {key: str(value) for key, value in manifest["tags"].items()}
    tags = {key: value for key, value in tags.items() if not key.startswith("promoted_")}
    new_version = client.create_model_version(
        model_name,
        f"{run.info.artifact_uri}/{MODEL_FOLDER}",
        run.info.run_id,
        tags={
            **tags,
            EXPORT_URI_TAG: redact(export_uri),
            "passport": redact(export_uri),  # services of 1.0.0 read this name; remove in 1.2
        },
    )
    return int(new_version.version), True


def _collect_evidence(manifest: dict[str, Any], export_uri: str) -> dict[str, Any]:
    last_entry = manifest["history"][-1] if manifest["history"] else {}
    tags = manifest["tags"]
    return {
        "export_uri": redact(export_uri),
        "source": manifest["source"],
        "source_version": manifest["number"],
        "source_entry": last_entry.get("number"),
        "source_hash": last_entry.get("hash"),
        "gate": manifest["gate"],
        **{name: tags[name] for name in ("commit", "data_version", "fingerprint") if name in tags},
        DIGEST_TAG: tags[DIGEST_TAG],
    }
