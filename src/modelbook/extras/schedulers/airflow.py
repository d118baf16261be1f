"""Export the pipeline as an Airflow DAG: a pod per stage or, without an image, local commands."""

from __future__ import annotations

import json
import re
from pprint import pformat
from typing import Any

from modelbook.extras.schedulers import stage_graph

DAG_TEMPLATE = '''\
"""Airflow DAG: the stages of the book {book}, one task per stage.

Written by `modelbook dag airflow`: when pipeline.yaml changes, write it again.
{requirement}
"""

from datetime import datetime

from airflow.{module} import {operator}
from airflow.sdk import DAG

WAITS_FOR = {{
{upstream}}}
COMMAND = "{command}"
{constant}

with DAG(
    "{dag}", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, \
tags=["modelbook"], doc_md=__doc__,
    max_active_runs=1, max_active_tasks=1,  # one build at a time works on a book
):
    tasks = {{
        stage: {operator}({arguments})
        for stage in WAITS_FOR
    }}
    for stage, before in WAITS_FOR.items():
        for earlier in before:
            tasks[earlier] >> tasks[stage]
'''
BASH_OPERATOR = {
    "requirement": "Its variable ``modelbook_root`` names the project's folder.",
    "module": "providers.standard.operators.bash",
    "operator": "BashOperator",
    "arguments": """
            task_id=stage, cwd="{{ var.value.modelbook_root }}", env=ENV, append_env=True,
            bash_command=f".venv/bin/{COMMAND.format(stage)}",
        """,
}
POD_OPERATOR = {
    "requirement": "Its variable ``modelbook_namespace`` names the pods' namespace.",
    "module": "providers.cncf.kubernetes.operators.pod",
    "operator": "KubernetesPodOperator",
    "arguments": """
            task_id=stage, name=f"modelbook-{stage}".replace("_", "-"), \
namespace="{{ var.value.modelbook_namespace }}",
            cmds=COMMAND.format(stage).split(), pod_template_dict=POD, base_container_name="MAIN",
        """.replace("MAIN", stage_graph.CONTAINER_NAME),
}
ACTOR = "Airflow {{ run_id }}"


def render_dag(graph: stage_graph.StageGraph, image: str | None) -> str:
    """Render the DAG file, for Airflow 3; Airflow itself does not need Modelbook installed."""
    name, operator_fields, constant = (
        ("POD", POD_OPERATOR, _make_pod_template(graph, image))
        if image
        else ("ENV", BASH_OPERATOR, stage_graph.make_stage_environ(graph, ACTOR))
    )
    return DAG_TEMPLATE.format(
        **operator_fields,
        book=graph.book,
        dag="modelbook_" + re.sub(r"\W", "_", graph.book),
        upstream="".join(
            f"    {json.dumps(name)}: {json.dumps(upstream)},\n"
            for name, upstream in graph.stages.items()
        ),
        command=" ".join(stage_graph.make_stage_command("{}")),
        constant=f"{name} = {pformat(constant, indent=1, width=120, sort_dicts=False)}",
    )


def _make_pod_template(graph: stage_graph.StageGraph, image: str) -> dict[str, Any]:
    spec = stage_graph.make_pod_spec(image, stage_graph.make_stage_environ(graph, ACTOR))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": stage_graph.LABELS},
        "spec": spec,
    }
