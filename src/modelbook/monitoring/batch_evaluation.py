"""Evaluate one batch against the reference: violations, drift, performance and duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.config import Monitor
from modelbook.contract import Contract
from modelbook.contract.parsing import may_contain_text
from modelbook.evaluation import metrics_ci
from modelbook.evaluation.metrics_ci import evaluate_metrics
from modelbook.formatting import format_code
from modelbook.monitoring import drift, duplicates
from modelbook.monitoring.change_split import ChangeSplit
from modelbook.monitoring.degenerate_columns import DegenerateColumn, find_degenerate_columns
from modelbook.monitoring.missing_rate_cause import MissingRateCause, find_missing_rate_cause
from modelbook.monitoring.reference_matching import MatchedReference, match_reference
from modelbook.scoring.drift_measure import NOT_MEASURED, DriftDistance, EffectiveFractions
from modelbook.tasks.base import Task
from modelbook.tasks.conformal_prediction import COVERAGE, ConformalPrediction
from modelbook.tasks.scored_rows import ScoredRows

MAX_EVALUATED_ROWS = (
    20_000  # rows for metrics and intervals; 1,000 resamples of a million rows take 8 GB
)
SEGMENT_FACTOR = 1.5  # a named group has at least this multiple of the distance of all rows
MIN_SLICE_ROWS = 100  # rows with outcomes, in batch and reference


@dataclass(frozen=True)
class BatchEvaluation:
    """Evaluation of one batch against the reference.

    Attributes
    ----------
    rows : int
        Number of rows in the batch.
    violations : DataFrame
        Contract violations in the batch.
    feature_drift : DataFrame
        Result of ``drift.measure_feature_drift``; empty if there are too few rows.
    drifted_importance_share : float
        Importance-weighted share of drifted columns, 0 to 1.
    output_drift : DataFrame
        Result of ``drift.measure_drift`` for the rows ``score`` (predictions) and ``outcome``;
        empty if there are too few rows.
    metrics : DataFrame
        Result of ``evaluate_metrics`` on the rows with outcomes, with the column ``reference``;
        empty until there are enough of them.
    slice_metrics : DataFrame
        The headline metric by slice, with the column ``reference`` for its reference value.
    estimated_metric : dict or None
        Headline metric estimated from the predictions alone, as a row of ``metrics``; None if the
        task has no such estimate.
    duplicates : DuplicateShare
        Share of rows that repeat an earlier row in every feature.
    sampled_from : int or None
        Number of rows that the evaluated rows were sampled from; None if all were evaluated.
    degenerate_columns : list of DegenerateColumn
        Inputs that are empty, or have one value only, though the reference has more.
    conformal : ConformalPrediction or None
        The champion's intervals or sets.
    matched : MatchedReference or None
        The matched holdout: reference rows that the batch was compared with; None if it was not.
    change : ChangeSplit or None
        Change of the headline metric by cause; None until there are enough outcomes.
    cost_change : float
        Mean cost of the batch's decisions minus that of the matched holdout's; NaN if not known.
    drift_segment : str
        The group in which the most drifted column has drifted most; empty if no group stands out.
    missing_rate_cause : MissingRateCause or None
        The group whose share accounts for most of the change of that column's missing rate.
    is_period : bool
        Whether the batch is the rows of one period of the contract, and named after it.
    """

    task: Task
    batch: str
    rows: int
    violations: pd.DataFrame
    feature_drift: pd.DataFrame
    drifted_importance_share: float
    output_drift: pd.DataFrame
    metrics: pd.DataFrame
    slice_metrics: pd.DataFrame
    estimated_metric: dict[str, Any] | None = None
    duplicates: duplicates.DuplicateShare = duplicates.NOT_MEASURED
    sampled_from: int | None = None
    degenerate_columns: list[DegenerateColumn] = field(default_factory=list)
    conformal: ConformalPrediction | None = None
    matched: MatchedReference | None = None
    change: ChangeSplit | None = None
    cost_change: float = float("nan")
    drift_segment: str = ""
    missing_rate_cause: MissingRateCause | None = None
    is_period: bool = False

    def measure_output_distance(self, output: str) -> DriftDistance:
        """Return the drift distance of ``score`` or ``outcome``."""
        row = _find_row(self.output_drift, "column", output)
        return NOT_MEASURED if row is None else DriftDistance(*map(float, row[["score", "chance"]]))

    def summarize_rows(self) -> dict[str, float]:
        """Return the numbers of all rows: size, violations, duplicates and drift."""
        numbers = {
            "rows": self.rows,
            "violations": len(self.violations),
            "duplicate_share": self.duplicates.share,
            "drifted_share": self.drifted_importance_share,
        }
        return numbers | ({"sampled_from": self.sampled_from} if self.sampled_from else {})

    def find_metric(self, name: str) -> Any:
        """Return the row of ``metrics`` with this name, or None."""
        return _find_row(self.metrics, "metric", name)

    def find_cause(self, column: str) -> MissingRateCause | None:
        """Return why a column's missing rate changed; known only of the most drifted column."""
        is_most_drifted = column == self.feature_drift["column"].iloc[0]
        return self.missing_rate_cause if is_most_drifted else None


