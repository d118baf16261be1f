"""The figure of the A/B: how the difference went."""

from __future__ import annotations

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.tasks.names import signed


@style.styled
def course(frame: pd.DataFrame, loss: str) -> Figure:
    """The difference of losses with its confidence sequence, look after look.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``users, difference, low, high``.
    loss : str
        What is lost.
    """
    data = marks.usable(frame, ["users", "difference", "low", "high"], ["users", "difference"])
    if data is None:
        return nothing("The difference")
    figure, ax = marks.canvas(3.4)
    marks.band(ax, data["users"], data["low"], data["high"], style.CURRENT)
    ax.plot(data["users"], data["difference"], color=style.CURRENT)
    ax.axhline(0, color=style.REFERENCE, linestyle="--", linewidth=1.1)
    # What is seen first is so wide that it would flatten the rest.
    settled = data[data["users"] >= data["users"].max() / 5]
    ax.set_ylim(*marks.padded(settled["low"].dropna(), settled["high"].dropna(), settled["difference"], [0]))
    ax.set_xlabel("users with outcomes")
    ax.set_ylabel(f"{loss}: challenger − champion")
    marks.thousands(ax.xaxis)
    last = data.iloc[-1]
    return Figure(
        figure,
        alt=_words(last),
        data=frame,
        caption="Band: the confidence sequence, which holds at all looks. Below the dashes the challenger errs less.",
    )


def _words(last: pd.Series) -> str:
    size = f"After {last['users']:,.0f} users the difference is {signed(last['difference'])}"
    if pd.isna(last["low"]) or pd.isna(last["high"]):
        return f"{size}."
    side = "below 0" if last["high"] < 0 else "above 0" if last["low"] > 0 else "on both sides of 0"
    return f"{size}; its interval, {signed(last['low'])} to {signed(last['high'])}, lies {side}."
