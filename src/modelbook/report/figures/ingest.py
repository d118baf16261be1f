"""Figures of the ingest stage."""

from __future__ import annotations

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing

USES = {"train and holdout": style.ACCENT, "batch": style.FAINT}


@style.styled
def periods(frame: pd.DataFrame) -> Figure:
    """Rows of each period, and what they are used for.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``period, rows, entities, use``; `use` is "train and holdout" or "batch".
    """
    data = marks.usable(frame, ["period", "rows", "entities", "use"], ["rows"])
    if data is None:
        return nothing("Rows of each period")
    figure, ax = marks.canvas(3.0)
    colours = [USES.get(use, style.FAINT) for use in data["use"]]
    ax.bar(range(len(data)), data["rows"], color=colours, width=0.72)
    ax.set_xticks(range(len(data)), [marks.brief(period, 14) for period in data["period"]])
    for place, rows in enumerate(data["rows"]):
        marks.label(ax, (place, rows), f"{rows:,.0f}", by=(0, 7), ha="center")
    ax.set_ylim(0, max(data["rows"].max() * 1.12, 1))
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    for place, (use, colour) in enumerate(USES.items()):
        if use in set(data["use"]):
            ax.text(0.3 * place, 1.07, "■", transform=ax.transAxes, color=colour)
            ax.text(0.3 * place + 0.025, 1.07, use, transform=ax.transAxes, color=style.MUTED)
    ax.set_xlabel("period")
    return Figure(figure, alt=_words(data), data=frame, caption="Rows of the table in each period.")


def _words(data: pd.DataFrame) -> str:
    learned = data[data["use"] != "batch"]
    batches = data[data["use"] == "batch"]
    words = f"{learned['rows'].sum():,.0f} rows in {len(learned)} periods are for training and holdout"
    if len(batches):
        names = " and ".join(str(period) for period in batches["period"])
        words += f"; {batches['rows'].sum():,.0f} rows of period {names} arrive later as batches"
    return f"{words}."
