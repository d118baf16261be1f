"""Value of a model: expected cost against policies without a model, and gains by capacity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from modelbook.config import NONE, Finalize
from modelbook.contract import Contract
from modelbook.errors import ParameterError
from modelbook.evaluation.row_mix import find_mix_difference, weight_rows
from modelbook.evaluation.single_feature import FeatureRanking
from modelbook.formatting import KeyNumber, key_number
from modelbook.tasks.base import Task
from modelbook.tasks.cost_matrix import DecisionCosts
from modelbook.tasks.metrics import safe_divide, weighted_mean
from modelbook.tasks.savings import (
    BEYOND_CAPACITY,
    CAPACITY,
    CHAMPION,
    CHAMPION_CAPACITY,
    CONSTANT,
    DEFAULT_UNIT,
    FEATURE,
    MODEL,
    SIMPLE,
    describe_alternative,
    list_savings,
    name_policy,
    project_policies,
)
from modelbook.tasks.scored_rows import (
    CONFIDENCE_LEVEL,
    DIFFERENCE,
    IDENTITY,
    Scale,
    ScoredRows,
    bootstrap_counts,
    jackknife_ci,
)

ALTERNATIVES = (SIMPLE, FEATURE)
RECENT_PERIODS = 3  # a period has their median number of rows
POLICY_COLUMNS = ["policy", "kind", "share", "true_positives", "cost", "low", "high"]
POLICY_COLUMNS += ["saving", "saving_low", "saving_high", "lead", "lead_low", "lead_high"]
TOLERANCE = 1e-9  # of shares that are sums of weights
GAIN_SHARES = [percent / 100 for percent in range(1, 101)]
SHOWN_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # rows of a table of gains


@dataclass(frozen=True)
class Period:
    """Number of rows of a period, and the noun for them.

    Attributes
    ----------
    rows : int
        Median rows of the latest periods; rows of the whole table if it has no time column.
    label : str
        Name of the time column; empty without one.
    noun : str
        Plural name of the rows: the entity's if each has one row in a period.
    mix : dict
        ``column`` and ``share``: the feature whose missing values differ most between the holdout
        and the latest periods, and the share of their rows in which it is missing; empty if that
        differs little, see ``find_mix_difference``.
    span : str
        The first and the last of the latest periods; empty without a time column.
    """

    rows: int
    label: str
    noun: str
    mix: dict[str, Any] = field(default_factory=dict)
    span: str = ""


def describe_period(
    contract: Contract, train: pd.DataFrame, holdout: pd.DataFrame, batches: pd.DataFrame
) -> Period:
    """Describe a recent period: of the rows of a model, and of the batches that came later."""
    rows = pd.concat([train, holdout])
    latest = rows[rows[contract.time] == rows[contract.time].max()] if contract.time else rows
    n_rows, mix, span = len(latest), {}, ""
    if contract.time:
        rows = pd.concat([rows, batches])
        counts = rows[contract.time].value_counts().sort_index().tail(RECENT_PERIODS)
        n_rows = round(counts.median())
        span = " to ".join(
            dict.fromkeys(str(time).removesuffix(" 00:00:00") for time in counts.index[[0, -1]])
        )
        mix = find_mix_difference(contract, holdout, rows[rows[contract.time].isin(counts.index)])
    has_one_row_each = bool(contract.entity) and latest[contract.entity].is_unique
    noun = contract.entity_label_plural if has_one_row_each else "rows"
    return Period(n_rows, contract.label(contract.time) if contract.time else "", noun, mix, span)


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
    capacity = _share_acted_on(task, costs, scored, threshold, limit, weights)
    ranking = _score_by_feature(task, rows, feature_ranking)
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
        "decision_threshold": _get_decision_threshold(scored, threshold, limit, weights),
        "rate": _compute_mean(scored.outcome, weights) if capacity is not None else None,
        "capacity": capacity,
        "capacity_is_set": limit is not None,
        "limit": limit,
        "feature_ranking": asdict(feature_ranking) if feature_ranking else None,
        "constants": {name: np.asarray(constant).item() for name, constant in constants.items()},
        "baseline": _find_cheapest_constant(policies),
        "policies": _to_records(policies),
        **_measure_gains(
            scored,
            _read_amounts(task.contract, rows, params.amount),
            capacity,
            period,
            weights,
            bootstrap,
        ),
    }


def _measure_gains(
    scored: ScoredRows,
    amounts: np.ndarray | None,
    capacity: float | None,
    period: Period,
    weights: np.ndarray,
    bootstrap: dict[str, int],
) -> dict[str, Any]:
    """What is reached by share of the rows, and at capacity; empty where no rows are flagged."""
    if capacity is None:
        return {"at_capacity": {}, "gains": {}}
    table = compute_gains(scored, amounts, [*GAIN_SHARES, capacity], weights, **bootstrap).round(4)
    flagged = {"flagged": round(capacity * period.rows)}
    return {
        "at_capacity": table.iloc[-1].to_dict() | flagged,
        "gains": table.iloc[:-1].to_dict("list"),
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
        constants, key=lambda policy: _compute_mean(policy[3], weights)
    )
    rows = []
    for name, kind, decision, row_costs in policies:
        share = true_positives = None
        if costs.flags_rows:
            share = _compute_mean(decision, weights)
            true_positives = _compute_mean(decision * (scored.outcome == 1), weights)
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
    def compute_mean(counts: np.ndarray) -> Any:
        return weighted_mean(values, counts * weights)

    interval = jackknife_ci(compute_mean, scored, scale, **options)
    return _compute_mean(values, weights), *interval


def _compute_mean(values: Any, weights: np.ndarray) -> float:
    """Weighted mean of an array, or of a constant for all rows."""
    return float(np.average(np.broadcast_to(values, len(weights)), weights=weights))


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
    ranking = _score_by_feature(task, rows, feature_ranking)
    mix, weights = weight_rows(task.contract, scored, rows, value.get("mix", {}))
    candidate_policies = list(
        _make_version_policies(task, candidate, (MODEL, CAPACITY), limit, weights)
    )
    decisions = [
        *candidate_policies,
        *_make_version_policies(task, champion, (CHAMPION, CHAMPION_CAPACITY), limit, weights),
        *_make_feature_policy(ranking, candidate_policies[0][2], weights),
        *_make_constant_policies(costs, scored, limit, value.get("constants")),
    ]
    policies = compare_policies(costs, scored, decisions, weights, resamples=resamples, seed=seed)
    return unchanged | {
        "policies": _to_records(policies),
        "baseline": _find_cheapest_constant(policies),
        "rows": len(scored),
        "mix": mix,
    }


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
    policies = list(_make_version_policies(task, version, (MODEL, CAPACITY), limit, weights))
    yield from policies
    share = _compute_mean(policies[0][2], weights) if costs.flags_rows else None
    if simple_model is not None:
        name, simple = simple_model
        decision = task.decide(simple.score, threshold)
        yield name, SIMPLE, decision if share is None else flag_share(simple.score, share, weights)
    yield from _make_feature_policy(feature_ranking, policies[0][2], weights)
    yield from _make_constant_policies(costs, scored, limit, constants)


def _make_version_policies(
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
    if limit is not None and limit < _compute_mean(decision, weights):
        yield f"{name} at capacity", limited_kind, flag_share(scored.score, limit, weights)
    yield name, unlimited_kind, decision


def _score_by_feature(
    task: Task, rows: pd.DataFrame, ranking: FeatureRanking | None
) -> tuple[str, np.ndarray] | None:
    """Name and scores of the ranking by a single feature."""
    if ranking is None:
        return None
    return f"{task.contract.label(ranking.feature)} alone", ranking.score_rows(task, rows)


def _make_feature_policy(
    ranking: tuple[str, np.ndarray] | None, decision: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[str, str, Any]]:
    """Flag as many rows as a decision of the model, by a single feature."""
    if ranking is not None:
        share = _compute_mean(decision, weights)
        yield ranking[0], FEATURE, flag_share(ranking[1], share, weights)


def _make_constant_policies(
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


def _find_cheapest_constant(policies: pd.DataFrame) -> str:
    constants = policies[policies["kind"] == CONSTANT]
    return str(constants.loc[constants["cost"].idxmin(), "policy"])


def get_decision_threshold(metrics: dict[str, Any]) -> float | None:
    """The lowest score of a version that is acted on; ``metrics`` is the version's evidence."""
    model_value = metrics.get("value", {})
    return (
        model_value["decision_threshold"]
        if "decision_threshold" in model_value
        else metrics["threshold"]
    )


