"""Figures of a target that is a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.report.figures import explore
from modelbook.report.numbers import counting
from modelbook.tasks.names import told

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
    marks.thousands(ax.xaxis)
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
    figure, grid = marks.panels(len(known), explore.COLUMNS_OF_PANELS, 1.9, 0.35, sharey=True)
    table = []
    for ax, name in zip(grid.flat, known, strict=False):
        groups, number = explore.grouped(train[name], BINS)
        spread = train[target].groupby(groups, sort=False).quantile([0.25, 0.5, 0.75]).unstack()
        spread = spread.assign(rows=groups.value_counts())
        if not number:
            spread = spread.nlargest(explore.MOST_VALUES, "rows")
        spread = spread.loc[sorted(spread.index, key=counting)]
        _moves(ax, spread, number)
        ax.set_title(marks.brief(name, 26))
        table += [{"column": name, "value": at, "low": r[0.25], "median": r[0.5], "high": r[0.75], "rows": r["rows"]}
                  for at, r in spread.iterrows()]  # fmt: skip
    for row in grid:
        row[0].set_ylabel(marks.brief(target, 20))
        marks.thousands(row[0].yaxis)
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
