"""The story of the demo, step by step: each types the command that a person would, and tells in a line what it said."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from modelbook.contract import Contract
from modelbook.demo import callers
from modelbook.demo.callers import Steady
from modelbook.demo.place import BOOK, WATCHED, Place, until, versions

LIVE, LATER = 4, 5  # the years that are sent live
STEADY = 200  # rows that are asked over and over while a version is exchanged
LONGEST = 200  # characters of a sentence: the whole story is one screen
SPAN = re.compile(r"^Batch \S+ \S+ to \S+ \S+: ")  # the name of a window of the journal
Say = Callable[[str, float | None, str], None]


class Story:
    """The loop, once around.

    Parameters
    ----------
    place : Place
        Where the commands are typed.
    say : callable
        Takes a step's name, its seconds, and what came of it in words.
    """

    def __init__(self, place: Place, say: Say) -> None:
        self._place, self._say = place, say

    def tell(self) -> Path:
        """Tell all of it; returns the index of reports, which tells the same.

        Raises
        ------
        ModelbookError
            When a command does not end as it should.
        """
        self._built()
        self._contract = Contract.load(self._place.root / "contracts/rand-hie.yaml")
        self._batches = pd.read_parquet(self._place.root / "data" / BOOK / "batches.parquet")
        began = time.monotonic()
        with self._place.served() as address:
            said = f"{address}, by version {versions(address)[0]}; manual at /docs"
            self._say("serve", time.monotonic() - began, said)
            self._live(address, LIVE)
            self._challenged(address, self._retrained(address))
            self._live(address, LATER)
            self._compared()
            self._taken_back(address)
        return self._place.root / "reports" / "index.html"

    def _built(self) -> None:
        with self._step("build") as told:
            self._place.run("build")
            told += [self._place.receipt(stage)["sentences"][0] for stage in ("finalize", "deploy")]

    def _live(self, address: str, year: int) -> None:
        """A year's rows as requests, what happened to them, and what monitor says of it."""
        rows = self._year(year)
        since = datetime.now(UTC).isoformat()
        with self._step(f"year {year} live") as told:
            asked = callers.ask(address, self._asked(rows), rows[self._contract.entity])
            told.append(asked.told())
        with self._step("outcomes") as told:
            outcomes = rows[self._contract.target].astype(int).tolist()
            told.append(f"{callers.tell(address, asked, outcomes):,} outcomes recorded, late")
        with self._step("monitor") as told:
            found = self._place.asked("monitor", "--since", since, ends=WATCHED)
            told += [found["word"], *(SPAN.sub("", sentence) for sentence in found["sentences"][1:2])]

    def _retrained(self, address: str) -> dict[str, Any]:
        """A retrain on the year that has come, under load; returns what it said."""
        before, why = versions(address)[0], f"Year {LIVE} has come."
        with self._step("retrain") as told, Steady(address, self._asked(self._year(LIVE))[:STEADY]) as steady:
            found = self._place.asked("retrain", "--as-of", str(LIVE), "--why", why)
            told += [found["word"], found["sentences"][-1].removeprefix(f"{why} ")]
            if found["champion"] != before:
                until(lambda: steady.versions[-1:] == [found["champion"]], f"version {found['champion']} to answer")
                steady.linger()
        answered = " → ".join(f"version {number}" for number in steady.versions)
        counts = f"{steady.answered:,} requests answered meanwhile, {steady.failed} failed"
        self._say("service", None, f"{counts}; by {answered}")
        return found | {"before": before}

    def _challenged(self, address: str, retrained: dict[str, Any]) -> None:
        """The one that is not the champion shares the next year's traffic."""
        promoted = retrained["champion"] != retrained["before"]
        other = retrained["before"] if promoted else retrained["candidate"]
        with self._step("challenge") as told:
            self._place.run("challenge", str(other))
            until(lambda: versions(address)[1] == other, f"version {other} to take part")
            told.append(f"version {other} shares the users with version {retrained['champion']}")

    def _compared(self) -> None:
        with self._step("A/B") as told:
            found = self._place.asked("ab", ends=(0, 10))
            told += [found["word"], found["sentences"][0]]

    def _taken_back(self, address: str) -> None:
        """The version before gets its place back, where it lost it, and the service follows."""
        champion = versions(address)[0]
        if champion == 1:
            return
        with self._step("rollback") as told:
            told.append(self._place.run("rollback", "--why", "the end of the demo").strip())
            until(lambda: versions(address)[0] != champion, "the service to follow")
            told.append(f"The service answers by version {versions(address)[0]}.")

    def _year(self, year: int) -> pd.DataFrame:
        return self._batches[self._batches[self._contract.time] == year]

    def _asked(self, rows: pd.DataFrame) -> list[dict[str, Any]]:
        return callers.rows(rows[[self._contract.entity, self._contract.time, *self._contract.inputs_]])

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        """Give a list for what is to be told when the step ends."""
        began, told = time.monotonic(), list[str]()
        yield told
        self._say(name, time.monotonic() - began, " · ".join(textwrap.shorten(one, LONGEST) for one in told))
