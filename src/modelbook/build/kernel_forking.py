"""Kernels forked from a server process that has imported the libraries once, on Linux."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.provisioning import LocalProvisioner

from modelbook.build import fork_server
from modelbook.build.dependencies import PRELOADED_LIBRARIES
from modelbook.build.kernel_options import KERNEL_ENVIRONMENT
from modelbook.registry.clean_process import FORK_SERVER_VARIABLE

FORK_SERVERS_VARIABLE = "MODELBOOK_KERNEL_TEMPLATES"  # folder with the sockets of shared servers
FORK_SERVER_VARIABLES = (FORK_SERVERS_VARIABLE, FORK_SERVER_VARIABLE)
LAUNCHER = ["-m", "ipykernel_launcher"]
# Prefixes of variables that no library reads at import, or that a library sets at import.
VARIABLES_UNUSED_AT_IMPORT = (
    "AWS_", "COLUMNS", "DVC_", "GIT_AUTHOR_", "GIT_COMMITTER_", "IPYTHONDIR", "JPY_", "JUPYTERLAB_",
    "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_PATH", "JUPYTER_RUNTIME_DIR",
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "LINES", "MLFLOW_", "MODELBOOK_", "PLOOMBER_",
    "PYTEST_", "PYTHONPATH",
)  # fmt: skip


class ForkServer:
    """A process that forks kernels.

    It exits with its kernels when it is closed, and when its parent process exits.

    Parameters
    ----------
    folder : Path
        Folder of the socket; the file name is a hash of interpreter and environment.
    """

    def __init__(self, python: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.path = folder / compute_server_key(python, environment)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent_pipe, self._parent_pipe = os.pipe()
        try:
            listener.bind(str(self.path))
            listener.listen()
            child_fds = (listener.fileno(), parent_pipe)
            self._process = subprocess.Popen(
                [*python, fork_server.__file__, *map(str, child_fds)],
                env={**environment, "PYTHONPATH": ""},  # each kernel adds its own
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=child_fds,
                start_new_session=True,  # Ctrl-C reaches only the build
            )
        finally:
            listener.close()
            os.close(parent_pipe)

    def close(self) -> None:
        """End the process and its kernels."""
        os.close(self._parent_pipe)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)  # it may still be importing
        self._process.kill()
        self._process.wait()
        self.path.unlink(missing_ok=True)


class ForkedKernel:
    """A forked kernel, with the methods of ``subprocess.Popen`` that ``jupyter_client`` uses."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pid: int | None = None
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """Process id; waits until the server has forked.

        Raises
        ------
        ProcessLookupError
            If it was killed before.
        """
        while self._pid is None and self.poll() is None:
            time.sleep(0.01)
        if self._pid is None:
            raise ProcessLookupError("the kernel was killed before it was forked")
        return self._pid

    def poll(self) -> int | None:
        """Return the exit code as ``subprocess`` does, None while it runs."""
        with self._lock:
            while self.returncode is None:
                try:
                    message = self._connection.recv(1024, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                except OSError:
                    message = b""
                if not message:  # the server, with all its kernels, has been killed
                    self.returncode = -signal.SIGKILL
                else:
                    reply = json.loads(message)
                    self._pid = reply.get("pid", self._pid)
                    self.returncode = reply.get("code")
            if self.returncode is not None:
                self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel and its child processes."""
        if self.poll() is not None:
            return
        if self._pid is None and number == signal.SIGKILL:
            self._connection.shutdown(socket.SHUT_RDWR)  # the server kills what it forks
            return
        with suppress(ProcessLookupError):  # it has just ended; the server reports it
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill the kernel and its child processes."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send the kernel and its child processes the signal to end."""
        self.send_signal(signal.SIGTERM)


class KernelForker:
    """Forks the kernels of one build: from a matching shared server or its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="modelbook-")
        self._servers: dict[str, ForkServer] = {}

    def fork(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: str, modules: list[str]
    ) -> ForkedKernel | None:
        """Fork a kernel that has imported ``modules``; None if it must be started as a process."""
        folders = [cwd, *environment.get("PYTHONPATH", "").split(os.pathsep)]
        if not can_fork(command, folders):
            return None
        index = _find_launcher(command)
        python = command[:index]
        arguments = command[index + len(LAUNCHER) :]
        request = {"arguments": arguments, "env": {**environment}, "cwd": cwd, "modules": modules}
        key = compute_server_key(python, environment)
        shared = os.environ.get(FORK_SERVERS_VARIABLE)
        with suppress(OSError):  # no server of this key, or it has just ended
            if shared:
                return _request_kernel(Path(shared) / key, request)
        with suppress(OSError), self._lock:
            if key not in self._servers:
                self._servers[key] = ForkServer(python, environment, Path(self._folder.name))
            return _request_kernel(self._servers[key].path, request)
        return None

    def close(self) -> None:
        """End the fork servers of this build."""
        with self._lock:
            for server in self._servers.values():
                server.close()
            self._servers.clear()
            self._folder.cleanup()


class ForkingProvisioner(LocalProvisioner):
    """Launches a kernel by a fork where possible, otherwise as a new process."""

    def __init__(self, forker: KernelForker, modules: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self._forker = forker
        self._modules = [*modules]

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Launch a kernel with a command."""
        process = self._forker.fork(cmd, kwargs["env"], kwargs["cwd"], self._modules)
        if process is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process = process  # type: ignore[assignment]
        self.cwd = kwargs["cwd"]
        return self.connection_info


@contextmanager
def share_fork_server() -> Iterator[None]:
    """Let all builds that are started in this block fork their kernels from one server.

    Other commands fork their clean processes from it, too.
    """
    argv = KernelSpecManager().get_kernel_spec("python3").argv
    if not can_fork(argv, []) or FORK_SERVERS_VARIABLE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="modelbook-") as folder:
        environment = {**os.environ, **KERNEL_ENVIRONMENT}
        server = ForkServer(argv[: _find_launcher(argv)], environment, Path(folder))
        shared = {FORK_SERVERS_VARIABLE: folder, FORK_SERVER_VARIABLE: str(server.path)}
        os.environ |= shared
        try:
            yield
        finally:
            for variable in shared:
                del os.environ[variable]
            server.close()


