"""Plotting helpers that figures share: axes, dots with intervals, bands, heat maps, labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from modelbook.display import style
from modelbook.display.components import empty_figure
from modelbook.display.style import DrawFunction
from modelbook.formatting import format_metric, is_numeric

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    Values: TypeAlias = Sequence[Any] | pd.Series[Any]

MAX_ROWS = 40
# Labels of axes and the gid of texts, by which narrow_figure.py recognises them.
ROW_AXES_LABEL, HEATMAP_AXES_LABEL, ROW_TEXT_GID = "rows", "heatmap", "row text"
MAX_HOVER_STRIPS = 25  # maximum for a curve; each takes some 300 bytes
# Nearly transparent: a fully transparent patch would receive no pointer events.
HOVER_AREA: dict[str, Any] = {"color": style.PAPER, "alpha": 0.001, "linewidth": 0, "zorder": 5}


@style.apply_style
def subplots(
    height: float = 3.2,
    width: float = style.FIGURE_WIDTH,
    nrows: int = 1,
    ncols: int = 1,
    **subplot_options: Any,
) -> Any:
    """Return a figure without a backend, and its axes (one, or an array of them)."""
    from matplotlib.figure import Figure as MplFigure

    figure = MplFigure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(nrows, ncols, **subplot_options)


def note_selection(n_displayed: int, n_total: int, noun: str, which: str = "") -> str:
    """Say how many of the items are displayed; empty if all are."""
    if n_displayed == n_total:
        return ""
    return f" The figure shows {which}{n_displayed} of {n_total:,} {noun}."


def subplot_grid(
    count: int, ncols: int, panel_height: float, base_height: float, **subplot_options: Any
) -> Any:
    """Return a figure and a grid of axes for ``count`` panels of ``panel_height`` inches."""
    n_grid_rows = -(-count // ncols)
    figure, grid = subplots(
        panel_height * n_grid_rows + base_height,
        nrows=n_grid_rows,
        ncols=ncols,
        squeeze=False,
        **subplot_options,
    )
    for ax in grid.flat[count:]:
        ax.set_visible(False)
    return figure, grid


def compute_height(n_rows: int, *, row_height: float = 0.3, base_height: float = 0.85) -> float:
    """Return the figure height, in inches, for a number of rows."""
    return base_height + row_height * max(n_rows, 1)


def select_drawable_rows(
    frame: pd.DataFrame | None, columns: Sequence[str], required: Sequence[str]
) -> pd.DataFrame | None:
    """Return the rows of a frame that can be drawn; None if there are none.

    Missing columns are added as NaN; rows without the required values are dropped.
    """
    if frame is None or frame.empty:
        return None
    data = frame.reindex(
        columns=[*frame.columns, *(column for column in columns if column not in frame.columns)]
    )
    data = data.assign(**{str(name): _missing_to_nan(data[name]) for name in data.columns})
    data = data.replace([math.inf, -math.inf], math.nan).dropna(subset=[*required])
    return None if data.empty else data.reset_index(drop=True)


def with_drawable_rows(
    subject: str, required: Sequence[str], optional: Sequence[str] = ()
) -> Callable[[DrawFunction], DrawFunction]:
    """Pass only drawable rows to a plotting function, and apply the reports' style.

    Without such rows it returns a placeholder figure. The figure's data are the given rows, unless
    the function sets others.

    Parameters
    ----------
    subject : str
        What the figure shows.
    required, optional : sequence of str
        Columns; rows without the required values are not drawn.
    """

    def decorate(draw: DrawFunction) -> DrawFunction:
        @functools.wraps(draw)
        def wrapper(frame: pd.DataFrame | None, *args: Any, **kwargs: Any) -> Any:
            data = select_drawable_rows(frame, [*required, *optional], required)
            if data is None:
                return empty_figure(subject)
            figure = draw(data, *args, **kwargs)
            if figure.data is None:
                figure.data = frame
            return figure

        return style.apply_style(wrapper)  # type: ignore[return-value]

    return decorate


def _missing_to_nan(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return numbers as floats with NaN for any missing value; other columns unchanged."""
    if column.isna().all() or (column.isna().any() and is_numeric(column)):
        return column.astype(object).where(column.notna(), math.nan).astype(float)
    return column


