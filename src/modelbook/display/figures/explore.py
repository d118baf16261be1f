"""Figures of the explore stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.formatting import (
    choose_decimals,
    format_code,
    format_column_list,
    format_count,
    format_metric,
    format_share,
)

GRID_COLUMNS = 3
BINS = 24
MAX_CATEGORIES = 8  # the most frequent ones are drawn
MAX_DISCRETE_VALUES = 6  # a number of more values is binned
CLIPPED_SHARE = 0.005  # share of the rows beyond each end of a histogram
MAX_PERIOD_COLUMNS = 12  # periods side by side, with a readable text in each cell


@plotting.with_drawable_rows(
    "Share of the positive class", ["positive_rate"], optional=["period", "rows", "low", "high"]
)
def plot_target_by_period(data: pd.DataFrame, positive: str = "positive") -> Figure:
    """Share of the positive class by period, with intervals.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``period, rows, positive_rate, low, high``.
    positive : str
        Name of the positive class.
    """
    displayed_rows, note = select_latest_periods(data)
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows), row_height=0.36))
    texts = [
        f"{format_share(rate, 1)}  of {rows:,.0f}"
        for rate, rows in zip(displayed_rows["positive_rate"], displayed_rows["rows"], strict=True)
    ]
    labels = [format_period(period) for period in displayed_rows["period"]]
    plotting.draw_dots(
        ax, labels, displayed_rows, "positive_rate", color=style.POSITIVE, row_texts=texts
    )
    rates = data["positive_rate"]
    overall = float(np.average(rates, weights=data["rows"].fillna(1).clip(lower=1e-9)))
    plotting.draw_reference_line(ax, overall, f"all {format_share(overall, 1)}")
    plotting.set_percent_format(ax)
    ax.set_xlabel(f"share of “{positive}”, with 95% CI")
    lowest, highest = rates.min(), rates.max()
    by_period = ""
    if len(data) > 1:
        by_period = f", and {format_share(lowest, 1)} to {format_share(highest, 1)} by period"
    alt = (
        f"The share of “{positive}” is {format_share(overall, 1)} of all training rows{by_period}."
    )
    return Figure(figure, alt=alt, caption=f"Right: share, and number of rows.{note}")


@plotting.with_drawable_rows("Missing values", ["column", "share"])
def plot_missing_rates(data: pd.DataFrame) -> Figure:
    """Missing rate of each column, highest first.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``column, share``.
    """
    incomplete = data[data["share"] > 0].sort_values("share", ascending=False, kind="stable")
    n_complete = len(data) - len(incomplete)
    if incomplete.empty:
        return Figure(None, alt=f"Columns without missing values: all {n_complete}.")
    displayed_rows = incomplete.head(plotting.MAX_ROWS)
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows)))
    bars = ax.barh(
        range(len(displayed_rows)), displayed_rows["share"], color=style.FAINT, height=0.62
    )
    plotting.label_rows(ax, list(displayed_rows["column"]))
    for position, (name, share) in enumerate(
        zip(displayed_rows["column"], displayed_rows["share"], strict=True)
    ):
        text = format_share(share, 1)
        plotting.annotate_row(ax, position, text)
        plotting.set_hover_text(bars[position], f"{name}: {text}")
    ax.set_xlim(0, max(displayed_rows["share"].max() * 1.02, 0.01))
    plotting.set_percent_format(ax)
    ax.set_xlabel("missing rate")
    highest = incomplete["share"].iloc[0]
    worst = list(incomplete.loc[incomplete["share"] == highest, "column"])
    alt = (
        f"{format_count(len(incomplete), 'column has', 'columns have')} missing values; "
        f"{format_column_list(worst)} {'has' if len(worst) == 1 else 'have'} the highest missing "
        f"rate, {format_share(highest, 1)}."
    )
    note = plotting.note_selection(
        len(displayed_rows), len(incomplete), "columns with missing values", "the first "
    )
    return Figure(figure, alt=alt, caption=f"Columns without missing values: {n_complete}.{note}")


@style.apply_style
def plot_feature_distributions(train: pd.DataFrame, columns: Sequence[str], target: str) -> Figure:
    """Distribution of each column by class, as small multiples.

    A numeric column with more than ``MAX_DISCRETE_VALUES`` values is drawn as one density histogram
    per class, any other column as the share of the positive class by value.
    """
    names = select_drawable_columns(train, columns, target)
    if not names:
        return empty_figure("Distributions")
    is_positive = _is_positive(train[target])
    class_names = _get_class_names(train[target])
    figure, grid = plotting.subplot_grid(len(names), GRID_COLUMNS, 1.75, 0.35)
    table = []
    for ax, name in zip(grid.flat, names, strict=False):
        draw = _draw_histograms if _is_continuous(train[name]) else _draw_positive_rates
        table.append({"column": name, **draw(ax, train[name], is_positive)})
        ax.set_title(plotting.truncate(name, 26))
    data = pd.DataFrame(table)
    return Figure(
        figure,
        alt=_write_alt_text(data, len(names), class_names),
        data=_format_medians(data, class_names),
        caption=(
            f"Orange: “{class_names[1]}”; grey: “{class_names[0]}”; the histograms have equal "
            f"area, and their first and last bin include the outer {CLIPPED_SHARE:.1%} of rows. "
            f"Bars: share of “{class_names[1]}” by category, of at most the {MAX_CATEGORIES} most "
            "frequent; line: share in all rows."
        ),
    )


@plotting.with_drawable_rows(
    "Columns on their own",
    ["column", "univariate_score"],
    optional=["direction", "non_missing_rate"],
)
def plot_univariate_scores(data: pd.DataFrame, metric: str, chance: float) -> Figure:
    """Predictive power of each column alone.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``column, univariate_score, direction, non_missing_rate``: the score is between
        chance and 1; the direction is "higher" or "lower", for the values that go with a higher
        target or the positive class, or ""; ``non_missing_rate`` is the share of rows with a value,
        on which the score is computed.
    metric : str
        Name of the score.
    chance : float
        Its value for a column without any predictive power.
    """
    data = data.sort_values("univariate_score", ascending=False, kind="stable").reset_index(
        drop=True
    )
    displayed_rows = data.head(plotting.MAX_ROWS)
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows)))
    arrow_by_direction = {"higher": "  ↑", "lower": "  ↓"}
    scores = displayed_rows["univariate_score"]
    texts = [
        f"{score:.3f}{arrow_by_direction.get(direction, '')}{_format_scored_rows(non_missing_rate)}"
        for score, direction, non_missing_rate in zip(
            scores, displayed_rows["direction"], displayed_rows["non_missing_rate"], strict=True
        )
    ]
    displayed_rows = displayed_rows.assign(low=chance, high=scores)
    plotting.draw_dots(
        ax, displayed_rows["column"], displayed_rows, "univariate_score", row_texts=texts
    )
    plotting.draw_reference_line(ax, chance, f"chance {chance:g}")
    ax.set_xlim(*plotting.compute_padded_limits(scores, [chance]))
    ax.set_xlabel(f"{metric} of the column alone")
    best = data.iloc[0]
    weak_limit = chance + 0.05
    alt = (
        f"On its own, {best['column']} is the strongest predictor, with a {metric} of "
        f"{best['univariate_score']:.3f}{_format_scored_rows(best['non_missing_rate'])}"
    )
    n_weak = int((data["univariate_score"] < weak_limit).sum())
    has_directions = data["direction"].isin(list(arrow_by_direction)).any()
    captions = []
    if has_directions:
        captions.append(
            "↑: the target, or the share of the positive class, increases with the column; ↓: it "
            "decreases."
        )
    if any(map(_format_scored_rows, data["non_missing_rate"])):
        captions.append(
            "Percentage: share of rows with a value; the score is computed on these rows."
        )
    note = plotting.note_selection(len(displayed_rows), len(data), "columns", "the first ")
    return Figure(
        figure,
        alt=f"{alt}; columns below {weak_limit:g}: {n_weak} of {len(data)}.",
        caption=(" ".join(captions) + note).lstrip(),
    )


def _format_scored_rows(non_missing_rate: float) -> str:
    """Format the share of rows on which a score is computed; empty if unknown, or about 100%."""
    text = format_share(non_missing_rate)
    return "" if text in ("100%", "nan%") else f" on {text} of rows"


@plotting.with_drawable_rows(
    "Columns over time", ["column", "period", "mean", "shift"], optional=["is_share"]
)
def plot_mean_shifts(data: pd.DataFrame) -> Figure:
    """Mean of each column by period, in its own units, with tints by its shift.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``column, period, mean``; ``shift``, the difference to the first period in standard
        deviations; ``is_share``, whether the mean is a share of the rows.
    """
    data = data.assign(text=_format_means(data))
    shift_matrix, texts = (
        data.pivot_table(index="column", columns="period", values=name, aggfunc="first").reindex(
            data["column"].unique()
        )
        for name in ("shift", "text")
    )
    max_shift = shift_matrix.abs().max(axis=1).sort_values(ascending=False, kind="stable")
    n_periods = shift_matrix.shape[1]
    n_displayed = min(n_periods, MAX_PERIOD_COLUMNS)
    positions = np.linspace(0, n_periods - 1, n_displayed).round().astype(int)
    displayed_rows = shift_matrix.loc[max_shift.index[: plotting.MAX_ROWS]].iloc[:, positions]
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows), row_height=0.28))
    cell_texts = texts.reindex_like(displayed_rows).fillna("–").to_numpy()
    names = list(displayed_rows.index), [f"period {name}" for name in displayed_rows.columns]
    plotting.draw_heatmap(ax, displayed_rows.to_numpy(dtype=float), cell_texts, names)
    plotting.label_heatmap_axes(ax, displayed_rows.index, displayed_rows.columns, row_chars=40)
    ax.set_xlabel("period")
    column = max_shift.index[0]
    same_means = (texts.loc[max_shift.index].fillna("") == texts.loc[column].fillna("")).all(axis=1)
    columns = list(max_shift.index[np.isclose(max_shift, max_shift.iloc[0]) & same_means])
    period = shift_matrix.loc[column].abs().idxmax()
    first_period = shift_matrix.columns[0]
    alt = (
        f"{format_column_list(columns)} {'shifts' if len(columns) == 1 else 'shift'} most, "
        f"from {texts.loc[column, first_period]} in period {first_period} to "
        f"{texts.loc[column, period]} in period {period}, {max_shift.iloc[0]:.2f} standard "
        "deviations"
    )
    return Figure(
        figure,
        alt=f"{alt}.",
        data=data[["column", "period", "text", "shift"]].rename(
            columns={"text": "mean", "shift": "shift in SD"}
        ),
        caption="Mean by period, in the column's own units; for missing values and yes/no columns, "
        "the share of rows. Darker: further from the first period, in standard deviations."
        + plotting.note_selection(len(displayed_rows), len(shift_matrix), "columns", "the first ")
        + plotting.note_selection(n_displayed, n_periods, "periods, evenly spaced"),
    )


def select_latest_periods(data: pd.DataFrame, rows_per_period: int = 1) -> tuple[pd.DataFrame, str]:
    """Return the rows of the latest periods that fit into a figure, and a note if there are more.

    ``data`` are sorted by period.
    """
    periods = list(dict.fromkeys(data["period"]))
    latest_periods = periods[-max(plotting.MAX_ROWS // rows_per_period, 1) :]
    displayed_rows = data[data["period"].isin(latest_periods)].reset_index(drop=True)
    note = plotting.note_selection(len(latest_periods), len(periods), "periods", "the latest ")
    return displayed_rows, note


def _format_means(data: pd.DataFrame) -> list[str]:
    """Shares as percentages, other means with the digits of their column's largest mean."""
    largest = data["mean"].abs().groupby(data["column"]).transform("max")
    return [
        format_share(mean) if is_share == 1 else f"{mean:,.{choose_decimals(limit)}f}"
        for mean, is_share, limit in zip(data["mean"], data["is_share"], largest, strict=True)
    ]


