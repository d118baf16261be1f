"""Figures of answers that are a number, held against the number that turned out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, Together, nothing
from modelbook.report.figures import finalize
from modelbook.tasks.names import told

WIDE = (4.6, 5.6)  # height, width


@style.styled
def settled(table: pd.DataFrame, threshold: None) -> Figure:
    """How far answers out of fold were off, by the share of rows.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``share, within``.
    """
    data = marks.usable(table, ["share", "within"], ["share", "within"])
    if data is None:
        return nothing("Errors out of fold")
    figure, ax = marks.canvas(3.1)
    ax.plot(data["share"], data["within"], color=style.ACCENT)
    half, most = (float(off) for off in np.interp((0.5, 0.9), data["share"], data["within"]))
    for share, name, off in ((0.5, "half", half), (0.9, "nine in ten", most)):
        ax.scatter([share], [off], s=42, color=style.ACCENT, zorder=3)
        marks.label(ax, (share, off), f"{name} within {told(off)}", by=(-6, 9), ha="right")
    marks.percent(ax)
    marks.thousands(ax.yaxis)
    ax.set(xlabel="share of train rows, best answered first", ylabel="error at most", ylim=(0, None))
    alt = "Answered by a fit that had not seen them, half of the train rows are off by at most "
    caption = "A number is answered by a number: there is no threshold to choose, and costs have no say."
    return Figure(figure, alt=f"{alt}{told(half)}, nine in ten by {told(most)}.", data=table, caption=caption)


def curves(found: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame) -> Together:
    """Predicted against actual, and below it errors by prediction; ``table`` holds the metrics."""
    return Together(first(found[0], table), second(found[1], table))


@style.styled
def first(rows: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Predicted against actual.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``predicted, actual``: a sample of the holdout.
    table : pandas.DataFrame
        The metrics.
    """
    data = marks.usable(rows, ["predicted", "actual"], ["predicted", "actual"])
    if data is None:
        return nothing("Predicted against actual")
    figure, ax = marks.canvas(*WIDE)
    low, high = marks.padded(data["predicted"], data["actual"], by=0.04)
    ax.plot([low, high], [low, high], color=style.BASELINE, linestyle="--", linewidth=1)
    marks.label(ax, (high, high), "exact", by=(-4, 8), color=style.MUTED, ha="right")
    ax.scatter(data["predicted"], data["actual"], s=11, color=style.ACCENT, alpha=0.5, linewidths=0)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="predicted", ylabel="actual")
    marks.thousands(ax.xaxis)
    marks.thousands(ax.yaxis)
    r2 = table.loc[table["metric"] == "r2", "value"].iloc[0]
    errors = (data["predicted"] - data["actual"]).abs()
    alt = f"{len(data):,} rows, predicted against actual: R² is {r2:.2f} on all rows, and half of the rows shown are "
    caption = (
        f"{len(data):,} holdout rows{', drawn at random' if len(data) >= 400 else ''}; on the line the answer is exact."
    )
    return Figure(figure, alt=f"{alt}within {told(errors.median())} of the line.", data=rows, caption=caption)


@style.styled
def second(tenths: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """How far off answers are, by what was predicted.

    Parameters
    ----------
    tenths : pandas.DataFrame
        Columns ``predicted, median, q05, q25, q75, q95, rows``: of actual minus predicted.
    """
    data = marks.usable(tenths, ["predicted", "median", "q05", "q25", "q75", "q95"], ["predicted", "median"])
    if data is None:
        return nothing("Errors by prediction")
    figure, ax = marks.canvas(3.4)
    ax.axhline(0, color=style.BASELINE, linestyle="--", linewidth=1)
    ax.vlines(data["predicted"], data["q05"], data["q95"], color=style.FAINT, linewidth=1.6)
    ax.vlines(data["predicted"], data["q25"], data["q75"], color=style.ACCENT, alpha=0.45, linewidth=6)
    ax.scatter(data["predicted"], data["median"], s=34, color=style.ACCENT, zorder=3)
    ax.set(xlabel="predicted, by tenths", ylabel="actual minus predicted")
    marks.thousands(ax.xaxis)
    marks.thousands(ax.yaxis)
    widest = data.loc[(data["q95"] - data["q05"]).idxmax()]
    alt = (
        f"Errors spread most where about {told(widest['predicted'])} is predicted: nine in ten lie between "
        f"{told(widest['q05'])} and {told(widest['q95'])}."
    )
    caption = "Dot: the median error; bar: the middle half; line: 90 %. Above 0 the answer was too low."
    return Figure(figure, alt=alt, data=tenths, caption=caption)


def calibration(bins: pd.DataFrame) -> Figure:
    """What was predicted, by tenths, against the mean of what turned out."""
    return finalize.calibration(bins, ("mean predicted", "mean actual"), share=False)


@style.styled
def mistakes(table: pd.DataFrame) -> Figure:
    """The errors: actual minus predicted.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``low, high, rows`` of each bin.
    """
    data = marks.usable(table, ["low", "high", "rows"], ["low", "high", "rows"])
    if data is None:
        return nothing("Errors")
    figure, ax = marks.canvas(2.9)
    edges = [*data["low"], data["high"].iloc[-1]]
    ax.stairs(data["rows"], edges, color=style.ACCENT, linewidth=1.4)
    ax.stairs(data["rows"], edges, color=style.ACCENT, alpha=0.15, fill=True)
    marks.line(ax, 0.0, "exact")
    ax.set(xlabel="actual minus predicted", ylabel="rows")
    marks.thousands(ax.xaxis)
    low = data.loc[data["high"] <= 0, "rows"].sum() / data["rows"].sum()
    peak = data.loc[data["rows"].idxmax()]
    alt = f"Most errors lie between {told(peak['low'])} and {told(peak['high'])}; about {low:.0%} of the answers were "
    caption = (
        "Right of the line the answer was too low, left of it too high; the outermost bins hold all that is beyond."
    )
    return Figure(figure, alt=f"{alt}too high by more than the middle bin.", data=table, caption=caption)