def _find_row(table: pd.DataFrame, column: str, name: str) -> Any:
    rows = table[table[column] == name] if len(table) else table
    return None if rows.empty else rows.iloc[0]


def evaluate_batches(
    batches: dict[str, pd.DataFrame],
    model: Any,
    reference: pd.DataFrame,
    contract: Contract,
    *,
    metrics: dict[str, Any],
    params: Monitor,
    on_progress: Callable[[str, int, int], None],
    training_entities: pd.Series | None = None,
) -> list[BatchEvaluation]:
    """Evaluate each batch; ``metrics`` are the holdout metrics stored with the model version."""
    evaluations = []
    task = tasks.get_task(contract)
    for number, (name, batch) in enumerate(batches.items()):
        on_progress(f"evaluating batch {name}, {len(batch):,} rows", number, len(batches))
        violations = _find_violations(batch, contract)
        if batch.empty or set(contract.input_names) - set(batch.columns):
            evaluations.append(_without_scores(name, batch, contract, violations))
            continue
        readable = _blank_unreadable_values(batch, contract, violations)
        scores = task.scores_from_predictions(model.predict(contract.select_inputs(readable)))
        evaluations.append(
            evaluate_batch(
                name,
                readable,
                scores,
                reference,
                contract,
                metrics=metrics,
                params=params,
                violations=violations,
                training_entities=training_entities,
            )
        )
    return evaluations


def evaluate_batch(
    batch_name: str,
    batch: pd.DataFrame,
    scores: np.ndarray,
    reference: pd.DataFrame,
    contract: Contract,
    *,
    metrics: dict[str, Any],
    params: Monitor,
    violations: pd.DataFrame | None = None,
    training_entities: pd.Series | None = None,
) -> BatchEvaluation:
    """Evaluate one batch against the comparable rows of the reference.

    Parameters
    ----------
    scores : ndarray
        The champion's scores of the batch, as from ``Task.scores_from_predictions``.
    reference : DataFrame
        Holdout rows with their scores.
    metrics : dict
        Holdout metrics stored with the model version: ``importance`` of each column, ``threshold``
        of a binary classifier or None, and, where it has them, ``prediction_interval`` and
        ``business_value``, which has the costs of the decisions.
    violations : DataFrame, optional
        Contract violations, if they have been computed already.
    training_entities : Series, optional
        The entities that the champion was fitted on.
    """
    violations = _find_violations(batch, contract) if violations is None else violations
    if len(batch) < params.min_rows:
        return _without_scores(batch_name, batch, contract, violations)
    task = tasks.get_task(contract)
    threshold = metrics["threshold"]
    matched = match_reference(reference, batch, contract, params)
    matched_scored = task.restore_scored_rows(matched.rows)
    effective_fractions = drift.compute_effective_fractions(matched.rows, batch, contract)
    feature_drift = drift.measure_feature_drift(
        matched.rows,
        batch,
        contract,
        threshold=params.drift_threshold,
        missing_rate_change=params.missing_rate_change,
    )
    drift_segment, missing_rate_cause = _explain_drift(feature_drift, matched.rows, batch, contract)
    evaluation = BatchEvaluation(
        task,
        batch_name,
        len(batch),
        violations,
        feature_drift,
        drift.compute_drifted_importance_share(feature_drift, metrics["importance"]),
        _measure_output_drift(task, batch, scores, matched.rows, effective_fractions, params),
        metrics=pd.DataFrame(),
        slice_metrics=pd.DataFrame(),
        estimated_metric=_estimate_headline_metric(task, scores, matched_scored, threshold),
        duplicates=duplicates.measure_duplicates(batch, matched.rows, contract),
        degenerate_columns=find_degenerate_columns(
            matched.rows, batch, contract, effective_fractions
        ),
        conformal=ConformalPrediction.from_metrics(metrics, contract.classes),
        matched=matched,
        drift_segment=drift_segment,
        missing_rate_cause=missing_rate_cause,
        is_period=_is_period(batch_name, batch, contract),
    )
    evaluable = _select_evaluable_rows(task, batch, scores, violations, params)
    if evaluable is None:
        return evaluation
    rows, scored = evaluable
    return replace(
        evaluation,
        metrics=measure_performance(
            task, scored, matched_scored, threshold, params, conformal=evaluation.conformal
        ),
        slice_metrics=_measure_slices(
            task, (rows, scored), (matched.rows, matched_scored), threshold, params
        ),
        change=_split_change(
            task,
            scored,
            _find_training_entities(rows, contract, training_entities),
            (task.restore_scored_rows(reference), matched_scored),
            threshold,
            params.min_rows,
        ),
        cost_change=_measure_cost_change(task, metrics, scored, matched_scored),
    )


