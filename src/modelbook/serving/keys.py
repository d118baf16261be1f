"""API keys: several, named, with scopes and an end; kept as hashes in a file that is read again when it changes.

Where a container has no such file, the environment holds what would stand in it.
"""

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
KEYRING = "MODELBOOK_KEYRING"  # in the environment: the content of the file, in the file's place
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
        self._mark: object = None  # what was read last
        self._known: dict[str, Key] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self):
        return iter(self._known.values())

    def refresh(self) -> None:
        """Read the file again if it has changed; the environment, once.

        Raises
        ------
        ServingError
            When it cannot be read.
        """
        given = os.environ.get(KEYRING)
        mark = _mark(self._path) if given is None else given
        if mark is None:
            self._known = {}
        elif mark != self._mark:
            place = self._path if given is None else KEYRING
            try:
                self._known = _known(self._path.read_text(encoding="utf-8") if given is None else given)
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise ServingError(
                    f"{place} cannot be read: {error}", expected=f"what stands in a {FILE}",
                    next="remove it, and make keys anew: modelbook keys add NAME",
                ) from None  # fmt: skip
        self._mark = mark

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
        if KEYRING in os.environ:
            raise ServingError(
                f"the keys are those of {KEYRING} in the environment", expected=f"keys in {self._path}",
                next="make them where it is not set, and give it the content of that file",
            )  # fmt: skip

        def private(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_EXCL, 0o600)

        with complete(self._path) as part, open(part, "w", encoding="utf-8", opener=private) as file:
            json.dump([asdict(one) for one in keys], file, indent=1)
        self._mark = None
        self.refresh()


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _known(text: str) -> dict[str, Key]:
    return {one["hash"]: Key(**{**one, "scopes": tuple(one["scopes"])}) for one in json.loads(text)}


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="minutes")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