def can_fork(command: Sequence[str], folders: Sequence[str]) -> bool:
    """Check whether a kernel can be forked instead of being started by this command.

    Not on macOS, whose system libraries are not fork-safe; not if the kernelspec names another
    launcher; nor if a folder that Python searches first shadows a preloaded library.
    """
    is_shadowed = any(
        Path(folder, name).exists() or Path(folder, f"{name}.py").exists()
        for folder in folders
        if folder
        for name in PRELOADED_LIBRARIES
    )
    return sys.platform == "linux" and _find_launcher(command) > 0 and not is_shadowed


def compute_server_key(python: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return a hash of interpreter, installed packages and environment, on which imports depend."""
    import_variables = sorted(
        (name, value)
        for name, value in environment.items()
        if not name.startswith(VARIABLES_UNUSED_AT_IMPORT)
    )
    installed_at = os.stat(sysconfig.get_path("purelib")).st_mtime_ns
    return hashlib.sha256(repr(([*python], installed_at, import_variables)).encode()).hexdigest()[
        :16
    ]


def _find_launcher(command: Sequence[str]) -> int:
    """Return where ``-m ipykernel_launcher`` begins, -1 if it is absent."""
    pairs = [[*command[start : start + len(LAUNCHER)]] for start in range(len(command))]
    return pairs.index(LAUNCHER) if LAUNCHER in pairs else -1


def _request_kernel(path: Path, request: dict[str, Any]) -> ForkedKernel:
    request = {**request, "env": {**request["env"], FORK_SERVER_VARIABLE: str(path)}}
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(str(path))
        socket.send_fds(connection, [json.dumps(request).encode()], [1, 2])
    except OSError:
        connection.close()
        raise
    return ForkedKernel(connection)
