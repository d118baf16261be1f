"""Jupyter kernels of a build: start, readiness, shutdown and exit reason.

Imports take most of a short stage's time. So, where the system allows it, kernels are forked from a
fork server that has the libraries imported, and while one stage runs, the next stage's kernel
already executes the import cells of its notebook.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

from jupyter_client import AsyncKernelManager, BlockingKernelClient
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import run_sync

from modelbook.build import dependencies
from modelbook.build.kernel_forking import ForkedKernel, ForkingProvisioner, KernelForker
from modelbook.build.kernel_options import KERNEL_ENVIRONMENT, KERNEL_OPTIONS
from modelbook.errors import BuildError
from modelbook.source_imports import has_only_imports
from modelbook.stage import build_token, origins, project
from modelbook.stage.progress import LOG_VARIABLE, append_progress

HISTORY_OPTION = "--HistoryManager.hist_file=:memory:"  # builds are not in the user's history
START_TIMEOUT = 180  # seconds until a kernel responds; imports take up to a minute from disk
# Counts out-of-memory kills in this container's cgroup (v2); absent on most hosts.
OOM_EVENTS_FILE = Path("/sys/fs/cgroup/memory.events")
CRASH_SIGNALS = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV")  # raised by the code itself


class StageKernel:
    """Kernel of one stage; starts the imports of its notebook immediately."""

    def __init__(
        self, root: Path, notebook: Path, log: Path, token: str, forker: KernelForker
    ) -> None:
        # With a blocking manager, Ctrl-C would get lost in the notebook client's event loop.
        self.manager = AsyncKernelManager(
            kernel_name="python3", kernel_id=str(uuid4()), **_make_connection_options()
        )
        self.manager.provisioner = ForkingProvisioner(
            forker,
            dependencies.find_preload_modules(notebook),
            kernel_id=self.manager.kernel_id,
            kernel_spec=self.manager.kernel_spec,
            parent=self.manager,
        )
        self._oom_kills_at_start = _count_oom_kills()
        environ = {
            **os.environ,
            **KERNEL_ENVIRONMENT,
            LOG_VARIABLE: str(log),
            build_token.VARIABLE: token,
            **origins.export_command_line(),
        }
        kernel_arguments = self.manager.kernel_spec.argv  # type: ignore[union-attr]
        missing_options = [option for option in KERNEL_OPTIONS if option not in kernel_arguments]
        run_sync(self.manager.start_kernel)(
            cwd=str(root), env=environ, extra_arguments=[*missing_options, HISTORY_OPTION]
        )
        self._process: Any = self.manager.provisioner.process
        client = self._connect_client()
        client.execute(extract_import_code(notebook), silent=True, store_history=False)
        client.stop_channels()

    def wait_until_ready(self) -> None:
        """Wait until the kernel responds.

        Raises
        ------
        RuntimeError
            If it has died, or does not respond in time.
        """
        client = self._connect_client()
        client.kernel_info()
        deadline = time.monotonic() + START_TIMEOUT
        try:
            while self._process.poll() is None and time.monotonic() < deadline:
                with suppress(Empty):
                    client.get_shell_msg(timeout=1)
                    return
        finally:
            client.stop_channels()
        code = self._process.poll()
        raise RuntimeError("it does not respond" if code is None else f"it exited with code {code}")

    def kill(self) -> None:
        """Kill the kernel and its child processes; may be called from any thread."""
        with suppress(ProcessLookupError, PermissionError):
            if isinstance(self._process, ForkedKernel):
                self._process.kill()
            else:
                os.killpg(os.getpgid(self._process.pid), signal.SIGKILL)

    def shut_down(self) -> None:
        """Shut the kernel down and remove its files."""
        self.kill()
        run_sync(self.manager.shutdown_kernel)(now=True)

    def describe_exit(self) -> str:
        """Describe why the kernel died; empty while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        if code >= 0:
            return f"it exited with code {code}"
        name = signal.Signals(-code).name
        if name in CRASH_SIGNALS:
            return f"it crashed with {name}, in a library's native code"
        if code != -signal.SIGKILL:
            return f"it was ended by signal {name}"
        if _count_oom_kills() > self._oom_kills_at_start:  # of this kernel, or of another process
            return f"it was killed ({name}), probably by the system, because memory ran out"
        return (
            f"it was killed from outside ({name}), most often by the system because memory ran out"
        )

    def _connect_client(self) -> BlockingKernelClient:
        client = BlockingKernelClient()
        client.load_connection_info(self.manager.get_connection_info())
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        return client


