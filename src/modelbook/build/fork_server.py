"""Fork server: imports libraries once, and forks a kernel or a module for each connection.

``kernel_forking`` runs this file as a script. It imports nothing of Modelbook, so that each kernel
reads the current source of the package.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

PACKAGE = "modelbook"
ENTRY_POINT_GROUP = "mlflow.artifact_repository"  # MLflow loads it when it is imported
PLUGIN_REGISTRY = "mlflow.store.artifact.artifact_repository_registry"
KERNEL_MODULES = ["ipykernel.kernelapp", "ipykernel.debugger"]
MAX_REQUEST_BYTES = 1 << 20
INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


class ForkedProcess(NamedTuple):
    """A forked process, a kernel or a module, and the connection to its build."""

    pid: int
    pidfd: int  # readable when the process has ended
    connection: socket.socket  # readable when the build has closed it


def main(listener_fd: int, parent_fd: int) -> None:
    """Serve until the build closes its pipe; in each forked process, run a kernel or a module."""
    del sys.path[0]  # the folder of this script
    gc.disable()  # the server frees nothing, and collections take 10% of the import time
    # A kernel sets it, too, before it imports anything; matplotlib reads it once.
    os.environ.setdefault("MPLBACKEND", INLINE_BACKEND)
    sys.modules[PACKAGE] = None  # type: ignore[assignment]  # not importable here
    _import_modules(KERNEL_MODULES)  # first: libraries check whether they run in a kernel
    request = serve(socket.socket(fileno=listener_fd), parent_fd)
    gc.enable()
    _apply_request(request)
    if "module" in request:
        run_module(request)
    else:
        run_kernel(request)


def serve(listener: socket.socket, parent_fd: int) -> dict[str, Any]:
    """Fork a process for each connection; return in that process alone, with its request."""
    selector = selectors.PollSelector()  # an epoll descriptor would be shared with the forks
    selector.register(listener, selectors.EVENT_READ)
    selector.register(parent_fd, selectors.EVENT_READ)
    processes: set[ForkedProcess] = set()
    while True:
        for key, _ in selector.select():
            process = key.data
            if key.fileobj == parent_fd:
                for forked in processes:
                    _kill_group(forked.pid)
                _remove_socket(listener.getsockname())
                sys.exit()
            elif process is None:
                connection, _ = listener.accept()
                request = _receive_request(connection)
                if request is None:
                    connection.close()
                    continue
                pid = _fork_process(selector, connection, request)
                if pid == 0:
                    return request
                process = ForkedProcess(pid, os.pidfd_open(pid), connection)
                processes.add(process)
                selector.register(process.pidfd, selectors.EVENT_READ, process)
                selector.register(connection, selectors.EVENT_READ, process)
            elif key.fileobj == process.pidfd:
                processes.remove(process)
                _report_exit_code(selector, process)
            elif process in processes:
                _kill_group(process.pid)
                selector.unregister(process.connection)


def run_kernel(request: dict[str, Any]) -> None:
    """Run the kernel in this process, as ``python -m ipykernel_launcher`` does."""
    from ipykernel.kernelapp import launch_new_instance

    sys.argv = ["ipykernel_launcher", *request["arguments"]]
    sys.argv.append(f"--IPKernelApp.parent_handle={os.getppid()}")  # ends with the server
    if "matplotlib" in sys.modules and not any("pycaret" in name for name in request["modules"]):
        # PyCaret changes rcParams when it is imported; restore them for kernels that do not use it.
        sys.modules["matplotlib"].rc_file_defaults()
    launch_new_instance()


def run_module(request: dict[str, Any]) -> None:
    """Run a module in this process, as ``python -m`` does."""
    sys.path.insert(0, os.getcwd())
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _apply_request(request: dict[str, Any]) -> None:
    """Apply the working directory and environment of the request; make Modelbook importable."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in folders if folder]
    del sys.modules[PACKAGE]
    _register_plugins()
    if "numpy" in sys.modules:  # otherwise unseeded draws would be the same in all processes
        sys.modules["numpy"].random.seed()


def _register_plugins() -> None:
    """Register the package's plugins: MLflow did not find them when the server imported it."""
    if PLUGIN_REGISTRY in sys.modules:
        plugins = sys.modules[PLUGIN_REGISTRY].get_registered_artifact_repositories()
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            plugins.setdefault(entry_point.name, partial(_call_plugin, entry_point))


def _call_plugin(entry_point: EntryPoint, *arguments: Any, **options: Any) -> Any:
    return entry_point.load()(*arguments, **options)


def _receive_request(connection: socket.socket) -> dict[str, Any] | None:
    content, streams, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 2)
    return {**json.loads(content), "streams": streams} if content else None


def _fork_process(
    selector: selectors.BaseSelector, connection: socket.socket, request: dict[str, Any]
) -> int:
    """Fork after the imports; the process leads a new session and process group."""
    _import_modules(request["modules"])
    gc.collect()
    gc.freeze()  # so that collecting garbage in a fork copies no shared page
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for inherited in selector.get_map().values():
            os.close(inherited.fd)
            if isinstance(inherited.fileobj, socket.socket):
                inherited.fileobj.detach()
        for number, stream in enumerate(request["streams"], 1):
            os.dup2(stream, number)
        connection.send(json.dumps({"pid": os.getpid()}).encode())
        connection.close()
    for stream in request["streams"]:
        os.close(stream)
    return pid


def _report_exit_code(selector: selectors.BaseSelector, process: ForkedProcess) -> None:
    _, status = os.waitpid(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(OSError):  # the build has ended
        process.connection.send(json.dumps({"code": code}).encode())
    with suppress(KeyError):  # the build has closed it before
        selector.unregister(process.connection)
    selector.unregister(process.pidfd)
    process.connection.close()
    os.close(process.pidfd)


def _import_modules(names: list[str]) -> None:
    for name in names:
        with suppress(Exception):  # the kernel that needs it reports the error
            importlib.import_module(name)
    for library in ("pycaret", "mlflow"):
        if library in sys.modules:
            _warm_package_cache(library)


@cache
def _warm_package_cache(library: str) -> None:
    """Let a library cache its list of installed packages, which takes a second."""
    with suppress(Exception):
        if library == "pycaret":
            sys.modules["pycaret"].show_versions()
        else:
            checks = importlib.import_module("mlflow.utils.requirements_utils")
            checks.warn_dependency_requirement_mismatches(["mlflow"])


def _remove_socket(path: str) -> None:
    with suppress(OSError):  # the parent removes it, unless it was killed
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not called setsid() yet
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
