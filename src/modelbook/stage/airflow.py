"""The pipeline as a DAG of Airflow: a pod for each stage, or, without an image, the project's own commands."""

from __future__ import annotations

import json
import re
from pprint import pformat
from typing import Any

from modelbook.stage import dag

TEXT = '''\
"""Airflow: the stages of the book {book}, a task each.

Written by `modelbook dag airflow`: when pipeline.yaml changes, write it anew.
{needs}
"""

from datetime import datetime

from airflow.{module} import {operator}
from airflow.sdk import DAG

WAITS_FOR = {{
{waits}}}
COMMAND = "{command}"
{constant}

with DAG(
    "{dag}", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["modelbook"], doc_md=__doc__,
    max_active_runs=1, max_active_tasks=1,  # one build at a time works on a book
):  # fmt: skip
    tasks = {{
        stage: {operator}({given})
        for stage in WAITS_FOR
    }}
    for stage, before in WAITS_FOR.items():
        for earlier in before:
            tasks[earlier] >> tasks[stage]
'''
BASH = {
    "needs": "Its variable ``modelbook_root`` names the project's folder.",
    "module": "providers.standard.operators.bash",
    "operator": "BashOperator",
    "given": """
            task_id=stage, cwd="{{ var.value.modelbook_root }}", env=ENV, append_env=True,
            bash_command=f".venv/bin/{COMMAND.format(stage)}",
        """,
}
POD = {
    "needs": "Its variable ``modelbook_namespace`` names the pods' namespace.",
    "module": "providers.cncf.kubernetes.operators.pod",
    "operator": "KubernetesPodOperator",
    "given": """
            task_id=stage, name=f"modelbook-{stage}".replace("_", "-"), namespace="{{ var.value.modelbook_namespace }}",
            cmds=COMMAND.format(stage).split(), pod_template_dict=POD, base_container_name="MAIN",
        """.replace("MAIN", dag.MAIN),
}
BY = "Airflow {{ run_id }}"


def render(pipeline: dag.Pipeline, image: str | None) -> str:
    """Write the DAG's file, for Airflow 3; it wants nothing of Modelbook where Airflow is."""
    name, parts, constant = ("POD", POD, _pod(pipeline, image)) if image else ("ENV", BASH, dag.environ(pipeline, BY))
    return TEXT.format(
        **parts,
        book=pipeline.book,
        dag="modelbook_" + re.sub(r"\W", "_", pipeline.book),
        waits="".join(f"    {json.dumps(name)}: {json.dumps(before)},\n" for name, before in pipeline.stages.items()),
        command=" ".join(dag.words("{}")),
        constant=f"{name} = {pformat(constant, indent=1, width=120, sort_dicts=False)}",
    )


def _pod(pipeline: dag.Pipeline, image: str) -> dict[str, Any]:
    spec = dag.pod(image, dag.environ(pipeline, BY))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": dag.LABELS}, "spec": spec}
