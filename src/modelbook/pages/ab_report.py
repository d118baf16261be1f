"""The A/B report: the decision, its sample sizes, and the difference over time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from modelbook.display.components import Table
from modelbook.display.figures import ab as figures
from modelbook.pages import templating
from modelbook.tasks.metric_format import format_difference, format_metric

VARIANTS_CAPTION = (
    "Results by variant. Loss: mean over the rows with outcomes, with its confidence sequence."
)


def write(path: Path, result: dict[str, Any], difference_history: pd.DataFrame) -> Path:
    """Write the A/B report.

    Parameters
    ----------
    result : dict
        The result of ``ab.summary.summarize_ab``.
    difference_history : DataFrame
        The result of ``ab.analysis.difference_over_time``: columns
        ``users, difference, low, high``.
    """
    written_at = datetime.now(UTC).isoformat(timespec="seconds")
    view = {
        "story": result,
        "numbers": _key_numbers(result),
        "arms": Table(_variant_table(result), caption=VARIANTS_CAPTION),
        "course": figures.difference_over_time(difference_history, result["loss"]),
        "at": written_at,
    }
    templating.write_page(path, templating.render_template("ab_report.html.j2", **view))
    return path


def _key_numbers(result: dict[str, Any]) -> list[dict[str, str]]:
    plan, p = result["plan"], result["sample_ratio_p"]
    users = result["champion"]["users"], result["challenger"]["users"]
    min_judged = min(
        result[variant]["users_with_outcomes"] for variant in ("champion", "challenger")
    )
    difference_cards = (
        []
        if result["low"] is None
        else [
            {
                "name": "challenger minus champion",
                "value": format_difference(result["difference"]),
                "beside": (
                    f"{format_difference(result['low'])} to {format_difference(result['high'])} "
                    f"in {result['loss']}"
                ),
            }
        ]
    )
    share = f"{users[1] / sum(users):.1%}" if sum(users) else "–"
    test_text = "too few users to test" if p is None else f"chi-square, p = {p:.2g}"
    return [
        *difference_cards,
        {
            "name": "challenger's share",
            "value": share,
            "beside": f"{plan['challenger_share']:.0%} planned; {test_text}",
        },
        {
            "name": "users with outcomes",
            "value": f"{min_judged:,}",
            "beside": f"in the smaller variant; at least {plan['min_users']:,}",
        },
        {
            "name": "hours",
            "value": f"{result['hours']:,.1f}",
            "beside": f"at least {plan['min_hours']:g}",
        },
    ]


def _variant_table(result: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for variant in ("champion", "challenger"):
        arm, has_interval = result[variant], result[variant]["low"] is not None
        rows.append(
            {
                "variant": variant,
                "version": result["versions"][variant],
                "users": arm["users"],
                "rows": arm["rows"],
                "rows with outcomes": arm["rows_with_outcomes"],
                "loss": arm["mean_loss"],
                "interval": f"{format_metric(arm['low'])} to {format_metric(arm['high'])}"
                if has_interval
                else "–",
            }
        )
    return pd.DataFrame(rows)
