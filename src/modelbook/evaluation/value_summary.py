"""Key numbers and tables of what a model is worth."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.formatting import KeyNumber, key_number
from modelbook.tasks.savings import (
    CAPACITY,
    CHAMPION,
    CHAMPION_CAPACITY,
    CONSTANT,
    DEFAULT_UNIT,
    FEATURE,
    describe_alternative,
    list_savings,
    name_policy,
    project_policies,
)


def make_key_numbers(value: dict[str, Any]) -> list[KeyNumber]:
    """Recall, expected cost and saving of the model's policy, as key numbers.

    The saving is compared with the champion's.
    """
    policies = project_policies(value)
    model = policies[0]
    reference = list_savings(value)[0]
    # The champion's saving against the same alternative as the model's; each version's first policy
    # is the one applied.
    shift = reference["saving"] - model["saving"]
    champion_kinds = (CHAMPION, CHAMPION_CAPACITY)
    champion_rows = [row for row in policies if row["kind"] in champion_kinds]
    champion = {row["policy"]: row["saving"] + shift for row in champion_rows[:1]}
    policy = _describe_policy(value)
    cost = value["policies"][0]["cost"]
    without_model = [row for row in value["policies"] if row["kind"] in (CONSTANT, FEATURE)]
    without_model.sort(key=lambda row: row["cost"])
    low, high = reference["low"], reference["high"]
    unit = value["unit"] or DEFAULT_UNIT
    base = {row["policy"]: row["cost"] for row in without_model[:2]}
    suffix = " at capacity" if value["policies"][0]["kind"] == CAPACITY else ""
    return [
        *_make_recall_number(value, policy, suffix),
        key_number(
            f"expected cost per row{suffix}, in {unit}", cost, context=policy, compared_with=base
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


def _make_recall_number(value: dict[str, Any], policy: str, suffix: str) -> list[KeyNumber]:
    at_capacity = value["at_capacity"]
    if not at_capacity:
        return []
    interval = at_capacity["recall_low"], at_capacity["recall_high"]
    context = f"share of the “{value['target']}” {value['noun']} that are identified {policy}"
    if value["mix"].get("is_weighted"):
        context += ", on rows weighted to the missing rate of recent ones"
    return [
        key_number(
            f"recall{suffix}", at_capacity["recall"], "share", interval=interval, context=context
        )
    ]


def _describe_policy(value: dict[str, Any]) -> str:
    """Describe the policy that the key numbers are of; empty if it does not flag rows."""
    model = value["policies"][0]
    if model["selection_rate"] is None:
        return ""
    if model["kind"] != CAPACITY:
        return f"at threshold {value['threshold']:g}"
    return f"when {project_policies(value)[0]['flagged']:,} are flagged"


def make_policy_table(value: dict[str, Any]) -> pd.DataFrame:
    """The policies as a table with display names of its columns."""
    hidden = ["kind", "model_saving", "model_saving_low", "model_saving_high"]
    table = pd.DataFrame(value["policies"]).drop(columns=hidden, errors="ignore")
    table["policy"] = [name_policy(row, value) for row in value["policies"]]
    table = table.dropna(axis="columns", how="all")
    names = {
        "selection_rate": "share flagged",
        "true_positives": "true positives, share of rows",
        "low": "cost_low",
        "high": "cost_high",
    }
    return table.rename(columns=lambda name: str(names.get(name, name)).replace("_", " "))


def make_policy_caption(value: dict[str, Any]) -> str:
    """Caption of ``make_policy_table``: the unit, and with which policy savings are compared."""
    [against] = (
        describe_alternative(row) for row in value["policies"] if row["policy"] == value["baseline"]
    )
    unit = value["unit"] or DEFAULT_UNIT
    return f"Expected cost and saving per row, in {unit}; savings are compared with {against}"
