"""Figures of the deploy stage."""

from __future__ import annotations

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure


@style.apply_style
def plot_metric_differences(
    frame: pd.DataFrame, margin: float, rows_description: str = ""
) -> Figure:
    """Candidate minus champion on the same rows, with intervals and the non-inferiority margin.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``metric, difference, low, high``; above 0 the candidate is better.
    margin : float
        How much worse the candidate may be; if negative, how much better it must be.
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
    texts = [plotting.format_signed(value) for value in data["difference"]]
    colours = [
        style.POSITIVE if low < -margin else style.ACCENT
        for low in data["low"].fillna(data["difference"])
    ]
    plotting.draw_dots(ax, data["metric"], data, "difference", color=colours, row_texts=texts)
    plotting.draw_reference_line(ax, 0.0, "no difference", linestyle="-")
    if margin:
        plotting.draw_reference_line(ax, -margin, f"margin {_format_margin(margin)}")
    columns = (data[name] for name in ("difference", "low", "high"))
    ax.set_xlim(*plotting.compute_padded_limits(*columns, [0, -margin]))
    ax.set_xlabel("candidate minus champion (right: candidate better), with 95% CI")
    return Figure(
        figure,
        alt=_write_alt_text(data, margin),
        data=frame,
        caption=f"{rows_description} Orange: the interval reaches below the margin of "
        f"{_format_margin(margin)}, "
        "so harm cannot be ruled out.".strip(),
    )


def _format_margin(margin: float) -> str:
    return f"{-margin:+g}".replace("-", "−") if margin else "0"


def _write_alt_text(data: pd.DataFrame, margin: float) -> str:
    metric_texts = []
    for _, row in data.iterrows():
        interval = (
            ""
            if pd.isna(row["low"]) or pd.isna(row["high"])
            else f" ({row['low']:+z.4f} to {row['high']:+z.4f})"
        )
        metric_texts.append(f"{row['metric']} {row['difference']:+z.4f}{interval}")
    return (
        f"Candidate minus champion: {'; '.join(metric_texts)}; the margin is "
        f"{_format_margin(margin)}."
    )
