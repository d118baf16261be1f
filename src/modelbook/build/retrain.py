"""Retrain a book: rebuild it on newer labelled rows up to deploy, where the gate decides.

Everything is checked first. Then the parameter overrides are saved, and the build runs in a process
of its own. Its result is read from the registry history. The error of a build that failed or was
stopped names the current champion, because the new version may have been promoted already.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from modelbook import config
from modelbook.build import labelled_data, locks, retrain_plan
from modelbook.build.retrain_plan import RetrainPlan, RetrainRequest
from modelbook.errors import BuildError
from modelbook.formatting import format_count, format_duration
from modelbook.gate import PROMOTE
from modelbook.registry import aliases, history
from modelbook.registry.promotion import REASON_VARIABLE
from modelbook.stage import project, retrain_overrides

# Results after a build: the gate's decision.
PROMOTED, HELD, WOULD_PROMOTE = "promoted", "held", "would promote"
# Results without a build.
DRY_RUN, COOLDOWN = "dry run", "cooldown"
NOTHING_NEWER, UP_TO_DATE = "nothing newer", "up to date"
STOP_TIMEOUT = 60  # seconds for a build to stop
POLL_SECONDS = 0.5  # between checks of the time limit


@dataclass(frozen=True)
class BuildExit:
    """How a build ended: its exit code, and whether the budget or a signal stopped it."""

    code: int
    is_over_budget: bool = False
    is_interrupted: bool = False


@dataclass(frozen=True)
class RetrainResult:
    """Result of a retrain: status (such as ``PROMOTED``), sentences, next step and versions."""

    status: str
    sentences: list[str]
    next: str
    champion: int
    candidate: int | None = None
    as_of: int | float | None = None


def retrain(
    root: Path, env_file: Path, request: RetrainRequest, *, out: IO[str] | None = None
) -> RetrainResult:
    """Rebuild a book on newer labelled rows, and evaluate the promotion gate.

    Parameters
    ----------
    out : file, optional
        Where the build's progress is written; default: standard output.

    Raises
    ------
    ModelbookError
        If the request, a batch or the table is invalid, another retrain or build is running, or
        the build fails, is stopped or exceeds its budget. The champion stays unless the build had
        promoted the challenger already.
    """
    start_time = time.monotonic()
    book = project.read_parameters(root, env_file)["ingest"]["book"]
    with locks.lock_retrain(root, book):
        champion = aliases.require_champion(root, book)
        champion.verify_files()
        cooldown_message = _describe_cooldown(root, book, request.cooldown)
        if cooldown_message:
            return RetrainResult(
                COOLDOWN, [cooldown_message], "Wait, or set a shorter --cooldown.", champion.number
            )
        plan = retrain_plan.make_plan(root, env_file, champion, request)
        if not plan.newer_rows or request.dry_run:
            return _make_plan_result(plan, champion.number)
        _write_overrides(root, book, plan)
        last_entry = max((entry.number for entry in history.read_history(root)), default=0)
        seconds_left = request.budget and start_time + request.budget - time.monotonic()
        build_exit = _run_build(root, env_file, request, seconds_left, out)
        return _make_result(root, book, plan, request, build_exit, last_entry)


def _make_plan_result(plan: RetrainPlan, champion: int) -> RetrainResult:
    """The result without a build: there are no newer rows, or it is a dry run."""
    if not plan.newer_rows:
        status = NOTHING_NEWER
        sentences = plan.sentences
        next_step = "Wait for outcomes, or add labelled rows: --batch FILE."
    else:
        status = DRY_RUN
        sentences = [*plan.sentences, _describe_dry_run(plan)]
        next_step = "To retrain, omit --dry-run."
    return RetrainResult(status, sentences, next_step, champion, as_of=plan.as_of)


def _describe_cooldown(root: Path, book: str, cooldown: float | None) -> str:
    """Return a sentence if the last decision or alias change is within the cooldown, else empty."""
    if not cooldown:
        return ""
    entries = [
        entry
        for entry in history.read_history(root, book)
        if entry.kind in (history.DECISION, history.ALIAS_CHANGE)
    ]
    if not entries:
        return ""
    last = entries[-1]
    elapsed = datetime.now(UTC) - datetime.fromisoformat(last.timestamp)
    if elapsed.total_seconds() >= cooldown:
        return ""
    entry_text = (
        f"{last.action}, entry {last.number} in the history, "
        f"{last.timestamp[:16].replace('T', ' ')} UTC"
    )
    elapsed_text = format_duration(elapsed.total_seconds())
    return (
        f"The last decision or alias change of {book} ({entry_text}) was {elapsed_text} ago; the "
        f"cooldown is {format_duration(cooldown)}."
    )


def _describe_dry_run(plan: RetrainPlan) -> str:
    """Describe what a retrain would do."""
    values = ", ".join(
        f"{name} = {config.format_value(value)}" for name, value in plan.overrides.items()
    )
    table_text = (
        f"the table with {format_count(len(plan.labelled.batch_rows), 'added row')}, "
        if len(plan.labelled.batch_rows)
        else ""
    )
    alias_text = (
        "move the alias if it approves"
        if plan.gate == "enforce"
        else "move no alias (gate: dry_run)"
    )
    return (
        "A retrain would build ingest, compare, finalize and deploy on "
        f"{table_text}{values or 'all rows'}; "
        f"the gate would decide, and {alias_text}."
    )


def _write_overrides(root: Path, book: str, plan: RetrainPlan) -> None:
    """Save the overrides for the build, under the build lock."""
    with locks.lock_build(root):
        table = (
            {"table": labelled_data.save_labelled_data(root, book, plan.labelled)}
            if len(plan.labelled.batch_rows)
            else {}
        )
        retrain_overrides.save_overrides(root, book, {**plan.overrides, **table}, plan.env_values)


def _run_build(
    root: Path,
    env_file: Path,
    request: RetrainRequest,
    seconds_left: float | None,
    out: IO[str] | None,
) -> BuildExit:
    """Build up to deploy."""
    command = [str(Path(sys.executable).with_name("ploomber")), "build", "--partially", "deploy"]
    environ = {
        **os.environ,
        "PLOOMBER_ENV_FILENAME": env_file.name,
        REASON_VARIABLE: request.reason,
    }
    deadline = float("inf") if seconds_left is None else time.monotonic() + seconds_left
    with (
        _catch_signals() as signals,
        subprocess.Popen(command, cwd=root, env=environ, stdout=out) as process,
    ):
        is_over_budget = False
        while process.poll() is None and signal.SIGTERM not in signals and not is_over_budget:
            _wait_for_exit(process, POLL_SECONDS)
            is_over_budget = process.poll() is None and time.monotonic() >= deadline
        if process.poll() is None:
            process.terminate()  # the build stops its kernels first
            if not _wait_for_exit(process, STOP_TIMEOUT):
                process.kill()
    return BuildExit(process.returncode, is_over_budget, bool(signals))


@contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT, so that the build ends first.

    Ctrl-C (SIGINT) reaches the build directly, so it only has to be waited for.
    """
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # gets no signals
        yield signals
        return
    previous_handlers = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield signals
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _wait_for_exit(process: subprocess.Popen, seconds: float) -> bool:
    """Wait for a process; returns whether it has ended."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def _make_result(
    root: Path,
    book: str,
    plan: RetrainPlan,
    request: RetrainRequest,
    build_exit: BuildExit,
    last_entry: int,
) -> RetrainResult:
    entries = [entry for entry in history.read_history(root, book) if entry.number > last_entry]
    decisions = [entry for entry in entries if entry.kind == history.DECISION][-1:]
    alias_changes = [
        entry
        for entry in entries
        if entry.kind == history.ALIAS_CHANGE
        and decisions
        and entry.champion_after == decisions[0].version
    ]
    champion_version = aliases.read_aliases(root, book)[aliases.CHAMPION].number
    if build_exit.code or build_exit.is_over_budget:
        raise _make_build_error(build_exit, request, champion_version)
    versions: dict[str, Any] = {"champion": champion_version, "as_of": plan.as_of}
    if not decisions:
        return _make_up_to_date_result(root, book, plan, versions)
    decision = decisions[0]
    status = PROMOTED if alias_changes else WOULD_PROMOTE if decision.action == PROMOTE else HELD
    sentence, next_step = _describe_decision(root, book, status, decision, plan, champion_version)
    return RetrainResult(
        status,
        [*plan.sentences, sentence, decision.reason],
        next_step,
        candidate=decision.version,
        **versions,
    )


def _make_build_error(
    build_exit: BuildExit, request: RetrainRequest, champion_version: int
) -> BuildError:
    """The error of a build that failed, was stopped, or exceeded the budget."""
    if build_exit.is_over_budget:
        problem = f"the build exceeded the budget of {format_duration(request.budget or 0)}"
        next_step = "run the command again with a larger --budget"
    elif build_exit.is_interrupted:
        problem = "the build was stopped by a signal"
        next_step = "run the command again"
    else:
        problem = f"the build failed (exit code {build_exit.code})"
        next_step = "correct the error above, and run the command again"
    return BuildError(
        f"{problem}; the champion is version {champion_version}",
        next=f"{next_step}: finished stages are kept",
    )


def _describe_decision(
    root: Path,
    book: str,
    status: str,
    decision: history.HistoryEntry,
    plan: RetrainPlan,
    champion_version: int,
) -> tuple[str, str]:
    """What the gate did with the challenger, and the next step."""
    sentence = {
        PROMOTED: (
            f"Version {decision.version} replaces version {plan.champion.number} as champion."
        ),
        WOULD_PROMOTE: (
            f"The gate would promote version {decision.version}; gate: dry_run leaves version "
            f"{champion_version} in place."
        ),
        HELD: (
            f"The gate held version {decision.version}; version {champion_version} remains "
            "champion."
        ),
    }[status]
    next_step = {
        PROMOTED: f"Update explore and monitor: {project.build_command(root, book)}; "
        "to undo the promotion: modelbook rollback.",
        WOULD_PROMOTE: f"Read the deploy report; modelbook promote {decision.version} moves the "
        "alias.",
        HELD: "See the deploy report for the failed criterion.",
    }[status]
    return sentence, next_step


def _make_up_to_date_result(
    root: Path, book: str, plan: RetrainPlan, versions: dict[str, Any]
) -> RetrainResult:
    """Return the result if no stage was outdated: the gate has decided on this model before.

    Decisions on imported versions are not about a model of this project.
    """
    entries = history.read_history(root, book)
    decision = [
        entry
        for entry in entries
        if entry.kind == history.DECISION
        and entry.version is not None
        and history.find_last_import(entries, entry.version) is None
    ][-1]
    sentence = (
        f"The gate has decided on this model before: {decision.action} for version "
        f"{decision.version}, entry {decision.number}."
    )
    next_step = "Change data or parameters, or promote it by hand: modelbook promote."
    return RetrainResult(
        UP_TO_DATE, [*plan.sentences, sentence], next_step, candidate=decision.version, **versions
    )
