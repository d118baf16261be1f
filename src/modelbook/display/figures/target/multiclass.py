"""Figures of a multiclass target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.display.figures import explore
from modelbook.formatting import format_count, format_share, natural_sort_key

BINS = 5


@plotting.with_drawable_rows(
    "Shares of the classes", ["class", "share"], optional=["period", "rows", "low", "high"]
)
def plot_target_by_period(data: pd.DataFrame, target: str) -> Figure:
    """Share of each class by period, with intervals.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``class, period, rows, share, low, high``.
    """
    has_periods = data["period"].nunique() > 1
    displayed_rows, note = explore.select_latest_periods(data, data["class"].nunique())
    names = [
        f"{row['class']}, {explore.format_period(row['period'])}" if has_periods else row["class"]
        for _, row in displayed_rows.iterrows()
    ]
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows)))
    texts = [
        f"{format_share(share, 1)}  of {rows:,.0f}"
        for share, rows in zip(displayed_rows["share"], displayed_rows["rows"], strict=True)
    ]
    plotting.draw_dots(ax, names, displayed_rows, "share", color=style.POSITIVE, row_texts=texts)
    ax.set_xlim(0, None)
    plotting.set_percent_format(ax)
    ax.set_xlabel(f"share of each class of {target}, with 95% CI")
    shares = pd.Series(
        {
            name: np.average(group["share"], weights=group["rows"].fillna(1))
            for name, group in data.groupby("class", sort=False)
        }
    ).sort_values(kind="stable")
    alt = (
        f"The most frequent class is {shares.index[-1]}, with {format_share(shares.iloc[-1], 1)}; "
        f"the rarest is {shares.index[0]}, "
    )
    return Figure(
        figure,
        alt=f"{alt}with {format_share(shares.iloc[0], 1)}.",
        caption=f"Right: share, and number of rows.{note}",
    )


@style.apply_style
def plot_feature_distributions(train: pd.DataFrame, columns: Sequence[str], target: str) -> Figure:
    """Class shares by feature: by quintile of a number, or by category."""
    names = explore.select_drawable_columns(train, columns, target)
    if not names:
        return empty_figure("The classes by column")
    classes = sorted(train[target].unique(), key=natural_sort_key)
    mixes = {name: _compute_class_shares(train, name, target, classes) for name in names}
    n_grid_columns = 2 if len(classes) > 4 else explore.GRID_COLUMNS
    max_rows = max(len(mix) for mix in mixes.values())
    figure, grid = plotting.subplot_grid(len(names), n_grid_columns, 0.27 * max_rows + 0.75, 0.2)
    for ax, (name, mix) in zip(grid.flat, mixes.items(), strict=False):
        texts = [[format_share(share) for share in row] for row in mix.to_numpy()]
        plotting.draw_heatmap(ax, mix.to_numpy(), texts, (list(mix.index), classes))
        plotting.label_heatmap_axes(ax, mix.index, classes, row_chars=14, column_chars=9)
        ax.set_title(plotting.truncate(name, 26))
    data = pd.concat(
        [mix.rename_axis("value").reset_index().assign(column=name) for name, mix in mixes.items()]
    )
    data = data[["column", "value", *classes]].reset_index(drop=True)
    share_ranges = {name: (mix.max() - mix.min()).max() for name, mix in mixes.items()}
    top_column = max(share_ranges, key=lambda name: share_ranges[name])
    alt = (
        f"The shares of {len(classes)} classes by {format_count(len(names), 'column')} differ most "
        f"by {top_column}: a class's share changes by "
    )
    caption = (
        "Each row adds up to 100%: class shares among the rows with this value (at most the "
        f"{explore.MAX_CATEGORIES} most frequent), or in this quintile."
    )
    return Figure(
        figure, alt=f"{alt}{format_share(share_ranges[top_column])}.", data=data, caption=caption
    )


def _compute_class_shares(
    train: pd.DataFrame, name: str, target: str, classes: list[Any]
) -> pd.DataFrame:
    groups, is_continuous = explore.bin_column(train[name], BINS, use_upper_bound_labels=True)
    mix = pd.crosstab(groups, train[target], normalize="index").reindex(
        columns=classes, fill_value=0.0
    )
    order = count_values(groups).index[: explore.MAX_CATEGORIES]
    selected = mix if is_continuous else mix.loc[sorted(order, key=natural_sort_key)]
    return selected.set_axis(selected.index.map(str))
