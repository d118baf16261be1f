"""How a model's answer moves with its strongest columns."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing

ACROSS = 2
NAMES = ["feature", "kind", "value", "mean", "low", "high"]
CAPTION = (
    "Line or dot: the mean answer when the column has this value in every row. Band: the middle 80% of the rows; it is "
    "how unlike the rows are, not how sure the model is. Columns that move together are moved apart here, and nothing "
    "is a cause."
)


@style.styled
def dependence(frame: pd.DataFrame) -> Figure:
    """A panel a column, on one scale of probability: numbers as a line with a band, codes as dots with bars.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``feature, kind, value, mean, low, high``.
    """
    data = marks.usable(frame, NAMES, ["feature", "kind", "value", "mean"])
    if data is None:
        return nothing("How the answer moves")
    parts = [(str(name), part) for name, part in data.groupby("feature", sort=False)]
    down = math.ceil(len(parts) / ACROSS)
    figure, axes = marks.canvas(0.3 + 2.35 * down, rows=down, cols=ACROSS, squeeze=False, sharey=True)
    for place, ax in enumerate(axes.flat):
        if place < len(parts):
            _panel(ax, *parts[place], first=place % ACROSS == 0)
        else:
            ax.set_visible(False)
    low, high = marks.padded(data["mean"], data["low"].dropna(), data["high"].dropna())
    axes.flat[0].set_ylim(max(low, 0), min(high, 1))
    return Figure(figure, alt=_words(parts), data=frame, caption=CAPTION)


def _panel(ax: Any, name: str, part: pd.DataFrame, *, first: bool) -> None:
    from matplotlib.ticker import PercentFormatter

    if (part["kind"] == "code").all():
        part = _in_order(part)
        part, places = part.reset_index(drop=True), range(len(part))
        known = part.dropna(subset=["low", "high"])
        ax.vlines(known.index, known["low"], known["high"], color=style.ACCENT, alpha=0.3, linewidth=5)
        ax.scatter(places, part["mean"], s=38, color=style.ACCENT, zorder=3)
        ax.set_xticks(places, [marks.brief(_shown(value), 8) for value in part["value"]])
        ax.set_xlim(-0.6, len(part) - 0.4)
    else:
        values = part["value"].astype(float)
        marks.band(ax, values, part["low"], part["high"], style.ACCENT)
        ax.plot(values, part["mean"], color=style.ACCENT, marker="o", markersize=3)
        ax.locator_params(axis="x", nbins=5)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(axis="y")
    ax.set_title(marks.brief(name))
    if first:
        ax.set_ylabel("mean answer")


def _in_order(part: pd.DataFrame) -> pd.DataFrame:
    """Codes as people count: 2 before 11."""

    def key(value: Any) -> tuple[float, str]:
        text = _shown(value)
        return (float(text), text) if text.replace(".", "", 1).lstrip("-").isdecimal() else (math.inf, text)

    return part.iloc[sorted(range(len(part)), key=lambda place: key(part["value"].iloc[place]))]


def _words(parts: list[tuple[str, pd.DataFrame]]) -> str:
    """What each panel says: from where to where the mean answer goes."""
    told = []
    for name, part in parts:
        low, high = part.loc[part["mean"].idxmin()], part.loc[part["mean"].idxmax()]
        told.append(
            f"with {name} from {low['mean']:.0%} (at {_shown(low['value'])}) to {high['mean']:.0%} "
            f"(at {_shown(high['value'])})"
        )
    return f"The mean answer moves {'; '.join(told)}."


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
