"""Figures of a numeric target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.display.figures import explore
from modelbook.formatting import format_count, natural_sort_key
from modelbook.tasks.metric_format import format_metric

BINS = 10


@plotting.with_drawable_rows("The target", ["mean", "median"], optional=["period"])
def plot_target_by_period(data: pd.DataFrame, target: str) -> Figure:
    """Distribution of the target by period.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``period, rows, mean, low, high, q05, q25, median, q75, q95``.
    """
    all_rows = data
    data, note = explore.select_latest_periods(all_rows)
    figure, ax = plotting.subplots(
        plotting.compute_height(len(data), row_height=0.42, base_height=1.0)
    )
    lines: dict[str, Any] = {"y": data.index, "capstyle": "round"}
    ax.hlines(xmin=data["q05"], xmax=data["q95"], color=style.FAINT, linewidth=1.6, **lines)
    ax.hlines(
        xmin=data["q25"], xmax=data["q75"], color=style.ACCENT, linewidth=7, alpha=0.45, **lines
    )
    dots: dict[str, Any] = {"y": data.index, "s": 46, "zorder": 3, "edgecolors": style.PAPER}
    ax.scatter(data["median"], color=style.ACCENT, **dots)
    ax.scatter(data["mean"], color=style.POSITIVE, marker="D", **dots)
    for position, (mean, rows) in enumerate(zip(data["mean"], data["rows"], strict=True)):
        plotting.annotate_row(ax, position, f"{format_metric(mean)}  of {rows:,.0f}")
    plotting.label_rows(ax, [explore.format_period(name) for name in data["period"]])
    plotting.set_thousands_format(ax.xaxis)
    ax.set_xlabel(target)
    first = all_rows.iloc[0]
    lowest, highest = (
        format_metric(mean) for mean in (all_rows["mean"].min(), all_rows["mean"].max())
    )
    range_text = f"; the means of the periods go from {lowest} to {highest}"
    alt = (
        f"In {explore.format_period(first['period'])}, {target} has the mean "
        f"{format_metric(first['mean'])} and the median {format_metric(first['median'])}; nine in "
        f"ten rows lie between {format_metric(first['q05'])} and {format_metric(first['q95'])}"
        f"{range_text if len(all_rows) > 1 else ''}."
    )
    caption = (
        "Dot: median; diamond: mean, also at the right, with the number of rows. Bar: middle "
        f"50%; line: middle 90%.{note}"
    )
    return Figure(figure, alt=alt, caption=caption)


@style.apply_style
def plot_feature_distributions(train: pd.DataFrame, columns: Sequence[str], target: str) -> Figure:
    """Median and interquartile range of the target by decile, or category, of each column."""
    names = explore.select_drawable_columns(train, columns, target)
    if not names:
        return empty_figure("The target by column")
    figure, grid = plotting.subplot_grid(len(names), explore.GRID_COLUMNS, 1.9, 0.35, sharey=True)
    table = []
    for ax, name in zip(grid.flat, names, strict=False):
        groups, is_continuous = explore.bin_column(train[name], BINS)
        quartiles = train[target].groupby(groups, sort=False).quantile([0.25, 0.5, 0.75]).unstack()
        quartiles = quartiles.assign(rows=groups.value_counts())
        if not is_continuous:
            quartiles = quartiles.nlargest(explore.MAX_CATEGORIES, "rows")
        quartiles = quartiles.loc[sorted(quartiles.index, key=natural_sort_key)]
        _draw_quartiles(ax, quartiles, is_continuous)
        ax.set_title(plotting.truncate(name, 26))
        table += [
            {
                "column": name,
                "value": value,
                "low": quantiles[0.25],
                "median": quantiles[0.5],
                "high": quantiles[0.75],
                "rows": quantiles["rows"],
            }
            for value, quantiles in quartiles.iterrows()
        ]
    for row in grid:
        row[0].set_ylabel(plotting.truncate(target, 20))
        plotting.set_thousands_format(row[0].yaxis)
    data = pd.DataFrame(table)
    median_ranges = data.groupby("column")["median"].agg(["min", "max"])
    top_column = (median_ranges["max"] - median_ranges["min"]).idxmax()
    low, high = (format_metric(median_ranges[end][top_column]) for end in ("min", "max"))
    alt = (
        f"The median of {target} by {format_count(len(names), 'column')} varies most with "
        f"{top_column}: from {low} to {high}."
    )
    caption = (
        "Dots: median of the target; bars: its middle 50%. Numeric columns with more than "
        f"{explore.MAX_DISCRETE_VALUES} values are binned by decile, drawn at the bin's median; of "
        f"other columns the {explore.MAX_CATEGORIES} most frequent values are shown at most."
    )
    return Figure(figure, alt=alt, data=data.astype({"value": str}), caption=caption)


def _draw_quartiles(ax: Any, quartiles: pd.DataFrame, is_continuous: bool) -> None:
    positions = quartiles.index.astype(float) if is_continuous else range(len(quartiles))
    ax.vlines(
        positions, quartiles[0.25], quartiles[0.75], color=style.ACCENT, alpha=0.35, linewidth=4
    )
    ax.scatter(positions, quartiles[0.5], s=20, color=style.ACCENT, zorder=3)
    if is_continuous:
        ax.plot(positions, quartiles[0.5], color=style.ACCENT, linewidth=0.8, alpha=0.6)
        ax.locator_params(axis="x", nbins=4)
    else:
        is_crowded = sum(len(str(name)) for name in quartiles.index) > 22
        label_options = (
            {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
        )
        ax.set_xticks(
            positions, [plotting.truncate(name, 10) for name in quartiles.index], **label_options
        )
        ax.set_xlim(-0.6, len(quartiles) - 0.4)
