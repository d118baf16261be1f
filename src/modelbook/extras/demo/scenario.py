"""The steps of the demo: each runs a command as a user would, checks it, and shows its result.

Damaged rows cause a retrain; an A/B test decides for its version; an injected fault is rolled back.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd

from modelbook.contract import Contract
from modelbook.extras.demo import checks, live_rows, traffic
from modelbook.extras.demo.sandbox import TABLE, Sandbox, get_served_versions, wait_until
from modelbook.extras.demo.traffic import SteadyTraffic
from modelbook.formatting import format_count

LIVE_YEAR, LATER_YEAR = 4, 5  # the years that are sent as live requests
FAULT_EVERY = 3  # every third row of the later year is sent while the fault is served
BATCH = f"year-{LIVE_YEAR}.parquet"  # the labelled rows of the live year
STEADY_ROWS = 200  # rows sent repeatedly while the version changes
MAX_SENTENCE_LENGTH = 200  # so that the demo fits on one screen
WINDOW_PREFIX = re.compile(r"^Batch \S+ \S+ to \S+ \S+: ")  # the name of a journal window
ACCEPTABLE = (0, 10)  # exit codes of monitor: healthy or watch
RETRAIN = (20,)
KEEP_CHAMPION = "keep the champion"  # the A/B test's decision
FAULT = "a fault injected by the demo"
ShowStep = Callable[[str, float | None, str], None]


class MonitorResult(NamedTuple):
    """Exit code of monitor, and its most severe finding."""

    exit_code: int
    finding: str

    def describe(self) -> str:
        """Describe the result as a reason."""
        return f"monitor exited with {self.exit_code}: {self.finding}"


class Scenario:
    """The demo of the loop.

    Parameters
    ----------
    show_step : callable
        Takes a step's name, its seconds, and its result as text.
    """

    def __init__(self, sandbox: Sandbox, show_step: ShowStep) -> None:
        self._sandbox = sandbox
        self._show_step = show_step
        self._contract = Contract.load(sandbox.root / "contracts/rand-hie.yaml")
        self._address = ""
        self._served, self._recorded = 0, 0  # predictions and outcomes, as the clients count them

    def run(self) -> str:
        """Run all steps and return a sentence on what they have shown.

        Raises
        ------
        ModelbookError
            If a command fails, or a step does not show what it should (``DemoError``).
        """
        start_time = time.monotonic()
        rows = live_rows.write_training_table(self._sandbox.root / TABLE)
        self._build()
        live, later = (rows[rows[self._contract.time] == year] for year in (LIVE_YEAR, LATER_YEAR))
        fault_rows = later.iloc[::FAULT_EVERY]
        with self._serve() as old:
            damage = self._monitor(f"year {LIVE_YEAR} live", live_rows.DAMAGE, live, RETRAIN)
            new = self._retrain(live, old, damage)
            self._challenge(old, new)
            shared_rows = later.drop(fault_rows.index)
            self._monitor(f"year {LATER_YEAR} live", live_rows.DAMAGE, shared_rows, ACCEPTABLE)
            self._compare_variants(old, new, len(shared_rows))
            self._inject_fault(old)
            fault = self._monitor("more live", f"served by version {old}", fault_rows, RETRAIN)
            reason = f"{FAULT}: version {old} was promoted against the A/B test. {fault.describe()}"
            self._roll_back(fault_rows, old, new, reason)
            after = self._monitor("same again", f"served by version {new}", fault_rows, ACCEPTABLE)
        self._check_records(old, new, damage.describe(), reason)
        minutes, seconds = divmod(int(time.monotonic() - start_time), 60)
        return (
            f"damaged rows made monitor exit with {damage.exit_code}, which caused the retrain; "
            f"the gate promoted version {new} under load; the A/B test decided for version {new}; "
            f"version {old}, promoted by --override as an injected fault, made monitor exit with "
            f"{fault.exit_code} and was rolled back, and monitor exits with {after.exit_code}; "
            f"{self._served:,} requests, 0 failed, all in the journal; {minutes}:{seconds:02d} "
            "minutes."
        )

    def _build(self) -> None:
        with self._step("build") as texts:
            self._sandbox.run_command("build")
            texts += [
                self._sandbox.read_receipt(stage)["sentences"][0]
                for stage in ("finalize", "deploy")
            ]

    @contextmanager
    def _serve(self) -> Iterator[int]:
        """Run the service, and yield the version that it serves."""
        start_time = time.monotonic()
        with self._sandbox.run_service() as self._address:
            version = get_served_versions(self._address)[0]
            text = f"{self._address}, version {version}; API docs at /docs"
            self._show_step("serve", time.monotonic() - start_time, text)
            yield version

    def _monitor(
        self, name: str, note: str, rows: pd.DataFrame, exit_codes: tuple[int, ...]
    ) -> MonitorResult:
        """Send rows as requests, post their outcomes, and check the exit code of monitor."""
        since = datetime.now(UTC).isoformat()
        with self._step(name) as texts:
            responses = traffic.request_predictions(
                self._address, self._make_request_records(rows), rows[self._contract.entity]
            )
            checks.check_no_failures(responses.failed, name)
            outcomes = rows[self._contract.target].astype(int).tolist()
            n_recorded = traffic.post_outcomes(self._address, responses, outcomes)
            texts += [note, responses.describe(), f"{n_recorded:,} outcomes recorded"]
        self._served += responses.succeeded
        self._recorded += n_recorded
        with self._step("monitor") as texts:
            command = self._sandbox.run_command(
                "monitor", "--since", since, "--json", exit_codes=ACCEPTABLE + RETRAIN
            )
            verdict = command.parse()
            sentences = [WINDOW_PREFIX.sub("", text) for text in verdict["sentences"]]
            checks.check_exit_code(
                "modelbook monitor", command.exit_code, exit_codes, " ".join(sentences)
            )
            texts += [f"exit {command.exit_code}, {verdict['status']}", sentences[1], sentences[-1]]
        return MonitorResult(command.exit_code, sentences[1])

    def _retrain(self, rows: pd.DataFrame, old: int, damage: MonitorResult) -> int:
        """Retrain on the live rows, under load, and return the version that the gate promoted."""
        rows.to_parquet(self._sandbox.root / BATCH, index=False)
        with self._step("retrain") as texts, self._send_steady_traffic(rows) as steady:
            result = self._sandbox.run_json("retrain", "--batch", BATCH, "--why", damage.describe())
            checks.require(
                result["status"] == "promoted",
                f"modelbook retrain: {result['status']}. {' '.join(result['sentences'])}",
                "a version that the gate promotes",
            )
            new = result["champion"]
            texts += [f"because: {damage.describe()}", *result["sentences"][-2:-1]]
            self._wait_until_served(steady, new)
        self._show_traffic(steady, old, new)
        return new

    def _challenge(self, old: int, new: int) -> None:
        """Let the former champion share the next rows."""
        with self._step("challenge") as texts:
            self._sandbox.run_command("challenge", str(old))
            self._wait_for_versions(new, old)
            texts.append(f"version {old} shares the users with version {new}")

    def _compare_variants(self, old: int, new: int, requests: int) -> None:
        """Check that the A/B test decides for the new version, on all shared requests."""
        with self._step("A/B") as texts:
            result = self._sandbox.run_command("ab", "--json", exit_codes=(0, 10)).parse()
            compared = result["champion"]["rows"] + result["challenger"]["rows"]
            checks.require(
                result["status"] == KEEP_CHAMPION
                and result["versions"] == {"champion": new, "challenger": old}
                and compared == requests,
                f"modelbook ab: {result['status']}, on {compared:,} rows of the versions "
                f"{result['versions']}. {' '.join(result['sentences'])}",
                f"{KEEP_CHAMPION}, version {new}, on {format_count(requests, 'row')}",
            )
            texts += [result["status"], result["sentences"][0]]

    def _inject_fault(self, old: int) -> None:
        """Promote the version that lost the A/B test: first rejected, then by override."""
        with self._step("fault") as texts:
            command = ("promote", str(old))
            result = self._sandbox.run_command(*command, "--require-ab", exit_codes=(0, 1))
            checks.require(
                result.exit_code == 1 and KEEP_CHAMPION in result.output,
                f"modelbook promote {old} --require-ab exited with {result.exit_code}: "
                f"{result.output.strip()}",
                f"exit code 1, because the A/B test concludes: {KEEP_CHAMPION}",
            )
            self._sandbox.run_command(*command, "--override", FAULT)
            self._wait_for_versions(old, None)
            texts += [
                f"promote {old} --require-ab is refused",
                f"injected fault: promote {old} --override",
            ]

    def _roll_back(self, rows: pd.DataFrame, old: int, new: int, reason: str) -> None:
        """Roll back to the version that won the A/B test, under load."""
        with self._step("rollback") as texts, self._send_steady_traffic(rows) as steady:
            result = self._sandbox.run_json("rollback", "--why", reason)
            texts += [f"because: {reason}", f"version {result['champion_after']} is the champion"]
            self._wait_until_served(steady, new)
        self._show_traffic(steady, old, new)

    def _check_records(self, old: int, new: int, retrain_reason: str, rollback_reason: str) -> None:
        """Check history and journal against the steps and the clients."""
        entries = self._sandbox.run_json("history", "--limit", "100")[::-1]
        checks.check_moves(
            entries,
            [
                ("promote", old, ""),
                ("promote", new, retrain_reason.rstrip(".")),
                ("promote", old, f"The gate was overridden: {FAULT}"),
                ("roll back", new, rollback_reason),
            ],
        )
        checks.check_journal(self._sandbox.count_journal(), self._served, self._recorded)

    def _send_steady_traffic(self, rows: pd.DataFrame) -> SteadyTraffic:
        return SteadyTraffic(self._address, self._make_request_records(rows[:STEADY_ROWS]))

    def _wait_until_served(self, steady: SteadyTraffic, version: int) -> None:
        """Wait until a version serves the steady traffic, and keep it running for a while."""
        wait_until(lambda: steady.versions[-1:] == [version], f"version {version} to serve")
        steady.keep_running()

    def _show_traffic(self, steady: SteadyTraffic, old: int, new: int) -> None:
        """Check and show the requests that were sent while the version changed."""
        self._served += steady.succeeded
        checks.check_no_failures(steady.failed, f"while version {new} replaced version {old}")
        checks.require(
            steady.versions == [old, new],
            f"requests were served by the versions {steady.versions}",
            f"by version {old}, then by version {new}",
        )
        counts = f"{steady.succeeded:,} requests served meanwhile, {steady.failed} failed"
        self._show_step("service", None, f"{counts}; served by version {old} → version {new}")

    def _wait_for_versions(self, champion: int, challenger: int | None) -> None:
        wait_until(
            lambda: get_served_versions(self._address) == (champion, challenger),
            f"version {champion} to serve",
        )

    def _make_request_records(self, rows: pd.DataFrame) -> list[dict[str, object]]:
        names = [self._contract.entity, self._contract.time, *self._contract.input_names]
        return traffic.to_records(self._contract.conform(rows)[names])

    @contextmanager
    def _step(self, name: str) -> Iterator[list[str]]:
        """Yield a list for the texts that are shown when the step ends."""
        start_time = time.monotonic()
        texts = list[str]()
        yield texts
        self._show_step(
            name,
            time.monotonic() - start_time,
            " · ".join(textwrap.shorten(text, MAX_SENTENCE_LENGTH) for text in texts),
        )
