"""Load and verify a version for service: one behind an alias, or an exported one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from modelbook.contract import Contract
from modelbook.errors import ReproductionError, ServingError
from modelbook.registry import exports
from modelbook.registry.aliases import (
    CHAMPION,
    RegisteredVersion,
    find_version,
    read_aliases,
    read_known_aliases,
)
from modelbook.registry.location import is_embedded
from modelbook.scoring import RowPrediction, loading
from modelbook.scoring.compiled_scorer import TOLERANCE
from modelbook.serving.schemas import OutcomeReader, RowReader

EXPORT_VARIABLE = "MODELBOOK_SERVING_FROM"  # passes the export's address to workers

MAX_ALIAS_AGE_SECONDS = 60.0  # the follower looks every few seconds
# Safe to cache: an export's address contains its digest, so its content never changes.
open_export_cached = lru_cache(exports.open_export)


def find_served_versions(root: Path, book: str) -> dict[str, RegisteredVersion]:
    """Return the versions to serve, by alias: as ``registry.follower`` has last read them.

    Raises
    ------
    StoreError
        If the store or the export cannot be read.
    """
    if address := os.environ.get(EXPORT_VARIABLE):
        return {CHAMPION: open_export_cached(root, address)}
    known = read_known_aliases(root, book)
    return known.versions if known else read_aliases(root, book)


def find_registry_problem(root: Path, book: str) -> str:
    """Return why the aliases may be out of date; empty if they are not."""
    known = read_known_aliases(root, book)
    if os.environ.get(EXPORT_VARIABLE) or known is None or known.is_current:
        return ""
    if (
        not known.problem
        and not is_embedded(root)
        and time.time() - known.checked_at > MAX_ALIAS_AGE_SECONDS
    ):
        checked_at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(known.checked_at))
        return f"the registry was last read at {checked_at} UTC"
    return known.problem


GOLDEN_FILE = "scorer/golden.json"


@dataclass(frozen=True)
class ServedModel:
    """A loaded model version.

    Attributes
    ----------
    row_reader : RowReader
        Validates requests.
    scorer : CompiledScorer or PipelineScorer
        Computes the predictions.
    golden_rows : int
        Golden rows on which the scorer reproduced the registered model's predictions.
    """

    number: int
    name: str
    contract: Contract
    row_reader: RowReader
    outcome_reader: OutcomeReader
    scorer: Any
    golden_rows: int
    typical_row: dict[str, Any]
    reference_histograms: dict[str, Any]
    tags: dict[str, str]
    loaded_at: float = field(default_factory=time.time)

    @cached_property
    def classes(self) -> list[str]:
        """Class labels, in the order of the probabilities."""
        return [str(label) for label in self.scorer.decision_rule.classes]

    def label_probabilities(self, probabilities: Sequence[float] | None) -> dict[str, float] | None:
        """Return probabilities by class; None for a regression."""
        return None if probabilities is None else dict(zip(self.classes, probabilities))

    def describe(self) -> dict[str, Any]:
        """Return the metadata for ``GET /model``."""
        proof = self.scorer.proof
        return {
            "model": self.name,
            "model_version": self.number,
            "title": self.contract.title,
            "question": self.contract.question,
            "task": self.contract.task,
            "target": self.contract.label(self.contract.target),
            "threshold": self.scorer.decision_rule.threshold,
            "family": self.tags.get("model", ""),
            "commit": self.tags.get("commit", ""),
            "data_fingerprint": self.tags.get("fingerprint", ""),
            "digest": self.tags.get("digest", ""),
            "loaded_at": self.loaded_at,
            "golden_rows": self.golden_rows,
            "scorer": {
                "compiled": self.scorer.is_compiled,
                "name": self.scorer.name,
                "proof": str(proof) if proof else None,
                "reason": None
                if self.scorer.is_compiled
                else self.tags.get("scorer", "").partition(": ")[2],
            },
        }


def load_model(version: RegisteredVersion, max_rows: int) -> ServedModel:
    """Load a version, verify its digest and check its predictions on the golden rows.

    Parameters
    ----------
    max_rows : int
        Maximum number of rows in one request.

    Raises
    ------
    StoreError
        If its files differ from the registered ones.
    ReproductionError
        If it does not reproduce the registered model's predictions on the golden rows.
    """
    version.verify_files()
    contract = Contract.load(version.artifact_folder / "contract.yaml")
    golden = json.loads((version.artifact_folder / GOLDEN_FILE).read_text(encoding="utf-8"))
    with version.explain_unpickling():
        scorer = loading.load_scorer(version.artifact_folder, contract)
    largest_difference = max(
        _score_difference(prediction, expected_scores)
        for prediction, expected_scores in zip(
            scorer.predict_many(golden["rows"]), golden["numbers"]
        )
    )
    if not largest_difference <= TOLERANCE:
        raise ReproductionError(
            (
                f"version {version.number} of {version.name} differs by {largest_difference:g} "
                "on its golden rows"
            ),
            expected=f"the registered model's predictions within {TOLERANCE:g}",
            next="check whether packages have changed since it was registered",
        )
    row_reader, outcome_reader = (
        RowReader(contract, golden["typical"], max_rows),
        OutcomeReader(contract, scorer.decision_rule),
    )
    return ServedModel(
        version.number,
        version.name,
        contract,
        row_reader,
        outcome_reader,
        scorer,
        len(golden["rows"]),
        golden["typical"],
        golden["reference"],
        version.tags,
    )


def load_champion(root: Path, book: str) -> ServedModel:
    """Load and verify the champion.

    Raises
    ------
    ServingError
        If there is no champion; see also ``load_model``.
    """
    return load_model(require_champion(root, book), max_rows=1)


def require_champion(root: Path, book: str) -> RegisteredVersion:
    """Return the version with the alias ``champion``.

    Raises
    ------
    ServingError
        If there is no champion.
    """
    champion = read_aliases(root, book).get(CHAMPION)
    if champion is None:
        raise ServingError(
            f"no version of {book!r} has the alias champion",
            expected="a version that the gate has promoted",
            next="build the pipeline: modelbook build; if the gate held, see the deploy report",
        )
    return champion


def load_version(root: Path, book: str, version: int) -> ServedModel:
    """Load and verify a version by its number.

    Raises
    ------
    ServingError
        If there is no such version; see also ``load_model``.
    """
    registered = find_version(root, book, version)
    if registered is None:
        raise ServingError(
            f"{book} has no version {version}",
            expected="a version that finalize has registered",
            next="list the versions: modelbook history, or modelbook runs",
        )
    return load_model(registered, max_rows=1)


def _score_difference(prediction: RowPrediction, expected_scores: list[float]) -> float:
    if prediction.probabilities is None:
        return abs(prediction.prediction - expected_scores[0]) / max(1.0, abs(expected_scores[0]))
    return max(
        abs(score - expected_score)
        for score, expected_score in zip(prediction.probabilities, expected_scores, strict=True)
    )
