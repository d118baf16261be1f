"""Follow a running stage: show the progress in its log, and explain its error if it fails."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from modelbook import disk
from modelbook.build.build_progress import BuildProgress
from modelbook.errors import ModelbookError
from modelbook.pages import notebook_errors
from modelbook.pages.executed_notebook import ANSI_PATTERN
from modelbook.stage.progress import append_progress

OUT_OF_MEMORY_HINT = (
    "if memory ran out, close other programs, or reduce sample, families, or jobs in "
    "pipeline.yaml; otherwise build again"
)
ERROR_HINTS = (  # next steps for library errors that name none
    (disk.DISK_FULL_PATTERN, disk.DISK_FULL_HINT),
    (
        re.compile(
            r"psycopg\.(OperationalError|errors\.(AdminShutdown|CrashShutdown|CannotConnectNow))"
        ),
        "check that PostgreSQL is running, then build again: finished stages are kept",
    ),
)
POLL_SECONDS = 0.5  # between reads of the log


class LogFollower:
    """Context manager of one running stage: follows its log and shows its progress."""

    def __init__(self, stage: str, log: Path, progress: BuildProgress) -> None:
        self._stage = stage
        self._log = log
        self._progress = progress
        self._finished = threading.Event()
        self._reader = threading.Thread(target=self._follow_log, daemon=True)
        self._shown_entries, self._final_message = 0, ""

    def __enter__(self) -> LogFollower:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("")
        self._progress.start_stage(self._stage)
        append_progress(self._log, "starting the kernel")
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        append_progress(
            self._log, self._final_message or (f"stopped by {kind.__name__}" if kind else "done")
        )
        self._finished.set()
        self._reader.join()
        self._progress.end_stage(self._stage)

    def record_failure(self, message: str, notebook: Path) -> None:
        """Record the error, and where the partly executed notebook is."""
        self._final_message = f"FAILED\n{message}\n  partly executed notebook: {notebook}"

    def record_stop(self) -> None:
        """Record that the stage was stopped together with the build."""
        self._final_message = "stopped"

    def _follow_log(self) -> None:
        is_finished = False
        while not is_finished:
            is_finished = self._finished.wait(POLL_SECONDS)
            # Complete lines only: the kernel may still be writing the last one.
            entries = self._log.read_text(encoding="utf-8").split("\n")[:-1]
            for text in entries[self._shown_entries :]:
                self._progress.show_progress(self._stage, json.loads(text))
            self._shown_entries = len(entries)
            self._progress.show_still_running(self._stage)


def explain_failure(error: BaseException, exit_reason: str, notebook: Path | None = None) -> str:
    """Describe the failing cell and its error, or why the kernel died, with a next step.

    ``notebook`` is the partly executed one: its cells are counted as on the stage's page.
    """
    description = _describe_error(error, exit_reason, notebook)
    hint = (
        ""
        if "next:" in description
        else next((text for pattern, text in ERROR_HINTS if pattern.search(description)), "")
    )
    return f"{description}\n  next:     {hint}" if hint else description


def _describe_error(error: BaseException, exit_reason: str, notebook: Path | None) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PapermillExecutionError):
            prefix = "out of memory, " if cause.ename == "MemoryError" else ""
            return (
                f"{prefix}{cause.ename}: {cause.evalue}\n  in cell "
                f"{_count_cell(cause, notebook)}:\n{_mark_failing_line(cause)}"
            )
        if isinstance(cause, DeadKernelError):
            return (
                f"the kernel died: {exit_reason} (not an error in the notebook's code)\n"
                f"  next:     {OUT_OF_MEMORY_HINT}"
            )
        if isinstance(cause, ModelbookError):
            return f"{type(cause).__name__}: {cause}"
        last = cause
        cause = cause.__cause__ or cause.__context__
    return f"{type(last).__name__}: {last}"


def _count_cell(error: PapermillExecutionError, notebook: Path | None) -> int:
    """The number of the failed cell without the cells that the build has injected."""
    executed = notebook_errors.read_if_valid(notebook) if notebook else None
    stop_point = notebook_errors.find_stop_point(executed) if executed else None
    return stop_point.cell_number if stop_point else int(error.exec_count)


def _mark_failing_line(error: PapermillExecutionError) -> str:
    """Return the cell's source with an arrow at the failing line."""
    traceback = ANSI_PATTERN.sub("", "\n".join(error.traceback))
    match = re.search(rf"Cell In\[{error.exec_count}\], line (\d+)", traceback)
    failing_line = int(match[1]) if match else 0
    lines = enumerate(error.source.splitlines(), 1)
    return "\n".join(
        f"{'  > ' if number == failing_line else '    '}{text}" for number, text in lines
    )
