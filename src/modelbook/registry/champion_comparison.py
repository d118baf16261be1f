"""Candidate and champion scored on the same rows, which neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.contract import Contract
from modelbook.registry import history, libraries, versions
from modelbook.registry.versions import ModelVersion
from modelbook.tasks.base import Task
from modelbook.tasks.scored_rows import ScoredRows


@dataclass(frozen=True)
class PairedScores:
    """The same rows scored by both versions.

    Empty without another version as champion, without shared unseen rows, and where the versions
    are not comparable.

    Attributes
    ----------
    row_selection : str
        Description of the rows, in a sentence; without rows, why there are none.
    """

    candidate: ScoredRows
    champion: ScoredRows
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    row_selection: str = ""

    def __len__(self) -> int:
        return len(self.candidate)


NO_SCORES = ScoredRows(np.array([], dtype=int), np.array([]), np.array([]))
NO_CHAMPION = PairedScores(
    NO_SCORES, NO_SCORES, row_selection="There is no champion to compare this version with."
)
NO_SHARED_ROWS = PairedScores(
    NO_SCORES,
    NO_SCORES,
    row_selection="No holdout row can be scored by both versions without one of them having been "
    "fitted on it, so they are not compared.",
)
INCOMPARABLE = PairedScores(
    NO_SCORES,
    NO_SCORES,
    row_selection="The versions differ in target, classes or entity column, or the candidate's "
    "holdout lacks a feature of the champion, so they are not compared.",
)


def are_comparable(candidate: ModelVersion, champion: ModelVersion | None) -> bool:
    """Whether both versions have the same target, classes and entity column."""
    if champion is None:
        return True
    keys = [
        (version.contract.target, version.contract.classes, version.contract.entity)
        for version in (candidate, champion)
    ]
    return keys[0] == keys[1]


def load_first_champion(
    root: Path, candidate: ModelVersion, champion: ModelVersion | None
) -> ModelVersion | None:
    """The book's first champion, if it is neither champion nor candidate."""
    number = history.find_first_champion(history.read_history(root, candidate.name))
    if champion is None or number in (None, champion.number, candidate.number):
        return None
    return versions.get_version(root, candidate.name, number)


def score_on_shared_rows(
    candidate: ModelVersion, champion: ModelVersion | None, min_rows: int = 1
) -> PairedScores:
    """Score both versions on those of the candidate's holdout rows that the champion has not seen.

    The champion in service was refit on all of its rows, so the pipeline evaluated on its holdout
    is used instead, restricted to entities (or rows) that it was not fitted on. If the candidate
    has later periods than the champion, and at least ``min_rows`` rows of them, only these are
    used: they are closest to what the service sees now. Where the installed libraries cannot load
    the champion's pipeline, the scores that were registered with its holdout rows are used.
    """
    if champion is None:
        return NO_CHAMPION
    if candidate.is_same_version(champion):
        return PairedScores(
            NO_SCORES,
            NO_SCORES,
            row_selection=f"Version {champion.number} is the champion itself: there is no other "
            "version to compare it with.",
        )
    contract, rows = candidate.contract, candidate.reference
    has_features = set(champion.contract.feature_names) <= set(rows.columns)
    if not has_features or not are_comparable(candidate, champion):
        return INCOMPARABLE
    is_later = _is_later_period(rows, contract, champion)
    is_unseen = _is_unseen_by_champion(rows, is_later, contract, candidate, champion)
    is_loadable = not libraries.find_differences(champion.tags)
    if not is_loadable:
        is_unseen &= _hash_rows(rows, champion).isin(_hash_rows(champion.reference, champion))
    is_newest = is_unseen & is_later
    is_selected = is_newest if is_newest.sum() >= max(min_rows, 1) else is_unseen
    selection_text = (
        _describe_selection(rows, contract, is_newest, is_unseen, min_rows)
        if is_loadable
        else _describe_registered_rows(int(is_unseen.sum()))
    )
    rows = rows[is_selected].reset_index(drop=True)
    if len(rows) < min_rows:
        selection_text += f" A comparison needs at least {min_rows:,} (paired_rows)."
    if rows.empty:
        return NO_SHARED_ROWS
    outcome, entity = contract.encode_target(rows), contract.entity_ids(rows)
    task = tasks.get_task(contract)
    champion_scores = (
        task.predict_scores(
            champion.load_evaluated_pipeline(), champion.contract.select_features(rows)
        )
        if is_loadable
        else _find_registered_scores(rows, champion, task)
    )
    return PairedScores(
        ScoredRows.from_arrays(outcome, task.scores_from_columns(rows), entity),
        ScoredRows.from_arrays(outcome, champion_scores, entity),
        rows,
        selection_text,
    )


