"""Drift of recent requests: how far the inputs have moved from the reference that the version keeps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from math import log2, sqrt
from typing import Any

from modelbook.scoring.places import place

BREATH = 0.005  # seconds between two features, a millisecond or two each
Reference = dict[str, dict[str, Any]]  # by feature: edges (of a number), and the share of each place


async def measured(reference: Reference, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Distances of all features, one after the other: between two of them requests are answered.

    In a thread the same work holds requests up for longer: each would wait for the interpreter anew.
    """
    told = {}
    for name, distance in distances(reference, rows):
        told[name] = distance
        await asyncio.sleep(BREATH)
    return told


def distances(reference: Reference, rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Jensen-Shannon distance of each feature, 0 (the same) to 1 (nothing in common); gaps count as a place."""
    for name, kept in reference.items():
        counts = Counter(place(row.get(name), kept["edges"]) for row in rows)
        yield name, _distance(kept["shares"], {key: count / len(rows) for key, count in counts.items()})


def _distance(one: dict[str, float], other: dict[str, float]) -> float:
    total = 0.0
    for key in one.keys() | other.keys():
        p, q = one.get(key, 0.0), other.get(key, 0.0)
        middle = (p + q) / 2
        total += sum(share * log2(share / middle) for share in (p, q) if share > 0)
    return sqrt(max(0.0, total / 2))
