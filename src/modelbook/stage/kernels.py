"""Kernels: started ahead, waited for, ended, and read when they died.

Most of a short stage's time is the import of the stack. So while a stage runs, the next one's kernel already carries
out the import cell of its notebook, on the machine's other core.
"""

from __future__ import annotations

import ast
import json
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

from modelbook import config
from modelbook.errors import BuildError
from modelbook.stage import origins
from modelbook.stage.progress import LOG, tell_to
from modelbook.workbench.kernel import ENVIRONMENT, OPTIONS

START_TIMEOUT = 180  # seconds until a kernel answers; a cold import of the stack takes up to a minute
OOM_COUNT = Path("/sys/fs/cgroup/memory.events")  # where Linux counts what it killed for want of memory


class Kernel:
    """A kernel of one stage, its imports under way."""

    def __init__(self, root: Path, stage: str, log: Path) -> None:
        # An asynchronous manager: with a blocking one, Ctrl-C gets lost in the event loop of the notebook's client.
        self.manager = AsyncKernelManager(kernel_name="python3", **_channel())
        self._killed_for_memory = _killed_for_memory()
        environ = {**os.environ, **ENVIRONMENT, LOG: str(log), **origins.command_line()}
        given = self.manager.kernel_spec.argv  # type: ignore[union-attr]
        more = [option for option in OPTIONS if option not in given]
        run_sync(self.manager.start_kernel)(cwd=str(root), env=environ, extra_arguments=more)
        self._process: Any = self.manager.provisioner.process  # type: ignore[union-attr]
        client = self._client()
        client.execute(imports(root / "notebooks" / f"{config.stem(stage)}.ipynb"), silent=True, store_history=False)
        client.stop_channels()

    def wait(self) -> None:
        """Return when the kernel answers.

        Raises
        ------
        RuntimeError
            When it has died, or does not answer in time.
        """
        client = self._client()
        client.kernel_info()
        until = time.monotonic() + START_TIMEOUT
        try:
            while self._process.poll() is None and time.monotonic() < until:
                with suppress(Empty):
                    client.get_shell_msg(timeout=1)
                    return
        finally:
            client.stop_channels()
        code = self._process.poll()
        raise RuntimeError("it does not answer" if code is None else f"it ended with code {code}")

    def kill(self) -> None:
        """End the kernel and whatever it has started, at once; from any thread."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(os.getpgid(self._process.pid), signal.SIGKILL)

    def end(self) -> None:
        """Shut the kernel down and clear its files away."""
        self.kill()
        run_sync(self.manager.shutdown_kernel)(now=True)

    def death(self) -> str:
        """What the kernel died of, in words."""
        code = self._process.poll()
        if code is None or code >= 0:
            return f"it ended by itself with code {code}"
        name = signal.Signals(-code).name
        if _killed_for_memory() > self._killed_for_memory:
            return f"the system killed it for want of memory ({name})"
        if code == -signal.SIGKILL:
            return f"something killed it from outside ({name}), most often the system for want of memory"
        return f"it crashed with {name}, in a library's native code"

    def _client(self) -> BlockingKernelClient:
        client = BlockingKernelClient()
        client.load_connection_info(self.manager.get_connection_info())
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        return client


class Kernels:
    """The kernels of one build; ends them all."""

    def __init__(self, root: Path, logs: Mapping[str, Path]) -> None:
        self._root, self._logs = root, logs
        self._ahead: dict[str, Kernel] = {}
        self._running: dict[str, Kernel] = {}
        self._over = False

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for kernel in self._ahead.values():
            kernel.end()

    def prepare(self, stage: str) -> None:
        """Start a stage's kernel ahead, unless it is there; a kernel that fails now is started when it is needed."""
        if stage not in self._ahead and stage not in self._running:
            with suppress(Exception):  # told when the stage itself starts it
                self._ahead[stage] = Kernel(self._root, stage, self._logs[stage])

    @contextmanager
    def kernel(self, stage: str) -> Iterator[Kernel]:
        """A stage's kernel that answers, ended when the block ends.

        Raises
        ------
        BuildError
            When it did not start, nor when tried once more.
        """
        kernel = self._started(stage)
        try:
            yield kernel
        finally:
            self._running.pop(stage)
            kernel.end()

    def kill(self, stage: str) -> None:
        """Kill the kernel of a stage, where it runs."""
        if stage in self._running:
            self._running[stage].kill()

    def stop(self) -> None:
        """Kill all kernels, and start no further ones."""
        self._over = True
        for kernel in [*self._ahead.values(), *self._running.values()]:
            kernel.kill()

    def _started(self, stage: str) -> Kernel:
        first = self._tried(stage)
        if isinstance(first, Kernel):
            return first
        if self._over:
            raise BuildError(f"stage {stage!r} was stopped before it began")
        tell_to(self._logs[stage], f"the kernel did not start ({first}); trying once more")
        second = self._tried(stage)
        if isinstance(second, Kernel):
            return second
        raise BuildError(
            f"the kernel of stage {stage!r} did not start, twice: {second}",
            expected=f"a kernel 'python3' that answers within {START_TIMEOUT} s", next="modelbook doctor",
        )  # fmt: skip

    def _tried(self, stage: str) -> Kernel | Exception:
        try:
            kernel = self._ahead.pop(stage, None) or Kernel(self._root, stage, self._logs[stage])
        except Exception as error:  # no kernelspec, no such program
            return error
        self._running[stage] = kernel
        if self._over:  # while it was being started
            kernel.kill()
        try:
            kernel.wait()
        except RuntimeError as error:
            self._running.pop(stage).end()
            return error
        return kernel


def _channel() -> dict[str, str]:
    """Sockets that are files of this user's, where the system has such: nobody else can listen in."""
    if sys.platform == "win32":
        return {}
    folder = Path(jupyter_runtime_dir())
    folder.mkdir(parents=True, exist_ok=True)
    return {"transport": "ipc", "ip": str(folder / uuid4().hex[:12])}


def imports(notebook: Path) -> str:
    """The code of the cells that only import; they fail again, seen, when the notebook itself runs them."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(source for source in sources if _only_imports(source))


def _only_imports(source: str) -> bool:
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def _killed_for_memory() -> int:
    """How many processes of this machine, or container, the system has killed for want of memory so far."""
    if not OOM_COUNT.is_file():
        return 0
    counts = dict(line.split() for line in OOM_COUNT.read_text().splitlines())
    return int(counts.get("oom_kill", 0))
