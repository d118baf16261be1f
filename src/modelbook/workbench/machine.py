"""Check the machine: the MLflow store, disk space, ports."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from modelbook.errors import StoreError
from modelbook.workbench.check_result import CheckResult

MIN_FREE_GB = 2.0  # enough for several builds of the bundled book with runs and reports
DEFAULT_PORTS = {
    8888: ("JupyterLab", 'make lab LAB="--port 8889"'),
    5000: ("MLflow", 'make mlflow MLFLOW="--port 5001"'),
}


def check_mlflow_store(root: Path) -> CheckResult:
    """Check whether the installed MLflow can read the store."""
    from modelbook.registry import artifact_storage
    from modelbook.registry.location import (
        display_artifact_uri,
        display_uri,
        get_artifact_uri,
        get_database_path,
        has_local_artifacts,
        has_store,
        is_embedded,
    )
    from modelbook.registry.store import check_store

    path = get_database_path(root)
    try:
        check_store(root)
        if get_artifact_uri(root) and not has_local_artifacts(root):
            artifact_storage.check_write_access(get_artifact_uri(root))
        if not is_embedded(root):
            return CheckResult(
                "store", True, f"{display_uri(root)}; files in {display_artifact_uri(root)}"
            )
    except StoreError as error:
        return CheckResult("store", False, error.problem, error.next)
    if not has_store(root):
        return CheckResult("store", True, "none yet; the first build creates it")
    return CheckResult(
        "store", True, f"{path.relative_to(root)}, {path.stat().st_size / 1e6:.1f} MB"
    )


def check_disk(root: Path, min_free_gb: float = MIN_FREE_GB) -> CheckResult:
    """Check whether at least ``min_free_gb`` GB of disk space are free."""
    free = shutil.disk_usage(root).free / 1e9
    state = f"{free:,.1f} GB free"
    if free < min_free_gb:
        return CheckResult(
            "disk",
            False,
            f"{state}; a build needs {min_free_gb:,.1f}",
            "make clean removes products of builds; the registry stays",
        )
    return CheckResult("disk", True, state)


def check_ports(ports: Mapping[int, tuple[str, str]] = DEFAULT_PORTS) -> CheckResult:
    """Check which ports are free; a port in use is not a failure, because another can be used."""
    uses = {port: _describe_use(port) for port in ports if not _is_free(port)}
    states = [f"{port} {uses.get(port, 'free')} ({name})" for port, (name, _) in ports.items()]
    return CheckResult("ports", True, ", ".join(states), "; ".join(ports[port][1] for port in uses))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _describe_use(port: int) -> str:
    import psutil

    try:
        listening = [
            connection
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        pid = next(connection.pid for connection in listening if connection.pid)
        return f"taken by {psutil.Process(pid).name()}, process {pid}"
    except (psutil.Error, StopIteration):  # another user's process, or macOS
        return "taken"
