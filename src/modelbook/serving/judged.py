"""What monitor said last of the champion, in the service's metrics."""

from __future__ import annotations

import logging
from pathlib import Path

from modelbook.errors import StoreError
from modelbook.monitoring import latest
from modelbook.serving.loaded import Loaded
from modelbook.serving.metrics import Metrics

LOG = logging.getLogger("modelbook.serving")
MOST = 100  # columns with a series of their own, in the contract's order


class Judged:
    """Follows the history that monitor writes."""

    def __init__(self, root: Path, book: str, metrics: Metrics) -> None:
        self._file, self._metrics = latest.path(root, book), metrics
        self._seen: tuple[int, int] | None = None

    def look(self, champion: Loaded | None) -> None:
        """Show the newest verdict on the champion, where the history or the champion has changed."""
        seen = (champion.number if champion else 0, self._file.stat().st_mtime_ns if self._file.is_file() else 0)
        if champion is None or seen == self._seen:
            return
        self._seen = seen
        try:
            found = latest.latest(self._file, champion.number)
        except StoreError as error:  # the service has better to do, and shows what it knows
            LOG.error("the history of monitor", extra={"reason": error.what})
            return
        if found is None:
            self._metrics.judged("", 0, float("nan"), {})
            return
        known = champion.contract.features_[:MOST]
        moved = {name: found.distances[name] for name in known if name in found.distances}
        self._metrics.judged(found.word, found.at, found.drifted_share, moved)
