"""Export the pipeline as an Airflow DAG or an Argo Workflow."""
