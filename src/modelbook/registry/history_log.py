"""The append-only log of a model's history: parameters of one MLflow run.

No client can change or delete a parameter once it is logged, and of two writers of one parameter
the second is rejected. So any MLflow server keeps the log append-only, and numbers its entries
without a gap. A text is logged in parts first; the parameter with the entry's number completes it.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelbook.registry.store import call_or_none, create_client, get_or_create_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

EXPERIMENT = "modelbook-history"
MODEL_TAG = "modelbook.history"  # tag of the run: the model's name
RUN_TAG = "modelbook.history_run"  # tag of the registered model: the run's id
COUNT_TAG = "modelbook.history_entries"  # tag of the registered model: number of entries
PART_LENGTH = 5000  # MLflow takes 6,000 characters
ENTRY_KEY = re.compile(r"entry\.(\d+)")
CONFLICT_CODES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # another client wrote it first


class EntryTakenError(Exception):
    """Another writer has written the entry of this number."""


class LogEntry(NamedTuple):
    """An entry as it was logged; the text is empty when parts of it are missing."""

    number: int
    text: str
    hash: str


@dataclass(frozen=True)
class HistoryLog:
    """The log of one model."""

    client: MlflowClient
    model_name: str
    run_id: str

    def read_entries(self) -> list[LogEntry]:
        """Return all entries in order."""
        params = self.client.get_run(self.run_id).data.params
        numbers = sorted(
            int(match[1]) for match in map(ENTRY_KEY.fullmatch, params) if match is not None
        )
        return [_read_entry(params, number) for number in numbers]

    def read_model(self) -> RegisteredModel:
        """Return the registered model, with its aliases and tags."""
        return self.client.get_registered_model(self.model_name)

    def append(self, number: int, text: str) -> str:
        """Append an entry, and return its hash.

        Raises
        ------
        EntryTakenError
            When another writer has written this number.
        """
        from mlflow.exceptions import MlflowException

        entry_hash = hash_entry(text)
        chunks = [text[start : start + PART_LENGTH] for start in range(0, len(text), PART_LENGTH)]
        for position, part in enumerate(chunks):
            self.client.log_param(self.run_id, f"text.{entry_hash}.{position}", part)
        claim = f"{entry_hash} {len(chunks)} {uuid.uuid4().hex}"
        try:
            self.client.log_param(self.run_id, _make_entry_key(number), claim)
        except MlflowException as error:
            params = self.client.get_run(self.run_id).data.params
            if error.error_code in CONFLICT_CODES and _make_entry_key(number) in params:
                raise EntryTakenError from None
            raise
        repeat_after_conflict(
            self.client.set_registered_model_tag, self.model_name, COUNT_TAG, str(number)
        )
        return entry_hash

    def find_tampering(self) -> list[str]:
        """Return one sentence for each sign of tampering with the log."""
        n_written = self.read_model().tags.get(COUNT_TAG, "0")
        entries = self.read_entries()
        last_number = entries[-1].number if entries else 0
        problems = []
        if int(n_written) > last_number:
            problems.append(
                f"Entries are missing: {int(n_written) - last_number} after entry {last_number}."
            )
        if self.client.get_run(self.run_id).info.lifecycle_stage != "active":
            problems.append(
                f"The run of the history was deleted: mlflow runs restore --run-id {self.run_id}"
            )
        return problems


def open_log(root: Path, model_name: str, *, create: bool) -> HistoryLog | None:
    """Open a model's log; create the registered model and the log when they do not exist.

    Parameters
    ----------
    create : bool
        Whether to create them; else None is returned.
    """
    client = create_client(root)
    run_id = _find_named_run(client, model_name)
    if run_id is None:
        run_id = _find_first_run(client, model_name)
        if create:
            new_run_id = run_id or _create_run(client, root, model_name)
            run_id = _name_run(client, model_name, new_run_id)
    return HistoryLog(client, model_name, run_id) if run_id else None


def repeat_after_conflict(set_value: Callable[..., None], *args: str) -> None:
    """Set a tag or an alias that another client may be setting for the first time, too.

    An MLflow server inserts the row of a new tag; of two clients at once, the second is refused for
    the duplicate key. Its second request finds the row, and updates it.
    """
    from mlflow.exceptions import MlflowException

    try:
        set_value(*args)
    except MlflowException as error:
        if error.error_code not in CONFLICT_CODES:
            raise
        set_value(*args)


def list_models(root: Path) -> list[str]:
    """Return the names of the models that have a log."""
    client = create_client(root)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return sorted({run.data.tags[MODEL_TAG] for run in runs if MODEL_TAG in run.data.tags})


def hash_entry(text: str) -> str:
    """Return the SHA-256 of an entry's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _find_named_run(client: MlflowClient, model_name: str) -> str | None:
    """Return the run that the registered model names."""
    model = call_or_none(client.get_registered_model, model_name)
    return model.tags.get(RUN_TAG) if model else None


def _find_first_run(client: MlflowClient, model_name: str) -> str | None:
    """Return the run of a model that was deleted and registered again."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    query = f"tags.`{MODEL_TAG}` = '{model_name}' and tags.`{RUN_TAG}` = 'named'"
    order = ["attributes.start_time"]
    runs = client.search_runs([experiment.experiment_id], query, order_by=order, max_results=1)
    return runs[0].info.run_id if runs else None


def _name_run(client: MlflowClient, model_name: str, run_id: str) -> str:
    """Name a run in the registered model, unless it names one; return the run that it names."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name, tags={RUN_TAG: run_id})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        named_run = _find_named_run(client, model_name)  # if two were created, the first is used
        if named_run:
            return named_run
        repeat_after_conflict(client.set_registered_model_tag, model_name, RUN_TAG, run_id)
    client.set_tag(run_id, RUN_TAG, "named")
    return run_id


def _create_run(client: MlflowClient, root: Path, model_name: str) -> str:
    experiment = get_or_create_experiment(client, root, EXPERIMENT)
    tags = {MODEL_TAG: model_name}
    run = client.create_run(experiment.experiment_id, run_name=model_name, tags=tags)
    return run.info.run_id


def _make_entry_key(number: int) -> str:
    return f"entry.{number:06d}"


def _read_entry(params: Mapping[str, str], number: int) -> LogEntry:
    entry_hash, _, remainder = params[_make_entry_key(number)].partition(" ")
    part_count = remainder.partition(" ")[0]
    chunks = [
        params.get(f"text.{entry_hash}.{position}", "")
        for position in range(int(part_count) if part_count.isdecimal() else 0)
    ]
    return LogEntry(number, "".join(chunks), entry_hash)
