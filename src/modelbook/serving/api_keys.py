"""API keys with names, scopes and expiry dates.

Only hashes are stored, in a file that is reloaded when it changes. In a container without that
file, the environment variable ``MODELBOOK_KEYRING`` holds its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelbook.atomic import atomic_write
from modelbook.errors import ServingError

KEYS_FILE = "serving.keys.json"
KEYRING_VARIABLE = "MODELBOOK_KEYRING"  # environment variable that holds the file's content
SCOPES = ("predict", "outcomes", "admin")  # admin includes all other scopes


@dataclass(frozen=True)
class ApiKey:
    """Metadata of one API key; the key itself is not stored.

    Attributes
    ----------
    hash : str
        SHA-256 of the key. The key is 256 random bits, so a slow hash is not needed.
    expires_at : float or None
        Unix timestamp after which the key is rejected; None if it never expires.
    """

    name: str
    hash: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None = None

    def describe(self) -> tuple[str, str, str, str]:
        """Return name, scopes, creation time and expiry time as text."""
        expiry = "never" if self.expires_at is None else _format_minute(self.expires_at)
        return self.name, " ".join(self.scopes), _format_minute(self.created_at), expiry

    def has_scope(self, scope: str) -> bool:
        return "admin" in self.scopes or scope in self.scopes


class ApiKeyStore:
    """Store of a project's API keys.

    Attributes
    ----------
    was_configured : bool
        Whether there is a file or variable with keys, or was one since the start; also true when
        the last key has been removed, so that removing keys never opens a service.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / KEYS_FILE
        self._file_state: object = None  # state of the file at the last read
        self._keys_by_hash: dict[str, ApiKey] = {}
        self.was_configured = False
        self.refresh()

    def __len__(self) -> int:
        return len(self._keys_by_hash)

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys_by_hash.values())

    def refresh(self) -> None:
        """Reload the keys if the file or the environment variable has changed.

        Raises
        ------
        ServingError
            If the keys cannot be read.
        """
        keyring = os.environ.get(KEYRING_VARIABLE)
        file_state = _read_file_state(self._path) if keyring is None else keyring
        self.was_configured |= file_state is not None
        if file_state is None:
            self._keys_by_hash = {}
        elif file_state != self._file_state:
            source = self._path if keyring is None else KEYRING_VARIABLE
            try:
                self._keys_by_hash = _parse_keys(
                    self._path.read_text(encoding="utf-8") if keyring is None else keyring
                )
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise ServingError(
                    f"{source} cannot be read: {error}",
                    expected=f"the content of a {KEYS_FILE}",
                    next="remove it, and create new keys: modelbook keys add NAME",
                ) from None
        self._file_state = file_state

    def find_key(self, api_key: str) -> ApiKey | None:
        """Return the matching key, or None if it is unknown or has expired."""
        key = self._keys_by_hash.get(_hash_key(api_key))
        return (
            None
            if key is None or (key.expires_at is not None and key.expires_at <= time.time())
            else key
        )

    def add_key(self, name: str, scopes: list[str], valid_days: float | None = None) -> str:
        """Create a key and return it. It is not stored and cannot be shown again.

        Raises
        ------
        ServingError
            If the name is already in use or a scope is unknown.
        """
        if any(key.name == name for key in self):
            raise ServingError(
                f"a key named {name!r} already exists",
                expected="an unused name",
                next="choose another name, or remove that key first",
            )
        if unknown_scopes := [scope for scope in scopes if scope not in SCOPES]:
            raise ServingError(
                f"{unknown_scopes[0]!r} is not a scope", expected=f"one of {', '.join(SCOPES)}"
            )
        api_key, created_at = f"mb_{secrets.token_urlsafe(32)}", time.time()
        expires_at = created_at + valid_days * 86_400 if valid_days else None
        self._write_file(
            [
                *self,
                ApiKey(
                    name, _hash_key(api_key), tuple(dict.fromkeys(scopes)), created_at, expires_at
                ),
            ]
        )
        return api_key

    def remove_key(self, name: str) -> None:
        """Remove a key; running services reject it within a second.

        Raises
        ------
        ServingError
            If no key has that name.
        """
        remaining = [key for key in self if key.name != name]
        if len(remaining) == len(self):
            names = ", ".join(key.name for key in self) or "no keys"
            raise ServingError(f"there is no key {name!r}", expected=names)
        self._write_file(remaining)

    def _write_file(self, keys: list[ApiKey]) -> None:
        if KEYRING_VARIABLE in os.environ:
            raise ServingError(
                f"the environment variable {KEYRING_VARIABLE} holds the keys",
                expected=f"keys in {self._path}",
                next=(
                    "change keys where the variable is not set, then set it to the content of "
                    "that file"
                ),
            )

        def open_private(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_EXCL, 0o600)

        with (
            atomic_write(self._path) as temporary_path,
            open(temporary_path, "w", encoding="utf-8", opener=open_private) as file,
        ):
            json.dump([asdict(key) for key in keys], file, indent=1)
        self._file_state = None
        self.refresh()


def _read_file_state(path: Path) -> tuple[int, ...] | None:
    """Return modification time, size and inode of a file; None if it does not exist."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _parse_keys(text: str) -> dict[str, ApiKey]:
    return {
        entry["hash"]: ApiKey(**{**entry, "scopes": tuple(entry["scopes"])})
        for entry in json.loads(text)
    }


def _format_minute(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(sep=" ", timespec="minutes")


def _hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
