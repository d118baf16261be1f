"""The pipeline on a real Airflow, in a separate environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import BIN, ROOT, STAGES, SmallProject
from test_dag import COMMAND, IMAGE, WAITS_FOR

from modelbook.extras.schedulers import airflow, stage_graph

pytestmark = pytest.mark.integration

AIRFLOW = [
    "apache-airflow==3.2.2", "apache-airflow-providers-standard", "apache-airflow-providers-cncf-kubernetes",
]  # fmt: skip
POD = """
import json, sys
from types import SimpleNamespace
from airflow.models import DagBag
[dag] = DagBag(sys.argv[1], include_examples=False).dags.values()
for task in dag.tasks:
    task.__dict__["hook"] = SimpleNamespace(is_in_cluster=True, get_namespace=lambda: "books")  # without a cluster
pods = {task.task_id: task.build_pod_request_obj().to_dict() for task in dag.tasks}
print(json.dumps([dag.dag_id, {name: sorted(dag.get_task(name).upstream_task_ids) for name in pods}, pods["compare"]]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow in its own environment, with packages as of a day on which they were compatible."""
    folder = tmp_path_factory.mktemp("airflow")
    uv = [BIN / "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, folder / "venv"], check=True)
    requirements = [
        "pip",
        "install",
        "--python",
        folder / "venv/bin/python",
        "--exclude-newer",
        "2026-06-20",
        *AIRFLOW,
    ]
    result = subprocess.run([*uv, *requirements], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def run_in(folder: Path, *args: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command of Airflow's environment."""
    environment = {
        "AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "PATH": f"{folder}/venv/bin:{os.environ['PATH']}",
    }  # fmt: skip
    command = [folder / "venv/bin" / args[0], *args[1:]]
    return subprocess.run(
        command, env={"HOME": str(folder), **environment, **environ}, capture_output=True, text=True
    )


def test_airflow_renders_pods_of_stages(installed: Path) -> None:
    (installed / "dags").mkdir(exist_ok=True)
    (installed / "dags/pods.py").write_text(
        airflow.render_dag(stage_graph.read_stage_graph(ROOT, "rand-hie-sample"), IMAGE)
    )
    result = run_in(installed, "python", "-W", "ignore", "-c", POD, installed / "dags/pods.py")
    assert result.returncode == 0, result.stdout + result.stderr
    name, upstream, pod = json.loads(result.stdout.splitlines()[-1])
    assert (name, upstream) == (
        "modelbook_rand_hie_sample",
        {name: sorted(up) for name, up in WAITS_FOR.items()},
    )
    [container] = pod["spec"]["containers"]
    assert (container["image"], container["command"] + (container["args"] or [])) == (
        IMAGE,
        COMMAND,
    )
    assert container["security_context"]["read_only_root_filesystem"] is True
    assert pod["spec"]["security_context"]["run_as_user"] == 10001
    assert [mount["mount_path"] for mount in container["volume_mounts"]][:2] == [
        "/book/models",
        "/book/data",
    ]
    assert {
        "name": "MODELBOOK_BY",
        "value": "Airflow {{ run_id }}",
        "value_from": None,
    } in container["env"]


def test_airflow_builds_book(installed: Path, tmp_path: Path) -> None:
    small_project = SmallProject(tmp_path / "book")
    (small_project.root / ".venv").symlink_to(BIN.parent)
    (installed / "dags").mkdir(exist_ok=True)
    result = small_project.run(
        "modelbook", "dag", "airflow", "--out", str(installed / "dags/book.py")
    )
    assert result.returncode == 0, result.stderr
    assert run_in(installed, "airflow", "db", "migrate").returncode == 0
    command = [
        "airflow",
        "dags",
        "test",
        "modelbook_tiny",
        "--dagfile-path",
        installed / "dags/book.py",
    ]
    result = run_in(installed, *command, AIRFLOW_VAR_MODELBOOK_ROOT=str(small_project.root))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert [small_project.read_receipt(stage)["stage"] for stage in STAGES] == STAGES
    second_build = small_project.run("modelbook", "build")
    assert second_build.returncode == 0, second_build.stderr
    assert (
        small_project.list_executed_stages(second_build) == []
    )  # six containers built all products of a build
