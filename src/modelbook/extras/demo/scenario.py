"""The steps of the demo: each runs a command as a user would, and shows its result in a line."""

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
from modelbook.extras.demo import traffic
from modelbook.extras.demo.sandbox import (
    BOOK,
    MONITOR_EXIT_CODES,
    Sandbox,
    get_served_versions,
    wait_until,
)
from modelbook.extras.demo.traffic import SteadyTraffic

LIVE_YEAR, LATER_YEAR = 4, 5  # the years that are sent as live requests
STEADY_ROWS = 200  # rows sent repeatedly while the version changes
MAX_SENTENCE_LENGTH = 200  # so that the demo fits on one screen
WINDOW_PREFIX = re.compile(r"^Batch \S+ \S+ to \S+ \S+: ")  # the name of a journal window
ShowStep = Callable[[str, float | None, str], None]


class Scenario:
    """The demo of the loop.

    Parameters
    ----------
    sandbox : Sandbox
        Where the commands run.
    show_step : callable
        Takes a step's name, its seconds, and its result as text.
    """

    def __init__(self, sandbox: Sandbox, show_step: ShowStep) -> None:
        self._sandbox, self._show_step = sandbox, show_step

    def run(self) -> Path:
        """Run all steps and return the path of the index of reports.

        Raises
        ------
        ModelbookError
            If a command fails.
        """
        self._build()
        self._contract = Contract.load(self._sandbox.root / "contracts/rand-hie.yaml")
        self._batches = pd.read_parquet(self._sandbox.root / "data" / BOOK / "batches.parquet")
        started = time.monotonic()
        with self._sandbox.run_service() as address:
            text = f"{address}, version {get_served_versions(address)[0]}; API docs at /docs"
            self._show_step("serve", time.monotonic() - started, text)
            self._play_year(address, LIVE_YEAR)
            self._challenge(address, self._retrain(address))
            self._play_year(address, LATER_YEAR)
            self._compare_variants()
            self._roll_back(address)
        return self._sandbox.root / "reports" / "index.html"

    def _build(self) -> None:
        with self._step("build") as texts:
            self._sandbox.run_command("build")
            texts += [
                self._sandbox.read_receipt(stage)["sentences"][0]
                for stage in ("finalize", "deploy")
            ]

    def _play_year(self, address: str, year: int) -> None:
        """Send a year's rows as requests, post their outcomes, and run monitor."""
        rows = self._rows_of_year(year)
        since = datetime.now(UTC).isoformat()
        with self._step(f"year {year} live") as texts:
            responses = traffic.request_predictions(
                address, self._request_records(rows), rows[self._contract.entity]
            )
            texts.append(responses.describe())
        with self._step("outcomes") as texts:
            outcomes = rows[self._contract.target].astype(int).tolist()
            texts.append(
                f"{traffic.post_outcomes(address, responses, outcomes):,} outcomes recorded, late"
            )
        with self._step("monitor") as texts:
            verdict = self._sandbox.run_json(
                "monitor", "--since", since, exit_codes=MONITOR_EXIT_CODES
            )
            texts += [
                verdict["word"],
                *(WINDOW_PREFIX.sub("", sentence) for sentence in verdict["sentences"][1:2]),
            ]

    def _retrain(self, address: str) -> dict[str, Any]:
        """Retrain on the live year, under load, and return the result."""
        old_version, why = get_served_versions(address)[0], f"Year {LIVE_YEAR} is complete."
        with (
            self._step("retrain") as texts,
            SteadyTraffic(
                address, self._request_records(self._rows_of_year(LIVE_YEAR))[:STEADY_ROWS]
            ) as steady,
        ):
            result = self._sandbox.run_json("retrain", "--as-of", str(LIVE_YEAR), "--why", why)
            texts += [result["word"], result["sentences"][-1].removeprefix(f"{why} ")]
            if result["champion"] != old_version:
                wait_until(
                    lambda: steady.versions[-1:] == [result["champion"]],
                    f"version {result['champion']} to serve",
                )
                steady.keep_running()
        versions_text = " → ".join(f"version {version}" for version in steady.versions)
        counts = f"{steady.succeeded:,} requests served meanwhile, {steady.failed} failed"
        self._show_step("service", None, f"{counts}; served by {versions_text}")
        return result | {"before": old_version}

    def _challenge(self, address: str, retrain_result: dict[str, Any]) -> None:
        """Let the version that is not the champion share the next year's traffic."""
        promoted = retrain_result["champion"] != retrain_result["before"]
        challenger = retrain_result["before"] if promoted else retrain_result["candidate"]
        with self._step("challenge") as texts:
            self._sandbox.run_command("challenge", str(challenger))
            wait_until(
                lambda: get_served_versions(address)[1] == challenger,
                f"version {challenger} to take part",
            )
            texts.append(
                f"version {challenger} shares the users with version {retrain_result['champion']}"
            )

    def _compare_variants(self) -> None:
        with self._step("A/B") as texts:
            result = self._sandbox.run_json("ab", exit_codes=(0, 10))
            texts += [result["word"], result["sentences"][0]]

    def _roll_back(self, address: str) -> None:
        """Roll back to the previous version, if it was replaced, and wait for the service."""
        champion = get_served_versions(address)[0]
        if champion == 1:
            return
        with self._step("rollback") as texts:
            texts.append(
                self._sandbox.run_command("rollback", "--why", "the end of the demo").strip()
            )
            wait_until(lambda: get_served_versions(address)[0] != champion, "the service to follow")
            texts.append(f"The service now uses version {get_served_versions(address)[0]}.")

    def _rows_of_year(self, year: int) -> pd.DataFrame:
        return self._batches[self._batches[self._contract.time] == year]

    def _request_records(self, rows: pd.DataFrame) -> list[dict[str, Any]]:
        return traffic.to_records(
            rows[[self._contract.entity, self._contract.time, *self._contract.input_names]]
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        """Yield a list for the texts that are shown when the step ends."""
        started, texts = time.monotonic(), list[str]()
        yield texts
        self._show_step(
            name,
            time.monotonic() - started,
            " · ".join(textwrap.shorten(text, MAX_SENTENCE_LENGTH) for text in texts),
        )
