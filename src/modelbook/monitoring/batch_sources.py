"""Sources of batches: the batches of a build, a file, or a time range of the journal."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from modelbook import dataset, tasks
from modelbook.config import Monitor
from modelbook.config.values import parse_duration
from modelbook.contract import Column, Contract
from modelbook.dataset import parquet_folder
from modelbook.dataset.object_store import RemotePath, open_input
from modelbook.dataset.reader import read_text_columns
from modelbook.dataset.source import expand_environment, is_remote_folder
from modelbook.errors import DataError, StoreError
from modelbook.monitoring import batch_evaluation
from modelbook.monitoring.batch_evaluation import BatchEvaluation
from modelbook.registry import aliases, versions
from modelbook.registry.versions import ModelVersion

if TYPE_CHECKING:
    from modelbook.journal import Journal

MAX_SAMPLED_ROWS = 200_000  # sampled from a folder; enough to detect a tenth of the alert threshold


def require_champion(root: Path, book: str) -> ModelVersion:
    """Return the champion.

    Raises
    ------
    StoreError
        If there is no champion.
    """
    champion = versions.get_champion(root, book)
    if champion is None:
        raise aliases.make_missing_champion_error(StoreError, book)
    return champion


def evaluate_build_batches(
    root: Path, book: str, version: ModelVersion, params: Monitor
) -> list[BatchEvaluation]:
    """Evaluate the batches that the ingest stage set aside."""
    path = root / "data" / book / "batches.parquet"
    if not path.is_file():
        raise DataError(
            f"there is no {path.relative_to(root)}", next="build the book: modelbook build"
        )
    return _evaluate_batches(
        root, dataset.split_by_period(pd.read_parquet(path), version.contract), version, params
    )


def evaluate_file(
    root: Path, path: str, version: ModelVersion, params: Monitor
) -> list[BatchEvaluation]:
    """Evaluate a file, or a folder of Parquet files, as one batch named after it.

    A folder with more than ``MAX_SAMPLED_ROWS`` rows is sampled; ``sampled_from`` is then its
    number of rows. A remote folder is read in place, except a Delta table, which is downloaded.
    """
    folder: Path | RemotePath = root / path
    if is_remote_folder(path):
        folder = RemotePath(expand_environment(path, path), path)
        if parquet_folder.is_delta_table(folder.list_files()):
            with open_input(folder.uri) as local_path:
                return evaluate_file(root, str(local_path), version, params)
    if isinstance(folder, RemotePath) or folder.is_dir():
        sampled_rows, total_rows = parquet_folder.sample_rows(folder, MAX_SAMPLED_ROWS, params.seed)
        rows = read_text_columns(sampled_rows, version.contract)
        evaluations = _evaluate_batches(root, {Path(path).name: rows}, version, params)
        return (
            [replace(evaluation, sampled_from=total_rows) for evaluation in evaluations]
            if total_rows > len(sampled_rows)
            else evaluations
        )
    batch = dataset.read_table(path, root, version.contract)
    return _evaluate_batches(root, {Path(path).stem: batch}, version, params)


def _evaluate_batches(
    root: Path, batches: dict[str, pd.DataFrame], version: ModelVersion, params: Monitor
) -> list[BatchEvaluation]:
    return batch_evaluation.evaluate_batches(
        batches,
        versions.load_pyfunc(root, version),
        version.reference,
        version.contract,
        metrics=version.metrics,
        params=params,
        on_progress=lambda *_: None,
        training_entities=read_training_entities(root, version),
    )


def read_training_entities(root: Path, version: ModelVersion) -> pd.Series | None:
    """Read the entities that a version was fitted on; None if the book's rows have changed."""
    contract = version.contract
    folder = root / "data" / version.name
    receipt = root / "models" / version.name / "ingest.json"
    paths = [folder / f"{part}.parquet" for part in ("train", "holdout")]
    if not contract.entity or not all(path.is_file() for path in [*paths, receipt]):
        return None
    fingerprint = json.loads(receipt.read_text(encoding="utf-8"))["details"].get("fingerprint")
    if fingerprint != version.tags.get("fingerprint"):
        return None
    tables = [pd.read_parquet(path, columns=[contract.entity]) for path in paths]
    return contract.entity_ids(pd.concat(tables, ignore_index=True)).drop_duplicates()


