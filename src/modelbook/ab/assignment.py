"""Traffic assignment: a user always gets the same variant, in each worker."""

from __future__ import annotations

from hashlib import blake2b


def assign_bucket(user: str, salt: str) -> str:
    """Return a user's bucket: 16 hex digits of a salted hash, journaled instead of the user."""
    return blake2b(user.encode(), digest_size=8, key=salt.encode()[:64]).hexdigest()


def routes_to_challenger(bucket: str, challenger_share: float) -> bool:
    """Whether a bucket goes to the challenger: true for ``challenger_share`` of all buckets."""
    return int(bucket, 16) < challenger_share * 2**64
