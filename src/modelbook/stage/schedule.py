"""The schedule of a build: which outdated stage runs when, several at a time where none waits for another."""

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

from ploomber.constants import TaskStatus

from modelbook import config
from modelbook.stage import built, sources
from modelbook.stage.follow import Follow, explain
from modelbook.stage.kernels import Kernels
from modelbook.stage.screen import Screen

ENDED = {TaskStatus.Executed, TaskStatus.Skipped}
TICK = 1.0  # seconds between looks at the clock


@dataclass
class Outcome:
    """What came of a schedule: reports for Ploomber, failures by stage (first line; all that was told), if stopped."""

    reports: list[Any] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


class Schedule:
    """Runs the outdated stages of a pipeline.

    Parameters
    ----------
    tasks : Mapping
        Ploomber's tasks by stage, in order.
    params : Mapping
        The parameters that hold, by stage.
    logs : Mapping
        The file of each stage's progress.
    jobs : int
        Stages that run at a time.
    timeout : Mapping
        Seconds that a stage may take, by stage; a stage that is not named may take any time.
    """

    def __init__(
        self, root: Path, tasks: Mapping[str, Any], params: Mapping[str, config.Parameters],
        logs: Mapping[str, Path], jobs: int, timeout: Mapping[str, float],
    ) -> None:  # fmt: skip
        self._root, self._tasks, self._params, self._logs = root, tasks, params, logs
        self._jobs, self._timeout = jobs, timeout
        self._digests = {name: sources.digest(name, root, params[name].model_dump()) for name in tasks}
        self._waiting = list(tasks)
        self._running: dict[Future, str] = {}
        self._began: dict[str, float] = {}
        self._late: set[str] = set()
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Run all that can be run; a failure ends only what is below it, Ctrl-C ends everything at once."""
        with (
            _interruptions() as interrupted,
            Screen() as self._screen,
            Kernels(self._root, self._logs) as self._kernels,
            ThreadPoolExecutor(self._jobs) as pool,
        ):
            self._begin(pool)
            while self._running and not interrupted.is_set():
                self._end(wait(self._running, TICK, FIRST_COMPLETED).done)
                self._kill_late()
                self._begin(pool)
            if interrupted.is_set():
                self.outcome.stopped = True
                self._kernels.stop()
        return self.outcome

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        self._waiting = [name for name in self._waiting if self._tasks[name].exec_status != TaskStatus.Aborted]
        for name in list(self._waiting):
            upstream = self._tasks[name].upstream.values()
            if len(self._running) < self._jobs and all(up.exec_status in ENDED for up in upstream):
                self._waiting.remove(name)
                self._began[name] = time.monotonic()
                built.forget(self._root, self._params[name].book, name)
                self._running[pool.submit(self._stage, name)] = name
        if self._waiting and len(self._running) < max(self._jobs, 2):
            self._kernels.prepare(self._waiting[0])

    def _stage(self, name: str) -> tuple[Any, Any]:
        """Run one stage, on a thread of its own; returns Ploomber's report and metadata, or raises what went wrong."""
        task, death = self._tasks[name], ""
        with Follow(name, self._logs[name], self._screen) as following:
            try:
                with self._kernels.kernel(name) as kernel:
                    task.executor_params["km"] = kernel.manager
                    try:
                        return task._build(catch_exceptions=True)
                    finally:
                        death = kernel.death()
            except Exception as error:  # whatever a notebook raised: the other branches still build
                if self.outcome.stopped:
                    following.stopped()
                    raise
                what = self._too_late(name) if name in self._late else explain(error, death)
                following.failed(what, Path(str(task.product["nb"])))
                task.exec_status = TaskStatus.Errored  # also where the kernel never came up: nothing below may begin
                raise StageFailed(what) from error

    def _end(self, done: set[Future]) -> None:
        for future in done:
            name = self._running.pop(future)
            try:
                report, meta = future.result()
            except StageFailed as error:
                self.outcome.told[name] = str(error)
                self.outcome.failed[name] = str(error).splitlines()[0]
                built.note_failure(self._root, self._params[name].book, name, self.outcome.failed[name])
                continue
            self._tasks[name].product.metadata.update_locally(meta)
            self.outcome.reports.append(report)
            built.note(self._root, name, self._params[name], self._digests[name])

    def _kill_late(self) -> None:
        for name in self._running.values():
            if time.monotonic() - self._began[name] > self._timeout.get(name, float("inf")):
                self._late.add(name)
                self._kernels.kill(name)

    def _too_late(self, name: str) -> str:
        return (
            f"stage {name!r} took longer than {self._timeout[name]:g} s and was stopped\n"
            f"  next: make it do less, or give it more time: executor, timeout, {name} in pipeline.yaml"
        )


class StageFailed(Exception):
    """Carries what went wrong, in words, from a stage's thread."""


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """An event that Ctrl-C or an end from outside sets, so that nothing breaks off half-way through starting a kernel.

    The second one is as it was before. Only a main thread hears of them.
    """
    heard = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(*_: object) -> None:
        heard.set()
        restore()

    for number in before:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        restore()