def evaluate_journal(
    journal: Journal, since: float, until: float, version: ModelVersion, params: Monitor
) -> list[BatchEvaluation]:
    """Evaluate the champion's journaled predictions since a time, with the outcomes known so far.

    ``until`` is the current time and names the batch; rows with later timestamps (the clock was set
    back) are included. The journaled predictions are evaluated, not new ones. Entity, period and
    slice columns are available only if they are features. Empty if there are no predictions.
    """
    rows = [row for row in journal.read_predictions(since) if row["version"] == version.number]
    if not rows:
        return []
    batch, contract = tabulate_journaled_rows(rows, version.contract)
    name = f"{format_timestamp(since)} to {format_timestamp(max(until, rows[-1]['at']))}"
    return [
        batch_evaluation.evaluate_batch(
            name,
            batch,
            read_journaled_scores(rows, contract),
            version.reference,
            contract,
            metrics=version.metrics,
            params=params,
        )
    ]


def tabulate_journaled_rows(
    rows: list[dict[str, Any]], contract: Contract
) -> tuple[pd.DataFrame, Contract]:
    """Return a journal's rows as a conformed table with the outcomes known, and its contract."""
    inputs = pd.DataFrame([row["inputs"] for row in rows])
    entity = contract.entity
    has_entity = entity in inputs and bool(inputs[entity].notna().any())
    contract = restrict_contract(contract, [*inputs], keep_entity=has_entity)
    table = inputs.reindex(columns=contract.input_names)
    if has_entity:
        codes = pd.factorize(inputs[entity])[0]  # each unknown entity is separate
        table[entity] = np.where(codes < 0, -1 - np.arange(len(codes)), codes)
    outcomes = pd.Series([row["outcome"] for row in rows], dtype=object)
    if outcomes.notna().any():
        table[contract.target] = outcomes
    return contract.conform(table), contract


def restrict_contract(
    contract: Contract, journaled: list[str], *, keep_entity: bool = False
) -> Contract:
    """Return the contract of journaled rows: the model's features, target, and the entity's code.

    A journal holds what the model saw, such as the parts of a date instead of the date, and no
    redacted column.
    """
    columns: dict[str, Column] = {}
    for name, column in contract.columns.items():
        if column.role == "feature":
            features = column.model_features(name)
            columns |= {feature: features[feature] for feature in features if feature in journaled}
        elif column.role == "target":
            columns[name] = column
        elif column.role == "entity" and keep_entity:
            columns[name] = Column(role="entity", type="integer", meaning=column.meaning)
    definition = contract.model_dump(exclude_defaults=True)
    definition["columns"] = {
        name: column.model_dump(exclude_defaults=True) for name, column in columns.items()
    }
    for key in ("slices", "strata"):
        definition[key] = [name for name in getattr(contract, key) if name in columns]
    return Contract.model_validate(definition | {"key": []})


def read_journaled_scores(rows: list[dict[str, Any]], contract: Contract) -> Any:
    """Return the journaled predictions as scores, as in ``ScoredRows.score``."""
    task = tasks.get_task(contract)
    if not contract.classes:
        return pd.Series([row["prediction"] for row in rows], dtype=float).to_numpy()
    return task.extract_scores(
        pd.DataFrame([list(row["probabilities"].values()) for row in rows]).to_numpy(dtype=float)
    )


def format_timestamp(timestamp: float) -> str:
    """Format a Unix timestamp as text, in UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_since(text: str) -> float:
    """Parse an ISO time (UTC by default) or an age, see ``parse_duration``.

    Returns a Unix timestamp.

    Raises
    ------
    ValueError
        If the text is neither.
    """
    with suppress(ValueError):
        return time.time() - parse_duration(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