def _measure_output_drift(
    task: Task,
    batch: pd.DataFrame,
    scores: np.ndarray,
    reference: pd.DataFrame,
    effective_fractions: EffectiveFractions,
    params: Monitor,
) -> pd.DataFrame:
    """Measure the drift of predictions and, if all are known, of outcomes."""
    has_all_outcomes = _has_outcome(batch, task.contract).all()
    outcomes = task.contract.encode_target(batch).to_numpy() if has_all_outcomes else float("nan")
    batch_outputs, numeric_columns = task.make_drift_frame(scores, outcomes)
    reference_outputs, _ = task.make_drift_frame(
        task.scores_from_columns(reference), task.contract.encode_target(reference).to_numpy()
    )
    return drift.measure_drift(
        reference_outputs,
        batch_outputs,
        numeric_columns,
        threshold=params.drift_threshold,
        missing_rate_change=1,
        effective_fractions=effective_fractions,
    )


def _find_training_entities(
    rows: pd.DataFrame, contract: Contract, training_entities: pd.Series | None
) -> np.ndarray | None:
    """Return a mask of the rows whose entity is in training; None if that is not known."""
    if training_entities is None or not contract.entity or contract.entity not in rows.columns:
        return None
    return contract.entity_ids(rows).isin(set(training_entities)).to_numpy()


def _compute_headline_metric(task: Task, scored: ScoredRows, threshold: float | None) -> float:
    compute = task.metric_functions(threshold)[task.headline_metric]
    return float(compute(scored.outcome, scored.score, np.ones(len(scored))))


def _split_change(
    task: Task,
    scored: ScoredRows,
    is_in_training: np.ndarray | None,
    holdouts: tuple[ScoredRows, ScoredRows],
    threshold: float | None,
    min_rows: int,
) -> ChangeSplit:
    """Split the change of the headline metric; ``holdouts`` are the whole and the matched one.

    ``is_in_training`` is a mask of the rows whose entity the model was fitted on.
    """
    values = [_compute_headline_metric(task, rows, threshold) for rows in (*holdouts, scored)]
    split = ChangeSplit(task.headline_metric, *values)
    if is_in_training is None:
        return split
    unseen = scored.select(~is_in_training)
    is_measurable = len(unseen) >= min_rows and task.is_evaluable(unseen.outcome)
    return replace(
        split,
        known_entity_share=float(is_in_training.mean()),
        new_entity_metric=_compute_headline_metric(task, unseen, threshold)
        if is_measurable
        else float("nan"),
    )


def _measure_cost_change(
    task: Task, metrics: dict[str, Any], scored: ScoredRows, reference: ScoredRows
) -> float:
    if not metrics.get("business_value"):
        return float("nan")
    costs = task.costs_from_parameters(metrics["business_value"]["costs"])
    batch_cost, reference_cost = (
        costs.compute_row_costs(rows.outcome, task.decide(rows.score, metrics["threshold"])).mean()
        for rows in (scored, reference)
    )
    return float(batch_cost - reference_cost)