def select_drawable_columns(train: pd.DataFrame, columns: Sequence[str], target: str) -> list[str]:
    """Return the columns that have values; an empty list without a target."""
    if target not in train.columns:
        return []
    return [name for name in columns if name in train.columns and train[name].notna().any()]


def bin_column(
    column: pd.Series, n_bins: int, *, use_upper_bound_labels: bool = False
) -> tuple[pd.Series, bool]:
    """Bin a column for a figure, and return whether it is continuous.

    A numeric column with more than ``MAX_DISCRETE_VALUES`` values is continuous: it is cut into
    quantile bins, labelled by their median (or their upper bound); missing values get no bin. Any
    other column keeps its values, with ``missing`` where it has none.
    """
    if not _is_continuous(column):
        text = column.map(format_code, na_action="ignore")
        return text.fillna("missing").astype(object), False
    bins = pd.qcut(column, n_bins, duplicates="drop")
    if use_upper_bound_labels:
        return bins.cat.rename_categories(
            [f"to {interval.right:,.4g}" for interval in bins.cat.categories]
        ), True
    return column.groupby(bins, observed=True).transform("median"), True


def format_period(name: Any) -> str:
    """Format the label of a period; "all rows" if there are no periods."""
    return "all rows" if name == "all" else f"period {name}"


