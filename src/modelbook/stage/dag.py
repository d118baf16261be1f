"""The pipeline for a scheduler of somebody else's: what it runs of each stage, in which order, and in what pod."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from modelbook.stage import project, wiring

IMAGE = "modelbook-stages"  # as deploy/stages.Dockerfile and compose.yaml name it
FOLDERS = ("models", "data", "reports")  # what stages hand on to one another; one volume holds them
MAIN = "stage"  # name of the container
LABELS = {"app.kubernetes.io/part-of": "modelbook", "app.kubernetes.io/component": "loop"}  # network.yaml goes by them


@dataclass(frozen=True)
class Pipeline:
    """A book's stages for a scheduler.

    Attributes
    ----------
    book : str
        Its name.
    environment : str
        Name of its env file.
    stages : dict
        For each stage, in an order in which they can run, the stages that it waits for.
    """

    book: str
    environment: str
    stages: dict[str, list[str]]


def read(root: Path, book: str | None = None) -> Pipeline:
    """Take a book's stages from ``pipeline.yaml``.

    Raises
    ------
    WiringError
        When a stage waits for one that is not there, or for itself, or does not agree with its notebook.
    StageError
        When no env file names the book.
    ParameterError
        When its env file lacks a value, or has one that nothing asks for.
    """
    wiring.check(root)
    environment = project.environment(root, book)
    named = project.parameters(root, environment)["ingest"]["book"]
    upstream = {name: task["upstream"] for name, task in project.tasks(root, named).items()}
    ordered = TopologicalSorter(upstream).static_order()
    return Pipeline(named, environment.name, {name: upstream[name] for name in ordered})


def words(stage: str) -> list[str]:
    """The command that runs one stage and none before it; one that is up to date is left as it is."""
    return ["ploomber", "build", "--partially", stage, "--skip-upstream"]


def environ(pipeline: Pipeline, by: str) -> dict[str, str]:
    """What a stage finds in its environment: its book, and who builds it."""
    return {"PLOOMBER_ENV_FILENAME": pipeline.environment, "MODELBOOK_BY": by}


def pod(image: str, environ: dict[str, str]) -> dict[str, Any]:
    """A pod of the stages' image, as the CronJobs of ``deploy/kubernetes`` have it; no command is in it yet."""
    password = {"name": "modelbook", "key": "journal-password", "optional": True}
    mounts = [{"name": "book", "mountPath": f"/book/{name}", "subPath": name} for name in FOLDERS]
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": MAIN,
            "image": image,
            "envFrom": [{"configMapRef": {"name": "modelbook-stages", "optional": True}}],
            "env": [
                *({"name": name, "value": given} for name, given in environ.items()),
                {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": password}},
            ],
            "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "6Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
        }],
        "volumes": [
            {"name": "book", "persistentVolumeClaim": {"claimName": "modelbook"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}},
        ],
    }  # fmt: skip
