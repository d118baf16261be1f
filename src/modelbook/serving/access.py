"""Who may call the service: API keys, or programs of this machine while there are no keys."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelbook.serving.request_body import Headers
from modelbook.serving.request_errors import RequestError

if TYPE_CHECKING:
    from modelbook.serving.api_keys import ApiKey, ApiKeyStore
    from modelbook.serving.settings import ServingSettings

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")
LOOPBACK_HOSTS = ("localhost", *LOOPBACK_ADDRESSES)
# A proxy adds them: the address of the connection is not the caller's.
FORWARDED_HEADERS = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"))
MAX_TRACKED_CALLERS = 10_000  # callers with a bucket of their own


class AccessControl:
    """Decides whether a request is allowed."""

    def __init__(self, settings: ServingSettings, api_keys: ApiKeyStore) -> None:
        self._settings, self._api_keys = settings, api_keys
        self._loopback_hosts: set[bytes] = set()  # values of Host that were found to be loopback

    @property
    def requires_key(self) -> bool:
        """Whether a key is required. Once there was a key it is, even without any key left."""
        return self._settings.api_keys == "on" and self._api_keys.was_configured

    def authorize(self, api_key: str | None, caller: str, scope: str | None) -> ApiKey | None:
        """Return the key that authorizes a caller; None if no key is required.

        Raises
        ------
        RequestError
            401 without a valid key, 403 for a key without the scope.
        """
        is_open = self._settings.api_keys == "off" or (
            not self._api_keys.was_configured and caller in LOOPBACK_ADDRESSES
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
        """Refuse what a browser sends for another site, while no key is required.

        Raises
        ------
        RequestError
            403 for a foreign Host or Origin, or a forwarded request.
        """
        if self.requires_key:
            return
        raw_host, origin = headers.get(b"host", b""), headers.get(b"origin")
        if self._settings.api_keys == "on":
            self._require_direct_call(raw_host, headers)
        if origin is None:
            return
        site, host = origin.decode("latin-1"), raw_host.decode("latin-1")
        if site not in self._settings.cors_origins and urlsplit(site).netloc != host:
            raise _refuse(f"a request of the site {site[:80]!r}", "cors_origins names it")

    def _require_direct_call(self, raw_host: bytes, headers: Headers) -> None:
        if not FORWARDED_HEADERS.isdisjoint(headers):
            [name, *_] = FORWARDED_HEADERS.intersection(headers)
            raise _refuse(f"a request with the header {name.decode()}", "the service has keys")
        if raw_host in self._loopback_hosts:
            return
        host = raw_host.decode("latin-1")
        if urlsplit(f"//{host}").hostname not in LOOPBACK_HOSTS:
            raise _refuse(f"the host {host[:80]!r}", "the service has keys")
        if len(self._loopback_hosts) < MAX_TRACKED_CALLERS:
            self._loopback_hosts.add(raw_host)


def _refuse(what: str, condition: str) -> RequestError:
    return RequestError(
        403,
        f"{what} is refused while no key is required",
        expected=f"a program of this machine, unless {condition}",
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
            429 if the caller has no token left; ``retry-after`` says when to try again.
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
