"""Export the pipeline as an Argo Workflow: a pod per stage."""

from __future__ import annotations

from typing import Any

import yaml

from modelbook.extras.schedulers import stage_graph

HEADER = """\
# Argo Workflow: the stages of the book {book}, one pod per stage. Written by `modelbook dag argo`:
# when pipeline.yaml changes, write it again. Submit it: argo submit -n NAMESPACE FILE
"""
STAGE_PLACEHOLDER = "{{inputs.parameters.stage}}"
EXECUTOR_ACCOUNT = "modelbook-argo"  # deploy/argo/executor.yaml
# Pod fields that a Workflow sets once for all pods.
WORKFLOW_POD_FIELDS = ("automountServiceAccountToken", "securityContext", "volumes")


def render_workflow(graph: stage_graph.StageGraph, image: str) -> str:
    """Render the Workflow, for Argo Workflows 3."""
    pod = stage_graph.make_pod_spec(
        image, stage_graph.make_stage_environ(graph, "Argo {{workflow.name}}")
    )
    container = {key: value for key, value in pod["containers"][0].items() if key != "name"}
    stage = {
        "name": "stage",
        "inputs": {"parameters": [{"name": "stage"}]},
        "metadata": {"labels": stage_graph.LABELS},
        "retryStrategy": {"limit": 2, "retryPolicy": "OnError"},  # a lost node, not a failed stage
        "container": {**container, "command": stage_graph.make_stage_command(STAGE_PLACEHOLDER)},
    }
    tasks = [_make_dag_task(name, upstream) for name, upstream in graph.stages.items()]
    document = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"modelbook-{graph.book}-"},
        "spec": {
            "entrypoint": "pipeline",
            "serviceAccountName": "modelbook",
            "executor": {"serviceAccountName": EXECUTOR_ACCOUNT},
            "parallelism": 1,  # one build at a time works on a book
            **{key: pod[key] for key in WORKFLOW_POD_FIELDS},
            "templates": [{"name": "pipeline", "dag": {"tasks": tasks}}, stage],
        },
    }
    text = yaml.safe_dump(document, sort_keys=False, width=120)
    return HEADER.format(book=graph.book) + text


def _make_dag_task(name: str, upstream: list[str]) -> dict[str, Any]:
    dependencies = {"dependencies": upstream} if upstream else {}
    return {
        "name": name,
        **dependencies,
        "template": "stage",
        "arguments": {"parameters": [{"name": "stage", "value": name}]},
    }
