"""Access to the service: by API keys, or for local clients while there are no keys.

Only hashes of keys are stored, in a file that is reloaded when it changes. In a container without
that file, the environment variable ``MODELBOOK_KEYRING`` holds its content.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from modelbook.atomic import atomic_write
from modelbook.errors import ServingError
from modelbook.serving.http_request import Headers, RequestError

if TYPE_CHECKING:
    from modelbook.serving.settings import ServingSettings


KEYS_FILE = "serving.keys.json"
KEYRING_VARIABLE = "MODELBOOK_KEYRING"  # environment variable that holds the file's content
SCOPES = ("predict", "outcomes", "admin")  # admin includes all other scopes
# A proxy adds them: the address of the connection is not the caller's.
FORWARDED_HEADERS = frozenset((
    b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
    b"x-forwarded-proto", b"x-forwarded-server", b"x-real-ip", b"x-client-ip", b"true-client-ip",
    b"cf-connecting-ip",
))  # fmt: skip
MAX_TRACKED_CALLERS = 10_000  # callers with their own token bucket; also hosts


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
        file_state = read_file_state(self._path) if keyring is None else keyring
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
        if key is None or (key.expires_at is not None and key.expires_at <= time.time()):
            return None
        return key

    def add_key(self, name: str, scopes: list[str], valid_days: float | None = None) -> str:
        """Create a key and return it. Only its hash is stored, so it cannot be shown again.

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
        api_key = f"mb_{secrets.token_urlsafe(32)}"
        created_at = time.time()
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
                next="change keys where the variable is not set, then set it to the content of "
                "that file",
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


def read_file_state(path: Path) -> tuple[int, ...] | None:
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


class AccessControl:
    """Decides whether a request is allowed."""

    def __init__(self, settings: ServingSettings, api_keys: ApiKeyStore) -> None:
        self._settings = settings
        self._api_keys = api_keys

    @property
    def requires_key(self) -> bool:
        """Whether a key is required: from the first key on, even if all keys are removed."""
        return self._settings.api_keys == "on" and self._api_keys.was_configured

    def authorize(self, api_key: str | None, caller: str, scope: str | None) -> ApiKey | None:
        """Return the key that authorizes a caller; None if no key is required.

        Raises
        ------
        RequestError
            401 without a valid key, 403 for a key without the scope.
        """
        is_open = self._settings.api_keys == "off" or (
            not self._api_keys.was_configured and is_loopback(caller)
        )
        if is_open:
            return None
        key = self._api_keys.find_key(api_key) if api_key else None
        if key is None:
            message = "unknown or expired API key" if api_key else "missing API key"
            raise RequestError(
                401,
                message,
                expected="the header X-API-Key, or Authorization: Bearer",
                headers={"www-authenticate": "Bearer"},
            )
        if scope and not key.has_scope(scope):
            raise RequestError(
                403,
                f"the key {key.name!r} lacks the scope {scope}",
                expected=f"a key with it; this one has {', '.join(key.scopes)}",
            )
        return key

    def check_origin(self, headers: Headers) -> None:
        """Refuse requests that a browser sends for another site, while no key is required.

        Raises
        ------
        RequestError
            403 for a foreign Host or Origin, or a forwarded request.
        """
        if self.requires_key:
            return
        raw_host = headers.get(b"host", b"")
        origin = headers.get(b"origin")
        if self._settings.api_keys == "on":
            self._require_direct_call(raw_host, headers)
        if origin is None:
            return
        site, host = origin.decode("latin-1"), raw_host.decode("latin-1")
        if site not in self._settings.cors_origins and _split_url(site).netloc != host:
            raise _make_forbidden_error(
                f"a request of the site {site[:80]!r}", "cors_origins names it"
            )

    def _require_direct_call(self, raw_host: bytes, headers: Headers) -> None:
        if not FORWARDED_HEADERS.isdisjoint(headers):
            [name, *_] = FORWARDED_HEADERS.intersection(headers)
            raise _make_forbidden_error(
                f"a request with the header {name.decode()}", "the service has keys"
            )
        host = _read_host_name(raw_host)
        if not is_loopback(host):
            raise _make_forbidden_error(f"the host {host[:80]!r}", "the service has keys")


@lru_cache(maxsize=MAX_TRACKED_CALLERS)
def is_loopback(host: str) -> bool:
    """Whether a host is ``localhost`` or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache(maxsize=MAX_TRACKED_CALLERS)
def _read_host_name(raw_host: bytes) -> str:
    """Read the name or address of a Host header; an invalid one is returned as it is."""
    host = raw_host.decode("latin-1")
    return _split_url(f"//{host}").hostname or host


def _split_url(url: str) -> SplitResult:
    """Split a URL; the parts of an invalid one, such as ``//[a]``, are empty."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _make_forbidden_error(subject: str, condition: str) -> RequestError:
    return RequestError(
        403,
        f"{subject} is refused while no key is required",
        expected=f"a local client, unless {condition}",
    )


class RateLimiter:
    """Token bucket per caller.

    A bucket refills with ``requests_per_second`` tokens a second and holds one second's worth, at
    least one token.
    """

    def __init__(self, requests_per_second: float) -> None:
        self._requests_per_second = requests_per_second
        self._bucket_size = max(1.0, requests_per_second)
        self._tokens: dict[str, tuple[float, float]] = {}

    def acquire(self, caller: str) -> None:
        """Take one token for a request.

        Raises
        ------
        RequestError
            429 if the caller has no token left; ``retry-after``: seconds until the next one.
        """
        now = time.monotonic()
        tokens, updated_at = self._tokens.get(caller, (self._bucket_size, now))
        tokens = min(self._bucket_size, tokens + (now - updated_at) * self._requests_per_second)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / self._requests_per_second)
            raise RequestError(
                429,
                f"more than {self._requests_per_second:g} requests a second",
                headers={"retry-after": str(wait)},
            )
        if len(self._tokens) >= MAX_TRACKED_CALLERS:
            self._tokens.clear()  # too many addresses: start again with full buckets
        self._tokens[caller] = tokens - 1, now
