"""Partial dependence of the prediction on the most important features."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure
from modelbook.formatting import format_estimate, format_share, natural_sort_key
from modelbook.tasks.metric_format import format_metric

GRID_COLUMNS = 2
CAPTION = (
    "Line or dot: mean prediction with the feature at this value in every row. Band or bar: the "
    "predictions of the middle 80% of the rows; it shows how much rows differ, not how certain the "
    "model is. Correlated features are varied one at a time, and effects are not causal."
)
MULTICLASS_CAPTION = (
    "Each line is a class: its mean probability with the feature at this value in every row. "
    "Correlated features are varied one at a time, and effects are not causal."
)
COLORS = (style.ACCENT, style.POSITIVE, style.INK, style.MUTED)
LINE_STYLES = ("-", "--", ":")


@plotting.with_drawable_rows(
    "Partial dependence", ["feature", "kind", "value", "mean"], optional=["low", "high"]
)
def plot_partial_dependence(data: pd.DataFrame, *, is_probability: bool = True) -> Figure:
    """Partial dependence plots, one panel per feature, on a common y scale.

    Numeric features are drawn as a line with a band, categories as dots with bars. For multiclass
    models each class is a line without a band.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``feature, kind, value, mean, low, high``, and ``class`` for multiclass models.
    is_probability : bool
        Whether the prediction is a probability.
    """
    panels = [(str(name), panel) for name, panel in data.groupby("feature", sort=False)]
    figure, axes = plotting.subplot_grid(len(panels), GRID_COLUMNS, 2.35, 0.3, sharey=True)
    is_multiclass = "class" in data and data["class"].nunique() > 1
    for position, (ax, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        _draw_panel(ax, *panel, is_multiclass=is_multiclass)
        _add_hover_texts(ax, panel[1], is_probability)
        _format_axis(ax, is_probability, is_first_column=position % GRID_COLUMNS == 0)
    names = ["mean"] if is_multiclass else ["mean", "low", "high"]
    low, high = plotting.compute_padded_limits(*(data[name] for name in names))
    axes.flat[0].set_ylim(*((max(low, 0), min(high, 1)) if is_probability else (low, high)))
    alt, summary = (
        _write_multiclass_alt_text(panel_subset)
        if is_multiclass
        else _write_alt_text(panel_subset, is_probability)
        for panel_subset in (panels, panels[:1])
    )
    return Figure(
        figure, alt=alt, summary=summary, caption=MULTICLASS_CAPTION if is_multiclass else CAPTION
    )


def _draw_panel(ax: Any, name: str, curves: pd.DataFrame, *, is_multiclass: bool) -> None:
    is_categorical = (curves["kind"] == "category").all()
    for position, (_, curve) in enumerate(
        curves.groupby("class", sort=False) if is_multiclass else [("", curves)]
    ):
        color = COLORS[position % len(COLORS)]
        if is_categorical:
            _draw_categories(
                ax, _sort_categories(curve).reset_index(drop=True), color, is_multiclass
            )
        else:
            values = curve["value"].astype(float)
            if not is_multiclass:
                plotting.draw_band(ax, values, curve["low"], curve["high"], color)
            ax.plot(
                values,
                curve["mean"],
                color=color,
                linestyle=LINE_STYLES[position // len(COLORS) % len(LINE_STYLES)],
                marker="o",
                markersize=3,
            )
            ax.locator_params(axis="x", nbins=5)
        if is_multiclass:
            _label_class(ax, curve, position, is_categorical)
    ax.grid(axis="y")
    ax.set_title(plotting.truncate(name))


def _add_hover_texts(ax: Any, curves: pd.DataFrame, is_probability: bool) -> None:
    """Add tooltips with the mean prediction of each value, and of each class."""
    is_categorical = (curves["kind"] == "category").all()
    ordered = _sort_categories(curves) if is_categorical else curves
    texts = {
        value: f"{_format_category(value)}: "
        + ", ".join(
            f"{row.get('class') or ''} {_format_mean(row['mean'], is_probability)}".strip()
            for row in rows.to_dict("records")
        )
        for value, rows in ordered.groupby("value", sort=False)
    }
    positions = range(len(texts)) if is_categorical else list(texts)
    plotting.add_hover_strips(ax, positions, list(texts.values()))


def _format_mean(mean: float, is_probability: bool) -> str:
    return format_share(mean) if is_probability else format_metric(mean)


def _draw_categories(ax: Any, curve: pd.DataFrame, color: str, is_multiclass: bool) -> None:
    bars = curve.dropna(subset=["low", "high"])
    positions = range(len(curve))
    if not is_multiclass:
        ax.vlines(bars.index, bars["low"], bars["high"], color=color, alpha=0.3, linewidth=5)
    ax.scatter(positions, curve["mean"], s=38, color=color, zorder=3)
    if is_multiclass:
        ax.plot(positions, curve["mean"], color=color, linewidth=0.8, alpha=0.5)
    ax.set_xticks(
        positions, [plotting.truncate(_format_category(value), 8) for value in curve["value"]]
    )
    ax.set_xlim(-0.6, len(curve) - 0.4)


def _label_class(ax: Any, curve: pd.DataFrame, position: int, is_categorical: bool) -> None:
    """Write the class at the right end of its line."""
    last_point = _sort_categories(curve).iloc[-1] if is_categorical else curve.iloc[-1]
    label_xy = (
        len(curve) - 1 if is_categorical else float(last_point["value"]),
        float(last_point["mean"]),
    )
    plotting.annotate_point(
        ax,
        label_xy,
        plotting.truncate(last_point["class"], 10),
        offset=(6, 0),
        color=COLORS[position % len(COLORS)],
    )


def _format_axis(ax: Any, is_probability: bool, *, is_first_column: bool) -> None:
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    ax.yaxis.set_major_formatter(
        PercentFormatter(1.0, decimals=0) if is_probability else StrMethodFormatter("{x:,g}")
    )
    if is_first_column:
        ax.set_ylabel("mean prediction")


def _sort_categories(curve: pd.DataFrame) -> pd.DataFrame:
    """Sort categories in natural order."""
    return curve.iloc[
        sorted(
            range(len(curve)),
            key=lambda position: natural_sort_key(_format_category(curve["value"].iloc[position])),
        )
    ]


def _write_alt_text(panels: list[tuple[str, pd.DataFrame]], is_probability: bool) -> str:
    """Describe each panel: the range of the mean prediction."""
    texts = []
    for name, curve in panels:
        low, high = curve.loc[curve["mean"].idxmin()], curve.loc[curve["mean"].idxmax()]
        lowest, highest = (_format_mean(row["mean"], is_probability) for row in (low, high))
        texts.append(
            f"with {name} from {lowest} ({_name_value(low['value'])}) to {highest} "
            f"({_name_value(high['value'])})"
        )
    return f"The mean prediction changes {'; '.join(texts)}."


def _write_multiclass_alt_text(panels: list[tuple[str, pd.DataFrame]]) -> str:
    """Describe each panel: the class whose probability changes most."""
    texts = []
    for name, curves in panels:
        ranges = curves.groupby("class", sort=False)["mean"].agg(["min", "max"])
        top_class = (ranges["max"] - ranges["min"]).idxmax()
        texts.append(
            f"with {name} most for {top_class}, from {format_share(ranges['min'][top_class])} to "
            f"{format_share(ranges['max'][top_class])}"
        )
    return f"The mean probability changes {'; '.join(texts)}."


def _name_value(value: Any) -> str:
    return f"at {format_estimate(value)}" if isinstance(value, float) else f"for {value}"


def _format_category(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
