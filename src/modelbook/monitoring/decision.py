"""The decision of an A/B in words: a sentence for each finding, and what to do next."""

from __future__ import annotations

from typing import Any

from modelbook.monitoring.ab import ALPHA, KEEP, ON, PROMOTE, VOID, Arm, Judged
from modelbook.monitoring.shared import Shared
from modelbook.report.verdict import plain
from modelbook.tasks.names import signed
from modelbook.tasks.names import told as written

LEVELS = {PROMOTE: "good", KEEP: "good", ON: "watch", VOID: "bad"}


def story(judged: Judged, shared: Shared) -> dict[str, Any]:
    """Everything that is told of an A/B, as plain data: what the command prints, and promotion keeps as evidence."""
    return plain({
        "word": judged.word, "level": LEVELS[judged.word], "sentences": sentences(judged, shared),
        "next": _next(judged, shared), "book": shared.book, "loss": shared.loss,
        "versions": {"champion": shared.champion, "challenger": shared.challenger}, **judged.to_dict(),
    })  # fmt: skip


def sentences(judged: Judged, shared: Shared) -> list[str]:
    """What was found, the decision first."""
    return [_decided(judged, shared), _counted(judged, shared), _split(judged)]


def _decided(judged: Judged, shared: Shared) -> str:
    if judged.mismatch is not None:
        return (
            "The comparison is void: the users are not shared out as it was set. Whatever did that may have made "
            "the losses differ as well."
        )
    if not judged.enough:
        return f"It is too early: {' and '.join(_lacking(judged))}."
    size = f"{signed(judged.difference)} ({signed(judged.low)} to {signed(judged.high)}) in {shared.loss} a row"
    if judged.word == ON:
        soon = f" At that difference it takes about {judged.needed:,} users." if judged.needed else ""
        return f"It is not decided: challenger minus champion is {size}, so either may be the better one.{soon}"
    way = "less" if judged.word == PROMOTE else "more"
    who = f"The challenger, version {shared.challenger}, errs {way} than version {shared.champion}"
    return f"{who}: the difference is {size}."


def _lacking(judged: Judged) -> list[str]:
    plan, users = judged.plan, min(judged.champion.judged, judged.challenger.judged)
    told = []
    if users < plan.least_users:
        told.append(f"the smaller variant has {users:,} of at least {plan.least_users:,} users with outcomes")
    if judged.hours < plan.least_hours:
        told.append(f"it has run {judged.hours:,.1f} of at least {plan.least_hours:g} hours")
    return told


def _counted(judged: Judged, shared: Shared) -> str:
    both = (("champion", shared.champion, judged.champion), ("challenger", shared.challenger, judged.challenger))
    parts = [f"{who}, version {number}, {_arm(arm)}" for who, number, arm in both]
    return f"The {'; the '.join(parts)}."


def _arm(arm: Arm) -> str:
    rows = f"answered {arm.rows:,} rows of {arm.users:,} users"
    if not arm.known:
        return f"{rows}, no outcome is in"
    return f"{rows}, outcomes of {arm.known:,} are in, loss {written(arm.loss)}"


def _split(judged: Judged) -> str:
    share, users = judged.plan.share, (judged.champion.users, judged.challenger.users)
    if judged.answered_p is None:
        return f"There are too few users to tell whether the challenger has its share of {share:.0%}."
    of_known = judged.judged_p is not None and judged.judged_p == judged.mismatch != judged.answered_p
    if of_known:
        users = (judged.champion.judged, judged.challenger.judged)
    found = f"The challenger has {users[1] / sum(users):.1%} of the {sum(users):,} users"
    p = judged.judged_p if of_known else judged.answered_p
    return f"{found}{' whose outcomes are in' if of_known else ''}, and {share:.0%} were set (chi-square, p = {p:.2g})."


def _next(judged: Judged, shared: Shared) -> str:
    return {
        PROMOTE: f"modelbook promote {shared.challenger} --require-ab",
        KEEP: "modelbook challenge --end",
        ON: "See that the service runs, and that traffic.mode is split in serving.yaml." if not shared.rows.size else
            f"Look again whenever you like: the interval holds at every look, at {1 - ALPHA:.0%} over all of them.",
        VOID: "Find the cause (a share changed meanwhile, answers or outcomes lost), then begin anew: another "
              "traffic.salt, and --since.",
    }[judged.word]  # fmt: skip