def _get_class_names(target: pd.Series) -> tuple[str, str]:
    """Return the names of the negative and the positive class: the categories of the target."""
    if isinstance(target.dtype, pd.CategoricalDtype):
        negative, positive = target.cat.categories
        return str(negative), str(positive)
    return "negative", "positive"


def _is_positive(target: pd.Series) -> pd.Series:
    """Return a mask of the positive class: the last category, 1, or else the rarer class."""
    if isinstance(target.dtype, pd.CategoricalDtype):
        return target == target.cat.categories[-1]
    counts = count_values(target)
    if set(counts.index) <= {0, 1}:
        return target == 1
    return target == counts.index[-1]


def _is_continuous(column: pd.Series) -> bool:
    return (
        pd.api.types.is_numeric_dtype(column)
        and not pd.api.types.is_bool_dtype(column)
        and column.nunique() > MAX_DISCRETE_VALUES
    )


def _draw_histograms(ax: Any, column: pd.Series, is_positive: pd.Series) -> dict[str, Any]:
    values = column.astype(float).replace([np.inf, -np.inf], np.nan)
    low, high = np.nanquantile(values, [CLIPPED_SHARE, 1 - CLIPPED_SHARE])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for subset, color in [
        (values[~is_positive], style.NEGATIVE),
        (values[is_positive], style.POSITIVE),
    ]:
        clipped = subset.dropna().clip(edges[0], edges[-1])
        if len(clipped):
            heights, _ = np.histogram(clipped, bins=edges, density=True)
            ax.stairs(heights, edges, color=color, linewidth=1.5)
            ax.stairs(heights, edges, color=color, alpha=0.12, fill=True)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=4)
    if high >= 1000:
        ax.xaxis.set_major_formatter("{x:,.0f}")
    medians = [values[subset].median() for subset in (is_positive, ~is_positive)]
    deviation = values.std()
    distance = abs(medians[0] - medians[1]) / deviation if deviation else np.nan
    return {
        "plot": "histogram",
        "median, positive": medians[0],
        "median, negative": medians[1],
        "difference in SD": distance,
    }


