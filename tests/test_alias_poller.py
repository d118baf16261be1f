"""The process that polls the aliases ends with its service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from version_store import BOOK, put_empty_store

from modelbook.registry import alias_poller, aliases


@pytest.mark.long
def test_poller_ends_when_parent_ended_before_its_start(tmp_path: Path) -> None:
    put_empty_store(tmp_path)
    ended_process = subprocess.Popen([sys.executable, "-c", ""])
    ended_process.wait()
    command = [
        sys.executable,
        "-m",
        alias_poller.__name__,
        str(tmp_path),
        BOOK,
        str(ended_process.pid),
    ]
    reader, writer = os.pipe()
    os.close(reader)  # as that of a service that ended
    result = subprocess.run(command, timeout=120, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.long
def test_poller_runs_until_block_ends(tmp_path: Path) -> None:
    put_empty_store(tmp_path)
    with alias_poller.run_alias_poller(tmp_path, BOOK):
        assert aliases.read_cached_aliases(tmp_path, BOOK) is not None
        children = psutil.Process().children()
        (process,) = [child for child in children if alias_poller.__name__ in child.cmdline()]
    assert not process.is_running()
