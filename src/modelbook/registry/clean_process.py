"""Run a module in a clean process; in a build it is forked from the template of the kernels.

The template has imported libraries, which takes seconds, and nothing of Modelbook.
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

TEMPLATE_VARIABLE = "MODELBOOK_KERNEL_TEMPLATE"  # socket of the template that forked this kernel


def run_module(
    module: str, arguments: list[str], *, libraries: list[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a module as ``python -m`` does, and capture its output.

    Parameters
    ----------
    libraries : list of str
        What the template imports before it forks.
    """
    request = {"module": module, "arguments": arguments, "modules": libraries}
    template = os.environ.get(TEMPLATE_VARIABLE)
    if template:
        with suppress(OSError):  # it has just ended
            return _run_forked(template, {**request, "env": {**environment}, "cwd": os.getcwd()})
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def _run_forked(template: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        TemporaryFile("w+") as stdout,
        TemporaryFile("w+") as stderr,
    ):
        connection.connect(template)
        streams = [stdout.fileno(), stderr.fileno()]
        socket.send_fds(connection, [json.dumps(request).encode()], streams)
        code = None
        while code is None:
            message = connection.recv(1024)
            if not message:
                raise ConnectionError(f"{template} was closed")
            code = json.loads(message).get("code")
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(request["arguments"], code, stdout.read(), stderr.read())
