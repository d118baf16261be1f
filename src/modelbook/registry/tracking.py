"""MLflow runs of stages, with a child run for each candidate of a comparison."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import Metric, Param, ViewType

from modelbook.dataset.entity_sketch import estimate_overlap
from modelbook.redaction import redact
from modelbook.registry import connection
from modelbook.registry.store import create_client, ensure_experiment_id, ensure_store

if TYPE_CHECKING:
    from modelbook.training.candidate import Candidate


MAX_SEARCH_RESULTS = 10_000  # maximum number of evaluations that are counted
MIN_OVERLAP = 0.5  # minimum share of the holdout's entities for an evaluation to be counted


class StageRun:
    """An MLflow run of one stage, as a context manager: finished on success, else failed.

    Parameters
    ----------
    root : Path
        The project's folder.
    book : str
        Name of the experiment.
    stage : str
        Name of the run.
    tags : Mapping
        Tags of the run, such as commit and fingerprint.

    Raises
    ------
    StoreError
        When the store cannot be reached, or this user may not write to it.
    """

    def __init__(self, root: Path, book: str, stage: str, tags: Mapping[str, Any]) -> None:
        ensure_store(root)
        self._root = root
        self._client = create_client(root)
        self._experiment_id = ensure_experiment_id(self._client, root, book)
        with connection.convert_errors(root):
            self._terminate_stale_runs(stage)
        self.run_id = self._create_run(stage, {**tags, "stage": stage})

    def __enter__(self) -> StageRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._client.set_terminated(self.run_id, "FINISHED" if kind is None else "FAILED")

    def log(
        self, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        """Log finite metrics, and parameters."""
        self._log_batch(self.run_id, metrics or {}, params or {})

    def log_candidate(
        self, candidate: Candidate, log_model: Callable[[str, Candidate], str] | None = None
    ) -> None:
        """Log a candidate as a child run, and end the run.

        ``log_model`` logs a model to the run with the given id, and returns the model's id. The
        metrics are logged after it: MLflow would read each of them again to link it to the model.
        """
        tags = {
            "mlflow.parentRunId": self.run_id,
            "family": candidate.family,
            "status": candidate.status,
            "reason": candidate.reason,
        }
        run_id = self._create_run(candidate.name, tags)
        model_id = log_model(run_id, candidate) if log_model else None
        self._log_batch(run_id, candidate.collect_run_metrics(), {}, model_id)
        status = "FAILED" if candidate.status == "failed" else "FINISHED"
        self._client.set_terminated(run_id, status)

    def _create_run(self, name: str, tags: Mapping[str, Any]) -> str:
        tag_texts = {key: redact(str(value)) for key, value in tags.items()}
        with connection.convert_errors(self._root):
            run = self._client.create_run(self._experiment_id, run_name=name, tags=tag_texts)
        return run.info.run_id

    def _log_batch(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        model_id: str | None = None,
    ) -> None:
        now = int(time.time() * 1000)
        run_metrics = [
            Metric(key, float(value), now, 0, model_id=model_id)
            for key, value in metrics.items()
            if math.isfinite(value)
        ]
        run_params = [Param(key, redact(str(value))) for key, value in params.items()]
        with connection.convert_errors(self._root):
            self._client.log_batch(run_id, run_metrics, run_params)

    def _terminate_stale_runs(self, stage: str) -> None:
        # Only one build runs at a time, so a running run of this stage is left from a killed build.
        filter_string = f"tags.stage = '{stage}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment_id], filter_string):
            self._client.set_terminated(run.info.run_id, "KILLED")


@contextmanager
def active_run(run_id: str) -> Iterator[None]:
    """Make an open run the active one, without ending it."""
    mlflow.start_run(run_id=run_id, nested=True)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")


def count_holdout_evaluations(root: Path, holdout_sketch: str) -> int:
    """Count the runs, in any book, that evaluated at least half of a holdout's entities.

    ``holdout_sketch`` is the sketch of the holdout's entities, from ``sketch_entities``; the runs
    have it as their tag ``holdout``. Added, shuffled or later rows do not reset the count.
    """
    client = create_client(root)
    experiments = client.search_experiments(view_type=ViewType.ALL)  # dropped sandboxes among them
    experiment_ids = [experiment.experiment_id for experiment in experiments]
    runs = client.search_runs(
        experiment_ids,
        "tags.holdout LIKE '%'",
        run_view_type=ViewType.ALL,
        max_results=MAX_SEARCH_RESULTS,
    )
    shares = (estimate_overlap(holdout_sketch, run.data.tags.get("holdout", "")) for run in runs)
    return sum(share >= MIN_OVERLAP for share in shares)