def draw_dots(
    ax: Axes,
    labels: Values,
    data: pd.DataFrame,
    column: str,
    *,
    color: str | Sequence[str] = style.ACCENT,
    row_texts: Sequence[str] = (),
) -> None:
    """Draw one row per label, first on top: a dot, its interval, and a text at the right edge.

    The dots are at the values of ``column``, the intervals from ``low`` to ``high``.
    """
    colors = [color] * len(labels) if isinstance(color, str) else list(color)
    positions = range(len(labels))
    for position, (label, value) in enumerate(zip(labels, data[column], strict=True)):
        dot = ax.scatter(
            [value],
            [position],
            s=42,
            c=[colors[position]],
            zorder=3,
            edgecolors=style.PAPER,
            linewidths=0.8,
        )
        text = row_texts[position] if row_texts else format_metric(value)
        set_hover_text(dot, f"{label}: {text}")
    bars = data.assign(position=positions, color=colors).dropna(subset=[column])
    ax.hlines(
        bars["position"],
        bars["low"].fillna(bars[column]),
        bars["high"].fillna(bars[column]),
        color=bars["color"],
        linewidth=2.2,
        alpha=0.45,
        capstyle="round",
    )
    label_rows(ax, labels)
    for position, text in enumerate(row_texts):
        annotate_row(ax, position, text)


def set_hover_text(mark: Artist, text: str) -> None:
    """Let a mark show a text under the pointer; see ``style.show_hover_texts``."""
    mark.set_gid(f"{style.HOVER_PREFIX}{text}")


