"""The gate of an import: this project's own rows decide, if there are enough of them.

The source's gate evaluated a version on the source's rows. This gate evaluates it on rows of this
project that neither it nor the champion was fitted on, with the limits of the stage deploy. The
rows are predictions of the champion with known outcomes that are later than both versions.
Otherwise they are the champion's holdout, or that of the project's table, without rows that the
version trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.config import Deploy
from modelbook.contract import Contract
from modelbook.dataset.split_strategy import holdout_mask
from modelbook.evaluation import business_value, consequences, fairness, metrics_ci
from modelbook.formatting import format_count
from modelbook.gate import HOLD, Decision, decide, gather_evidence
from modelbook.journal import Journal
from modelbook.monitoring import batch_sources
from modelbook.registry import history, versions
from modelbook.registry.champion_comparison import NO_SCORES, are_comparable, load_first_champion
from modelbook.registry.history import HistoryEntry
from modelbook.registry.versions import MADE_AT_TAG, ModelVersion
from modelbook.scoring import latency
from modelbook.stage.project import NO_COMMIT
from modelbook.tasks.base import Task
from modelbook.tasks.scored_rows import ScoredRows


@dataclass(frozen=True)
class SharedRows:
    """Rows of this project that neither version was fitted on, scored by both.

    Attributes
    ----------
    contract : Contract
        The candidate's; for rows of the journal, restricted to their columns.
    champion : ScoredRows
        Empty without a champion.
    pipeline : str
        The pipeline that was not fitted on the rows: ``evaluated``, or ``model``.
    selection : str
        Description of the rows.
    """

    contract: Contract
    rows: pd.DataFrame
    candidate: ScoredRows
    champion: ScoredRows
    pipeline: str
    selection: str

    @property
    def paired_candidate(self) -> ScoredRows:
        """The candidate's scores, where the champion has any."""
        return self.candidate if len(self.champion) else NO_SCORES

    def is_unseen_by(self, version: ModelVersion) -> pd.Series:
        """Mask of the rows that another version was not fitted on."""
        if self.pipeline == "model":  # later than any version that has been champion
            return pd.Series(True, index=self.rows.index)
        return _is_unseen(version, self.rows)


@dataclass(frozen=True)
class ImportDecision:
    """The gate's decision about an imported version, None where there are too few rows.

    Attributes
    ----------
    selection : str
        Description of the rows, or the reason why there is no decision.
    entry : HistoryEntry or None
        The decision in this project's history.
    """

    decision: Decision | None
    selection: str
    entry: HistoryEntry | None = None

    @property
    def is_hold(self) -> bool:
        return self.decision is not None and self.decision.action == HOLD

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain data."""
        return {
            "action": self.decision.action if self.decision else None,
            "selection": self.selection,
            "criteria": self.decision.to_records() if self.decision else [],
            "entry": self.entry.number if self.entry else None,
        }


def evaluate_import(
    root: Path, imported: HistoryEntry, params: Deploy, journal: Journal | None, commit: str
) -> ImportDecision:
    """Evaluate an imported version on this project's rows, and record the decision.

    Parameters
    ----------
    imported : HistoryEntry
        The entry about the import.
    params : Deploy
        The limits of this project.
    journal : Journal or None
        This project's journal, if there is one.

    Raises
    ------
    PromotionError
        When another command has moved the alias champion meanwhile.
    """
    assert imported.version is not None
    candidate = versions.get_version(root, imported.model, imported.version)
    champion = versions.get_champion(root, imported.model)
    if champion is not None and champion.number == candidate.number:
        return ImportDecision(None, "It is the champion already.")
    shared = _select_rows(root, candidate, champion, params, journal)
    if shared is None:
        return ImportDecision(
            None, "This project has too few rows that no version was fitted on: no decision here."
        )
    decision = _decide(root, candidate, champion, shared, params)
    names = ("source", "source_version", "source_hash", "fingerprint", "commit")
    evidence = {name: imported.evidence.get(name) for name in names}
    evidence |= {
        "export_uri": imported.export_uri,
        "criteria": decision.to_records(),
        "gate": "import",
        "rows": len(shared.rows),
        "selection": shared.selection,
    }
    entry = history.record_decision(
        root,
        imported.model,
        decision.action,
        candidate.number,
        f"{decision.explain()} {shared.selection}",
        evidence,
        commit,
        expected_champion=champion.number if champion else None,
    )
    return ImportDecision(decision, shared.selection, entry)


def _select_rows(
    root: Path,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    params: Deploy,
    journal: Journal | None,
) -> SharedRows | None:
    """Return the journal's rows or the holdout's: the first with ``paired_rows``, else the larger.

    None if neither has enough entities.
    """
    readers: list[Callable[[], SharedRows | None]] = [
        lambda: _score_journal(journal, candidate, champion),
        lambda: _score_holdout(root, candidate, champion),
    ]
    candidates: list[SharedRows] = []
    for read_rows in readers:
        shared = read_rows()
        if shared is not None and shared.candidate.has_enough_entities():
            candidates.append(shared)
            if len(shared.rows) >= params.paired_rows:
                return shared
    return max(candidates, key=lambda shared: len(shared.rows), default=None)


def _score_journal(
    journal: Journal | None, candidate: ModelVersion, champion: ModelVersion | None
) -> SharedRows | None:
    """Score the champion's predictions with known outcomes, made after the candidate was."""
    made_at = candidate.tags.get(MADE_AT_TAG)
    if journal is None or champion is None or made_at is None:
        return None
    rows = [
        row
        for row in journal.read_predictions(datetime.fromisoformat(made_at).timestamp())
        if row["version"] == champion.number and row["outcome"] is not None
    ]
    features = set(candidate.contract.feature_names)
    if (
        not rows
        or not features <= set(rows[0]["inputs"])
        or not are_comparable(candidate, champion)
    ):
        return None
    table, contract = batch_sources.tabulate_journaled_rows(rows, candidate.contract)
    task = tasks.get_task(contract)
    scored = task.score_rows(candidate.load_pipeline("model"), table)
    champion_scores = batch_sources.read_journaled_scores(rows, champion.contract)
    return SharedRows(
        contract,
        table,
        scored,
        _replace_scores(scored, champion_scores),
        "model",
        f"{format_count(len(rows), 'prediction')} of the champion with known outcomes, later than "
        "the version.",
    )


