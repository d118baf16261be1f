"""Runs: one for a stage, a child for each candidate, logged as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param

from modelbook.redaction import redact
from modelbook.registry.store import client, experiment

if TYPE_CHECKING:
    from modelbook.training.candidate import Candidate


MOST = 10_000  # looks that are counted


class Run:
    """An MLflow run of one stage, as a context: finished when the block ends well, else failed.

    Parameters
    ----------
    root : Path
        The project's folder.
    book : str
        Name of the experiment.
    stage : str
        Name of the run.
    tags : Mapping
        What the run is known by: commit, fingerprint.
    """

    def __init__(self, root: Path, book: str, stage: str, tags: Mapping[str, Any]) -> None:
        self._client = client(root)
        self._experiment = experiment(self._client, root, book)
        self._end_killed(stage)
        self.id = self._create(stage, {**tags, "stage": stage})

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._client.set_terminated(self.id, "FINISHED" if kind is None else "FAILED")

    def log(self, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None) -> None:
        """Log metrics (those that are numbers) and parameters."""
        self._log(self.id, metrics or {}, params or {})

    def candidate(self, candidate: Candidate) -> None:
        """Log a candidate as a child run, at once and whole."""
        tags = {
            "mlflow.parentRunId": self.id,
            "family": candidate.family,
            "status": candidate.status,
            "reason": candidate.reason,
        }
        run = self._create(candidate.name, tags)
        self._log(run, candidate.metrics(), {})
        self._client.set_terminated(run, "FAILED" if candidate.status == "failed" else "FINISHED")

    def _create(self, name: str, tags: Mapping[str, Any]) -> str:
        told = {key: redact(str(value)) for key, value in tags.items()}
        return self._client.create_run(self._experiment, run_name=name, tags=told).info.run_id

    def _log(self, run: str, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        now = int(time.time() * 1000)
        numbers = [Metric(key, float(value), now, 0) for key, value in metrics.items() if math.isfinite(value)]
        self._client.log_batch(run, numbers, [Param(key, redact(str(value))) for key, value in params.items()])

    def _end_killed(self, stage: str) -> None:
        # There is one build at a time, so a run of this stage that still runs belongs to one that was killed.
        running = f"tags.stage = '{stage}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment], running):
            self._client.set_terminated(run.info.run_id, "KILLED")


def looks(root: Path, holdout: str) -> int:
    """How many runs have judged the holdout with this fingerprint, in any book, by hand or in a build."""
    store = client(root)
    ids = [one.experiment_id for one in store.search_experiments()]
    return len(store.search_runs(ids, f"tags.holdout = '{holdout}'", max_results=MOST))
