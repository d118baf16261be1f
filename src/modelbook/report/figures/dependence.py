"""How a model's answer moves with its strongest columns."""

from __future__ import annotations

from typing import Any

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.report.numbers import counting
from modelbook.tasks.names import told

ACROSS = 2
NAMES = ["feature", "kind", "value", "mean", "low", "high"]
CAPTION = (
    "Line or dot: the mean answer when the column has this value in every row. Band: the middle 80% of the rows; it is "
    "how unlike the rows are, not how sure the model is. Columns that move together are moved apart here, and nothing "
    "is a cause."
)
OF_CLASSES = (
    "Each line is a class: its mean probability when the column has this value in every row. Columns that move "
    "together are moved apart here, and nothing is a cause."
)
COLOURS = (style.ACCENT, style.POSITIVE, style.INK, style.MUTED)
DASHES = ("-", "--", ":")


@style.styled
def dependence(frame: pd.DataFrame, *, share: bool = True) -> Figure:
    """A panel a column, on one scale of answers: numbers as a line with a band, codes as dots with bars.

    Of several classes, each has a line of its own, without bands.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``feature, kind, value, mean, low, high``, and ``class`` where there are several.
    share : bool
        Whether the answer is a probability.
    """
    data = marks.usable(frame, NAMES, ["feature", "kind", "value", "mean"])
    if data is None:
        return nothing("How the answer moves")
    parts = [(str(name), part) for name, part in data.groupby("feature", sort=False)]
    figure, axes = marks.panels(len(parts), ACROSS, 2.35, 0.3, sharey=True)
    several = "class" in data and data["class"].nunique() > 1
    for place, (ax, part) in enumerate(zip(axes.flat, parts, strict=False)):
        _panel(ax, *part, several=several)
        _axis(ax, share, first=place % ACROSS == 0)
    low, high = marks.padded(data["mean"], *([] if several else [data["low"].dropna(), data["high"].dropna()]))
    axes.flat[0].set_ylim(*((max(low, 0), min(high, 1)) if share else (low, high)))
    alt, found = (_words_of_classes(some) if several else _words(some, share) for some in (parts, parts[:1]))
    return Figure(figure, alt=alt, found=found, data=frame, caption=OF_CLASSES if several else CAPTION)


def _panel(ax: Any, name: str, part: pd.DataFrame, *, several: bool) -> None:
    code = (part["kind"] == "code").all()
    for place, (_, one) in enumerate(part.groupby("class", sort=False) if several else [("", part)]):
        colour = COLOURS[place % len(COLOURS)]
        if code:
            _codes(ax, _in_order(one).reset_index(drop=True), colour, several)
        else:
            values = one["value"].astype(float)
            if not several:
                marks.band(ax, values, one["low"], one["high"], colour)
            ax.plot(
                values, one["mean"], color=colour, linestyle=DASHES[place // len(COLOURS) % 3], marker="o", markersize=3
            )
            ax.locator_params(axis="x", nbins=5)
        if several:
            _name(ax, one, place, code)
    ax.grid(axis="y")
    ax.set_title(marks.brief(name))


def _codes(ax: Any, part: pd.DataFrame, colour: str, several: bool) -> None:
    known, places = part.dropna(subset=["low", "high"]), range(len(part))
    if not several:
        ax.vlines(known.index, known["low"], known["high"], color=colour, alpha=0.3, linewidth=5)
    ax.scatter(places, part["mean"], s=38, color=colour, zorder=3)
    if several:
        ax.plot(places, part["mean"], color=colour, linewidth=0.8, alpha=0.5)
    ax.set_xticks(places, [marks.brief(_shown(value), 8) for value in part["value"]])
    ax.set_xlim(-0.6, len(part) - 0.4)


def _name(ax: Any, one: pd.DataFrame, place: int, code: bool) -> None:
    """The class beside the right end of its line."""
    last = _in_order(one).iloc[-1] if code else one.iloc[-1]
    at = (len(one) - 1 if code else float(last["value"]), float(last["mean"]))
    marks.label(ax, at, marks.brief(last["class"], 10), by=(6, 0), color=COLOURS[place % len(COLOURS)])


def _axis(ax: Any, share: bool, *, first: bool) -> None:
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0) if share else StrMethodFormatter("{x:,g}"))
    if first:
        ax.set_ylabel("mean answer")


def _in_order(part: pd.DataFrame) -> pd.DataFrame:
    """Codes as people count."""
    return part.iloc[sorted(range(len(part)), key=lambda place: counting(_shown(part["value"].iloc[place])))]


def _words(parts: list[tuple[str, pd.DataFrame]], share: bool) -> str:
    """What each panel says: from where to where the mean answer goes."""
    found = []
    for name, part in parts:
        low, high = part.loc[part["mean"].idxmin()], part.loc[part["mean"].idxmax()]
        least, most = (f"{row['mean']:.0%}" if share else told(row["mean"]) for row in (low, high))
        found.append(f"with {name} from {least} (at {_shown(low['value'])}) to {most} (at {_shown(high['value'])})")
    return f"The mean answer moves {'; '.join(found)}."


def _words_of_classes(parts: list[tuple[str, pd.DataFrame]]) -> str:
    """What each panel says: which class moves most."""
    found = []
    for name, part in parts:
        ends = part.groupby("class", sort=False)["mean"].agg(["min", "max"])
        most = (ends["max"] - ends["min"]).idxmax()
        found.append(f"with {name} most for {most}, from {ends['min'][most]:.0%} to {ends['max'][most]:.0%}")
    return f"The mean probability moves {'; '.join(found)}."


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
