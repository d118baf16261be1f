"""The marks that figures share: a canvas, rows of dots with intervals, bands, labels beside the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from modelbook.report import style
from modelbook.report.numbers import is_numeric

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values: TypeAlias = Sequence[Any] | pd.Series[Any]

MOST_ROWS = 40


@style.styled
def canvas(height: float = 3.2, width: float = style.WIDTH, rows: int = 1, cols: int = 1, **more: Any) -> Any:
    """A figure that belongs to no backend, and its axes (one, or an array of them)."""
    from matplotlib.figure import Figure as Drawing

    figure: Figure = Drawing(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, cols, **more)


def panels(count: int, across: int, each: float, base: float, **more: Any) -> Any:
    """Small multiples: a figure and its grid with room for ``count`` of them, ``each`` inches tall."""
    down = -(-count // across)
    figure, grid = canvas(each * down + base, rows=down, cols=across, squeeze=False, **more)
    for ax in grid.flat[count:]:
        ax.set_visible(False)
    return figure, grid


def tall(rows: int, *, each: float = 0.3, base: float = 0.85) -> float:
    """A height that gives every row the same room."""
    return base + each * max(rows, 1)


def usable(frame: pd.DataFrame | None, columns: Sequence[str], needed: Sequence[str]) -> pd.DataFrame | None:
    """The frame's rows that can be drawn; None when there are none.

    Columns that are missing count as unknown; rows without the needed values are left out.
    """
    if frame is None or frame.empty:
        return None
    full = frame.reindex(columns=[*frame.columns, *(c for c in columns if c not in frame.columns)])
    full = full.assign(**{str(name): _plain(full[name]) for name in full.columns})
    full = full.replace([math.inf, -math.inf], math.nan).dropna(subset=[*needed])
    return None if full.empty else full.reset_index(drop=True)


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers as floats, however their gaps are written (None, NA, NaN); all else as it is."""
    if column.isna().all() or (column.isna().any() and is_numeric(column)):
        return column.astype(object).where(column.notna(), math.nan).astype(float)
    return column


def dots(
    ax: Axes,
    labels: Values,
    values: Values,
    *,
    low: Values | None = None,
    high: Values | None = None,
    colour: str | Sequence[str] = style.ACCENT,
    texts: Sequence[str] = (),
) -> None:
    """One row a label, first on top: a dot, its interval, and its number at the right edge."""
    places = range(len(labels))
    colours = [colour] * len(labels) if isinstance(colour, str) else list(colour)
    if low is not None and high is not None:
        intervals = zip(values, low, high, colours, strict=True)
        for place, (value, start, end, own) in enumerate(intervals):  # an unknown end is the value itself
            ends = [value if math.isnan(end) else end for end in (start, end)]
            ax.plot(ends, [place, place], color=own, linewidth=2.2, alpha=0.45)
    ax.scatter(values, places, s=42, c=colours, zorder=3, edgecolors=style.PAPER, linewidths=0.8)
    rows(ax, labels)
    for place, text in enumerate(texts):
        beside(ax, place, text)


def rows(ax: Axes, labels: Values) -> None:
    """Name the rows, first on top, with a hairline to follow from the name to the mark."""
    ax.set_yticks(range(len(labels)), [brief(label) for label in labels])
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y")


def beside(ax: Axes, place: float, text: str, colour: str = style.INK) -> None:
    """A number at the right edge of a row, outside the data."""
    ax.text(1.015, place, text, transform=ax.get_yaxis_transform(), va="center", color=colour, fontsize=8.5)


def line(ax: Axes, at: float, text: str, *, colour: str = style.MUTED, dashes: str = "--") -> None:
    """An upright line to hold values against, named above the axes."""
    ax.axvline(at, color=colour, linestyle=dashes, linewidth=1.1, zorder=1)
    ax.annotate(
        text,
        (at, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=colour,
        fontsize=style.SMALL,
    )


def label(ax: Axes, at: tuple[float, float], text: str, *, by: tuple[float, float] = (5, 0), **more: Any) -> None:
    """Words beside the data that they name, which no legend has to explain."""
    options: dict[str, Any] = {"color": style.INK, "fontsize": style.SMALL, "va": "center"}
    ax.annotate(text, at, by, textcoords="offset points", annotation_clip=False, **(options | more))


def band(ax: Axes, x: Values, low: Values, high: Values, colour: str) -> None:
    """The interval round a curve; nothing where it is unknown."""
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def cells(ax: Axes, values: Any, texts: Any, *, colour: str = style.ACCENT) -> None:
    """A heat map whose cells carry their number: tints of one colour, readable on light and dark."""
    from matplotlib.patches import Rectangle

    height, width = values.shape
    top = max((abs(v) for v in values.ravel() if not math.isnan(v)), default=0) or 1
    for row in range(height):
        for col in range(width):
            value = values[row, col]
            depth = 0.0 if math.isnan(value) else min(abs(value) / top, 1) * 0.5
            ax.add_patch(Rectangle((col - 0.49, row - 0.47), 0.98, 0.94, facecolor=colour, alpha=depth, linewidth=0))
            ax.text(col, row, texts[row][col], ha="center", va="center", fontsize=style.SMALL, color=style.INK)
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def brief(text: Any, most: int = 34) -> str:
    """A name that leaves room for the data."""
    words = str(text)
    return words if len(words) <= most else f"{words[: most - 1]}…"


def signed(value: float, places: int = 2) -> str:
    """A difference with its sign, and without one where it rounds to nothing."""
    text = f"{value:+.{places}f}".replace("-", "−")
    return text if round(value, places) else text[1:]


def percent(ax: Axes) -> None:
    """Shares along the x axis, with no more decimals than they need."""
    from matplotlib.ticker import PercentFormatter

    low, high = ax.get_xlim()
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if high - low > 0.035 else 1))
    ax.locator_params(axis="x", nbins=6)


def thousands(axis: Any) -> None:
    """Numbers along an axis with commas, and no more decimals than they need."""
    axis.set_major_formatter("{x:,g}")


def padded(*values: Any, by: float = 0.08) -> tuple[float, float]:
    """Limits with some air around all values given."""
    flat = [float(v) for group in values for v in group if v is not None and math.isfinite(float(v))]
    low, high = min(flat, default=0.0), max(flat, default=1.0)
    room = (high - low) * by or abs(high) * by or 0.1
    return low - room, high + room
