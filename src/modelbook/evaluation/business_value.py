"""Value of a model on labelled rows: its policies, its gains, and the champion's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from modelbook.config import NONE, Finalize
from modelbook.contract import Contract
from modelbook.evaluation.cumulative_gains import measure_gains, read_amounts
from modelbook.evaluation.policy_comparison import (
    compare_policies,
    compute_acted_share,
    compute_mean,
    find_cheapest_constant,
    find_decision_threshold,
    list_decisions,
    make_constant_policies,
    make_feature_policy,
    make_version_policies,
    score_by_feature,
    to_records,
)
from modelbook.evaluation.recent_period import Period
from modelbook.evaluation.row_mix import weight_rows
from modelbook.evaluation.single_feature import FeatureRanking
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import DecisionCosts
from modelbook.tasks.savings import CAPACITY, CHAMPION, CHAMPION_CAPACITY, MODEL
from modelbook.tasks.scored_rows import ScoredRows


def measure_value(
    task: Task,
    costs: DecisionCosts,
    scored: ScoredRows,
    threshold: float | None,
    simple_model: tuple[str, ScoredRows] | None,
    rows: pd.DataFrame,
    period: Period,
    params: Finalize,
    *,
    feature_ranking: FeatureRanking | None = None,
    constants: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure what the model is worth on labelled rows, as plain data for receipts and pages.

    Rows of another mix than recent ones are weighted, see ``weight_rows``.

    Parameters
    ----------
    constants : mapping, optional
        Decisions that are the same for all rows, from ``constant_decisions`` of the training
        outcomes; by default those of these rows.
    rows : DataFrame
        The scored rows, with the column of ``params.amount``.
    period : Period
        The rows of a period, on which the value is projected.
    """
    bootstrap = {"resamples": params.resamples, "seed": params.seed}
    limit = None
    if params.capacity is not None and costs.flags_rows:
        limit = min(params.capacity / period.rows, 1.0)
    mix, weights = weight_rows(task.contract, scored, rows, period.mix)
    capacity = compute_acted_share(task, costs, scored, threshold, limit, weights)
    ranking = score_by_feature(task, rows, feature_ranking)
    if constants is None:
        constants = costs.constant_decisions(scored.outcome)
    decisions = list_decisions(
        task, costs, scored, threshold, simple_model, limit, ranking, constants, weights
    )
    policies = compare_policies(costs, scored, decisions, weights, **bootstrap)
    return {
        "task": task.name,
        "costs": costs.parameters(),
        **_describe_units(task.contract, period, params),
        "mix": mix,
        "rows": len(scored),
        "threshold": threshold,
        "decision_threshold": find_decision_threshold(scored, threshold, limit, weights),
        "rate": compute_mean(scored.outcome, weights) if capacity is not None else None,
        "capacity": capacity,
        "capacity_is_set": limit is not None,
        "limit": limit,
        "feature_ranking": asdict(feature_ranking) if feature_ranking else None,
        "constants": {name: np.asarray(constant).item() for name, constant in constants.items()},
        "baseline": find_cheapest_constant(policies),
        "policies": to_records(policies),
        **measure_gains(
            scored,
            read_amounts(task.contract, rows, params.amount),
            capacity,
            period,
            weights,
            bootstrap,
        ),
    }


def _describe_units(contract: Contract, period: Period, params: Finalize) -> dict[str, Any]:
    """What rows, costs and amounts of a value are of."""
    return {
        "unit": "" if params.currency == NONE else params.currency,
        "period_rows": period.rows,
        "period": period.label,
        "period_span": period.span,
        "noun": period.noun,
        "target": contract.label(contract.target),
        "amount": "" if params.amount == NONE else contract.label(params.amount),
    }


def compare_versions(
    task: Task,
    costs: DecisionCosts,
    value: dict[str, Any],
    candidate: tuple[str, ScoredRows, float | None],
    champion: tuple[str, ScoredRows, float | None],
    rows: pd.DataFrame,
    *,
    min_rows: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """What candidate and champion are worth on the same rows, as ``measure_value`` returns it.

    Parameters
    ----------
    value : dict
        The candidate's value, from ``measure_value``: its unit, its period and its costs. With
        fewer than ``min_rows`` rows its policies stay.
    rows : DataFrame
        The scored rows, with the features.
    """
    names = {"candidate": candidate[0], "champion": champion[0]}
    unchanged = value | names | {"gains": {}, "at_capacity": {}}
    scored = candidate[1]
    if len(scored) < max(min_rows, 1):
        return unchanged
    # Versions of 1.0.0 have the limit as their capacity.
    limit = value.get("limit", value["capacity"] if value["capacity_is_set"] else None)
    # Versions of 1.0.0 have no ranking.
    feature = value.get("feature_ranking")
    feature_ranking = FeatureRanking(**feature) if feature else None
    ranking = score_by_feature(task, rows, feature_ranking)
    mix, weights = weight_rows(task.contract, scored, rows, value.get("mix", {}))
    candidate_policies = list(
        make_version_policies(task, candidate, (MODEL, CAPACITY), limit, weights)
    )
    decisions = [
        *candidate_policies,
        *make_version_policies(task, champion, (CHAMPION, CHAMPION_CAPACITY), limit, weights),
        *make_feature_policy(ranking, candidate_policies[0][2], weights),
        *make_constant_policies(costs, scored, limit, value.get("constants")),
    ]
    policies = compare_policies(costs, scored, decisions, weights, resamples=resamples, seed=seed)
    return unchanged | {
        "policies": to_records(policies),
        "baseline": find_cheapest_constant(policies),
        "rows": len(scored),
        "mix": mix,
    }


def get_decision_threshold(metrics: dict[str, Any]) -> float | None:
    """The lowest score of a version that is acted on; ``metrics`` is the version's evidence."""
    model_value = metrics.get("value", {})
    return (
        model_value["decision_threshold"]
        if "decision_threshold" in model_value
        else metrics["threshold"]
    )
