"""Replay journaled rows through another version and compare its predictions with the served ones.

Rows are read from the journal in chunks, so memory use does not grow with their number.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbook.atomic import atomic_write
from modelbook.errors import ContractError, DataError
from modelbook.formatting import format_code, natural_sort_key

if TYPE_CHECKING:
    from modelbook.contract import Contract
    from modelbook.tasks.decision_rule import DecisionRule

CHUNK_ROWS = 2000  # rows per chunk
MAX_SAMPLED_CHANGES = 100_000  # changes sampled for quantiles
LISTED_ROWS = 10  # rows listed with the largest changes
MAX_SLICE_VALUES = 30  # values per slice; further ones are grouped as others
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
OTHER_VALUES = "others"


@dataclass(frozen=True)
class ReplayChunk:
    """A chunk of rows with original and replayed predictions.

    Attributes
    ----------
    changes : ndarray
        Changes of the score, see ``DecisionRule.score_change``.
    """

    rows: list[dict[str, Any]]
    replayed_predictions: list[Any]
    changes: np.ndarray
    is_changed: np.ndarray

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat dict per row, for a CSV file."""
        records = zip(
            self.rows,
            self.replayed_predictions,
            self.changes.tolist(),
            self.is_changed.tolist(),
            strict=True,
        )
        return [
            {
                "id": row["id"],
                "at": row["at"],
                "version": row["version"],
                **row["inputs"],
                "before": row["prediction"],
                "after": after,
                "change": change,
                "is_changed": is_changed,
            }
            for row, after, change, is_changed in records
        ]


@dataclass
class ReplayResult:
    """Result of a replay, accumulated chunk by chunk."""

    changed_quantity: str
    slices: list[str]
    rows: int = 0
    changed_rows: int = 0
    total_change: float = 0.0
    total_absolute_change: float = 0.0
    largest_changes: list[dict[str, Any]] = field(default_factory=list)
    sampled_changes: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    slice_totals: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0, 0.0])
    )

    def add_chunk(self, chunk: ReplayChunk, rng: np.random.Generator) -> None:
        """Add a chunk to the totals."""
        self.rows += len(chunk.rows)
        self.changed_rows += int(chunk.is_changed.sum())
        self.total_change += float(chunk.changes.sum())
        self.total_absolute_change += float(np.abs(chunk.changes).sum())
        sample = np.column_stack([rng.uniform(size=len(chunk.rows)), chunk.changes])
        self.sampled_changes = np.concatenate([self.sampled_changes, sample])
        if len(self.sampled_changes) > MAX_SAMPLED_CHANGES:
            # The smallest random keys are a uniform sample.
            order = np.argpartition(self.sampled_changes[:, 0], MAX_SAMPLED_CHANGES)
            self.sampled_changes = self.sampled_changes[order[:MAX_SAMPLED_CHANGES]]
        largest = np.argsort(-np.abs(chunk.changes), kind="stable")[:LISTED_ROWS]
        listed_changes = [
            {
                "id": chunk.rows[i]["id"],
                "at": chunk.rows[i]["at"],
                "before": chunk.rows[i]["prediction"],
                "after": chunk.replayed_predictions[i],
                "change": float(chunk.changes[i]),
                "inputs": chunk.rows[i]["inputs"],
            }
            for i in largest
        ]
        self.largest_changes = sorted(
            [*self.largest_changes, *listed_changes], key=lambda entry: -abs(entry["change"])
        )[:LISTED_ROWS]
        for name in self.slices:
            self._add_slice(name, chunk)

    def _add_slice(self, name: str, chunk: ReplayChunk) -> None:
        for row, change, is_changed in zip(
            chunk.rows, chunk.changes.tolist(), chunk.is_changed.tolist(), strict=True
        ):
            value = row["inputs"].get(name)
            key = (name, "missing" if value is None else format_code(value))
            n_values = sum(slice_name == name for slice_name, _ in self.slice_totals)
            if key not in self.slice_totals and n_values >= MAX_SLICE_VALUES:
                key = (name, OTHER_VALUES)
            totals = self.slice_totals[key]
            totals[:] = totals[0] + 1, totals[1] + is_changed, totals[2] + change

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        changes = self.sampled_changes[:, 1]
        return {
            "rows": self.rows,
            "changed_rows": self.changed_rows,
            "share": self.changed_rows / self.rows,
            "changed_quantity": self.changed_quantity,
            "mean_change": self.total_change / self.rows,
            "mean_absolute_change": self.total_absolute_change / self.rows,
            "quantiles": {f"{level:g}": float(np.quantile(changes, level)) for level in QUANTILES},
            "slices": [
                {
                    "slice": name,
                    "value": value,
                    "rows": int(rows),
                    "changed_rows": int(changed_rows),
                    "mean_change": total / rows,
                }
                for (name, value), (rows, changed_rows, total) in sorted(
                    self.slice_totals.items(), key=_make_slice_sort_key
                )
            ],
            "largest_changes": self.largest_changes,
        }