def _score_holdout(
    root: Path, candidate: ModelVersion, champion: ModelVersion | None
) -> SharedRows | None:
    """Score the rows of this project's holdout that the candidate's split holds out, too."""
    contract = candidate.contract
    table = _read_holdout(root, candidate.name, champion)
    if table is None or not are_comparable(candidate, champion):
        return None
    if not _list_needed_columns(candidate, champion) <= set(table):
        return None
    is_unseen = _is_unseen(candidate, table)
    has_scores = champion is not None and _has_reference(champion)
    if champion is not None and not has_scores:
        is_unseen &= _is_unseen(champion, table)
    rows = table[is_unseen].reset_index(drop=True)
    if rows.empty:
        return None
    task = tasks.get_task(contract)
    scored = task.score_rows(candidate.load_evaluated_pipeline(), rows)
    if champion is None:
        champion_rows = NO_SCORES
    elif has_scores:
        champion_rows = _replace_scores(scored, task.scores_from_columns(rows))
    else:
        champion_rows = _replace_scores(scored, _predict_scores(champion, "evaluated", rows))
    return SharedRows(
        contract,
        rows,
        scored,
        champion_rows,
        "evaluated",
        f"{format_count(len(rows), 'holdout row')} of this project that no version was fitted on.",
    )


def _list_needed_columns(candidate: ModelVersion, champion: ModelVersion | None) -> set[str]:
    contract = candidate.contract
    sensitive = contract.columns_with_role("sensitive")
    needed = {contract.target, *contract.feature_names, *contract.slices, *sensitive}
    needed |= {contract.entity} if contract.entity else set()
    return needed | set(champion.contract.feature_names if champion else ())


def _predict_scores(version: ModelVersion, pipeline: str, rows: pd.DataFrame) -> np.ndarray:
    """Predict the scores of rows by one of a version's fitted pipelines."""
    task = tasks.get_task(version.contract)
    features = version.contract.select_features(rows)
    return task.predict_scores(version.load_pipeline(pipeline), features)


def _replace_scores(scored: ScoredRows, scores: np.ndarray) -> ScoredRows:
    return ScoredRows.from_arrays(scored.outcome, scores, scored.entity)


