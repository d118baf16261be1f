"""The MLflow store of runs, versions and their artifacts, through MLflow's public client."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from modelbook.config.store import ENVIRONMENT_LOCK, MLFLOW_VARIABLES
from modelbook.errors import StoreError
from modelbook.registry import artifact_storage, connection, mlflow_schema
from modelbook.registry.connection import suggest_new_store
from modelbook.registry.location import (
    RELATIVE_SCHEME,
    display_uri,
    get_artifact_uri,
    get_database_path,
    get_registry_uri,
    get_tracking_uri,
    has_local_artifacts,
    has_store,
    is_embedded,
    require_store,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# MLflow reports a name that no object can have as an invalid parameter.
NOT_FOUND_ERROR_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
CREATION_TIMEOUT_SECONDS = 60.0  # longest wait for another process that creates the tables
CREATION_CONFLICT_PATTERN = "already exists|duplicate key"
T = TypeVar("T")
ENVIRONMENT_DEFAULTS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where --json prints
    # With MLflow's own defaults, requests to an absent server would be retried for many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "PYCARET_CUSTOM_LOGGING_PATH": os.devnull,  # see registry.pyfunc_model
}


def ensure_store(root: Path) -> None:
    """Create the store if there is none; check that it can be read, and remote artifacts written.

    Raises
    ------
    StoreError
        When it is not an MLflow store of the installed version or cannot be reached, or when remote
        artifacts cannot be written.
    """
    if get_artifact_uri(root) and not has_local_artifacts(root):
        artifact_storage.check_write_access(get_artifact_uri(root))
    if not is_embedded(root):
        _open_and_check_store(root)
        return
    path = get_database_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # another process may be creating it
        _open_and_check_store(root)


def check_store(root: Path) -> None:
    """Check that the installed MLflow can read the store, if there is one.

    MLflow creates the tables of an empty database.

    Raises
    ------
    StoreError
        When the store is not one of the installed MLflow, or cannot be reached.
    """
    if has_store(root):
        _open_and_check_store(root)


def _open_and_check_store(root: Path) -> None:
    """Read the experiments and registered models; MLflow creates the tables of an empty database.

    Of two processes that create the tables of a database at once, one fails; it retries until the
    other is done.
    """
    deadline = time.monotonic() + CREATION_TIMEOUT_SECONDS
    has_conflict = False
    while True:
        try:
            with connection.convert_errors(root):
                client = _create_client(root, _configure_without_store_check(root))
                experiments = client.search_experiments()
                models = {model.name for model in client.search_registered_models()}
            break
        except StoreError as error:
            has_conflict |= bool(re.search(CREATION_CONFLICT_PATTERN, error.problem))
            if has_conflict and time.monotonic() < deadline:
                time.sleep(1)
                continue
            raise
    # A book's experiment has the name of its model; other experiments may be anywhere.
    has_absolute_location = any(
        experiment.name in models and experiment.artifact_location.startswith("file:")
        for experiment in experiments
    )
    if get_artifact_uri(root) == f"{RELATIVE_SCHEME}:" and has_absolute_location:
        raise make_old_store_error(root)


def make_old_store_error(root: Path) -> StoreError:
    """Return the error that an embedded store has absolute artifact locations."""
    return StoreError(
        f"{display_uri(root)} was created before Modelbook 1.0.0: its artifact locations are "
        "absolute",
        expected=f"artifact locations that begin with {RELATIVE_SCHEME}:",
        next=f"{suggest_new_store(root)}; its versions cannot be loaded by this Modelbook",
    )


def create_client(root: Path) -> MlflowClient:
    """Create an MLflow client for the project's store."""
    return _create_client(root, configure_mlflow(root))


def call_or_none(function: Callable[..., T], *arguments: Any) -> T | None:
    """Call a function of MLflow's client; return None when the object does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return function(*arguments)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND_ERROR_CODES:
            raise
        return None


def _create_client(root: Path, mlflow: ModuleType) -> MlflowClient:
    return mlflow.MlflowClient(get_tracking_uri(root), get_registry_uri(root))


def configure_mlflow(root: Path) -> ModuleType:
    """Configure the ``mlflow`` module for the project's store, with little output; return it.

    Raises
    ------
    StoreError
        When there is no store yet, or a database is unreachable; MLflow itself would create an
        empty store, or retry for many minutes.
    """
    require_store(root)
    return _configure_without_store_check(root)


def _configure_without_store_check(root: Path) -> ModuleType:
    connection.check_connection(root)
    mlflow_schema.require_current_schema(root)
    for name, value in ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    uris = get_tracking_uri(root), get_registry_uri(root)
    with ENVIRONMENT_LOCK, _restore_environment():
        mlflow.set_tracking_uri(uris[0])
        mlflow.set_registry_uri(uris[1])
    return mlflow


@contextmanager
def _restore_environment() -> Iterator[None]:
    """Restore MLflow's variables: ``set_tracking_uri`` writes one, which would become a setting."""
    values = {name: os.environ.get(name) for name in MLFLOW_VARIABLES.values()}
    yield
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def ensure_experiment_id(client: MlflowClient, root: Path, name: str) -> str:
    """Return the id of an experiment, and create it on first use.

    Raises
    ------
    StoreError
        When it was created with another artifact location.
    """
    with connection.convert_errors(root):
        experiment = get_or_create_experiment(client, root, name)
    location = _get_artifact_location(root, name)
    if location and experiment.artifact_location != location:
        raise StoreError(
            f"the experiment {name!r} stores its files in {experiment.artifact_location}",
            expected=location,
            next=(
                f"set artifacts: {experiment.artifact_location.removesuffix(f'/{name}')} in "
                "store.yaml; an embedded store from before 1.0.0 has absolute artifact locations "
                f"and is not read: {suggest_new_store(root)}"
            ),
        )
    return experiment.experiment_id


def get_or_create_experiment(client: MlflowClient, root: Path, name: str) -> Experiment:
    """Return an experiment, and create it on first use; another process may do so meanwhile."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            client.create_experiment(name, _get_artifact_location(root, name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
    return experiment


def _get_artifact_location(root: Path, experiment_name: str) -> str | None:
    return f"{get_artifact_uri(root)}/{experiment_name}" if get_artifact_uri(root) else None
