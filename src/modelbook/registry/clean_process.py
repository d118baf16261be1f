"""Run a module in a clean process; in a build it is forked from the fork server of the kernels.

The server has imported libraries, which takes seconds, and nothing of Modelbook.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

FORK_SERVER_VARIABLE = "MODELBOOK_KERNEL_TEMPLATE"  # socket of the server that forked this kernel


def run_module(
    module: str, arguments: list[str], *, libraries: list[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a module as ``python -m`` does, and capture its output.

    Parameters
    ----------
    libraries : list of str
        What the fork server imports before it forks.
    """
    request = {"module": module, "arguments": arguments, "modules": libraries}
    fork_server = os.environ.get(FORK_SERVER_VARIABLE)
    if fork_server:
        with suppress(OSError):  # it has just ended
            return _run_forked(fork_server, {**request, "env": {**environment}, "cwd": os.getcwd()})
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def _run_forked(fork_server: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        TemporaryFile("w+") as stdout,
        TemporaryFile("w+") as stderr,
    ):
        connection.connect(fork_server)
        streams = [stdout.fileno(), stderr.fileno()]
        socket.send_fds(connection, [json.dumps(request).encode()], streams)
        code = None
        while code is None:
            message = connection.recv(1024)
            if not message:
                raise ConnectionError(f"{fork_server} was closed")
            code = json.loads(message).get("code")
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(request["arguments"], code, stdout.read(), stderr.read())
