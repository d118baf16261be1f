"""Policies with and without a model: whom they flag, and what they cost on the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from modelbook.evaluation.single_feature import FeatureRanking
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import DecisionCosts
from modelbook.tasks.metrics import weighted_mean
from modelbook.tasks.savings import BEYOND_CAPACITY, CAPACITY, CONSTANT, FEATURE, MODEL, SIMPLE
from modelbook.tasks.scored_rows import DIFFERENCE, IDENTITY, Scale, ScoredRows, jackknife_ci

ALTERNATIVES = (SIMPLE, FEATURE)
POLICY_COLUMNS = ["policy", "kind", "share", "true_positives", "cost", "low", "high"]
POLICY_COLUMNS += ["saving", "saving_low", "saving_high", "lead", "lead_low", "lead_high"]


def compare_policies(
    costs: DecisionCosts,
    scored: ScoredRows,
    decisions: Iterable[tuple[str, str, Any]],
    weights: np.ndarray | None = None,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Expected cost per row of each policy, and what it saves against the cheapest constant one.

    The latter is one within the capacity. Savings are paired: each resample draws the same entities
    for both policies.

    Parameters
    ----------
    decisions : iterable
        Name, kind and decisions of each policy, from ``list_decisions``.
    weights : ndarray, optional
        Of the rows, from ``weight_rows``; by default 1.

    Returns
    -------
    DataFrame
        Columns ``POLICY_COLUMNS``; ``share`` is that of the rows that are flagged, and
        ``true_positives`` that of the rows that are flagged and positive, None if decisions flag
        none; ``lead`` is what the first policy saves against a simple model or a single feature,
        None for other policies.
    """
    weights = np.ones(len(scored)) if weights is None else weights
    options = {"resamples": resamples, "seed": seed}
    policies = [
        (name, kind, decision, costs.compute_row_costs(scored.outcome, decision))
        for name, kind, decision in decisions
    ]
    model_costs = policies[0][3]
    constants = [policy for policy in policies if policy[1] == CONSTANT]
    baseline_name, _, _, baseline_costs = min(
        constants, key=lambda policy: compute_mean(policy[3], weights)
    )
    rows = []
    for name, kind, decision, row_costs in policies:
        share = true_positives = None
        if costs.flags_rows:
            share = compute_mean(decision, weights)
            true_positives = compute_mean(decision * (scored.outcome == 1), weights)
        saving: tuple[float, ...] = (0.0, 0.0, 0.0)
        if name != baseline_name:
            saving = _compute_mean_with_ci(
                baseline_costs - row_costs, scored, DIFFERENCE, weights, **options
            )
        lead: tuple[float | None, ...] = (None, None, None)
        if kind in ALTERNATIVES:
            lead = _compute_mean_with_ci(
                row_costs - model_costs, scored, DIFFERENCE, weights, **options
            )
        cost = _compute_mean_with_ci(row_costs, scored, IDENTITY, weights, **options)
        rows.append((name, kind, share, true_positives, *cost, *saving, *lead))
    return pd.DataFrame(rows, columns=POLICY_COLUMNS)


def _compute_mean_with_ci(
    values: np.ndarray, scored: ScoredRows, scale: Scale, weights: np.ndarray, **options: int
) -> tuple[float, ...]:
    def compute_resampled_mean(counts: np.ndarray) -> Any:
        return weighted_mean(values, counts * weights)

    interval = jackknife_ci(compute_resampled_mean, scored, scale, **options)
    return compute_mean(values, weights), *interval


def compute_mean(values: Any, weights: np.ndarray) -> float:
    """Weighted mean of an array, or of a constant for all rows."""
    return float(np.average(np.broadcast_to(values, len(weights)), weights=weights))


