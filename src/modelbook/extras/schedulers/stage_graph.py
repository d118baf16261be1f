"""The pipeline for an external scheduler: stages, their order, commands and pods."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from modelbook.stage import pipeline_spec, project

DEFAULT_IMAGE = "modelbook-stages"  # the tag in deploy/stages.Dockerfile and compose.yaml
SHARED_FOLDERS = ("models", "data", "reports")  # shared between stages, on one volume
CONTAINER_NAME = "stage"
# deploy/kubernetes/base/network.yaml selects by these labels.
LABELS = {"app.kubernetes.io/part-of": "modelbook", "app.kubernetes.io/component": "loop"}


@dataclass(frozen=True)
class StageGraph:
    """A book's stages for a scheduler.

    Attributes
    ----------
    stages : dict
        Each stage, in topological order, with its upstream stages.
    """

    book: str
    env_file: str
    stages: dict[str, list[str]]


def read_stage_graph(root: Path, book: str | None = None) -> StageGraph:
    """Read a book's stages from ``pipeline.yaml``.

    Raises
    ------
    PipelineSpecError
        If a stage depends on a missing stage or on itself, or does not match its notebook.
    StageError
        If no env file names the book.
    ParameterError
        If its env file lacks a value, or has an unknown one.
    """
    pipeline_spec.check_pipeline(root)
    env_file = project.find_env_file(root, book)
    book_name = project.read_parameters(root, env_file)["ingest"]["book"]
    upstream = {
        name: task["upstream"] for name, task in project.read_tasks(root, book_name).items()
    }
    ordered = TopologicalSorter(upstream).static_order()
    return StageGraph(book_name, env_file.name, {name: upstream[name] for name in ordered})


def make_stage_command(stage: str) -> list[str]:
    """Return the command that runs one stage without its upstream, unless it is up to date."""
    return ["ploomber", "build", "--partially", stage, "--skip-upstream"]


def make_stage_environ(graph: StageGraph, actor: str) -> dict[str, str]:
    """Return the environment variables of a stage: its env file, and who builds it."""
    return {"PLOOMBER_ENV_FILENAME": graph.env_file, "MODELBOOK_BY": actor}


def make_pod_spec(image: str, environ: dict[str, str]) -> dict[str, Any]:
    """Return the pod spec of a stage, as in ``deploy/kubernetes``, without a command."""
    password = {"name": "modelbook", "key": "journal-password", "optional": True}
    mounts = [
        {"name": "book", "mountPath": f"/book/{name}", "subPath": name} for name in SHARED_FOLDERS
    ]
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER_NAME,
                "image": image,
                "envFrom": [{"configMapRef": {"name": "modelbook-stages", "optional": True}}],
                "env": [
                    *({"name": name, "value": value} for name, value in environ.items()),
                    {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": password}},
                ],
                "resources": {
                    "requests": {"cpu": "1", "memory": "2Gi"},
                    "limits": {"memory": "6Gi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [
            {"name": "book", "persistentVolumeClaim": {"claimName": "modelbook"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}},
        ],
    }
