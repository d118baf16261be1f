"""Airflow: judge daily what was served, and retrain where monitor asks for it.

Copy it to Airflow's folder of DAGs. Airflow has an environment of its own: the tasks call the project's commands.
The Airflow variable ``modelbook_root`` names the project's folder.
"""

from datetime import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG

# Not in the commands' text, where a run's id could be more than a name.
HERE = {
    "cwd": "{{ var.value.modelbook_root }}", "env": {"MODELBOOK_BY": "Airflow {{ run_id }}"}, "append_env": True,
}  # fmt: skip
MONITOR = ".venv/bin/modelbook monitor --since 1d; code=$?; echo $code; case $code in 0 | 10 | 20) ;; *) exit 1 ;; esac"


def asked(code: str) -> bool:
    """Whether monitor's exit code asks to retrain; the tasks behind are skipped otherwise."""
    return code == "20"


with DAG(
    "modelbook_loop", schedule="17 6 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1,
    tags=["modelbook"], doc_md=__doc__,
):  # fmt: skip
    monitor = BashOperator(
        task_id="monitor", bash_command=MONITOR, **HERE
    )  # what it prints last is handed on
    gate = ShortCircuitOperator(
        task_id="asked_to_retrain",
        python_callable=asked,
        op_args=["{{ ti.xcom_pull(task_ids='monitor') }}"],
    )
    retrain = BashOperator(task_id="retrain", bash_command=".venv/bin/modelbook retrain", **HERE)
    monitor >> gate >> retrain
