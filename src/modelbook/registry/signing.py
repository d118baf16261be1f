"""Sign an export with an Ed25519 key, and verify the signature with the public key.

The URI of an export ends with a digest of its content; the signature identifies its author. Keys
are PEM files, as ``openssl genpkey -algorithm ed25519`` writes them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from modelbook.errors import StoreError

GENERATE_KEY_COMMAND = "openssl genpkey -algorithm ed25519 -out KEY"
PUBLIC_KEY_COMMAND = "openssl pkey -in KEY -pubout -out PUBLIC_KEY"


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs.

    Raises
    ------
    StoreError
        When the file is not an unencrypted Ed25519 private key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise _make_key_error(path, "a private key", str(error), GENERATE_KEY_COMMAND) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _make_key_error(
            path, "a private key", "it is not an Ed25519 key", GENERATE_KEY_COMMAND
        )
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read the key that verifies.

    Raises
    ------
    StoreError
        When the file is not an Ed25519 public key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _make_key_error(path, "a public key", str(error), PUBLIC_KEY_COMMAND) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _make_key_error(path, "a public key", "it is not an Ed25519 key", PUBLIC_KEY_COMMAND)
    return key


def verify_signature(
    signature: bytes, manifest: bytes, key: Ed25519PublicKey, export_uri: str
) -> str:
    """Verify the signature of an export's manifest; return the fingerprint of the key.

    Raises
    ------
    StoreError
        When another key made the signature.
    """
    fingerprint = hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        raise StoreError(
            f"the signature of {export_uri} is not by the key {fingerprint[:12]}",
            expected="an export that the owner of this key has signed",
            next="nothing was imported; ask the exporter which key signed it",
        ) from None
    return fingerprint


def _make_key_error(path: Path, kind: str, problem: str, command: str) -> StoreError:
    return StoreError(
        f"{path} is not {kind}: {problem}",
        expected="an unencrypted Ed25519 key as a PEM file",
        next=f"name another file, or create one: {command}",
    )