def list_decisions(
    task: Task,
    costs: DecisionCosts,
    scored: ScoredRows,
    threshold: float | None,
    simple_model: tuple[str, ScoredRows] | None,
    limit: float | None,
    feature_ranking: tuple[str, np.ndarray] | None = None,
    constants: Mapping[str, Any] | None = None,
    weights: np.ndarray | None = None,
) -> Iterator[tuple[str, str, Any]]:
    """Name, kind and decisions of each policy, the model's policy first.

    A simple model of two classes, and a single feature, flag as many rows as that.

    Parameters
    ----------
    limit : float or None
        Share of the rows that can be acted on; None without a limit.
    feature_ranking : pair of str and ndarray, optional
        Name and scores of the ranking by a single feature.
    constants : mapping, optional
        As for ``measure_value``.
    weights : ndarray, optional
        As for ``compare_policies``.
    """
    weights = np.ones(len(scored)) if weights is None else weights
    version = ("the model", scored, threshold)
    policies = list(make_version_policies(task, version, (MODEL, CAPACITY), limit, weights))
    yield from policies
    share = compute_mean(policies[0][2], weights) if costs.flags_rows else None
    if simple_model is not None:
        name, simple = simple_model
        decision = task.decide(simple.score, threshold)
        yield name, SIMPLE, decision if share is None else flag_share(simple.score, share, weights)
    yield from make_feature_policy(feature_ranking, policies[0][2], weights)
    yield from make_constant_policies(costs, scored, limit, constants)


def make_version_policies(
    task: Task,
    version: tuple[str, ScoredRows, float | None],
    kinds: tuple[str, str],
    limit: float | None,
    weights: np.ndarray,
) -> Iterator[tuple[str, str, Any]]:
    """Decisions of a version: at capacity, if that is less than it flags, and without a limit."""
    name, scored, threshold = version
    unlimited_kind, limited_kind = kinds
    decision = task.decide(scored.score, threshold)
    if limit is not None and limit < compute_mean(decision, weights):
        yield f"{name} at capacity", limited_kind, flag_share(scored.score, limit, weights)
    yield name, unlimited_kind, decision


def score_by_feature(
    task: Task, rows: pd.DataFrame, ranking: FeatureRanking | None
) -> tuple[str, np.ndarray] | None:
    """Name and scores of the ranking by a single feature."""
    if ranking is None:
        return None
    return f"{task.contract.label(ranking.feature)} alone", ranking.score_rows(task, rows)


def make_feature_policy(
    ranking: tuple[str, np.ndarray] | None, decision: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[str, str, Any]]:
    """Flag as many rows as a decision of the model, by a single feature."""
    if ranking is not None:
        share = compute_mean(decision, weights)
        yield ranking[0], FEATURE, flag_share(ranking[1], share, weights)


def make_constant_policies(
    costs: DecisionCosts,
    scored: ScoredRows,
    limit: float | None,
    constants: Mapping[str, Any] | None,
) -> Iterator[tuple[str, str, Any]]:
    """Decisions without a model; with a limit also as many rows as it allows, at random."""
    if limit is not None:
        yield "flag at random up to the capacity", CONSTANT, np.full(len(scored), limit)
    constants = costs.constant_decisions(scored.outcome) if constants is None else constants
    for name, constant in constants.items():
        is_feasible = limit is None or constant <= limit
        yield name, CONSTANT if is_feasible else BEYOND_CAPACITY, constant


def find_cheapest_constant(policies: pd.DataFrame) -> str:
    constants = policies[policies["kind"] == CONSTANT]
    return str(constants.loc[constants["cost"].idxmin(), "policy"])


def to_records(policies: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain data, with None for what is unknown."""
    return policies.astype(object).where(policies.notna(), None).to_dict("records")


def flag_share(score: np.ndarray, share: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Flag the rows with the highest scores, up to a share; of equal scores, the first."""
    order = np.argsort(-score, kind="stable")
    shares = np.append(0.0, np.cumsum(np.ones(len(score)) if weights is None else weights[order]))
    flagged = np.zeros(len(score), dtype=bool)
    flagged[order[: np.abs(shares / shares[-1] - share).argmin()]] = True
    return flagged


def compute_acted_share(
    task: Task,
    costs: DecisionCosts,
    scored: ScoredRows,
    threshold: float | None,
    limit: float | None,
    weights: np.ndarray,
) -> float | None:
    """Share of the rows that the model flags within the limit; None if decisions flag no rows."""
    if not costs.flags_rows:
        return None
    flagged_share = compute_mean(task.decide(scored.score, threshold), weights)
    return flagged_share if limit is None else min(limit, flagged_share)


def find_decision_threshold(
    scored: ScoredRows, threshold: float | None, limit: float | None, weights: np.ndarray
) -> float | None:
    if limit is None or threshold is None:
        return threshold
    flagged = scored.score[flag_share(scored.score, limit, weights)]
    return max(threshold, float(flagged.min(initial=scored.score.max())))
