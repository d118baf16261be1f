"""Sketches of sets of entities: small, and two of them estimate the overlap of their sets.

A sketch is the smallest of the entities' hashes (bottom-k sampling; Cohen & Kaplan 2007,
"Summarizing data using bottom-k sketches"). Up to the smaller of their largest hashes, both
sketches hold all hashes of their sets: an unbiased sample of either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelbook.dataset.split_strategy import hash_entities

if TYPE_CHECKING:
    import pandas as pd

SKETCH_SIZE = 256
SALT = "sketch"  # a different hash from those that draw holdout and folds


def sketch_entities(entities: pd.Series) -> str:
    """The smallest hashes of the distinct entities as hexadecimal words, ascending."""
    hashes = hash_entities(entities, SALT).drop_duplicates().nsmallest(SKETCH_SIZE)
    return " ".join(f"{int(value * 2**64):016x}" for value in hashes)


def estimate_overlap(sketch: str, other: str) -> float:
    """Estimate the share of a sketch's entities that are in the other's set (containment)."""
    hashes, other_hashes = sketch.split(), other.split()
    limits = [words[-1] for words in (hashes, other_hashes) if len(words) >= SKETCH_SIZE]
    limit = min(limits, default=max(hashes + other_hashes, default=""))
    sample = {word for word in hashes if word <= limit}
    return len(sample & set(other_hashes)) / len(sample) if sample else 0.0
