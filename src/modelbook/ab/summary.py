"""Text summary of an A/B test: decision, evidence and next step."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from modelbook.ab.analysis import (
    ALPHA,
    CONTINUE,
    INVALID,
    KEEP_CHAMPION,
    PROMOTE_CHALLENGER,
    ABResult,
    Variant,
)
from modelbook.ab.split_traffic import SplitTraffic
from modelbook.formatting import format_count, format_share
from modelbook.stage.verdict import to_jsonable
from modelbook.tasks.metric_format import format_difference, format_metric

DECISION_LEVELS = {
    PROMOTE_CHALLENGER: "good",
    KEEP_CHAMPION: "good",
    CONTINUE: "warning",
    INVALID: "bad",
}


def summarize_ab(result: ABResult, traffic: SplitTraffic) -> dict[str, Any]:
    """Summarize an A/B test as plain data, for the command line and as evidence of a promotion."""
    return to_jsonable(
        {
            "status": result.decision,
            "level": DECISION_LEVELS[result.decision],
            "sentences": make_sentences(result, traffic),
            "next": _describe_next_step(result, traffic),
            "book": traffic.book,
            "loss": traffic.loss_name,
            "versions": {
                "champion": traffic.champion_version,
                "challenger": traffic.challenger_version,
            },
            **asdict(result),
        }
    )


def make_sentences(result: ABResult, traffic: SplitTraffic) -> list[str]:
    """Return the sentences of the summary, decision first."""
    return [
        _describe_decision(result, traffic),
        _describe_counts(result, traffic),
        _describe_sample_ratio(result),
    ]


def _describe_decision(result: ABResult, traffic: SplitTraffic) -> str:
    if result.sample_ratio_mismatch_p_value is not None:
        return (
            "The test is invalid: sample-ratio mismatch. The cause of the mismatch may also have "
            "affected the losses."
        )
    if not result.has_enough_data:
        return f"Too early to decide: {' and '.join(_list_unmet_minimums(result))}."
    difference_text = (
        f"{format_difference(result.difference)} ({format_difference(result.low)} to "
        f"{format_difference(result.high)}) in {traffic.loss_name} per row"
    )
    if result.decision == CONTINUE:
        estimate = (
            f" At this difference, about {result.estimated_users_needed:,} users are needed."
            if result.estimated_users_needed
            else ""
        )
        return (
            f"Not decided: challenger minus champion is {difference_text}; the "
            f"confidence interval contains 0.{estimate}"
        )
    direction = "lower" if result.decision == PROMOTE_CHALLENGER else "higher"
    comparison = (
        f"The challenger, version {traffic.challenger_version}, has a {direction} loss "
        f"than version {traffic.champion_version}"
    )
    return f"{comparison}: the difference is {difference_text}."


def _list_unmet_minimums(result: ABResult) -> list[str]:
    plan = result.plan
    users = min(result.champion.users_with_outcomes, result.challenger.users_with_outcomes)
    unmet = []
    if users < plan.min_users:
        unmet.append(
            f"the smaller variant has {users:,} of at least {plan.min_users:,} users with outcomes"
        )
    if result.has_few_events:
        events = min(result.champion.events or 0, result.challenger.events or 0)
        unmet.append(
            f"the smaller variant has {events:,} of at least {plan.min_events:,} users with the "
            "rarest outcome"
        )
    if result.hours < plan.min_hours:
        unmet.append(f"the test has run {result.hours:,.1f} of at least {plan.min_hours:g} hours")
    return unmet


def _describe_counts(result: ABResult, traffic: SplitTraffic) -> str:
    variants = (
        ("champion", traffic.champion_version, result.champion),
        ("challenger", traffic.challenger_version, result.challenger),
    )
    descriptions = [
        f"{name}, version {number}, {_describe_variant(variant)}"
        for name, number, variant in variants
    ]
    return f"The {'; the '.join(descriptions)}."


def _describe_variant(variant: Variant) -> str:
    rows = f"predicted {format_count(variant.rows, 'row')} of {format_count(variant.users, 'user')}"
    if not variant.rows_with_outcomes:
        return f"{rows}, without outcomes so far"
    return (
        f"{rows}, {variant.rows_with_outcomes:,} with outcomes, mean loss "
        f"{format_metric(variant.mean_loss)}"
    )


def _describe_sample_ratio(result: ABResult) -> str:
    challenger_share = result.plan.challenger_share
    users = result.champion.users, result.challenger.users
    if result.sample_ratio_p is None:
        return (
            "There are too few users to test whether the challenger received the planned "
            f"{format_share(challenger_share)} of the traffic."
        )
    mismatch_p = result.sample_ratio_mismatch_p_value
    p = result.sample_ratio_p if mismatch_p is None else mismatch_p
    uses_outcomes = p != result.sample_ratio_p
    if uses_outcomes:
        users = (result.champion.users_with_outcomes, result.challenger.users_with_outcomes)
    sentence = (
        f"The challenger has {format_share(users[1] / sum(users), 1)} of the {sum(users):,} users"
    )
    qualifier = " with outcomes" if uses_outcomes else ""
    planned = f"{format_share(challenger_share)} were planned (sequential test, p = {p:.2g})"
    return f"{sentence}{qualifier}; {planned}."


def _describe_next_step(result: ABResult, traffic: SplitTraffic) -> str:
    return {
        PROMOTE_CHALLENGER: f"modelbook promote {traffic.challenger_version} --require-ab",
        KEEP_CHAMPION: "modelbook challenge --end",
        CONTINUE: "Check that the service is running, and that traffic.mode is split in "
        "serving.yaml."
        if not traffic.rows.size
        else (
            f"Check again at any time: the confidence level of {1 - ALPHA:.0%} holds over all "
            "evaluations."
        ),
        INVALID: "Find the cause (a changed share, lost predictions or outcomes), then start a new "
        "test: another traffic.salt, and --since.",
    }[result.decision]
