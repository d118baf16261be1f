"""Remove the registered versions and the runs of a sandbox; evaluations on holdouts still count."""

from __future__ import annotations

import shutil
import time

from modelbook.registry import connection
from modelbook.registry.location import (
    get_artifact_uri,
    get_local_path,
    has_local_artifacts,
    has_store,
)
from modelbook.registry.store import call_or_none, check_store, create_client
from modelbook.stage.sandbox import Sandbox


def remove_versions_and_runs(sandbox: Sandbox) -> None:
    """Delete the sandbox's registered model, its experiment, and their local files.

    The runs stay in MLflow as deleted ones, because they count the evaluations of a holdout.
    ``mlflow gc`` removes them for good, and files in an object store.

    Raises
    ------
    StoreError
        When the store refuses.
    """
    root, name = sandbox.root, sandbox.model_name
    if not has_store(root):
        return
    check_store(root)
    client = create_client(root)
    with connection.convert_errors(root):
        if call_or_none(client.get_registered_model, name):
            client.delete_registered_model(name)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            # A deleted experiment keeps its name, which the next sandbox may need.
            client.rename_experiment(experiment.experiment_id, f"{name} dropped {time.time_ns()}")
            client.delete_experiment(experiment.experiment_id)
    folder = get_local_path(root, f"{get_artifact_uri(root)}/{name}")
    if folder and has_local_artifacts(root):
        shutil.rmtree(folder, ignore_errors=True)