def _read_holdout(root: Path, book: str, champion: ModelVersion | None) -> pd.DataFrame | None:
    """Read the champion's holdout with its scores; else the holdout of the project's table."""
    if champion is not None and _has_reference(champion):
        return champion.reference
    path = root / "data" / book / "holdout.parquet"
    return pd.read_parquet(path) if path.is_file() else None


def _has_reference(version: ModelVersion) -> bool:
    """Whether a version has its holdout; a version that was exported without rows has none."""
    return (version.artifact_folder / "reference.parquet").is_file()


def _is_unseen(version: ModelVersion, table: pd.DataFrame) -> pd.Series:
    """Mask of rows that a version was not fitted on.

    A split by hash selects the same holdout entities in any table. Where an entity may be in both
    train and holdout rows, later rows are unseen, too.
    """
    contract, metrics = version.contract, version.metrics
    rows = contract.conform(table)
    is_unseen = holdout_mask(metrics.get("split_rule"), rows, contract)
    has_periods = contract.time in rows and metrics.get("periods")
    if has_periods and metrics["split"] != "group":
        is_unseen |= rows[contract.time] > max(metrics["periods"])
    return is_unseen


def _decide(
    root: Path,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    shared: SharedRows,
    params: Deploy,
) -> Decision:
    """Collect the evidence on this project's rows as the stage deploy does, and decide."""
    task = tasks.get_task(shared.contract)
    options: dict[str, Any] = {"resamples": params.resamples, "seed": params.seed}
    pair = (shared.paired_candidate, shared.champion)
    evidence = gather_evidence(
        task,
        _measure_candidate(task, candidate, shared, params),
        candidate.number,
        champion.number if champion else None,
        len(shared.champion),
        metrics_ci.compare_with_champion(task, *pair, min_rows=params.paired_rows, **options),
        metrics_ci.compare_slices_with_champion(
            task, *pair, shared.rows, params.max_slice_drop, min_rows=params.slice_rows, **options
        ),
        latency.measure_latency_and_size(candidate.artifact_folder, candidate.contract),
        first_champion=_compare_with_first(root, task, candidate, champion, shared, params),
        consequences=consequences.compare_consequences(
            task,
            task.costs_from_parameters(candidate.metrics["business_value"]["costs"]),
            (pair[0], candidate.metrics["threshold"]),
            (pair[1], champion.metrics["threshold"] if champion else None),
            min_rows=params.paired_rows,
            **options,
        ),
        commit=candidate.tags.get("commit", NO_COMMIT),
    )
    return decide(evidence, params, task.resolve_min_quality(params.min_quality))


def _measure_candidate(
    task: Task, candidate: ModelVersion, shared: SharedRows, params: Deploy
) -> dict[str, Any]:
    """Return the candidate's metrics, with those that this project's rows measure replaced."""
    metrics = candidate.metrics
    threshold = metrics["threshold"]
    scored = shared.candidate
    options: dict[str, Any] = {"resamples": params.resamples, "seed": params.seed}
    baseline_score = metrics.get("baseline_score")
    evaluation = metrics_ci.evaluate_metrics(
        scored, task.metric_functions(threshold), baseline_score=baseline_score, **options
    )
    gaps = fairness.measure_fairness_gaps(
        task,
        scored,
        shared.rows,
        threshold,
        business_value.get_decision_threshold(metrics),
        min_rows=params.slice_rows,
        **options,
    )
    return metrics | {
        "evaluation": evaluation.to_dict("records"),
        "gain": metrics_ci.compute_gain_over_baseline(
            task, scored, baseline_score=baseline_score, **options
        ),
        "gaps": gaps.to_dict("records"),
    }


def _compare_with_first(
    root: Path,
    task: Task,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    shared: SharedRows,
    params: Deploy,
) -> tuple[int, pd.DataFrame] | None:
    """Compare with this project's first champion, on rows that it was not fitted on."""
    first_champion = load_first_champion(root, candidate, champion)
    if first_champion is None or not are_comparable(candidate, first_champion):
        return None
    is_unseen = shared.is_unseen_by(first_champion)
    scored = shared.candidate.select(is_unseen)
    first_champion_rows = scored
    if is_unseen.any():
        scores = _predict_scores(first_champion, shared.pipeline, shared.rows[is_unseen])
        first_champion_rows = _replace_scores(scored, scores)
    return first_champion.number, metrics_ci.compare_with_champion(
        task,
        scored,
        first_champion_rows,
        min_rows=params.paired_rows,
        resamples=params.resamples,
        seed=params.seed,
    )
