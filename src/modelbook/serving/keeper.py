"""The keeper: holds the versions in service, and takes up what the aliases name when they move.

A new version is loaded and proven beside the one in service, and takes its place between two requests. One that fails
its proof is told and left alone; the version in service stays.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from modelbook.errors import ModelbookError
from modelbook.registry.pointer import DIGEST, Pointed
from modelbook.serving.loaded import Loaded, load
from modelbook.serving.named import named as named_now
from modelbook.serving.traffic import CHALLENGER, CHAMPION

LOG = logging.getLogger("modelbook.serving")


class Keeper:
    """Versions in service, by alias.

    Attributes
    ----------
    champion, challenger : Loaded or None
    refused : dict
        Why the version that an alias names now is not in service, by alias.
    """

    def __init__(self, root: Path, book: str, limit: int) -> None:
        self._root, self._book, self._limit = root, book, limit
        self.champion: Loaded | None = None
        self.challenger: Loaded | None = None
        self.refused: dict[str, str] = {}
        self._seen: dict[str, Any] = {}
        self._loaded: dict[Any, Loaded] = {}

    async def look(self) -> bool:
        """Take up what the aliases name now; returns whether anything changed."""
        try:
            named = await asyncio.to_thread(named_now, self._root, self._book)
        except ModelbookError as error:
            if self.refused.get("store") != error.what:
                LOG.error("the registry cannot be read", extra={"reason": error.what})
            self.refused["store"] = error.what
            return False
        self.refused.pop("store", None)
        changed = False
        for alias in (CHAMPION, CHALLENGER):
            changed |= await self._follow(alias, named.get(alias))
        if changed and self.challenger:
            try:
                self._fits(CHALLENGER, self.challenger)
            except ModelbookError as error:
                self.refused[CHALLENGER] = f"version {self.challenger.number}: {error.what}"
                self.challenger = None
        return changed

    async def _follow(self, alias: str, pointed: Pointed | None) -> bool:
        mark = (pointed.number, pointed.tags.get(DIGEST)) if pointed else None
        if self._seen.get(alias, ...) == mark:
            return False
        self._seen[alias] = mark
        self.refused.pop(alias, None)
        if pointed is None:
            if alias == CHAMPION and self.champion:
                self.refused[alias] = "the alias names no version any more; the last one stays"
                return True
            setattr(self, alias, None)
            return True
        try:
            found = await asyncio.to_thread(self._load, mark, pointed)
            self._fits(alias, found)
        except Exception as error:  # whatever is wrong with a new version, the one in service stays
            reason = error.what if isinstance(error, ModelbookError) else f"{type(error).__name__}: {error}"
            self.refused[alias] = f"version {pointed.number}: {reason}"
            if alias == CHALLENGER:
                self.challenger = None
            LOG.error("a version was refused", extra={"alias": alias, "version": pointed.number, "reason": reason})
            return True
        setattr(self, alias, found)
        told = {"alias": alias, "version": found.number, "scorer": found.tags.get("scorer", found.scorer.name)}
        LOG.info("in service", extra={**told, "golden_rows": found.golden})
        if not found.scorer.compiled:
            LOG.warning("the model itself serves, slowly", extra=told)
        self._loaded = {key: one for key, one in self._loaded.items() if one in (self.champion, self.challenger)}
        return True

    def _load(self, mark: Any, pointed: Pointed) -> Loaded:
        if mark not in self._loaded:
            self._loaded[mark] = load(pointed, self._limit)
        return self._loaded[mark]

    def _fits(self, alias: str, found: Loaded) -> None:
        """A challenger is asked what the champion is asked, so it must not want other fields."""
        if alias == CHALLENGER and self.champion:
            other = set(found.contract.features_) - set(self.champion.contract.features_)
            if other:
                raise ModelbookError(f"it wants {', '.join(sorted(other))}, which the champion's requests do not have")
