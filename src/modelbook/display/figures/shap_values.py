"""SHAP summary figures: a strip of dots per feature, or a heat map for multiclass models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.tasks.metric_format import format_metric

MAX_FEATURES, MAX_DOTS, MAX_CLASSES = 12, 90, 8  # limits that keep the figure readable
# Bins across a strip; distance between dots and half the height of a strip, in rows.
STRIP_BINS, DOT_STEP, STRIP_HALF_HEIGHT = (110, 0.11, 0.4)
# Rank correlation of feature value and SHAP value at which a direction is reported.
MIN_RANK_CORRELATION = 0.5
# The upper and the lower third of a feature's values; a category may be called "high".
HIGH, LOW = "high values", "low values"
LEVEL_COLORS = ((style.FAINT, ""), (style.ACCENT, LOW), (style.POSITIVE, HIGH))
ARROWS = {HIGH: "↑", LOW: "↓"}
ADDITIVITY_NOTE = (
    "The SHAP values of a row add up to this output minus its mean over training rows; they are "
    "not causal effects."
)


@style.apply_style
def plot_shap_summary(frame: pd.DataFrame, unit: str, reason: str = "") -> Figure:
    """SHAP values by feature, largest mean absolute value first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``feature, level, value, shap, class``: one row per feature, scored row and class.
    unit : str
        The output that the SHAP values decompose: it may be that of one model of an ensemble.
    reason : str
        Why there is nothing to show.
    """
    data = plotting.select_drawable_rows(
        frame, ["feature", "level", "value", "shap", "class"], ["feature", "shap"]
    )
    if data is None:
        return empty_figure("SHAP values", reason)
    data["class"] = data["class"].fillna("")
    table = _summarize(data)
    draw = _draw_class_heatmap if data["class"].nunique() > 1 else _draw_strips
    return draw(data, table, unit)


def _summarize(data: pd.DataFrame) -> pd.DataFrame:
    """Aggregate by feature and class: mean absolute value, 90% range, direction; largest first."""
    rows = []
    for (feature, name), group in data.groupby(["feature", "class"], sort=False):
        low, high = group["shap"].quantile([0.05, 0.95])
        mean_absolute = group["shap"].abs().mean()
        direction = _find_raising_values(group)
        rows.append(
            {
                "feature": feature,
                "class": name,
                "mean |SHAP|": mean_absolute,
                "low": low,
                "high": high,
                "higher where": direction,
            }
        )
    table = pd.DataFrame(rows)
    feature_order = (
        table.groupby("feature")["mean |SHAP|"]
        .mean()
        .sort_values(ascending=False, kind="stable")
        .index
    )
    return table.set_index("feature").loc[feature_order].reset_index()


def _find_raising_values(group: pd.DataFrame) -> str:
    """Return which values raise the prediction: HIGH, LOW, a category, or "" if none does."""
    if group["value"].nunique() > 1:
        return str(group.groupby("value")["shap"].mean().idxmax())
    ranked_rows = group.dropna(subset=["level"])
    if ranked_rows["level"].nunique() < 2 or ranked_rows["shap"].nunique() < 2:
        return ""
    rank_correlation = ranked_rows["level"].rank().corr(ranked_rows["shap"].rank())
    if rank_correlation >= MIN_RANK_CORRELATION:
        return HIGH
    if rank_correlation <= -MIN_RANK_CORRELATION:
        return LOW
    return ""


def _draw_strips(data: pd.DataFrame, table: pd.DataFrame, unit: str) -> Figure:
    displayed_features = table.head(MAX_FEATURES)
    figure, ax = plotting.subplots(
        plotting.compute_height(len(displayed_features), row_height=0.36)
    )
    low, high = plotting.compute_padded_limits(
        data.loc[data["feature"].isin(displayed_features["feature"]), "shap"], [0.0], margin=0.03
    )
    strips = dict(iter(data.groupby("feature", sort=False)))
    dots = pd.concat(
        [
            _place_dots(strips[name].head(MAX_DOTS), row, low, high)
            for row, name in enumerate(displayed_features["feature"])
        ]
    )
    for color, level in LEVEL_COLORS:
        _draw_dots(ax, dots[dots["level_name"] == level], color, (high - low) * 1e-4)
    _label_colors(ax)
    ax.axvline(0, color=style.MUTED, linewidth=1)
    ax.set_xlim(low, high)
    plotting.label_rows(ax, displayed_features["feature"])
    _annotate_mean_values(ax, displayed_features)
    plotting.set_thousands_format(ax.xaxis)
    ax.set_xlabel(f"SHAP value: contribution to {unit}")
    count = len(data) // len(table)
    caption = (
        f"A dot is a holdout row, {min(MAX_DOTS, count)} of {count:,} drawn. To the right of the "
        f"line the feature raised {unit}, to the left it lowered it. Orange: high value of the "
        "feature (upper third); blue: low value; grey: middle value, category or missing. Right: "
        "mean absolute SHAP value; ↑: the category with the highest SHAP values. "
        f"{ADDITIVITY_NOTE}"
    )
    return Figure(
        figure,
        alt=_write_alt_text(table, unit),
        data=table.drop(columns="class"),
        caption=_note_feature_limit(table, caption),
    )


def _label_colors(ax: Any) -> None:
    for offset_x, (color, level) in zip((-66, 0), LEVEL_COLORS[1:], strict=True):
        plotting.annotate_point(
            ax,
            (1, 1),
            level,
            offset=(offset_x, 0),
            xycoords="axes fraction",
            ha="right",
            color=color,
        )


def _annotate_mean_values(ax: Any, features: pd.DataFrame) -> None:
    """Write each feature's mean absolute SHAP value, and the category with the highest ones."""
    for row, (feature, size, direction) in enumerate(
        zip(features["feature"], features["mean |SHAP|"], features["higher where"], strict=True)
    ):
        category = direction if direction not in (HIGH, LOW) else ""
        arrow = f"  ↑ {plotting.truncate(category, 16)}" if category else ""
        plotting.annotate_row(ax, row, format_metric(size) + arrow)
        where = f", {_describe_direction(direction)}" if direction else ""
        plotting.add_hover_row(
            ax, row, f"{feature}: mean absolute SHAP value {format_metric(size)}{where}"
        )


