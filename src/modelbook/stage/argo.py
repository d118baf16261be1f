"""The pipeline as a Workflow of Argo: a pod for each stage."""

from __future__ import annotations

from typing import Any

import yaml

from modelbook.stage import dag

HEAD = """\
# Argo: the stages of the book {book}, a pod each. Written by `modelbook dag argo`: when pipeline.yaml changes, write it
# anew. Submit it: argo submit -n NAMESPACE FILE
"""
NAME = "{{inputs.parameters.stage}}"
EXECUTOR = "modelbook-argo"  # deploy/argo/executor.yaml
POD = ("automountServiceAccountToken", "securityContext", "volumes")  # what a Workflow says of all its pods at once


def render(pipeline: dag.Pipeline, image: str) -> str:
    """Write the Workflow; it is valid for Argo Workflows 3."""
    pod = dag.pod(image, dag.environ(pipeline, "Argo {{workflow.name}}"))
    container = {key: value for key, value in pod["containers"][0].items() if key != "name"}  # Argo gives it one
    stage = {
        "name": "stage",
        "inputs": {"parameters": [{"name": "stage"}]},
        "metadata": {"labels": dag.LABELS},
        "retryStrategy": {"limit": 2, "retryPolicy": "OnError"},  # a lost node, not a failed stage
        "container": {**container, "command": dag.words(NAME)},
    }
    tasks = [_task(name, before) for name, before in pipeline.stages.items()]
    document = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"modelbook-{pipeline.book}-"},
        "spec": {
            "entrypoint": "pipeline",
            "serviceAccountName": "modelbook",
            "executor": {"serviceAccountName": EXECUTOR},
            "parallelism": 1,  # one build at a time works on a book
            **{key: pod[key] for key in POD},
            "templates": [{"name": "pipeline", "dag": {"tasks": tasks}}, stage],
        },
    }
    text = yaml.safe_dump(document, sort_keys=False, width=120)
    return HEAD.format(book=pipeline.book) + text


def _task(name: str, before: list[str]) -> dict[str, Any]:
    waits = {"dependencies": before} if before else {}
    return {
        "name": name, **waits, "template": "stage",
        "arguments": {"parameters": [{"name": "stage", "value": name}]},
    }  # fmt: skip
