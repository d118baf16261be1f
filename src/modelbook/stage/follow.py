"""Follow one stage while it runs: its progress on screen and in its log, its error in words when it fails."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from modelbook import config
from modelbook.stage.progress import line, tell_to

PULSE = 0.5  # seconds between looks at the log
QUIET = 15  # seconds without news after which the stage is said to be still running


class Follow:
    """Context of one running stage: reads along in ``log`` and prints what the stage tells."""

    def __init__(self, stage: str, log: Path) -> None:
        self._stage, self._log = stage, log
        self._began = self._spoke = time.monotonic()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read_along, daemon=True)
        self._told, self._last, self._end = 0, "", "done"

    def __enter__(self) -> Follow:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("")
        tell_to(self._log, "starting the kernel")
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        tell_to(self._log, self._end if kind is None else f"stopped by {kind.__name__}")
        self._over.set()
        self._reader.join()

    def failed(self, error: BaseException, notebook: Path) -> str:
        """Say what failed, and where its partly executed notebook is; returns the first line of that."""
        what = explain(error)
        self._end = f"FAILED\n{what}\n  partly executed notebook: {notebook}"
        return what.splitlines()[0]

    def _read_along(self) -> None:
        over = False
        while not over:
            over = self._over.wait(PULSE)
            self._tell_new()
            if time.monotonic() - self._spoke > QUIET:
                self._print(f"{self._last} (still running)")

    def _tell_new(self) -> None:
        # Whole lines only: the kernel may be in the middle of writing one.
        entries = self._log.read_text(encoding="utf-8").split("\n")[:-1]
        for text in entries[self._told :]:
            entry = json.loads(text)
            self._last = line(entry["text"], entry["done"], entry["total"])
            self._print(self._last)
        self._told = len(entries)

    def _print(self, text: str) -> None:
        self._spoke = time.monotonic()
        minutes, seconds = divmod(int(self._spoke - self._began), 60)
        place = f"[{list(config.STAGES).index(self._stage) + 1}/{len(config.STAGES)} {self._stage}]"
        sys.stdout.write(f"{place:<15} {minutes}:{seconds:02d}  {text}\n")
        sys.stdout.flush()


def explain(error: BaseException) -> str:
    """The failing cell and its error, a dead kernel, or a time-out, from the chain of exceptions of a build."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PapermillExecutionError):
            return f"{seen.ename}: {seen.evalue}\n  in cell {seen.exec_count}:\n{_indented(seen.source)}"
        if isinstance(seen, DeadKernelError):
            return "the kernel died: killed from outside, or out of memory (not an error in the notebook's code)"
        if isinstance(seen, CellTimeoutError):
            return f"a cell took too long: {seen}"
        last, seen = seen, seen.__cause__ or seen.__context__
    return f"{type(last).__name__}: {last}"


def _indented(source: str) -> str:
    return "\n".join(f"    {text}" for text in source.splitlines())
