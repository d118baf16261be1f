"""Follow one stage while it runs: its progress on the screen and in its log, its error in words when it fails."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from modelbook import disk
from modelbook.errors import ModelbookError
from modelbook.report.story import ANSI
from modelbook.stage.progress import tell_to
from modelbook.stage.screen import Screen

MEND = "where memory is short: other programs, sample, families, jobs in pipeline.yaml; else build again"
MENDS = (  # of what libraries tell without saying what to do
    (disk.FULL, disk.MEND),
    (
        re.compile(r"psycopg\.(OperationalError|errors\.(AdminShutdown|CrashShutdown|CannotConnectNow))"),
        "see that PostgreSQL is up, then build again: what was done before stands",
    ),
)
PULSE = 0.5  # seconds between looks at the log


class Follow:
    """Context of one running stage: reads along in ``log`` and shows what the stage tells."""

    def __init__(self, stage: str, log: Path, screen: Screen) -> None:
        self._stage, self._log, self._screen = stage, log, screen
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read_along, daemon=True)
        self._told, self._end = 0, ""

    def __enter__(self) -> Follow:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("")
        self._screen.begin(self._stage)
        tell_to(self._log, "starting the kernel")
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        tell_to(self._log, self._end or (f"stopped by {kind.__name__}" if kind else "done"))
        self._over.set()
        self._reader.join()
        self._screen.end(self._stage)

    def failed(self, what: str, notebook: Path) -> None:
        """Say what failed, and where the partly executed notebook is."""
        self._end = f"FAILED\n{what}\n  partly executed notebook: {notebook}"

    def stopped(self) -> None:
        """Say that the stage was stopped with the build."""
        self._end = "stopped"

    def _read_along(self) -> None:
        over = False
        while not over:
            over = self._over.wait(PULSE)
            # Whole lines only: the kernel may be in the middle of writing one.
            entries = self._log.read_text(encoding="utf-8").split("\n")[:-1]
            for text in entries[self._told :]:
                self._screen.show(self._stage, json.loads(text))
            self._told = len(entries)
            self._screen.pulse(self._stage)


def explain(error: BaseException, death: str) -> str:
    """The failing cell and its error, or what a dead kernel died of, from the chain of exceptions of a build."""
    what = _explained(error, death)
    mend = "" if "next:" in what else next((text for told, text in MENDS if told.search(what)), "")
    return f"{what}\n  next:     {mend}" if mend else what


def _explained(error: BaseException, death: str) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PapermillExecutionError):
            short = "out of memory, " if seen.ename == "MemoryError" else ""
            return f"{short}{seen.ename}: {seen.evalue}\n  in cell {seen.exec_count}:\n{_marked(seen)}"
        if isinstance(seen, DeadKernelError):
            return f"the kernel died: {death} (not an error in the notebook's code)\n  next:     {MEND}"
        if isinstance(seen, ModelbookError):
            return f"{type(seen).__name__}: {seen}"
        last, seen = seen, seen.__cause__ or seen.__context__
    return f"{type(last).__name__}: {last}"


def _marked(error: PapermillExecutionError) -> str:
    """The cell, with an arrow at the line that failed."""
    traceback = ANSI.sub("", "\n".join(error.traceback))
    found = re.search(rf"Cell In\[{error.exec_count}\], line (\d+)", traceback)
    failing = int(found[1]) if found else 0
    lines = enumerate(error.source.splitlines(), 1)
    return "\n".join(f"{'  > ' if number == failing else '    '}{text}" for number, text in lines)
