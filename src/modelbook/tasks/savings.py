"""What a model saves against policies without a model."""

from __future__ import annotations

from math import floor, log10
from typing import Any

DIGITS = 4  # maximum number of significant digits of the largest cost
DEFAULT_UNIT = "units of cost"

# Kinds of policies
MODEL, CAPACITY, SIMPLE, CONSTANT = "model", "model at capacity", "simple model", "constant"
FEATURE = "single feature"  # rows ranked by one column, without any model
CHAMPION, CHAMPION_CAPACITY = "champion", "champion at capacity"
BEYOND_CAPACITY = "beyond capacity"  # a constant decision that flags more rows than can be acted on
ENDS = ("", "_low", "_high")  # of the names of a value and its bounds
LIMITED_KINDS = {MODEL: CAPACITY, CHAMPION: CHAMPION_CAPACITY}


def project_policies(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Project the policies of a value on the rows of a period, in rounded amounts.

    Savings are differences of the rounded costs, so that amounts that are shown add up.

    Parameters
    ----------
    value : dict
        From ``evaluation.business_value``: ``policies``, ``baseline`` and the period.

    Returns
    -------
    list of dict
        The policies with their ``label``, and ``against``, their name in a sentence; ``cost,
        saving, model_saving`` and their bounds for a period, or for 1,000 rows without one;
        ``flagged`` and ``identified``, numbers of rows and of positive rows among them, None for
        costs whose decisions do not flag rows; and ``decimals`` of the amounts.
    """
    size = _count_projected_rows(value)
    policies = value["policies"]
    digits = _count_rounding_digits(max(abs(size * row["cost"]) for row in policies))
    costs = {row["policy"]: round(size * row["cost"], digits) for row in policies}
    projected = []
    for row in policies:
        names = [f"{name}{end}" for name in ("saving", "model_saving") for end in ENDS]
        amounts = {
            name: None if row[name] is None else round(size * row[name], digits)
            for name in ("low", "high", *names)
        }
        amounts["cost"] = costs[row["policy"]]
        amounts["saving"] = round(costs[value["baseline"]] - amounts["cost"], digits)
        if amounts["model_saving"] is not None:
            amounts["model_saving"] = round(amounts["cost"] - costs[policies[0]["policy"]], digits)
        flagged, identified = (
            None if row[name] is None else round(size * row[name])
            for name in ("selection_rate", "true_positives")
        )
        counts = {"flagged": flagged, "identified": identified, "decimals": max(digits, 0)}
        projected.append(
            {
                **row,
                **amounts,
                **counts,
                "label": name_policy(row, value),
                "against": describe_alternative(row),
            }
        )
    return projected


def name_policy(row: dict[str, Any], value: dict[str, Any]) -> str:
    """Name a policy as all pages do: its model, its decision, and whether the capacity allows it.

    Parameters
    ----------
    row : dict
        One of the ``policies`` of the value.
    value : dict
        From ``evaluation.business_value``.
    """
    kind = row["kind"]
    flags_rows = row["selection_rate"] is not None
    name = {
        MODEL: value.get("candidate") or row["policy"],
        CAPACITY: value.get("candidate") or "the model",
        CHAMPION: f"{row['policy']} (champion)",
        CHAMPION_CAPACITY: f"{value.get('champion')} (champion)",
    }.get(kind, row["policy"])
    if kind in LIMITED_KINDS.values():
        return f"{name} at capacity"
    if kind in (SIMPLE, FEATURE) and flags_rows:
        return f"{name}, same number of rows"
    if kind in LIMITED_KINDS and flags_rows:
        name += " at its threshold"
    kinds = {policy["kind"] for policy in value["policies"]}
    exceeds = kind == BEYOND_CAPACITY or LIMITED_KINDS.get(kind) in kinds
    return f"{name} (exceeds the capacity)" if exceeds else name


def compare_without_limit(value: dict[str, Any]) -> dict[str, Any]:
    """What the model would flag and cost without the capacity, beside the cheapest constant policy.

    Returns
    -------
    dict
        ``model`` and ``constant``, policies of ``project_policies``; empty unless the capacity
        limits the model.
    """
    policies = project_policies(value)
    if policies[0]["kind"] != CAPACITY:
        return {}
    # A random selection costs no less than the cheaper of nobody and everybody.
    constants = [row for row in policies if row["kind"] in (CONSTANT, BEYOND_CAPACITY)]
    cheapest = min(reversed(constants), key=lambda row: row["cost"])
    model = next(row for row in policies if row["kind"] == MODEL)
    return {"model": model, "constant": cheapest}


def get_limited_decisions(value: dict[str, Any]) -> dict[str, Any]:
    """What the model flags within the capacity, if that is less than its threshold flags.

    Returns
    -------
    dict
        ``threshold``, the lowest score that is flagged, and the ``selection_rate``; ``recall`` and
        ``precision``, each with ``value, low, high``; ``unlimited``, the three numbers without the
        capacity. Empty unless the capacity limits the model.
    """
    policies = value.get("policies")
    if not policies or policies[0]["kind"] != CAPACITY:
        return {}
    at = value["at_capacity"]
    metrics = {
        name: {"value": at[name], "low": at[f"{name}_low"], "high": at[f"{name}_high"]}
        for name in ("recall", "precision")
    }
    unlimited = next(row for row in policies if row["kind"] == MODEL)
    return {
        "threshold": value["decision_threshold"],
        "selection_rate": value["capacity"],
        "unlimited": {
            "selection_rate": unlimited["selection_rate"],
            "recall": unlimited["true_positives"] / value["rate"],
            "precision": unlimited["true_positives"] / unlimited["selection_rate"],
        },
        **metrics,
    }


def describe_alternative(row: dict[str, Any]) -> str:
    """A policy's name in a sentence: ``flagging nobody`` for ``flag nobody``."""
    if row["kind"] == FEATURE:
        return f"ranking by {row['policy']}"
    if row["kind"] not in (CONSTANT, BEYOND_CAPACITY):
        return str(row["policy"])
    verb, _, rest = row["policy"].partition(" ")  # "flag nobody", "predict low for all"
    return f"{'flagging' if verb == 'flag' else 'predicting'} {rest}"


def _count_rounding_digits(largest: float) -> int:
    """Digits after the point to round amounts to; negative for multiples of ten."""
    if largest < 100:
        return 1 if largest >= 10 else 2
    return min(0, DIGITS - 1 - floor(log10(largest)))


def list_savings(value: dict[str, Any]) -> list[dict[str, Any]]:
    """List what the model saves against policies without a model, the strongest of them first.

    Parameters
    ----------
    value : dict
        From ``evaluation.business_value``.

    Returns
    -------
    list of dict
        ``policy, saving, low, high``, as amounts of ``project_policies``: compared with a single
        feature, if that costs less than the cheapest constant decision, and with that decision.
        ``against`` is the policy in a sentence. ``identified, identified_low, identified_high`` are
        the positive rows that the model identifies more; None unless both flag as many rows.
    """
    policies = project_policies(value)
    model = policies[0]
    constant = next(row for row in policies if row["policy"] == value["baseline"])
    features = [row for row in policies if row["kind"] == FEATURE and row["saving"] > 0]
    by_name = {row["policy"]: row for row in value["policies"]}
    savings = [(row, row, by_name[row["policy"]], "model_saving") for row in features]
    savings.append((constant, model, value["policies"][0], "saving"))
    return [
        {
            "policy": row["policy"],
            "against": row["against"],
            "saving": amounts[name],
            "low": amounts[f"{name}_low"],
            "high": amounts[f"{name}_high"],
            **_count_identified(value, model, row, [rates[f"{name}{end}"] for end in ENDS]),
        }
        for row, amounts, rates, name in savings
    ]


def _count_identified(
    value: dict[str, Any], model: dict[str, Any], row: dict[str, Any], saving: list[float | None]
) -> dict[str, int | None]:
    """How many more positive rows the model identifies, with as many flagged.

    Then each of them takes the place of a false positive, which saves the same amount. ``saving``
    is that of a row, with its bounds, before it is rounded.
    """
    names = [f"identified{end}" for end in ENDS]
    if model["flagged"] is None or not model["flagged"] == row["flagged"] > 0:
        return dict.fromkeys(names)
    costs = value["costs"]
    size = _count_projected_rows(value)
    amount = costs["cost_fn"] - costs["cost_tp"] + costs["cost_fp"] - costs["cost_tn"]
    counts = [None if end is None else round(size * end / amount) for end in saving]
    return dict(zip(names, counts, strict=True))


def _count_projected_rows(value: dict[str, Any]) -> int:
    """Rows of a period, or 1,000 without one."""
    return int(value["period_rows"]) if value["period"] else 1000
