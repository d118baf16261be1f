"""Figures of the explore stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing

COLUMNS_OF_PANELS = 3
BINS = 24
MOST_VALUES = 8


@style.styled
def balance(frame: pd.DataFrame, target: str = "") -> Figure:
    """Share of the positive class in each period, with its interval.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``period, rows, rate, low, high``.
    """
    data = marks.usable(frame, ["period", "rows", "rate", "low", "high"], ["rate"])
    if data is None:
        return nothing("Share of the positive class")
    figure, ax = marks.canvas(marks.tall(len(data), each=0.36))
    texts = [f"{rate:.1%}  of {rows:,.0f}" for rate, rows in zip(data["rate"], data["rows"], strict=True)]
    marks.dots(
        ax,
        [period(p) for p in data["period"]],
        data["rate"],
        low=data["low"],
        high=data["high"],
        colour=style.POSITIVE,
        texts=texts,
    )
    overall = float(np.average(data["rate"], weights=data["rows"].fillna(1).clip(lower=1e-9)))
    marks.line(ax, overall, f"all {overall:.1%}")
    marks.percent(ax)
    ax.set_xlabel("share of the positive class, with its interval")
    first, last = data["rate"].min(), data["rate"].max()
    alt = (
        f"The positive class is {overall:.1%} of all rows, and from {first:.1%} to {last:.1%} by period."
        if len(data) > 1
        else f"The positive class is {overall:.1%} of all rows."
    )
    return Figure(figure, alt=alt, data=frame, caption="At the right: the share, and the rows it is of.")


@style.styled
def missingness(frame: pd.DataFrame) -> Figure:
    """Share of missing values of each column, most first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``column, share``.
    """
    data = marks.usable(frame, ["column", "share"], ["column", "share"])
    if data is None:
        return nothing("Missing values")
    gaps = data[data["share"] > 0].sort_values("share", ascending=False, kind="stable")
    full = len(data) - len(gaps)
    if gaps.empty:
        return Figure(None, alt=f"None of the {full} columns has a missing value.", data=frame)
    shown = gaps.head(marks.MOST_ROWS)
    figure, ax = marks.canvas(marks.tall(len(shown)))
    ax.barh(range(len(shown)), shown["share"], color=style.FAINT, height=0.62)
    marks.rows(ax, list(shown["column"]))
    for place, share in enumerate(shown["share"]):
        marks.beside(ax, place, f"{share:.1%}" if share >= 0.0005 else "<0.1%")
    ax.set_xlim(0, max(shown["share"].max() * 1.02, 0.01))
    marks.percent(ax)
    ax.set_xlabel("share of rows without a value")
    worst = shown.iloc[0]
    alt = f"Of {len(gaps)} columns with gaps, {worst['column']} lacks most: {worst['share']:.1%} of its values."
    return Figure(figure, alt=alt, data=frame, caption=f"Columns without a gap: {full}.")


@style.styled
def distributions(train: pd.DataFrame, columns: Sequence[str], target: str) -> Figure:
    """How each column is spread in the two classes: small multiples.

    A numeric column is drawn as one histogram per class, each of area one; a category as the
    share of the positive class in each of its values.
    """
    known = [name for name in columns if name in train.columns and train[name].notna().any()]
    if not known or target not in train.columns or train.empty:
        return nothing("Distributions")
    positive = _positive(train[target])
    figure, grid = marks.panels(len(known), COLUMNS_OF_PANELS, 1.75, 0.35)
    table = []
    for ax, name in zip(grid.flat, known, strict=False):
        draw = _spread if _is_number(train[name]) else _rates
        table.append({"column": name, **draw(ax, train[name], positive)})
        ax.set_title(marks.brief(name, 26))
    data = pd.DataFrame(table)
    return Figure(
        figure,
        alt=_told(data, len(known)),
        data=data,
        caption=(
            "Orange is the positive class and grey the other, each histogram of the same area. "
            "Bars are the share of the positive class for each value of a category, the line that of all rows."
        ),
    )


@style.styled
def associations(frame: pd.DataFrame, measure: str, chance: float) -> Figure:
    """How much each column alone tells of the target.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``column, strength, direction``: from chance to 1, and "higher", "lower" or "" for the values that go
        with more of the target.
    measure : str
        What the strength is.
    chance : float
        Its value where a column tells nothing.
    """
    data = marks.usable(frame, ["column", "strength", "direction"], ["column", "strength"])
    if data is None:
        return nothing("Columns on their own")
    data = data.sort_values("strength", ascending=False, kind="stable").reset_index(drop=True)
    shown = data.head(marks.MOST_ROWS)
    figure, ax = marks.canvas(marks.tall(len(shown)))
    ways = {"higher": "  ↑", "lower": "  ↓"}
    pairs = zip(shown["strength"], shown["direction"], strict=True)
    texts = [f"{strength:.3f}{ways.get(way, '')}" for strength, way in pairs]
    marks.dots(ax, shown["column"], shown["strength"], low=[chance] * len(shown), high=shown["strength"], texts=texts)
    marks.line(ax, chance, f"chance {chance:g}")
    ax.set_xlim(*marks.padded(shown["strength"], [chance]))
    ax.set_xlabel(f"{measure} of the column alone")
    best, little = data.iloc[0], chance + 0.05
    alt = f"On its own, {best['column']} tells most, with a {measure} of {best['strength']:.3f}"
    weak = int((data["strength"] < little).sum())
    arrows = data["direction"].isin(list(ways)).any()
    return Figure(
        figure,
        alt=f"{alt}; {weak} of {len(data)} columns are below {little:g}.",
        data=frame,
        caption="The arrow says whether higher or lower values go with more of the target." if arrows else "",
    )


@style.styled
def over_time(frame: pd.DataFrame) -> Figure:
    """How far each column's mean moves from the first period, in standard deviations.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``column, period, value``.
    """
    data = marks.usable(frame, ["column", "period", "value"], ["column", "period", "value"])
    if data is None:
        return nothing("Columns over time")
    wide = data.pivot_table(index="column", columns="period", values="value", aggfunc="first")
    worst = wide.abs().max(axis=1).sort_values(ascending=False, kind="stable")
    shown = wide.loc[worst.index[: marks.MOST_ROWS]]
    figure, ax = marks.canvas(marks.tall(len(shown), each=0.28))
    values = shown.to_numpy(dtype=float)
    texts = [["–" if np.isnan(v) else marks.signed(v) for v in row] for row in values]
    marks.cells(ax, values, texts)
    ax.set_yticks(range(len(shown)), [marks.brief(name) for name in shown.index])
    ax.set_xticks(range(shown.shape[1]), [marks.brief(p, 14) for p in shown.columns])
    ax.set_xlabel("period")
    name = worst.index[0]
    alt = f"The furthest to move is {name}, by {worst.iloc[0]:.2f} standard deviations of the first period"
    still = int((worst < 0.1).sum())
    return Figure(
        figure,
        alt=f"{alt}; {still} of {len(worst)} columns stay within 0.1.",
        data=frame,
        caption="Difference of means to the first period, in standard deviations; darker is further.",
    )


def grouped(column: pd.Series, bins: int, *, spans: bool = False) -> tuple[pd.Series, bool]:
    """The group of each row: of a number, the middle (or the span) of the quantile that it lies in; of a code, itself.

    Returns also whether the column is a number. Rows without a value belong to no group of a number, and to
    ``missing`` of a code.
    """
    if not _is_number(column):
        text = column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")
        return text.fillna("missing").astype(object), False
    cut = pd.qcut(column, bins, duplicates="drop")
    if spans:
        return cut.cat.rename_categories([f"to {span.right:,.4g}" for span in cut.cat.categories]), True
    return column.groupby(cut, observed=True).transform("median"), True


def period(name: Any) -> str:
    """What a row of a period is called; all rows, where there are no periods."""
    return "all rows" if name == "all" else f"period {name}"


def _positive(target: pd.Series) -> pd.Series:
    """The rarer of two classes asks the question where the table does not say which one does."""
    counts = count_values(target)
    if set(counts.index) <= {0, 1}:
        return target == 1
    return target == counts.index[-1]


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.nunique() > 6


def _spread(ax: Any, column: pd.Series, positive: pd.Series) -> dict[str, Any]:
    values = column.astype(float).replace([np.inf, -np.inf], np.nan)
    low, high = np.nanquantile(values, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for part, colour in [(values[~positive], style.NEGATIVE), (values[positive], style.POSITIVE)]:
        inside = part.dropna().clip(edges[0], edges[-1])
        if len(inside):
            heights, _ = np.histogram(inside, bins=edges, density=True)
            ax.stairs(heights, edges, color=colour, linewidth=1.5)
            ax.stairs(heights, edges, color=colour, alpha=0.12, fill=True)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=4)
    if high >= 1000:
        ax.xaxis.set_major_formatter("{x:,.0f}")
    typical = [values[part].median() for part in (positive, ~positive)]
    deviation = values.std()
    gap = abs(typical[0] - typical[1]) / deviation if deviation else np.nan
    return {"shown as": "histogram", "positive": typical[0], "other": typical[1], "gap": gap}


def _rates(ax: Any, column: pd.Series, positive: pd.Series) -> dict[str, Any]:
    names = column.astype(object).where(column.notna(), "missing").map(str)
    rates = positive.groupby(names).agg(["mean", "size"]).sort_values("size", ascending=False, kind="stable")
    rates = rates.head(MOST_VALUES).sort_index()
    ax.barh(range(len(rates)), rates["mean"], color=style.POSITIVE, alpha=0.75, height=0.66)
    ax.set_yticks(range(len(rates)), [marks.brief(name, 14) for name in rates.index])
    ax.invert_yaxis()
    ax.axvline(positive.mean(), color=style.MUTED, linestyle="--", linewidth=1)
    ax.tick_params(axis="y", length=0)
    marks.percent(ax)
    ax.locator_params(axis="x", nbins=4)
    most, least = rates["mean"].max(), rates["mean"].min()
    return {"shown as": "share by value", "positive": most, "other": least, "gap": most - least}


def _told(data: pd.DataFrame, shown: int) -> str:
    words = f"The spread of {shown} columns in the two classes"
    numeric = data[data["shown as"] == "histogram"].dropna(subset=["gap"])
    if numeric.empty:
        return f"{words}."
    top = numeric.loc[numeric["gap"].idxmax()]
    return (
        f"{words}: medians lie furthest apart for {top['column']}, {top['positive']:,.3g} in the positive "
        f"class and {top['other']:,.3g} in the other."
    )
