"""What a service answers by: the versions that the aliases name, or the one export that it was started from."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from modelbook.registry import exported
from modelbook.registry.pointer import CHAMPION, Pointed, aliases

FROM = "MODELBOOK_SERVING_FROM"  # how workers learn of the export

origin = lru_cache(exported.find)  # an export does not change: its address is its digest


def named(root: Path, book: str) -> dict[str, Pointed]:
    """Versions in service by alias.

    Raises
    ------
    StoreError
        When the store, or the export, cannot be read.
    """
    address = os.environ.get(FROM)
    return {CHAMPION: origin(root, address)} if address else aliases(root, book)
