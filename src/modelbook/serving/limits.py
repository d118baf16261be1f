"""Rates: how many requests a second each caller has."""

from __future__ import annotations

import math
import time

from modelbook.serving.refusals import Refusal

MOST = 10_000  # callers that are remembered


class Rates:
    """A bucket for each caller, which fills at ``rate`` a second and holds a second's worth, at least one."""

    def __init__(self, rate: float) -> None:
        self._rate, self._size = rate, max(1.0, rate)
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> None:
        """Let one request through.

        Raises
        ------
        Refusal
            429 when the caller has none left; the header says when there is one again.
        """
        now = time.monotonic()
        left, at = self._left.get(caller, (self._size, now))
        left = min(self._size, left + (now - at) * self._rate)
        if left < 1:
            wait = math.ceil((1 - left) / self._rate)
            raise Refusal(429, f"more than {self._rate:g} requests a second", headers={"retry-after": str(wait)})
        if len(self._left) >= MOST:
            self._left.clear()  # a flood of addresses; everybody begins anew
        self._left[caller] = left - 1, now
