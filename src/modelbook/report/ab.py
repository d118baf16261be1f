"""The page of an A/B: what was decided, on whom, and how the difference went."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from modelbook.report import template
from modelbook.report.display import Table
from modelbook.report.figures import ab as figures
from modelbook.tasks.names import signed, told

CAPTION = "What each variant answered. Loss: mean of the rows whose outcomes are in, with its confidence sequence."


def write(path: Path, story: dict[str, Any], course: pd.DataFrame) -> Path:
    """Write the page.

    Parameters
    ----------
    story : dict
        What ``monitoring.decision.story`` told.
    course : DataFrame
        What ``monitoring.ab.course`` gave: columns ``users, difference, low, high``.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    view = {
        "story": story, "numbers": _numbers(story), "arms": Table(_arms(story), caption=CAPTION),
        "course": figures.course(course, story["loss"]), "at": at,
    }  # fmt: skip
    template.write(path, template.fill("ab.html.j2", **view))
    return path


def _numbers(story: dict[str, Any]) -> list[dict[str, str]]:
    plan, p = story["plan"], story["answered_p"]
    users = story["champion"]["users"], story["challenger"]["users"]
    least = min(story[who]["judged"] for who in ("champion", "challenger"))
    found = [] if story["low"] is None else [{
        "name": "challenger minus champion", "value": signed(story["difference"]),
        "beside": f"{signed(story['low'])} to {signed(story['high'])} in {story['loss']}",
    }]  # fmt: skip
    share = f"{users[1] / sum(users):.1%}" if sum(users) else "–"
    tested = "too few to test" if p is None else f"chi-square, p = {p:.2g}"
    return [
        *found,
        {"name": "challenger's share", "value": share, "beside": f"{plan['share']:.0%} was set; {tested}"},
        {"name": "users with outcomes", "value": f"{least:,}",
         "beside": f"in the smaller variant; at least {plan['least_users']:,}"},
        {"name": "hours", "value": f"{story['hours']:,.1f}", "beside": f"at least {plan['least_hours']:g}"},
    ]  # fmt: skip


def _arms(story: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for who in ("champion", "challenger"):
        arm, known = story[who], story[who]["low"] is not None
        rows.append({
            "variant": who, "version": story["versions"][who], "users": arm["users"], "rows": arm["rows"],
            "rows with outcomes": arm["known"], "loss": arm["loss"],
            "interval": f"{told(arm['low'])} to {told(arm['high'])}" if known else "–",
        })  # fmt: skip
    return pd.DataFrame(rows)