class KernelPool:
    """Kernels of one build; shuts all of them down on exit."""

    def __init__(self, root: Path, book: str, logs: Mapping[str, Path], token: str) -> None:
        self._root = root
        self._book = book
        self._logs = logs
        self._token = token
        self._forker = KernelForker()
        self._prestarted: dict[str, StageKernel] = {}
        self._running: dict[str, StageKernel] = {}
        self._are_all_killed = False

    def __enter__(self) -> KernelPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        for kernel in self._prestarted.values():
            kernel.shut_down()
        self._forker.close()

    def prestart(self, stage: str) -> None:
        """Start a stage's kernel in advance; if that fails, it is started when it is needed."""
        if stage not in self._prestarted and stage not in self._running:
            with suppress(Exception):  # reported when the stage starts it again
                self._prestarted[stage] = self._start(stage)

    @contextmanager
    def acquire(self, stage: str) -> Iterator[StageKernel]:
        """Yield a stage's ready kernel, and shut it down when the block ends.

        Raises
        ------
        BuildError
            If two attempts to start it fail.
        """
        kernel = self._start_with_retry(stage)
        try:
            yield kernel
        finally:
            self._running.pop(stage)
            kernel.shut_down()

    def kill(self, stage: str) -> None:
        """Kill a stage's kernel if it is running."""
        if stage in self._running:
            self._running[stage].kill()

    def kill_all(self) -> None:
        """Kill all kernels; one that is started later is killed at once."""
        self._are_all_killed = True
        for kernel in [*self._prestarted.values(), *self._running.values()]:
            kernel.kill()

    def _start(self, stage: str) -> StageKernel:
        notebook = project.get_notebook_path(self._root, self._book, stage)
        return StageKernel(self._root, notebook, self._logs[stage], self._token, self._forker)

    def _start_with_retry(self, stage: str) -> StageKernel:
        try:
            return self._start_and_wait(stage)
        except Exception as error:  # such as a missing kernelspec
            if self._are_all_killed:
                raise BuildError(f"stage {stage!r} was stopped before it began") from error
            append_progress(
                self._logs[stage], f"the kernel did not start ({error}); trying once more"
            )
        try:
            return self._start_and_wait(stage)
        except Exception as error:
            raise BuildError(
                f"the kernel of stage {stage!r} did not start in two attempts: {error}",
                expected=f"a kernel 'python3' that responds within {START_TIMEOUT} s",
                next="modelbook doctor",
            ) from error

    def _start_and_wait(self, stage: str) -> StageKernel:
        kernel = self._prestarted.pop(stage, None) or self._start(stage)
        self._running[stage] = kernel
        if self._are_all_killed:  # while it was being started
            kernel.kill()
        try:
            kernel.wait_until_ready()
        except RuntimeError:
            self._running.pop(stage).shut_down()
            raise
        return kernel


def _make_connection_options() -> dict[str, str]:
    """Use Unix sockets where available, so that other users cannot connect."""
    if sys.platform == "win32":
        return {}
    folder = Path(jupyter_runtime_dir())
    folder.mkdir(parents=True, exist_ok=True)
    return {"transport": "ipc", "ip": str(folder / uuid4().hex[:12])}


def extract_import_code(notebook: Path) -> str:
    """Return the code of a notebook's import-only cells; errors show when the notebook runs."""
    return "\n".join(filter(has_only_imports, project.read_code_cells(notebook)))


def _count_oom_kills() -> int:
    """Count the out-of-memory kills in this container's cgroup so far; 0 if they are not known."""
    if not OOM_EVENTS_FILE.is_file():
        return 0
    counts = dict(line.split() for line in OOM_EVENTS_FILE.read_text().splitlines())
    return int(counts.get("oom_kill", 0))