def _hash_rows(rows: pd.DataFrame, champion: ModelVersion) -> pd.Series:
    return champion.contract.hash_features(rows)


def _find_registered_scores(rows: pd.DataFrame, champion: ModelVersion, task: Task) -> np.ndarray:
    """Scores of rows of the champion's holdout, as they were registered with it."""
    hashes = _hash_rows(champion.reference, champion).drop_duplicates()
    distinct_rows = champion.reference.loc[hashes.index]
    positions = pd.Index(hashes).get_indexer(pd.Index(_hash_rows(rows, champion)))
    return task.scores_from_columns(distinct_rows)[positions]


def _is_later_period(rows: pd.DataFrame, contract: Contract, champion: ModelVersion) -> pd.Series:
    """Mask of rows from later periods than any the champion was trained on."""
    periods = champion.metrics.get("periods")
    if not periods or not contract.time or contract.time != champion.contract.time:
        return pd.Series(False, index=rows.index)
    return rows[contract.time] > max(periods)


def _is_unseen_by_champion(
    rows: pd.DataFrame,
    is_later: pd.Series,
    contract: Contract,
    candidate: ModelVersion,
    champion: ModelVersion,
) -> pd.Series:
    """Mask of the candidate's holdout rows that the champion was not fitted on."""
    entities = contract.entity_ids(rows)
    in_champion_holdout = entities.isin(set(contract.entity_ids(champion.reference)))
    if champion.metrics["split"] != "group":  # an entity may have been on both sides
        row_hashes, champion_row_hashes = (
            champion.contract.hash_features(frame) for frame in (rows, champion.reference)
        )
        return (in_champion_holdout & row_hashes.isin(set(champion_row_hashes))) | is_later
    if candidate.metrics["split"] != "group":  # the entity may be in its train rows
        return in_champion_holdout
    # An entity without earlier rows is new to the champion.
    return in_champion_holdout | ~entities.isin(set(entities[~is_later]))


def _describe_selection(
    rows: pd.DataFrame,
    contract: Contract,
    is_newest: pd.Series,
    is_unseen: pd.Series,
    min_rows: int,
) -> str:
    n_newest = int(is_newest.sum())
    n_unseen = int(is_unseen.sum())
    all_unseen = (
        f"All {n_unseen:,} rows that neither version was fitted on before its refit on all rows"
    )
    if not n_newest:
        return f"{all_unseen}."
    if n_newest < min_rows:
        return (
            f"{all_unseen}; {n_newest:,} of them are later than the champion's training data, "
            f"fewer than the {min_rows:,} needed to compare on these alone."
        )
    time_label = contract.label(contract.time or "")
    first, last = rows.loc[is_newest, contract.time].agg(["min", "max"])
    span = f"{first:.15g}" if first == last else f"{first:.15g} to {last:.15g}"
    return f"The {n_newest:,} rows of {time_label} {span}, later than the champion's training data."


def _describe_registered_rows(n_rows: int) -> str:
    return (
        f"The {n_rows:,} rows of both holdouts that have the champion's registered scores: the "
        "installed libraries cannot load its pipeline."
    )