def _get_decision_threshold(
    scored: ScoredRows, threshold: float | None, limit: float | None, weights: np.ndarray
) -> float | None:
    if limit is None or threshold is None:
        return threshold
    flagged = scored.score[flag_share(scored.score, limit, weights)]
    return max(threshold, float(flagged.min(initial=scored.score.max())))


def _to_records(policies: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain data, with None for what is unknown."""
    return policies.astype(object).where(policies.notna(), None).to_dict("records")


def make_key_numbers(value: dict[str, Any]) -> list[KeyNumber]:
    """Recall, expected cost and saving of the model's policy, as key numbers.

    The saving is compared with the champion's.
    """
    policies = project_policies(value)
    model = policies[0]
    reference = list_savings(value)[0]
    # What the champion saves against the same reference as the model; of each version the first
    # policy is what is done.
    shift = reference["saving"] - model["saving"]
    champion_kinds = (CHAMPION, CHAMPION_CAPACITY)
    champion_rows = [row for row in policies if row["kind"] in champion_kinds]
    champion = {row["policy"]: row["saving"] + shift for row in champion_rows[:1]}
    policy, cost = _describe_policy(value), value["policies"][0]["cost"]
    without_model = [row for row in value["policies"] if row["kind"] in (CONSTANT, FEATURE)]
    without_model.sort(key=lambda row: row["cost"])
    low, high = reference["low"], reference["high"]
    unit = value["unit"] or DEFAULT_UNIT
    base = {row["policy"]: row["cost"] for row in without_model[:2]}
    context = f"the model: {policy}" if policy else ""
    decision = " at capacity" if value["policies"][0]["kind"] == CAPACITY else ""
    return [
        *_recall_number(value, policy, decision),
        key_number(
            f"expected cost per row{decision}, in {unit}", cost, context=context, compared_with=base
        ),
        key_number(
            f"cost saved per {value['period'] or '1,000 rows'}, in {unit}",
            reference["saving"],
            "count",
            interval=None if low is None else (low, high),
            context=f"{f'{policy}, ' if policy else ''}compared with {reference['against']}"
            f"{_describe_identified(value, reference)}",
            compared_with=champion,
        ),
    ]


def _describe_identified(value: dict[str, Any], saving: dict[str, Any]) -> str:
    """How many more positive rows are identified; empty unless both policies flag as many."""
    count = saving["identified"]
    if count is None:
        return ""
    side = "more" if count >= 0 else "fewer"
    return f": {abs(count):,} {side} “{value['target']}” {value['noun']} identified"


def _recall_number(value: dict[str, Any], policy: str, decision: str) -> list[KeyNumber]:
    reached = value["at_capacity"]
    if not reached:
        return []
    interval = reached["reached_low"], reached["reached_high"]
    context = f"of the “{value['target']}” {value['noun']} are identified {policy}"
    return [
        key_number(
            f"recall{decision}", reached["reached"], "share", interval=interval, context=context
        )
    ]


def _describe_policy(value: dict[str, Any]) -> str:
    """What is done with the model: the policy that key numbers are about; empty without flags."""
    model = value["policies"][0]
    if model["share"] is None:
        return ""
    if model["kind"] != CAPACITY:
        return f"at threshold {value['threshold']:g}"
    return f"when {project_policies(value)[0]['flagged']:,} are flagged"


def make_policy_table(value: dict[str, Any]) -> pd.DataFrame:
    """The policies as a table with display names of its columns."""
    hidden = ["kind", "lead", "lead_low", "lead_high"]
    table = pd.DataFrame(value["policies"]).drop(columns=hidden, errors="ignore")
    table["policy"] = [name_policy(row, value) for row in value["policies"]]
    table = table.dropna(axis="columns", how="all")
    names = {
        "share": "share flagged",
        "true_positives": "true positives, share of rows",
        "low": "cost_low",
    }
    names |= {"high": "cost_high"}
    return table.rename(columns=lambda name: str(names.get(name, name)).replace("_", " "))


def make_policy_caption(value: dict[str, Any]) -> str:
    """Caption of ``make_policy_table``: the unit, and with which policy savings are compared."""
    [against] = (
        describe_alternative(row) for row in value["policies"] if row["policy"] == value["baseline"]
    )
    unit = value["unit"] or DEFAULT_UNIT
    return f"Expected cost and saving per row, in {unit}; savings are compared with {against}"


def flag_share(score: np.ndarray, share: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Flag the rows with the highest scores, up to a share; of equal scores, the first."""
    order = np.argsort(-score, kind="stable")
    shares = np.append(0.0, np.cumsum(np.ones(len(score)) if weights is None else weights[order]))
    flagged = np.zeros(len(score), dtype=bool)
    flagged[order[: np.abs(shares / shares[-1] - share).argmin()]] = True
    return flagged


def compute_gains(
    scored: ScoredRows,
    amounts: np.ndarray | None,
    shares: Sequence[float],
    weights: np.ndarray | None = None,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """What is reached when the rows with the highest scores are flagged, by their share.

    ``weights`` are as for ``compare_policies``.

    Returns
    -------
    DataFrame
        Columns ``share``; ``threshold``, the lowest score that is flagged; ``reached``, the share
        of the positive rows; ``precision``; and, with amounts, ``amount``, the share of their sum;
        the latter with ``_low`` and ``_high``.
    """
    order = np.argsort(-scored.score, kind="stable")
    score, positive = scored.score[order], scored.outcome[order] == 1
    last_of_ties = np.append(np.diff(score) != 0, True)
    amount = np.ones(len(score)) if amounts is None else amounts[order]
    row_weights = np.ones(len(score)) if weights is None else weights[order]

    def curves(count: np.ndarray) -> np.ndarray:
        """Reached share, precision and reached amount by share, of one resample."""
        weight = count * row_weights
        share, positives, total = (
            np.append(0.0, np.cumsum(weight * values)[last_of_ties])
            for values in (1.0, positive, amount)
        )
        grid = np.asarray(shares) * share[-1]
        n_reached = np.interp(grid, share, positives)
        return np.array(
            [
                safe_divide(n_reached, np.full(len(grid), positives[-1])),
                n_reached / grid,
                safe_divide(np.interp(grid, share, total), np.full(len(grid), total[-1])),
            ]
        )

    counts = bootstrap_counts(scored.entity, resamples, seed)[:, order]
    low, high = np.nanquantile(
        np.array([curves(count) for count in counts]),
        [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2],
        axis=0,
    )
    value = curves(np.ones(len(score)))
    share_after = np.cumsum(row_weights) / row_weights.sum()
    last_flagged = np.searchsorted(share_after, np.asarray(shares) - TOLERANCE)
    last_flagged = np.minimum(last_flagged, len(score) - 1)
    table = pd.DataFrame({"share": shares, "threshold": score[last_flagged]})
    for i, name in enumerate(("reached", "precision", "amount")):
        if name != "amount" or amounts is not None:
            table[name], table[f"{name}_low"], table[f"{name}_high"] = value[i], low[i], high[i]
    return table


def shown_gains(value: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of a table of gains: round shares and the capacity, with ``lift``."""
    gains, capacity = value["gains"], value["capacity"]
    if not gains:
        return []
    shares = [round(100 * share) for share in SHOWN_SHARES if abs(share - capacity) >= 0.005]
    rows = [{name: gains[name][share - 1] for name in gains} for share in shares]
    rows.append({name: value["at_capacity"][name] for name in gains})
    rows.sort(key=lambda row: row["share"])
    return [
        row | {f"lift{end}": row[f"reached{end}"] / row["share"] for end in ("", "_low", "_high")}
        for row in rows
    ]


def find_gain_position(share: float) -> int:
    """Position in ``compute_gains`` of the share that is nearest."""
    return min(max(round(100 * share), 1), 100) - 1


def _share_acted_on(
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
    flagged_share = _compute_mean(task.decide(scored.score, threshold), weights)
    return flagged_share if limit is None else min(limit, flagged_share)


def check_amount(contract: Contract, column: str) -> None:
    """Raise ParameterError unless a parameter ``amount`` is ``none`` or a column of numbers."""
    numbers = [
        name for name, spec in contract.columns.items() if spec.type in ("number", "integer")
    ]
    if column not in (NONE, *numbers):
        raise ParameterError(
            f"amount: {column!r} is not a numeric column",
            expected=f"one of {', '.join(numbers) or 'none'}; or none",
            next="correct `amount` in the book's env file",
        )


def _read_amounts(contract: Contract, rows: pd.DataFrame, column: str) -> np.ndarray | None:
    check_amount(contract, column)
    if column == NONE:
        return None
    return rows[column].fillna(0).to_numpy(dtype=float)
