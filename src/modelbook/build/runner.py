"""Run the outdated stages of a build in dependency order, independent ones in parallel."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelbook import config
from modelbook.build import dependencies, ploomber, staleness
from modelbook.build.build_progress import BuildProgress
from modelbook.build.kernels import KernelPool
from modelbook.build.log_follower import LogFollower, explain_failure
from modelbook.stage import build_token

POLL_SECONDS = 1.0  # between checks of time limits


@dataclass
class BuildResult:
    """Result of a build: Ploomber's task reports, failures by stage, and whether it was stopped."""

    task_reports: list[Any] = field(default_factory=list)
    failure_summaries: dict[str, str] = field(default_factory=dict)
    failure_messages: dict[str, str] = field(default_factory=dict)
    was_stopped: bool = False


class StageRunner:
    """Runs the outdated stages of a pipeline.

    Parameters
    ----------
    jobs : int
        Maximum number of stages that run in parallel.
    time_limits : Mapping
        Time limit in seconds, by stage; stages that are not listed have none.
    """

    def __init__(
        self,
        root: Path,
        tasks: Mapping[str, Any],
        params: Mapping[str, config.Parameters],
        logs: Mapping[str, Path],
        jobs: int,
        time_limits: Mapping[str, float],
    ) -> None:
        self._root = root
        self._tasks = tasks
        self._params = params
        self._logs = logs
        self._jobs = jobs
        self._time_limits = time_limits
        self._digests = {
            name: dependencies.compute_digest(name, root, params[name].model_dump())
            for name in tasks
        }
        self._inputs_digests = {
            name: staleness.compute_inputs_digest(root, name, params[name]) for name in tasks
        }
        self._waiting = list(tasks)
        self._running: dict[Future, str] = {}
        self._started_at: dict[str, float] = {}
        self._overdue: set[str] = set()
        self.result = BuildResult()

    def run(self) -> BuildResult:
        """Run all stages; a failure stops only downstream stages, Ctrl-C stops everything."""
        book = next(iter(self._params.values())).book
        with (
            _catch_signals() as interrupted,
            BuildProgress() as self._progress,
            build_token.issue_token(self._root) as token,
            KernelPool(self._root, book, self._logs, token) as self._kernels,
            ThreadPoolExecutor(self._jobs) as pool,
        ):
            self._start_ready_stages(pool)
            while self._running and not interrupted.is_set():
                self._collect_finished(wait(self._running, POLL_SECONDS, FIRST_COMPLETED).done)
                self._kill_overdue()
                self._start_ready_stages(pool)
            if interrupted.is_set():
                self.result.was_stopped = True
                self._kernels.kill_all()
        return self.result

    def _start_ready_stages(self, pool: ThreadPoolExecutor) -> None:
        self._waiting = [
            name for name in self._waiting if not ploomber.was_aborted(self._tasks[name])
        ]
        for name in list(self._waiting):
            upstream = self._tasks[name].upstream.values()
            if len(self._running) < self._jobs and all(map(ploomber.is_complete, upstream)):
                self._waiting.remove(name)
                self._started_at[name] = time.monotonic()
                staleness.forget_stage(self._root, self._params[name].book, name)
                self._running[pool.submit(self._run_stage, name)] = name
        if self._waiting and len(self._running) < max(self._jobs, 2):
            self._kernels.prestart(self._waiting[0])

    def _run_stage(self, name: str) -> tuple[Any, Any]:
        """Run one stage in a worker thread; returns Ploomber's report and metadata."""
        task = self._tasks[name]
        exit_reason = ""
        notebook = Path(str(task.product["nb"]))
        with LogFollower(name, self._logs[name], self._progress) as follower:
            try:
                with self._kernels.acquire(name) as kernel:
                    try:
                        return ploomber.run_task(task, kernel.manager)
                    finally:
                        exit_reason = kernel.describe_exit()
            except Exception as error:  # a notebook may raise anything; other branches go on
                if self.result.was_stopped:
                    follower.record_stop()
                    raise
                message = (
                    self._make_timeout_message(name)
                    if name in self._overdue
                    else explain_failure(error, exit_reason, notebook)
                )
                follower.record_failure(message, notebook)
                # Also if the kernel never started: downstream stages must not begin.
                ploomber.mark_failed(task)
                raise StageRunError(message) from error

    def _collect_finished(self, finished: set[Future]) -> None:
        for future in finished:
            name = self._running.pop(future)
            try:
                report, meta = future.result()
            except StageRunError as error:
                self.result.failure_messages[name] = str(error)
                self.result.failure_summaries[name] = str(error).splitlines()[0]
                staleness.record_failure(
                    self._root, self._params[name].book, name, self.result.failure_summaries[name]
                )
                continue
            ploomber.update_metadata(self._tasks[name], meta)
            self.result.task_reports.append(report)
            staleness.record_stage(
                self._root,
                name,
                self._params[name],
                self._inputs_digests[name],
                self._digests[name],
            )

    def _kill_overdue(self) -> None:
        for name in self._running.values():
            if time.monotonic() - self._started_at[name] > self._time_limits.get(
                name, float("inf")
            ):
                self._overdue.add(name)
                self._kernels.kill(name)

    def _make_timeout_message(self, name: str) -> str:
        return (
            f"stage {name!r} took longer than {self._time_limits[name]:g} s and was stopped\n"
            f"  next: reduce its work, or raise its time limit: executor, timeout, {name} in "
            "pipeline.yaml"
        )


class StageRunError(Exception):
    """Carries the error message of a stage from its thread."""


@contextmanager
def _catch_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, so that kernel starts are not interrupted.

    A second signal has its previous effect. Only the main thread receives signals.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous_handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }

    def restore() -> None:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

    def handle_signal(*_: object) -> None:
        interrupted.set()
        restore()

    for number in previous_handlers:
        signal.signal(number, handle_signal)
    try:
        yield interrupted
    finally:
        restore()