def _draw_positive_rates(ax: Any, column: pd.Series, is_positive: pd.Series) -> dict[str, Any]:
    names = column.astype(object).where(column.notna(), "missing").map(str)
    rates = (
        is_positive.groupby(names)
        .agg(["mean", "size"])
        .sort_values("size", ascending=False, kind="stable")
    )
    rates = rates.head(MAX_CATEGORIES).sort_index()
    bars = ax.barh(range(len(rates)), rates["mean"], color=style.POSITIVE, alpha=0.75, height=0.66)
    for bar, name, rate, size in zip(bars, rates.index, rates["mean"], rates["size"], strict=True):
        plotting.set_hover_text(bar, f"{name}: {format_share(rate, 1)} of {size:,} rows")
    ax.set_yticks(range(len(rates)), [plotting.truncate(name, 14) for name in rates.index])
    ax.invert_yaxis()
    ax.axvline(is_positive.mean(), color=style.MUTED, linestyle="--", linewidth=1)
    ax.tick_params(axis="y", length=0)
    plotting.set_percent_format(ax)
    ax.locator_params(axis="x", nbins=4)
    highest_rate, lowest_rate = rates["mean"].max(), rates["mean"].min()
    return {"plot": "rate by value", "highest rate": highest_rate, "lowest rate": lowest_rate}


def _format_medians(data: pd.DataFrame, class_names: tuple[str, str]) -> pd.DataFrame:
    """Name the medians after the classes, and format each with the digits of its size."""
    medians = {"median, negative": class_names[0], "median, positive": class_names[1]}
    named = data.rename(columns={name: f"median, {label}" for name, label in medians.items()})
    columns = [f"median, {label}" for label in medians.values() if f"median, {label}" in named]
    return named.assign(**{name: named[name].map(format_metric, "ignore") for name in columns})


def _write_alt_text(data: pd.DataFrame, n_columns: int, class_names: tuple[str, str]) -> str:
    text = f"The distribution of {format_count(n_columns, 'column')} in the two classes"
    if "difference in SD" not in data or data["difference in SD"].isna().all():
        return f"{text}."
    top = data.loc[data["difference in SD"].idxmax()]
    return (
        f"{text}: medians differ most for {top['column']}, by {top['difference in SD']:.2f} "
        f"standard deviations: {format_metric(top['median, positive'])} for “{class_names[1]}”, "
        f"{format_metric(top['median, negative'])} for “{class_names[0]}”."
    )
