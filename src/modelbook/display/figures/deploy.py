"""Figures of the deploy stage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.tasks.metric_format import metric_label


@style.apply_style
def plot_metric_differences(
    frame: pd.DataFrame, margin: float, headline: str, rows_description: str = ""
) -> Figure:
    """Gain of the candidate over the champion on the same rows, with intervals.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``metric, difference, low, high``; above 0 the candidate is better.
    margin : float
        How much worse the candidate may be; if negative, how much better it must be.
    headline : str
        The metric that the margin applies to.
    rows_description : str
        A sentence that describes the rows, or the reason why there are none.
    """
    required = ["metric", "difference"]
    data = plotting.select_drawable_rows(frame, [*required, "low", "high"], required)
    if data is None:
        return empty_figure("Candidate against champion", rows_description)
    figure, ax = plotting.subplots(
        plotting.compute_height(len(data), row_height=0.4, base_height=1.0)
    )
    label = metric_label(headline)
    texts = [plotting.format_signed(value) for value in data["difference"]]
    colours = [
        style.POSITIVE if metric == label and low < -margin else style.ACCENT
        for metric, low in zip(data["metric"], data["low"].fillna(data["difference"]), strict=True)
    ]
    plotting.draw_dots(ax, data["metric"], data, "difference", color=colours, row_texts=texts)
    plotting.draw_reference_line(ax, 0.0, "no difference", linestyle="-")
    is_headline = data["metric"] == label
    for position in np.flatnonzero(is_headline) if margin else ():
        ax.vlines(-margin, position - 0.4, position + 0.4, color=style.MUTED, linestyles="--")
    columns = (data[name] for name in ("difference", "low", "high"))
    ax.set_xlim(*plotting.compute_padded_limits(*columns, [0, -margin]))
    ax.set_xlabel("gain of the candidate over the champion, with 95% CI")
    return Figure(
        figure,
        alt=_write_alt_text(data, label, margin),
        data=frame.rename(columns={"difference": "gain"}),
        caption=f"{rows_description} Right of 0 the candidate is better. The margin of "
        f"{_format_margin(margin)} (dashed) applies to {label}; orange: the interval reaches below "
        "it.".strip(),
    )


def _format_margin(margin: float) -> str:
    return f"{-margin:+g}".replace("-", "−") if margin else "0"


def _write_alt_text(data: pd.DataFrame, label: str, margin: float) -> str:
    metric_texts = []
    for _, row in data.iterrows():
        interval = (
            ""
            if pd.isna(row["low"]) or pd.isna(row["high"])
            else f" ({row['low']:+z.4f} to {row['high']:+z.4f})"
        )
        metric_texts.append(f"{row['metric']} {row['difference']:+z.4f}{interval}")
    return (
        f"Gain of the candidate over the champion: {'; '.join(metric_texts)}; the margin of "
        f"{label} is {_format_margin(margin)}."
    )
