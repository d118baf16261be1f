"""What a model saves against policies without a model."""

from __future__ import annotations

from math import floor, log10
from typing import Any

DIGITS = 4  # maximum number of significant digits of the largest cost

FEATURE = "single feature"  # kind of a policy: rows ranked by one column, without any model


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
        The policies with ``cost, saving, lead`` and their bounds for a period, or for 1,000 rows
        without one; ``flagged``, a number of rows, None if decisions flag none; and ``decimals``
        of the amounts.
    """
    size = value["period_rows"] if value["period"] else 1000
    policies = value["policies"]
    digits = _count_rounding_digits(max(abs(size * row["cost"]) for row in policies))
    costs = {row["policy"]: round(size * row["cost"], digits) for row in policies}
    projected = []
    for row in policies:
        amounts = {
            name: None if row.get(name) is None else round(size * row[name], digits)
            for name in (
                "low", "high", "saving_low", "saving_high", "lead", "lead_low", "lead_high",
            )
        }  # fmt: skip
        amounts["cost"] = costs[row["policy"]]
        amounts["saving"] = round(costs[value["baseline"]] - amounts["cost"], digits)
        if amounts["lead"] is not None:
            amounts["lead"] = round(amounts["cost"] - costs[policies[0]["policy"]], digits)
        flagged = None if row["share"] is None else round(size * row["share"])
        projected.append({**row, **amounts, "flagged": flagged, "decimals": max(digits, 0)})
    return projected


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
        ``policy, saving, low, high``, as amounts of ``project_policies``: against a single
        feature, if that costs less than the cheapest constant decision, and against that decision.
        ``against`` is the policy in a sentence: ``flagging nobody`` of ``flag nobody``.
    """
    policies = project_policies(value)
    model = policies[0]
    verb, _, rest = value["baseline"].partition(" ")  # "flag nobody", "predict low for all"
    against_constant = {
        "policy": value["baseline"],
        "against": f"{'flagging' if verb == 'flag' else 'predicting'} {rest}",
        "saving": model["saving"],
        "low": model["saving_low"],
        "high": model["saving_high"],
    }
    against_feature = [
        {
            "policy": row["policy"],
            "against": row["policy"],
            "saving": row["lead"],
            "low": row["lead_low"],
            "high": row["lead_high"],
        }
        for row in policies
        if row["kind"] == FEATURE and row["saving"] > 0
    ]
    return [*against_feature, against_constant]