def _describe_direction(direction: str) -> str:
    """Describe the feature's values that go with the highest SHAP values."""
    return f"{'higher' if direction in ARROWS else 'highest'} for {direction}"


def _place_dots(points: pd.DataFrame, row: int, low: float, high: float) -> pd.DataFrame:
    """Return the position and colour level of a feature's dots; similar values are stacked."""
    points = points.sort_values("level", na_position="first", kind="stable")
    bin_index = ((points["shap"] - low) / (high - low) * STRIP_BINS).astype(int)
    rank_in_bin = points.groupby(bin_index).cumcount()
    bin_size = points.groupby(bin_index)["shap"].transform("size")
    y = row + (rank_in_bin - (bin_size - 1) / 2) * np.minimum(
        DOT_STEP, 2 * STRIP_HALF_HEIGHT / bin_size
    )
    names = np.select([points["level"] >= 2 / 3, points["level"] <= 1 / 3], [HIGH, LOW], "")
    return points.assign(y=y, level_name=names)


def _draw_dots(ax: Any, dots: pd.DataFrame, color: str, length: float) -> None:
    """Draw all dots as one path of short strokes: separate marks would triple the file size."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    x, y = dots["shap"].to_numpy(), dots["y"].to_numpy()
    ends = np.stack([np.column_stack([x, y]), np.column_stack([x + length, y])], axis=1).reshape(
        -1, 2
    )
    path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(x)))
    path.should_simplify = False  # it would drop strokes that are this short
    ax.add_patch(
        PathPatch(path, fill=False, edgecolor=color, linewidth=3, capstyle="round", zorder=3)
    )


def _draw_class_heatmap(data: pd.DataFrame, table: pd.DataFrame, unit: str) -> Figure:
    """Heat map of mean absolute SHAP values by feature and class, with arrows for directions."""
    classes = list(dict.fromkeys(data["class"]))[:MAX_CLASSES]
    class_table = table[table["class"].isin(classes)]
    features = list(dict.fromkeys(table["feature"]))[:MAX_FEATURES]
    sizes, directions = (
        class_table.pivot(index="feature", columns="class", values=name).loc[features, classes]
        for name in ("mean |SHAP|", "higher where")
    )
    texts = [
        [f"{format_metric(size)} {ARROWS.get(direction, ' ')}" for size, direction in zip(*row)]
        for row in zip(sizes.to_numpy(), directions.to_numpy())
    ]
    figure, ax = plotting.subplots(
        plotting.compute_height(len(features), row_height=0.32, base_height=0.9)
    )
    plotting.draw_heatmap(ax, sizes.to_numpy(), texts, (features, classes))
    plotting.label_heatmap_axes(ax, features, classes, column_chars=16)
    ax.xaxis.tick_top()
    count = len(data) // len(table)
    caption = (
        f"Mean absolute SHAP value of {count:,} holdout rows, as a contribution to {unit}. ↑: "
        f"higher feature values raise it for the class, ↓: lower it. {ADDITIVITY_NOTE}"
    )
    return Figure(
        figure,
        alt=_write_alt_text(table, unit),
        data=table,
        caption=_note_feature_limit(table, caption),
    )


def _write_alt_text(table: pd.DataFrame, unit: str) -> str:
    """Describe the two features with the largest mean absolute SHAP value."""
    sizes = table.groupby("feature", sort=False)["mean |SHAP|"].mean().head(2)
    directions = (
        {}
        if table["class"].nunique() > 1
        else dict(zip(table["feature"], table["higher where"], strict=True))
    )
    direction_texts = {
        name: f" ({_describe_direction(directions[name])})" if directions.get(name) else ""
        for name in sizes.index
    }
    qualifier = "on average over the classes" if table["class"].nunique() > 1 else "on average"
    first, *others = (
        f"{name}{direction_texts[name]}, by {format_metric(size)} {qualifier}"
        for name, size in sizes.items()
    )
    odds_text = (
        f" (the odds by a factor of {np.exp(sizes.iloc[0]):.2g})"
        if unit.startswith("the log-odds")
        else ""
    )
    second_text = f"; then {others[0]}" if others else ""
    return f"The feature that contributes most to {unit} is {first}{odds_text}{second_text}."


def _note_feature_limit(table: pd.DataFrame, caption: str) -> str:
    n_features = table["feature"].nunique()
    if n_features > MAX_FEATURES:
        return f"The first {MAX_FEATURES} of {n_features} features. {caption}"
    return caption