def add_hover_strips(ax: Axes, x: Values, texts: Sequence[str]) -> None:
    """Let a curve show texts under the pointer: above and below each ``x``, its text."""
    from matplotlib.patches import Rectangle

    points = sorted(zip(map(float, x), texts, strict=True))
    points = points[:: -(-len(points) // MAX_HOVER_STRIPS) or 1]
    positions = [position for position, _ in points]
    middles = [(left + right) / 2 for left, right in pairwise(positions)]
    edges = [*positions[:1], *middles, *positions[-1:]]
    transform = ax.get_xaxis_transform()
    for (left, right), (_, text) in zip(pairwise(edges), points, strict=True):
        strip = Rectangle((left, 0), right - left, 1, transform=transform, **HOVER_AREA)
        set_hover_text(strip, text)
        ax.add_artist(strip)  # axvspan takes four times as long


def add_hover_curve(ax: Axes, x: Values, y: Values, template: str) -> None:
    """Let a curve show its values under the pointer, formatted by a template of ``x`` and ``y``."""
    add_hover_strips(ax, x, [template.format(*pair) for pair in zip(x, y, strict=True)])


def add_hover_row(ax: Axes, row: float, text: str) -> None:
    """Let a row of dots show a text under the pointer."""
    set_hover_text(ax.axhspan(row - 0.5, row + 0.5, **HOVER_AREA), text)


def label_rows(ax: Axes, labels: Values) -> None:
    """Label the rows, first on top, with a grid line from label to mark."""
    ax.set_label(ROW_AXES_LABEL)
    ax.set_yticks(range(len(labels)), [truncate(label) for label in labels])
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y")


def annotate_row(ax: Axes, row: float, text: str) -> None:
    """Write a text at the right edge of a row, outside the data area."""
    ax.text(
        1.015,
        row,
        text,
        transform=ax.get_yaxis_transform(),
        va="center",
        color=style.INK,
        fontsize=style.SMALL_FONT_SIZE,
        gid=ROW_TEXT_GID,
    )


def draw_reference_line(
    ax: Axes, x: float, text: str, *, color: str = style.MUTED, linestyle: str = "--"
) -> None:
    """Draw a vertical reference line, labelled above the axes."""
    ax.axvline(x, color=color, linestyle=linestyle, linewidth=1.1, zorder=1)
    ax.annotate(
        text,
        (x, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=color,
        fontsize=style.SMALL_FONT_SIZE,
    )


def annotate_point(
    ax: Axes,
    xy: tuple[float, float],
    text: str,
    *,
    offset: tuple[float, float] = (5, 0),
    **text_options: Any,
) -> None:
    """Write a label next to a point, instead of a legend."""
    options: dict[str, Any] = {
        "color": style.INK,
        "fontsize": style.SMALL_FONT_SIZE,
        "va": "center",
    }
    ax.annotate(
        text,
        xy,
        offset,
        textcoords="offset points",
        annotation_clip=False,
        **(options | text_options),
    )


def draw_identity_line(ax: Axes, low: float, high: float, label: str) -> None:
    """Draw the line on which both axes, which have these limits, have the same value."""
    ax.plot([low, high], [low, high], color=style.BASELINE, linestyle="--", linewidth=1)
    annotate_point(ax, (high, high), label, offset=(-4, 8), color=style.MUTED, ha="right")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")


def draw_band(ax: Axes, x: Values, low: Values, high: Values, color: str) -> None:
    """Draw the interval around a curve; nothing where it is unknown."""
    ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def draw_heatmap(
    ax: Axes,
    values: Any,
    cell_texts: Any,
    names: tuple[Sequence[Any], Sequence[Any]],
    *,
    color: str = style.ACCENT,
) -> None:
    """Draw a heat map with a text in each cell, in tints that are readable on light and dark.

    ``names`` are those of the rows and of the columns.
    """
    from matplotlib.patches import Rectangle

    ax.set_label(HEATMAP_AXES_LABEL)
    height, width = values.shape
    max_value = max((abs(v) for v in values.ravel() if not math.isnan(v)), default=0) or 1
    for row in range(height):
        for col in range(width):
            value = values[row, col]
            depth = 0.0 if math.isnan(value) else min(abs(value) / max_value, 1) * 0.5
            cell = Rectangle(
                (col - 0.49, row - 0.47), 0.98, 0.94, facecolor=color, alpha=depth, linewidth=0
            )
            if cell_texts[row][col]:
                set_hover_text(cell, f"{names[0][row]}, {names[1][col]}: {cell_texts[row][col]}")
            ax.add_patch(cell)
            ax.text(
                col,
                row,
                cell_texts[row][col],
                ha="center",
                va="center",
                fontsize=style.SMALL_FONT_SIZE,
                color=style.INK,
            )
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def label_heatmap_axes(
    ax: Axes,
    rows: Values,
    columns: Values,
    *,
    row_chars: int = 34,
    column_chars: int = 14,
    **column_options: Any,
) -> None:
    """Label the rows and the columns of a heat map."""
    ax.set_yticks(range(len(rows)), [truncate(name, row_chars) for name in rows])
    names = [truncate(name, column_chars) for name in columns]
    ax.set_xticks(range(len(columns)), names, **column_options)


def write_in_corner(ax: Axes, text: str) -> None:
    """Write the main number of a curve from 0 to 1 in the lower right corner."""
    ax.text(0.97, 0.06, text, ha="right", color=style.ACCENT, fontweight="bold")


def truncate(text: Any, max_chars: int = 34) -> str:
    """Shorten a label so that it leaves room for the data."""
    label = str(text)
    return label if len(label) <= max_chars else f"{label[: max_chars - 1]}…"


def format_signed(value: float) -> str:
    """Format a difference with its sign and four decimals; without a sign if it rounds to 0."""
    text = f"{value:+.4f}".replace("-", "−")
    return text if round(value, 4) else text[1:]


def set_percent_format(ax: Axes) -> None:
    """Format the x axis as percentages, with at most one decimal."""
    from matplotlib.ticker import PercentFormatter

    low, high = ax.get_xlim()
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if high - low > 0.035 else 1))
    ax.locator_params(axis="x", nbins=6)


def set_thousands_format(*axes: Any) -> None:
    """Format axes with thousands separators."""
    for axis in axes:
        axis.set_major_formatter("{x:,g}")


def compute_padded_limits(*values: Any, margin: float = 0.08) -> tuple[float, float]:
    """Return axis limits with a margin around all values; missing ones are left out."""
    flat = [
        float(value)
        for group in values
        for value in group
        if value is not None and math.isfinite(float(value))
    ]
    low, high = min(flat, default=0.0), max(flat, default=1.0)
    padding = (high - low) * margin or abs(high) * margin or 0.1
    return low - padding, high + padding
