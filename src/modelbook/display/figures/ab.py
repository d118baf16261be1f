"""The figure of an A/B test: the difference by number of users."""

from __future__ import annotations

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure
from modelbook.formatting import format_count
from modelbook.tasks.metric_format import format_difference


@plotting.with_drawable_rows("The difference", ["users", "difference"], optional=["low", "high"])
def plot_difference_history(data: pd.DataFrame, loss_name: str) -> Figure:
    """The difference of mean losses by number of users, with its confidence sequence.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``users, difference, low, high``.
    loss_name : str
        Name of the loss.
    """
    figure, ax = plotting.subplots(3.4)
    plotting.draw_band(ax, data["users"], data["low"], data["high"], style.CURRENT)
    ax.plot(data["users"], data["difference"], color=style.CURRENT)
    texts = [
        f"{format_count(int(users), 'user')}: {format_difference(difference)}"
        for users, difference in zip(data["users"], data["difference"], strict=True)
    ]
    plotting.add_hover_strips(ax, data["users"], texts)
    ax.axhline(0, color=style.REFERENCE, linestyle="--", linewidth=1.1)
    # The first intervals are so wide that they would flatten the rest.
    stable_rows = data[data["users"] >= data["users"].max() / 5]
    columns = (stable_rows[name] for name in ("low", "high", "difference"))
    ax.set_ylim(*plotting.compute_padded_limits(*columns, [0]))
    ax.set_xlabel("users with outcomes")
    ax.set_ylabel(f"{loss_name}: challenger − champion")
    plotting.set_thousands_format(ax.xaxis)
    last = data.iloc[-1]
    return Figure(
        figure,
        alt=_write_alt_text(last),
        caption=(
            "Band: confidence sequence, valid at any time. Below the dashed line the challenger "
            "has the lower loss."
        ),
    )


def _write_alt_text(last: pd.Series) -> str:
    difference_text = (
        f"After {format_count(int(last['users']), 'user')} the difference is "
        f"{format_difference(last['difference'])}"
    )
    if pd.isna(last["low"]) or pd.isna(last["high"]):
        return f"{difference_text}."
    position = (
        "below 0" if last["high"] < 0 else "above 0" if last["low"] > 0 else "on both sides of 0"
    )
    return (
        f"{difference_text}; its confidence sequence, {format_difference(last['low'])} to "
        f"{format_difference(last['high'])}, is {position}."
    )