def replay_predictions(
    journal_rows: Iterator[dict[str, Any]],
    scorer: Any,
    contract: Contract,
    version_label: str,
    *,
    on_progress: Callable[[int, float], None],
    on_chunk: Callable[[ReplayChunk], None] = lambda chunk: None,
) -> ReplayResult:
    """Replay journaled rows through another version.

    Parameters
    ----------
    journal_rows : iterator of dict
        Rows of the journal, with ``inputs``, ``prediction`` and ``probabilities``.
    scorer, contract, version_label : CompiledScorer or PipelineScorer, Contract, str
        Those of the other version, and its name in messages.
    on_progress : callable
        Called after each chunk with the number of rows so far and the elapsed seconds.

    Raises
    ------
    DataError
        If there are no rows.
    ContractError
        If the version's features or classes do not match the journaled rows.
    """
    features = contract.feature_names
    slices = [name for name in contract.slices if name in features]
    result = ReplayResult(scorer.decision_rule.score_change_label, slices)
    rng = np.random.default_rng(0)
    start_time = time.monotonic()
    while rows := list(islice(journal_rows, CHUNK_ROWS)):
        chunk = _replay_chunk(rows, scorer, features, version_label)
        result.add_chunk(chunk, rng)
        on_chunk(chunk)
        on_progress(result.rows, time.monotonic() - start_time)
    if not result.rows:
        raise DataError(
            "the journal has no predictions since then by versions other than "
            f"{version_label.removeprefix('version ')}",
            expected="rows in the journal",
            next="choose an earlier time: --since 30d",
        )
    return result


def _make_slice_sort_key(slice_total: tuple[tuple[str, str], Any]) -> tuple[str, tuple[float, str]]:
    name, value = slice_total[0]
    return name, natural_sort_key(value)


@contextmanager
def open_csv(path: Path | None) -> Iterator[Callable[[ReplayChunk], None]]:
    """Yield a function that writes chunks to a CSV file; it does nothing without a path.

    The file is written atomically: it is complete or absent.

    Raises
    ------
    DataError
        If the file exists already.
    """
    if path is None:
        yield lambda chunk: None
        return
    if path.exists():
        raise DataError(f"{path} already exists", next="move it away, or name another file")
    with (
        atomic_write(path) as temporary_path,
        temporary_path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)

        def write_chunk(chunk: ReplayChunk) -> None:
            rows = chunk.to_rows()
            if not file.tell():
                writer.writerow(rows[0])
            writer.writerows(row.values() for row in rows)

        yield write_chunk


def _replay_chunk(
    rows: list[dict[str, Any]], scorer: Any, features: list[str], version_label: str
) -> ReplayChunk:
    decision_rule = scorer.decision_rule
    original_scores = np.array(
        [_read_journaled_scores(row, decision_rule, version_label) for row in rows]
    )
    for row in rows:
        if missing_fields := [name for name in features if name not in row["inputs"]]:
            raise ContractError(
                f"{version_label} reads {', '.join(missing_fields)}, which row {row['id']} "
                f"of version {row['version']} "
                "does not have",
                expected="rows with all fields that the version reads",
                next="choose a later --since, or a version with the same contract; "
                "journal.redacted_columns omits columns",
            )
    replayed = scorer.predict_many(
        [{name: row["inputs"][name] for name in features} for row in rows]
    )
    replayed_scores = np.array([prediction.scores for prediction in replayed])
    predictions = [prediction.prediction for prediction in replayed]
    is_changed = decision_rule.changed_predictions([row["prediction"] for row in rows], predictions)
    return ReplayChunk(
        rows, predictions, decision_rule.score_change(original_scores, replayed_scores), is_changed
    )


def _read_journaled_scores(
    row: dict[str, Any], decision_rule: DecisionRule, version_label: str
) -> list[float]:
    classes = [str(label) for label in decision_rule.classes]
    probabilities = row["probabilities"]
    if sorted(probabilities or []) != sorted(classes):
        raise ContractError(
            f"{version_label} predicts {', '.join(classes) or 'a number'}, version "
            f"{row['version']} predicted "
            f"{', '.join(probabilities or []) or 'a number'}",
            expected="versions with the same classes",
            next="choose a later --since, or a version with the same contract",
        )
    return [probabilities[name] for name in classes] if probabilities else [row["prediction"]]
