"""Traffic: which of two variants answers a user. The same user gets the same variant, in each worker and each day."""

from __future__ import annotations

from hashlib import blake2b

CHAMPION, CHALLENGER = "champion", "challenger"


def drawn(user: str, salt: str) -> str:
    """The lot of a user: 16 hexadecimal digits of a salted hash, which the journal keeps in the user's place."""
    return blake2b(user.encode(), digest_size=8, key=salt.encode()[:64]).hexdigest()


def challenged(lot: str, share: float) -> bool:
    """Whether the challenger answers whoever drew a lot: true for ``share`` of all lots."""
    return int(lot, 16) < share * 2**64
