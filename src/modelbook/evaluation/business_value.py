"""Value of a model on labelled rows: its policies, its gains, and the champion's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from modelbook.config import NONE, Finalize
from modelbook.contract import Contract
from modelbook.errors import DataError
from modelbook.evaluation.cumulative_gains import measure_gains, read_amounts
from modelbook.evaluation.policy_comparison import PolicyComparison, ScoredVersion, policies_to_dict
from modelbook.evaluation.recent_period import Period
from modelbook.evaluation.row_mix import weight_rows
from modelbook.evaluation.single_feature import FeatureRanking
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import DecisionCosts
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
    """Measure the business value of the model on labelled rows, as plain data for receipts.

    Rows of another mix than recent ones are weighted, see ``weight_rows``.

    Parameters
    ----------
    constants : mapping, optional
        As for ``PolicyComparison``.
    rows : DataFrame
        The scored rows, with the column of ``params.amount_column``.
    period : Period
        The rows of a period, on which the value is projected.
    """
    options: dict[str, Any] = {"resamples": params.resamples, "seed": params.seed}
    max_selection_rate = None
    if params.capacity is not None and costs.flags_rows:
        max_selection_rate = min(params.capacity / period.rows, 1.0)
    mix, weights = weight_rows(task.contract, scored, rows, period.mix)
    version = ScoredVersion("the model", scored, threshold)
    comparison = PolicyComparison(
        task, costs, version, rows, weights, max_selection_rate, feature_ranking, constants
    )
    policies = comparison.compare_policies(simple_model, **options)
    selection_rate = comparison.compute_selection_rate()
    return {
        "task": task.name,
        "costs": costs.get_parameters(),
        **_describe_units(task.contract, period, params),
        "mix": mix,
        "rows": len(scored),
        "threshold": threshold,
        "decision_threshold": comparison.find_decision_threshold(),
        "rate": comparison.compute_mean(scored.outcome) if selection_rate is not None else None,
        "capacity": selection_rate,
        "capacity_is_set": max_selection_rate is not None,
        "limit": max_selection_rate,
        "feature_ranking": asdict(feature_ranking) if feature_ranking else None,
        "constants": {
            name: np.asarray(constant).item()
            for name, constant in comparison.constant_decisions.items()
        },
        **policies_to_dict(policies),
        **measure_gains(
            scored,
            read_amounts(task.contract, rows, params.amount_column),
            selection_rate,
            period,
            weights,
            options,
        ),
    }


def _describe_units(contract: Contract, period: Period, params: Finalize) -> dict[str, Any]:
    """The units of a value: those of its costs, period, rows, target and amounts."""
    return {
        "unit": "" if params.currency == NONE else params.currency,
        "period_rows": period.rows,
        "period": period.label,
        "period_span": period.span,
        "period_counts": list(period.counts),
        "noun": period.noun,
        "target": contract.label(contract.target),
        "amount": "" if params.amount_column == NONE else contract.label(params.amount_column),
    }


def compare_versions(
    task: Task,
    costs: DecisionCosts,
    value: dict[str, Any],
    candidate: ScoredVersion,
    champion: ScoredVersion,
    rows: pd.DataFrame,
    *,
    min_rows: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The value of candidate and champion on the same rows, as ``measure_value`` returns it.

    Parameters
    ----------
    value : dict
        The candidate's value, from ``measure_value``: its unit, its period and its costs. With
        fewer than ``min_rows`` rows its policies stay.
    rows : DataFrame
        The scored rows, with the features.

    Raises
    ------
    DataError
        If the candidate was registered by 1.0.0, whose values lack what is compared here.
    """
    if "feature_ranking" not in value:
        raise DataError(
            f"the business value of {candidate.name} was measured by Modelbook 1.0.0",
            expected="a candidate of this release",
            next="build finalize again",
        )
    names = {"candidate": candidate.name, "champion": champion.name}
    unchanged = value | names | {"gains": {}, "at_capacity": {}}
    scored = candidate.scored
    if len(scored) < max(min_rows, 1):
        return unchanged
    feature = value["feature_ranking"]
    feature_ranking = FeatureRanking(**feature) if feature else None
    mix, weights = weight_rows(task.contract, scored, rows, value["mix"])
    comparison = PolicyComparison(
        task, costs, candidate, rows, weights, value["limit"], feature_ranking, value["constants"]
    )
    policies = comparison.compare_policies(champion=champion, resamples=resamples, seed=seed)
    return unchanged | policies_to_dict(policies) | {"rows": len(scored), "mix": mix}


def get_decision_threshold(metrics: dict[str, Any]) -> float | None:
    """The lowest score of a version that is acted on; ``metrics`` is the version's evidence.

    Versions of 1.0.0 record their threshold only.
    """
    model_value = metrics.get("business_value", {})
    return (
        model_value["decision_threshold"]
        if "decision_threshold" in model_value
        else metrics["threshold"]
    )
