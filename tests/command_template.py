"""Template process of a test run: imports what commands import, and forks a process per call."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

VARIABLE = "COMMAND_TEMPLATE"  # the folder of the commands that are forked
COMMANDS = ("modelbook", "papermill", "ploomber")
MODULES = [
    "ploomber", "ploomber_cli.cli", "ploomber.cli", "ploomber.spec", "ploomber.cli.build", "papermill.cli",
    "mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
    "pandas", "pyarrow.parquet", "pydantic", "typer", "rich.table", "sklearn", "scipy.stats", "nbformat",
]  # fmt: skip
PAPERMILL_HANDLER = "modelbook.build.papermill_io"  # an entry point
# A forked command: it exits with the status of the fork, and passes SIGTERM on.
COMMAND = """#!{python} -IS
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect({socket!r})
request = dict(arguments=[*{first!r}, *sys.argv[1:]], env={{**os.environ}}, cwd=os.getcwd(), modules={modules})
request |= {more!r}
socket.send_fds(connection, [json.dumps(request).encode()], [1, 2])
message = json.loads(connection.recv(1024))
pid = message["pid"]
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
while "code" not in message:
    message = json.loads(connection.recv(1024))
if message["code"] < 0:
    os.kill(os.getpid(), -message["code"])
sys.exit(message["code"])
"""


@contextmanager
def share_command_template() -> Iterator[None]:
    """Put the commands of the environment first on the path; on Linux, forked from one template."""
    with ExitStack() as cleanup:
        folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
        variables = {}
        if sys.platform == "linux":
            variables[VARIABLE] = cleanup.enter_context(_start_template())
            folders.insert(0, variables[VARIABLE])
        variables["PATH"] = os.pathsep.join(folders)
        cleanup.enter_context(mock.patch.dict(os.environ, variables))
        yield


def find_command(name: str) -> str:
    """Path of a command of the environment, or of its forked variant if the template runs."""
    forked = Path(os.environ.get(VARIABLE, ""), name)
    is_forked = name in COMMANDS and VARIABLE in os.environ
    return str(forked if is_forked else Path(sys.executable).with_name(name))


@contextmanager
def _start_template() -> Iterator[str]:
    """Start the template process; yields the folder of the forked commands."""
    from modelbook.build import fork_server

    with tempfile.TemporaryDirectory(prefix="modelbook-") as folder:
        path = f"{folder}/socket"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen()
        lifeline, own_end = os.pipe()
        ends = (listener.fileno(), lifeline)
        process = subprocess.Popen(
            [sys.executable, __file__, fork_server.__file__, *map(str, ends)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=ends,
            start_new_session=True,
        )
        listener.close()
        os.close(lifeline)
        # Commands that `modelbook` finds next to its Python are forked, too.
        python = Path(folder, "python")
        _write_command(python, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for name in COMMANDS:
            script = str(Path(sys.executable).with_name(name))
            executable = str(python if name == "modelbook" else sys.executable)
            values = {"socket": path, "first": [script], "more": {"executable": executable}}
            _write_forked_command(Path(folder, name), modules=MODULES, **values)
        try:
            yield folder
        finally:
            os.close(own_end)
            process.wait()


def write_forked_kernelspec(folder: Path) -> None:
    """Write a kernelspec like the installed one for kernels forked from the builds' template."""
    from jupyter_client.kernelspec import KernelSpecManager

    from modelbook.registry.clean_process import FORK_SERVER_VARIABLE

    installed = KernelSpecManager().get_kernel_spec("python3").to_dict()
    if template := os.environ.get(FORK_SERVER_VARIABLE):
        program = folder / "kernel"
        _write_forked_command(program, socket=template, first=[], modules=[], more={})
        at = installed["argv"].index("ipykernel_launcher")
        installed["argv"] = [str(program), *installed["argv"][at + 1 :]]
    spec = folder / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(installed))


def run_module_command(module: str, folder: Path, libraries: list[str]) -> list[str]:
    """Command that runs a module as ``python -m`` does, forked from the builds' template if it runs.

    Parameters
    ----------
    folder : Path
        Where the command is written.
    libraries : list of str
        What the template imports before it forks.
    """
    from modelbook.registry.clean_process import FORK_SERVER_VARIABLE

    template = os.environ.get(FORK_SERVER_VARIABLE)
    if not template:
        return [sys.executable, "-W", "ignore", "-m", module]
    values = {"socket": template, "first": [], "more": {"module": module}}
    _write_forked_command(folder / module, modules=libraries, **values)
    return [str(folder / module)]


def _write_forked_command(path: Path, **values: Any) -> None:
    _write_command(path, COMMAND.format(python=sys.executable, **values))


def _write_command(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class LazyName:
    """A name of a module of Modelbook, looked up when it is used."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _find(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._find(), name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._find()(*arguments, **options)


class LazyModule(ModuleType):
    """A module of Modelbook as the template sees it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return LazyName(self.__name__, name)


class LazyFinder(MetaPathFinder, Loader):
    """Import hook for Modelbook's Papermill handler; each command removes it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if self.finds(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LazyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...

    def remove(self) -> None:
        sys.meta_path.remove(self)
        for name in [*filter(self.finds, sys.modules)]:
            del sys.modules[name]

    @staticmethod
    def finds(name: str) -> bool:
        return f"{PAPERMILL_HANDLER}.".startswith(f"{name}.")


def main(template_file: str, listener_fd: str, lifeline_fd: str) -> None:
    """Serve until the other end of the lifeline is closed; in each fork, run the command."""
    spec = spec_from_file_location("fork_server", template_file)
    assert spec
    assert spec.loader
    template: Any = module_from_spec(spec)
    spec.loader.exec_module(template)
    del sys.path[0]  # the folder of this script
    finder = LazyFinder()
    sys.meta_path.insert(0, finder)
    request = template.serve(socket.socket(fileno=int(listener_fd)), int(lifeline_fd))
    finder.remove()
    template._register_plugins()
    run_command(request)


def run_command(request: dict[str, Any]) -> None:
    """Run the command in this process, as a shell does."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    script = request["arguments"][0]
    sys.path[:0] = [str(Path(script).parent), *(folder for folder in folders if folder)]
    sys.argv = request["arguments"]
    sys.executable = request["executable"]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
