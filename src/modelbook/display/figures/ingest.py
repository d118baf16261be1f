"""Figures of the ingest stage."""

from __future__ import annotations

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure
from modelbook.formatting import format_count, join_sorted_names

MAX_LABELLED_PERIODS = 12  # of more periods, some have neither name nor number of rows
COLOR_BY_USE = {"train and holdout": style.ACCENT, "batch": style.FAINT}


@plotting.with_drawable_rows(
    "Rows of each period", ["rows"], optional=["period", "entities", "use"]
)
def plot_rows_by_period(data: pd.DataFrame) -> Figure:
    """Rows by period, and what they are used for.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``period, rows, entities, use``; `use` is "train and holdout" or "batch".
    """
    from matplotlib.patches import Patch

    figure, ax = plotting.subplots(3.0)
    colors = [COLOR_BY_USE.get(use, style.FAINT) for use in data["use"]]
    bars = ax.bar(range(len(data)), data["rows"], color=colors, width=0.72)
    step = -(-len(data) // MAX_LABELLED_PERIODS)
    labels = [plotting.truncate(period, 14) for period in data["period"]]
    ax.set_xticks(range(0, len(data), step), labels[::step])
    for position, (period, rows) in enumerate(zip(data["period"], data["rows"], strict=True)):
        text = f"{rows:,.0f}"
        if position % step == 0:
            plotting.annotate_point(ax, (position, rows), text, offset=(0, 7), ha="center")
        plotting.set_hover_text(bars[position], f"period {period}: {text} rows")
    ax.set_ylim(0, max(data["rows"].max() * 1.12, 1))
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    uses = [use for use in COLOR_BY_USE if use in set(data["use"])]
    handles = [Patch(color=COLOR_BY_USE[use], label=use) for use in uses]
    ax.legend(handles=handles, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.02), frameon=False)
    ax.set_xlabel("period")
    return Figure(figure, alt=_write_alt_text(data), caption="Rows of the table in each period.")


def _write_alt_text(data: pd.DataFrame) -> str:
    training_periods = data[data["use"] != "batch"]
    batches = data[data["use"] == "batch"]
    text = (
        f"{training_periods['rows'].sum():,.0f} rows in "
        f"{format_count(len(training_periods), 'period')} are for training and holdout"
    )
    if len(batches):
        names = join_sorted_names(batches["period"])
        periods = "period" if len(batches) == 1 else "periods"
        text += f"; {batches['rows'].sum():,.0f} rows of {periods} {names} arrive later as batches"
    return f"{text}."
