"""Figures of the regression task: a number predicted, a number turned out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.report.figures import explore, finalize
from modelbook.tasks.names import told

WIDE = (4.6, 5.6)  # height, width
BINS = 10


@style.styled
def balance(frame: pd.DataFrame, target: str) -> Figure:
    """How the target is spread in each period.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``period, rows, mean, low, high, q05, q25, median, q75, q95``.
    """
    data = marks.usable(frame, ["period", "mean", "median"], ["mean", "median"])
    if data is None:
        return nothing("The target")
    figure, ax = marks.canvas(marks.tall(len(data), each=0.42, base=1.0))
    for place, row in data.iterrows():
        ax.plot([row["q05"], row["q95"]], [place, place], color=style.FAINT, linewidth=1.6)
        ax.plot([row["q25"], row["q75"]], [place, place], color=style.ACCENT, linewidth=7, alpha=0.45)
        marks.beside(ax, float(place), f"{told(row['mean'])}  of {row['rows']:,.0f}")
    ax.scatter(data["median"], data.index, s=46, color=style.ACCENT, zorder=3, edgecolors=style.PAPER)
    ax.scatter(data["mean"], data.index, s=46, color=style.POSITIVE, marker="D", zorder=3, edgecolors=style.PAPER)
    marks.rows(ax, [explore.period(name) for name in data["period"]])
    _thousands(ax.xaxis)
    ax.set_xlabel(target)
    first = data.iloc[0]
    alt = f"In {explore.period(first['period'])}, {target} has the mean {told(first['mean'])} and the median "
    alt += f"{told(first['median'])}; nine in ten rows lie between {told(first['q05'])} and {told(first['q95'])}"
    if len(data) > 1:
        alt += f"; the means of the periods go from {told(data['mean'].min())} to {told(data['mean'].max())}"
    caption = "Dot: median; diamond: mean, also at the right, with the rows it is of. Bar: the middle half; line: 90 %."
    return Figure(figure, alt=f"{alt}.", data=frame, caption=caption)


@style.styled
def distributions(train: pd.DataFrame, columns: Sequence[str], target: str) -> Figure:
    """How the target moves with each column: its median and middle half by tenths, or by category."""
    known = [name for name in columns if name in train.columns and train[name].notna().any()]
    if not known or target not in train.columns or train.empty:
        return nothing("The target by column")
    down = -(-len(known) // explore.COLUMNS_OF_PANELS)
    figure, grid = marks.canvas(
        1.9 * down + 0.35, rows=down, cols=explore.COLUMNS_OF_PANELS, squeeze=False, sharey=True
    )
    table = []
    for ax, name in zip(grid.flat, known, strict=False):
        groups, number = explore.grouped(train[name], BINS)
        spread = train[target].groupby(groups, sort=False).quantile([0.25, 0.5, 0.75]).unstack()
        spread = spread.assign(rows=groups.value_counts())
        if not number:
            spread = spread.nlargest(explore.MOST_VALUES, "rows")
        spread = spread.loc[sorted(spread.index, key=explore.counting)]
        _moves(ax, spread, number)
        ax.set_title(marks.brief(name, 26))
        table += [{"column": name, "value": at, "low": r[0.25], "median": r[0.5], "high": r[0.75], "rows": r["rows"]}
                  for at, r in spread.iterrows()]  # fmt: skip
    for ax in list(grid.flat)[len(known) :]:
        ax.set_visible(False)
    for row in grid:
        row[0].set_ylabel(marks.brief(target, 20))
        _thousands(row[0].yaxis)
    data = pd.DataFrame(table)
    ends = data.groupby("column")["median"].agg(["min", "max"])
    most = (ends["max"] - ends["min"]).idxmax()
    alt = f"The median of {target} by {len(known)} columns moves most with {most}: from "
    alt += f"{told(ends['min'][most])} to {told(ends['max'][most])}."
    caption = (
        "Dots: the median of the target; bars: its middle half. Numbers are cut into tenths, drawn at their middle."
    )
    return Figure(figure, alt=alt, data=data.astype({"value": str}), caption=caption)


def _moves(ax: Any, spread: pd.DataFrame, number: bool) -> None:
    places = spread.index.astype(float) if number else range(len(spread))
    ax.vlines(places, spread[0.25], spread[0.75], color=style.ACCENT, alpha=0.35, linewidth=4)
    ax.scatter(places, spread[0.5], s=20, color=style.ACCENT, zorder=3)
    if number:
        ax.plot(places, spread[0.5], color=style.ACCENT, linewidth=0.8, alpha=0.6)
        ax.locator_params(axis="x", nbins=4)
    else:
        crowded = sum(len(str(name)) for name in spread.index) > 22
        turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        ax.set_xticks(places, [marks.brief(name, 10) for name in spread.index], **turned)
        ax.set_xlim(-0.6, len(spread) - 0.4)


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
    for share, name in ((0.5, "half"), (0.9, "nine in ten")):
        off = float(np.interp(share, data["share"], data["within"]))
        ax.scatter([share], [off], s=42, color=style.ACCENT, zorder=3)
        marks.label(ax, (share, off), f"{name} within {told(off)}", by=(-6, 9), ha="right")
    marks.percent(ax)
    _thousands(ax.yaxis)
    ax.set(xlabel="share of train rows, best answered first", ylabel="error at most", ylim=(0, None))
    half, most = (told(float(np.interp(share, data["share"], data["within"]))) for share in (0.5, 0.9))
    alt = f"Answered by a fit that had not seen them, half of the train rows are off by at most {half}, nine in ten by "
    caption = "A number is answered by a number: there is no threshold to choose, and cost_miss has no say."
    return Figure(figure, alt=f"{alt}{most}.", data=table, caption=caption)


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
    _thousands(ax.xaxis)
    _thousands(ax.yaxis)
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
    _thousands(ax.xaxis)
    _thousands(ax.yaxis)
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
    _thousands(ax.xaxis)
    low = data.loc[data["high"] <= 0, "rows"].sum() / data["rows"].sum()
    peak = data.loc[data["rows"].idxmax()]
    alt = f"Most errors lie between {told(peak['low'])} and {told(peak['high'])}; about {low:.0%} of the answers were "
    caption = (
        "Right of the line the answer was too low, left of it too high; the outermost bins hold all that is beyond."
    )
    return Figure(figure, alt=f"{alt}too high by more than the middle bin.", data=table, caption=caption)


def _thousands(axis: Any) -> None:
    axis.set_major_formatter("{x:,g}")
