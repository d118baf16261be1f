"""Find logged candidates of comparisons by their MLflow runs, and load their pipelines."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from modelbook.errors import TrainingError
from modelbook.registry import artifact_storage, connection
from modelbook.registry.location import get_local_path
from modelbook.registry.store import call_or_none, create_client

NEWEST_FIRST = ["attributes.start_time DESC"]
PARENT_TAG = "mlflow.parentRunId"
MAX_RUNS = 10_000  # limit of search_runs; models of further candidates are not pruned
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class LoggedCandidate:
    """A candidate of an earlier comparison: its name, family, run and fitted pipeline."""

    name: str
    family: str
    run_id: str
    pipeline: Any


def load_candidate(
    root: Path, candidate_name: str, compare_run_id: str, features: Iterable[str]
) -> LoggedCandidate:
    """Load a candidate from its run in MLflow.

    Parameters
    ----------
    candidate_name : str
        Its name or family in the comparison, or the id of any candidate's run.
    compare_run_id : str
        Run of the comparison, below which a name is looked up.
    features : iterable of str
        The features that it must have, in order.

    Raises
    ------
    TrainingError
        If there is no such candidate, its run has no model, or it has other features.
    """
    run = find_candidate_run(root, candidate_name, compare_run_id)
    tags = run.data.tags
    name = tags["mlflow.runName"]
    uri = f"runs:/{run.info.run_id}/model"
    try:
        inputs = mlflow.models.get_model_info(uri).signature.inputs.input_names()
    except mlflow.MlflowException as error:
        raise TrainingError(
            f"the model of candidate {name!r}, run {run.info.run_id}, cannot be read: {error}",
            expected="a model that modelbook prune has not deleted",
            next="build compare again, and take a candidate of that comparison",
        ) from None
    if inputs != list(features):
        different = ", ".join(sorted(set(inputs) ^ set(features))) or "another order"
        raise TrainingError(
            f"candidate {name!r} has other features than this book's contract: {different}",
            next="build compare again, and take a candidate of that comparison",
        )
    pipeline = mlflow.sklearn.load_model(uri)
    return LoggedCandidate(name, tags["family"], run.info.run_id, pipeline)


def find_candidate_run(root: Path, candidate_name: str, compare_run_id: str) -> Any:
    """Find the run of a candidate that holds a model; see ``load_candidate``."""
    client = create_client(root)
    parent = client.get_run(compare_run_id)
    runs = client.search_runs(
        [parent.info.experiment_id], f"tags.`{PARENT_TAG}` = '{compare_run_id}'"
    )
    by_family = {run.data.tags["family"]: run for run in runs}
    by_name = {run.data.tags["mlflow.runName"]: run for run in runs}
    run = by_name.get(candidate_name) or by_family.get(candidate_name)
    if run is None and RUN_ID.fullmatch(candidate_name):
        run = call_or_none(client.get_run, candidate_name)
    if run is None or "family" not in run.data.tags:
        candidates = ", ".join(sorted(map(_describe_candidate, runs)))
        raise TrainingError(
            f"there is no candidate {candidate_name!r}",
            expected=f"one of {candidates}; or the id of a run",
            next="the report of compare lists the candidates, the MLflow UI their runs",
        )
    if not run.outputs or not run.outputs.model_outputs:
        name, reason = run.data.tags["mlflow.runName"], run.data.tags["reason"]
        raise TrainingError(
            f"candidate {name!r} has no model in its run {run.info.run_id}"
            f"{f': {reason}' if reason else ''}",
            expected="a fitted candidate of a comparison with log_candidate_models: true",
            next=f"{'' if reason else 'build compare with log_candidate_models: true, or '}"
            "take another candidate",
        )
    return run


def _describe_candidate(run: Any) -> str:
    """Describe a candidate by both names that select it."""
    name, family = run.data.tags["mlflow.runName"], run.data.tags["family"]
    return name if name == family else f"{name} ({family})"


def find_prunable_models(
    root: Path, book: str, n_keep: int, started_before: float
) -> dict[str, str]:
    """Find the models of candidates of old comparisons, unless a version uses them.

    Parameters
    ----------
    n_keep : int
        Number of newest comparisons whose candidates keep their models.
    started_before : float
        Unix time; comparisons that started later keep their models, too.

    Returns
    -------
    dict
        Ids of the models, with the URIs of their files.
    """
    client = create_client(root)
    models: dict[str, str] = {}
    with connection.convert_errors(root):
        experiment = client.get_experiment_by_name(book)
        if experiment is None:
            return {}
        ids = [experiment.experiment_id]
        comparisons = client.search_runs(ids, "tags.stage = 'compare'", order_by=NEWEST_FIRST)
        old_runs = {
            run.info.run_id
            for run in comparisons[n_keep:]
            if run.info.start_time / 1000 <= started_before
        }
        versions = client.search_model_versions(f"name = '{book}'")
        registered = {(version.source or "").rpartition("/")[2] for version in versions}
        candidates = client.search_runs(ids, "tags.family LIKE '%'", max_results=MAX_RUNS)
        run_ids = {run.info.run_id for run in candidates if run.data.tags[PARENT_TAG] in old_runs}
        token = None
        while token != "":
            page = client.search_logged_models(ids, page_token=token)
            token = page.token or ""
            for model in page:
                if model.source_run_id in run_ids and model.model_id not in registered:
                    models[model.model_id] = model.artifact_location
    return models


def delete_model(root: Path, model_id: str, artifact_uri: str) -> None:
    """Delete a candidate's model, then its files; its run stays."""
    with connection.convert_errors(root):
        create_client(root).delete_logged_model(model_id)
    folder = get_local_path(root, artifact_uri)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        artifact_storage.delete_folder(artifact_uri)
