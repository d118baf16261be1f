"""Airflow: monitor the served predictions daily, and retrain when the verdict is retrain.

Copy it to Airflow's folder of DAGs. The tasks call the commands of the project's environment.
The Airflow variable ``modelbook_root`` names the project's folder.
"""

from datetime import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG

# As environment variables: in the text of a command, a run's id could inject code.
HERE = {
    "cwd": "{{ var.value.modelbook_root }}", "env": {"MODELBOOK_BY": "Airflow {{ run_id }}"}, "append_env": True,
}  # fmt: skip
MONITOR = ".venv/bin/modelbook monitor --since 1d; code=$?; echo $code; case $code in 0 | 10 | 20) ;; *) exit 1 ;; esac"


def is_retrain_recommended(code: str) -> bool:
    """Whether monitor's exit code is that of *retrain*; otherwise later tasks are skipped."""
    return code == "20"


with DAG(
    "modelbook_loop", schedule="17 6 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1,
    tags=["modelbook"], doc_md=__doc__,
):  # fmt: skip
    # The last line of its output, the exit code, is pushed as XCom.
    monitor = BashOperator(task_id="monitor", bash_command=MONITOR, **HERE)
    gate = ShortCircuitOperator(
        task_id="retrain_recommended",
        python_callable=is_retrain_recommended,
        op_args=["{{ ti.xcom_pull(task_ids='monitor') }}"],
    )
    retrain = BashOperator(task_id="retrain", bash_command=".venv/bin/modelbook retrain", **HERE)
    monitor >> gate >> retrain
