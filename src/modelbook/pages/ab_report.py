"""The A/B report: the decision, its sample sizes, and the difference by number of users."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from modelbook.display.figures import ab as figures
from modelbook.pages import templating


def write(path: Path, result: dict[str, Any], difference_history: pd.DataFrame) -> Path:
    """Write the A/B report.

    Parameters
    ----------
    result : dict
        The result of ``ab.summary.summarize_ab``.
    difference_history : DataFrame
        The result of ``ab.analysis.compute_difference_history``: columns
        ``users, difference, low, high``.
    """
    variants = {name: result[name] for name in ("champion", "challenger")}
    users = [variant["users"] for variant in variants.values()]
    templating.write_template(
        path,
        "ab_report.html.j2",
        result=result,
        variants=variants,
        challenger_share=users[1] / sum(users) if sum(users) else None,
        min_users=min(variant["users_with_outcomes"] for variant in variants.values()),
        difference_figure=figures.plot_difference_history(difference_history, result["loss"]),
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return path
