"""Traffic: which of two variants answers a user. The same user gets the same variant, in each worker and each day."""

from __future__ import annotations

from hashlib import blake2b

CHAMPION, CHALLENGER = "champion", "challenger"


def challenged(user: str, salt: str, share: float) -> bool:
    """Whether the challenger answers a user: true for ``share`` of all users, drawn by a salted hash."""
    drawn = blake2b(user.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(drawn) < share * 2**64