def _explain_drift(
    feature_drift: pd.DataFrame, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> tuple[str, MissingRateCause | None]:
    """Find where, and why, the most drifted column has drifted.

    The group in which it has clearly drifted more than in all rows, and the one whose share
    explains the change of its missing rate.
    """
    top = feature_drift.iloc[0]
    if not top["drifted"]:
        return "", None
    arguments = str(top["column"]), reference, batch, contract
    distances = {
        label: distance
        for label, distance in _measure_distances_by_group(*arguments)
        if distance >= SEGMENT_FACTOR * np.fmax(top["score"], 0)
    }
    segment = max(distances, key=lambda label: distances[label], default="")
    return segment, find_missing_rate_cause(*arguments)


def _measure_distances_by_group(
    column: str, reference: pd.DataFrame, batch: pd.DataFrame, contract: Contract
) -> Iterator[tuple[str, float]]:
    """Yield the drift distance of a column by group of the contract's slices."""
    values, batch_values = (
        contract.select_features(rows)[column].reset_index(drop=True) for rows in (reference, batch)
    )
    is_numeric = column in contract.numeric_features
    rows = EffectiveFractions()
    for name in contract.slices:
        if name not in reference.columns or name not in batch.columns or name == column:
            continue
        groups, batch_groups = (table[name].reset_index(drop=True) for table in (reference, batch))
        for value in groups.dropna().unique():
            distance = drift.measure_distance(
                values[groups == value], batch_values[batch_groups == value], is_numeric, rows, 1
            )
            if distance.distance > distance.critical_distance:
                yield contract.label_group(name, format_code(value)), distance.distance


def _select_evaluable_rows(
    task: Task, batch: pd.DataFrame, scores: np.ndarray, violations: pd.DataFrame, params: Monitor
) -> tuple[pd.DataFrame, ScoredRows] | None:
    """Select the rows with outcomes that are fit for evaluation, sampled if there are too many.

    None if there are too few, or metrics are not defined for their outcomes.
    """
    contract = task.contract
    is_selected = _has_outcome(batch, contract) & _is_evaluable(batch, contract, violations)
    positions = np.flatnonzero(is_selected)
    if len(positions) < params.min_rows:
        return None
    if len(positions) > MAX_EVALUATED_ROWS:
        positions = np.sort(
            np.random.default_rng(params.seed).choice(positions, MAX_EVALUATED_ROWS, replace=False)
        )
    rows = batch.iloc[positions]
    scored = ScoredRows.from_arrays(
        contract.encode_target(rows), scores[positions], _encode_entities(rows, contract)
    )
    return (rows, scored) if task.is_evaluable(scored.outcome) else None


def _estimate_headline_metric(
    task: Task, scores: np.ndarray, reference: ScoredRows, threshold: float | None
) -> dict[str, Any] | None:
    """Estimate the headline metric from the scores alone, with its value on the reference."""
    estimate = task.estimate_headline_metric(scores, reference)
    if estimate is None:
        return None
    return {
        "metric": task.headline_metric,
        **estimate._asdict(),
        "reference": _compute_headline_metric(task, reference, threshold),
    }


def _find_violations(batch: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the contract violations of a batch; a missing outcome is not one."""
    violations = contract.find_violations(batch, require_target=False)
    return violations[~((violations["column"] == contract.target) & violations["value"].isna())]


def _blank_unreadable_values(
    batch: pd.DataFrame, contract: Contract, violations: pd.DataFrame
) -> pd.DataFrame:
    """Replace values that cannot be parsed as their column's type by missing values."""
    readable_columns = {}
    for name in set(violations["column"]) & set(contract.input_names) & set(batch.columns):
        values = contract.mask_missing_markers(batch[[name]])[name]
        readable_columns[name] = values.where(contract.columns[name].parse_values(values).notna())
    return batch.assign(**readable_columns)


def _has_outcome(batch: pd.DataFrame, contract: Contract) -> pd.Series:
    """Return a mask of the rows with a valid outcome."""
    if contract.target not in batch.columns:
        return pd.Series(False, index=batch.index)
    values = batch[contract.target]
    return values.notna() & contract.columns[contract.target].find_valid(values)


def _is_evaluable(batch: pd.DataFrame, contract: Contract, violations: pd.DataFrame) -> pd.Series:
    """Return a mask of the rows fit for evaluation.

    They meet the contract, as rows of a service do, and their key has one outcome only.
    """
    is_evaluable = pd.Series(True, index=batch.index)
    is_evaluable.iloc[
        violations.loc[violations["column"].isin(contract.input_names), "row"].dropna().astype(int)
    ] = False
    if contract.key and {*contract.key, contract.target} <= set(batch.columns):
        is_duplicated = (
            batch.duplicated(contract.key, keep=False) & batch[contract.key].notna().all(axis=1)
        ).to_numpy()
        duplicated_rows = batch.assign(outcome_text=batch[contract.target].astype(str)).loc[
            is_duplicated
        ]
        outcome_counts = duplicated_rows.groupby(contract.key)["outcome_text"].transform("nunique")
        is_evaluable.loc[is_duplicated] = (outcome_counts == 1).to_numpy()
    return is_evaluable


def _without_scores(
    name: str, batch: pd.DataFrame, contract: Contract, violations: pd.DataFrame
) -> BatchEvaluation:
    """Return an evaluation with contract violations only, for a batch that cannot be scored."""
    empty = pd.DataFrame()
    return BatchEvaluation(
        tasks.get_task(contract),
        name,
        len(batch),
        violations,
        empty,
        0.0,
        empty,
        empty,
        empty,
        is_period=_is_period(name, batch, contract),
    )


def _is_period(name: str, batch: pd.DataFrame, contract: Contract) -> bool:
    """Whether a batch is named after the only period of its rows."""
    if contract.time not in batch:
        return False
    return set(map(str, contract.row_periods(batch).unique())) == {name}


def measure_performance(
    task: Task,
    scored: ScoredRows,
    reference: ScoredRows,
    threshold: float | None,
    params: Monitor,
    *,
    conformal: ConformalPrediction | None = None,
) -> pd.DataFrame:
    """Compute metrics of the batch with intervals, and of the matched holdout as ``reference``.

    ``reference_low, reference_high`` are the interval of its headline metric, which has an error,
    too.
    """
    metrics = dict(task.metric_functions(threshold))
    if conformal:
        metrics[COVERAGE] = conformal.compute_coverage
    options = {"resamples": params.resamples, "seed": params.seed}
    table = evaluate_metrics(scored, metrics, **options)
    values = evaluate_metrics(reference, metrics, resamples=0, seed=params.seed)
    headline = evaluate_metrics(
        reference, {task.headline_metric: metrics[task.headline_metric]}, **options
    )
    values, headline = values.set_index("metric"), headline.set_index("metric")
    return table.assign(
        reference=table["metric"].map(values["value"]),
        reference_low=table["metric"].map(headline["low"]),
        reference_high=table["metric"].map(headline["high"]),
    )


def _encode_entities(batch: pd.DataFrame, contract: Contract) -> Any:
    """Return an entity code per row; each row with an unknown entity gets a separate code."""
    if contract.entity and contract.entity not in batch.columns:
        return np.arange(len(batch))
    entity_ids = contract.entity_ids(batch)
    codes = (
        pd.factorize(entity_ids)[0]
        if may_contain_text(entity_ids) or entity_ids.isna().any()
        else entity_ids.to_numpy()
    )
    return np.where(entity_ids.isna(), -1 - np.arange(len(batch)), codes)


def _measure_slices(
    task: Task,
    batch: tuple[pd.DataFrame, ScoredRows],
    reference: tuple[pd.DataFrame, ScoredRows],
    threshold: float | None,
    params: Monitor,
) -> pd.DataFrame:
    """Compute the headline metric by slice, with its value in the same slice of the reference.

    Batch and reference are each a table and its scored rows. Empty if one lacks a slice's column.
    """
    if not all({*task.contract.slices} <= {*table.columns} for table, _ in (batch, reference)):
        return pd.DataFrame()
    batch_slices, reference_slices = (
        metrics_ci.evaluate_slices(
            task,
            scored,
            table,
            threshold,
            min_rows=MIN_SLICE_ROWS,
            resamples=params.resamples,
            seed=params.seed,
        ).rename(columns={"value": "group", task.headline_metric: "value"})
        for table, scored in (batch, reference)
    )
    reference_columns = {"value": "reference", "low": "reference_low", "high": "reference_high"}
    reference_slices = reference_slices.rename(columns=reference_columns)
    columns = ["slice", "group", *reference_columns.values()]
    merged = batch_slices.merge(reference_slices[columns], on=["slice", "group"])
    return merged[["slice", "group", "n", "value", "low", "high", *reference_columns.values()]]
