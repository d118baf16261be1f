"""Kernels, one started ahead: the next stage's imports load while the stage before it still runs.

Most of a short stage's time is the import of the stack. So while a stage runs, the next one's kernel already carries
out the import cell of its notebook, on the machine's other core.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from jupyter_client import AsyncKernelManager, BlockingKernelClient
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import run_sync

from modelbook import config
from modelbook.stage.progress import LOG

# No usage reports to the libraries' makers, and no logs.log of PyCaret's in the project; `make` writes the same into
# the kernel that JupyterLab and Papermill start.
QUIET = {"DO_NOT_TRACK": "true", "PYCARET_CUSTOM_LOGGING_PATH": os.devnull}


def start(root: Path, stage: str, log: Path) -> AsyncKernelManager:
    """Start a stage's kernel, and have it carry out the notebook's imports without waiting for them."""
    # An asynchronous manager: with a blocking one, Ctrl-C gets lost in the event loop of the notebook's client.
    kernel = AsyncKernelManager(kernel_name="python3", **_channel())
    run_sync(kernel.start_kernel)(cwd=str(root), env={**os.environ, **QUIET, LOG: str(log)})
    client = BlockingKernelClient()
    client.load_connection_info(kernel.get_connection_info())
    client.start_channels(iopub=False, stdin=False, hb=False, control=False)
    client.execute(imports(root / "notebooks" / f"{config.stem(stage)}.ipynb"), silent=True, store_history=False)
    client.stop_channels()
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


class Ahead:
    """Gives each stage's kernel in turn, with the next one already started; ends them all."""

    def __init__(self, root: Path, stages: list[str], logs: dict[str, Path]) -> None:
        self._root, self._stages, self._logs = root, stages, logs
        self._waiting: dict[str, AsyncKernelManager] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        for kernel in self._waiting.values():
            run_sync(kernel.shutdown_kernel)(now=True)

    @contextmanager
    def kernel(self, stage: str) -> Iterator[AsyncKernelManager]:
        """The kernel of ``stage``, shut down when the block ends."""
        kernel = self._waiting.pop(stage, None) or start(self._root, stage, self._logs[stage])
        try:
            following = self._stages[self._stages.index(stage) + 1 :][:1]
            self._waiting |= {name: start(self._root, name, self._logs[name]) for name in following}
            yield kernel
        finally:
            run_sync(kernel.shutdown_kernel)(now=True)
