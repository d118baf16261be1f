"""API keys: several, named, with scopes and an end; kept as hashes in a file that is read again when it changes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelbook.errors import ServingError
from modelbook.whole import complete

FILE = "serving.keys.json"
SCOPES = ("predict", "outcomes", "admin")  # admin may everything


@dataclass(frozen=True)
class Key:
    """One key, without the key itself.

    Attributes
    ----------
    hash : str
        SHA-256 of the key, which is 256 random bits: nothing to guess, so nothing slower is needed.
    ends : float or None
        Seconds since 1970 from which it is no longer taken.
    """

    name: str
    hash: str
    scopes: tuple[str, ...]
    made: float
    ends: float | None = None

    def described(self) -> tuple[str, str, str, str]:
        """Name, scopes, and the days on which it was made and ends, in words."""
        ends = "never" if self.ends is None else _day(self.ends)
        return self.name, " ".join(self.scopes), _day(self.made), ends

    def may(self, scope: str) -> bool:
        return "admin" in self.scopes or scope in self.scopes


class Keys:
    """The keys of a project."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._mark: object = None
        self._known: dict[str, Key] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self):
        return iter(self._known.values())

    def refresh(self) -> None:
        """Read the file again if it has changed.

        Raises
        ------
        ServingError
            When it cannot be read.
        """
        try:
            stat = self._path.stat()
            mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            self._known, self._mark = {}, None
            return
        if mark == self._mark:
            return
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            known = {one["hash"]: Key(**{**one, "scopes": tuple(one["scopes"])}) for one in told}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServingError(
                f"{self._path} cannot be read: {error}", next="remove it, and make keys anew: modelbook keys add NAME"
            ) from None
        self._known, self._mark = known, mark

    def find(self, given: str) -> Key | None:
        """The key that was given, if it is known and has not ended."""
        key = self._known.get(_hash(given))
        return None if key is None or (key.ends is not None and key.ends <= time.time()) else key

    def add(self, name: str, scopes: list[str], days: float | None = None) -> str:
        """Make a key and return it: it is not kept, and cannot be shown again.

        Raises
        ------
        ServingError
            When the name is taken, or a scope is none.
        """
        if any(one.name == name for one in self):
            raise ServingError(f"there is a key {name!r}", next="take another name, or remove that one first")
        if wrong := [scope for scope in scopes if scope not in SCOPES]:
            raise ServingError(f"{wrong[0]!r} is no scope", expected=f"one of {', '.join(SCOPES)}")
        made, now = f"mb_{secrets.token_urlsafe(32)}", time.time()
        ends = now + days * 86_400 if days else None
        self._write([*self, Key(name, _hash(made), tuple(dict.fromkeys(scopes)), now, ends)])
        return made

    def remove(self, name: str) -> None:
        """Remove a key; services stop taking it within a second.

        Raises
        ------
        ServingError
            When there is none of that name.
        """
        kept = [one for one in self if one.name != name]
        if len(kept) == len(self):
            names = ", ".join(one.name for one in self) or "no keys"
            raise ServingError(f"there is no key {name!r}", expected=names)
        self._write(kept)

    def _write(self, keys: list[Key]) -> None:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_EXCL, 0o600)

        with complete(self._path) as part, open(part, "w", encoding="utf-8", opener=private) as file:
            json.dump([asdict(one) for one in keys], file, indent=1)
        self._mark = None
        self.refresh()


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="minutes")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
