"""What the machine itself gives: the store, room on the disk, ports."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from modelbook.errors import StoreError
from modelbook.workbench.part import Part

ROOM = 2.0  # GB: a build of the bundled book, its runs and its reports, several times over
PORTS = {8888: ("JupyterLab", 'make lab LAB="--port 8889"'), 5000: ("MLflow", 'make mlflow MLFLOW="--port 5001"')}


def store(root: Path) -> Part:
    """Whether the installed MLflow can read the store."""
    from modelbook.registry import files
    from modelbook.registry.place import artifacts, database, is_file, is_local, shown
    from modelbook.registry.store import check_store

    path = database(root)
    try:
        there = check_store(root)
        if not is_local(root):
            files.probe(artifacts(root))
        if not is_file(root):
            return Part("store", True, f"{shown(root)}{'' if there else ', empty yet'}; files in {artifacts(root)}")
    except StoreError as error:
        return Part("store", False, error.what, error.next)
    if not there:
        return Part("store", True, "none yet; the first build creates it")
    return Part("store", True, f"{path.relative_to(root)}, {path.stat().st_size / 1e6:.1f} MB")


def disk(root: Path, room: float = ROOM) -> Part:
    """Whether there is room for a build; ``room`` in GB."""
    free = shutil.disk_usage(root).free / 1e9
    state = f"{free:,.1f} GB free"
    if free < room:
        return Part("disk", False, f"{state}; a build wants {room:,.1f}", "make clean removes all products of builds")
    return Part("disk", True, state)


def ports(ports: Mapping[int, tuple[str, str]] = PORTS) -> Part:
    """Which ports are free. A taken one is in nobody's way: another can be used."""
    taken = {port: _holder(port) for port in ports if not _is_free(port)}
    told = [f"{port} {taken.get(port, 'free')} ({name})" for port, (name, _) in ports.items()]
    return Part("ports", True, ", ".join(told), "; ".join(ports[port][1] for port in taken))


def _is_free(port: int) -> bool:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    import psutil

    try:
        listening = [
            c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
        pid = next(c.pid for c in listening if c.pid)
        return f"taken by {psutil.Process(pid).name()}, process {pid}"
    except (psutil.Error, StopIteration):  # another user's process, or macOS
        return "taken"
