"""Callers of the service: users who ask over real HTTP, each with one request after the other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx
import pandas as pd

TOGETHER = 4  # callers at a time
PAGE = 500  # outcomes of one request
PATIENCE = 30  # seconds that an answer may take


@dataclass(frozen=True)
class Asked:
    """What came of rows that were asked: an answer each, None where there was none."""

    answers: list[dict[str, Any] | None]
    seconds: float

    def told(self) -> str:
        """In words."""
        failed, rate = self.answers.count(None), len(self.answers) / self.seconds
        return f"{len(self.answers) - failed:,} requests answered, {failed} failed, {rate:,.0f} a second"


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as the service takes them."""
    return json.loads(frame.to_json(orient="records"))


def ask(address: str, asked: Sequence[dict[str, Any]], users: Sequence[Any]) -> Asked:
    """Ask each row by a request of its own, in the name of its user."""
    began = time.perf_counter()
    with httpx.Client(base_url=address, timeout=PATIENCE) as client, ThreadPoolExecutor(TOGETHER) as pool:
        answers = list(pool.map(lambda one: _one(client, *one), zip(asked, users, strict=True)))
    return Asked(answers, time.perf_counter() - began)


def tell(address: str, asked: Asked, outcomes: Sequence[Any]) -> int:
    """Tell what really happened; returns how many outcomes were recorded."""
    known = zip(asked.answers, outcomes, strict=True)
    told, recorded = [{"id": one["id"], "outcome": outcome} for one, outcome in known if one], 0
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        for begin in range(0, len(told), PAGE):
            answer = client.post("/outcomes", json=told[begin : begin + PAGE]).raise_for_status()
            recorded += answer.json()["recorded"]
    return recorded


class Steady:
    """Callers who do not stop while something else happens; used with ``with``."""

    def __init__(self, address: str, asked: Sequence[dict[str, Any]], pause: float = 0.02) -> None:
        self.answered, self.failed = 0, 0
        self.versions: list[int] = []  # as they came, one after the other
        self._address, self._asked, self._pause = address, asked, pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE)

    def linger(self, seconds: float = 1) -> None:
        """Go on for a while."""
        self._end.wait(seconds)

    def _go(self) -> None:
        with httpx.Client(base_url=self._address, timeout=PATIENCE) as client:
            for row in cycle(self._asked):
                if self._end.wait(self._pause):
                    return
                answer = _one(client, row, "steady")
                self.answered += answer is not None
                self.failed += answer is None
                if answer and self.versions[-1:] != [answer["model_version"]]:
                    self.versions.append(answer["model_version"])


def _one(client: httpx.Client, row: dict[str, Any], user: Any) -> dict[str, Any] | None:
    """An answer, or None where there was none."""
    try:
        answer = client.post("/predict", json=row, headers={"X-User-Id": str(user)})
    except httpx.HTTPError:
        return None
    return answer.json() if answer.status_code == httpx.codes.OK else None
