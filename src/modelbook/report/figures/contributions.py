"""How far each column moved each answer: a strip of dots a column, or of several classes a cell each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.tasks.names import told

COLUMNS, DOTS, CLASSES = 12, 90, 8  # of each so many are drawn: more cannot be read
BINS, STEP, ROOM = 110, 0.11, 0.4  # of a strip: places across, and from dot to dot; half its height, in rows
SURE = 0.5  # rank correlation of a column's value and its push from which there is a direction
HIGH, LOW = "high", "low"  # values of a column: its upper and its lower third
SHADES = ((style.FAINT, ""), (style.ACCENT, LOW), (style.POSITIVE, HIGH))
ARROWS = {HIGH: "↑", LOW: "↓"}
SUMS = "The values of a row sum up to the way from the mean answer to its own. Nothing here is a cause."


@style.styled
def contributions(frame: pd.DataFrame, unit: str, reason: str = "") -> Figure:
    """How far each column moves the answer, the farthest first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``feature, level, value, shap, class``: one row a column, an answered row, and a class.
    unit : str
        What the values are parts of.
    reason : str
        Why there is nothing to show.
    """
    data = marks.usable(frame, ["feature", "level", "value", "shap", "class"], ["feature", "shap"])
    if data is None:
        return Figure(None, alt=reason) if reason else nothing("SHAP values")
    data["class"] = data["class"].fillna("")
    table = _summary(data)
    draw = _cells if data["class"].nunique() > 1 else _strips
    return draw(data, table, unit)


def _summary(data: pd.DataFrame) -> pd.DataFrame:
    """Of each column and class: mean size, ends of the middle 90 %, and which values push up; farthest first."""
    rows = []
    for (feature, name), part in data.groupby(["feature", "class"], sort=False):
        low, high = part["shap"].quantile([0.05, 0.95])
        mean, way = part["shap"].abs().mean(), _way(part)
        rows.append({"feature": feature, "class": name, "mean size": mean, "low": low, "high": high, "up where": way})
    table = pd.DataFrame(rows)
    far = table.groupby("feature")["mean size"].mean().sort_values(ascending=False, kind="stable").index
    return table.set_index("feature").loc[far].reset_index()


def _way(part: pd.DataFrame) -> str:
    """The values that push up: high or low ones, or the category with the highest mean; empty where neither is so."""
    if part["value"].nunique() > 1:
        return str(part.groupby("value")["shap"].mean().idxmax())
    known = part.dropna(subset=["level"])
    if known["level"].nunique() < 2 or known["shap"].nunique() < 2:
        return ""
    found = known["level"].rank().corr(known["shap"].rank())
    return HIGH if found >= SURE else LOW if found <= -SURE else ""


def _strips(data: pd.DataFrame, table: pd.DataFrame, unit: str) -> Figure:
    shown = table.head(COLUMNS)
    figure, ax = marks.canvas(marks.tall(len(shown), each=0.36))
    low, high = marks.padded(data.loc[data["feature"].isin(shown["feature"]), "shap"], [0.0], by=0.03)
    strips = dict(iter(data.groupby("feature", sort=False)))
    drawn = pd.concat([_strip(strips[name].head(DOTS), row, low, high) for row, name in enumerate(shown["feature"])])
    for colour, level in SHADES:
        _dots(ax, drawn[drawn["shade"] == level], colour, (high - low) * 1e-4)
    for by, (colour, level) in zip((-60, 0), SHADES[1:], strict=True):
        marks.label(ax, (1, 1), f"{level} value", by=(by, 0), xycoords="axes fraction", ha="right", color=colour)
    ax.axvline(0, color=style.MUTED, linewidth=1)
    ax.set_xlim(low, high)
    marks.rows(ax, shown["feature"])
    for row, (size, way) in enumerate(zip(shown["mean size"], shown["up where"], strict=True)):
        marks.beside(ax, row, told(size) + (f"  ↑ {marks.brief(way, 12)}" if way not in (HIGH, LOW, "") else ""))
    marks.thousands(ax.xaxis)
    ax.set_xlabel(f"SHAP value: part of {unit}")
    count = len(data) // len(table)
    caption = (
        f"A dot is a holdout row, {min(DOTS, count)} of {count:,} drawn: right of the line the column moved its answer "
        "up, left of it down. Orange: a high value of the column, in its upper third; blue: a low one; grey: between, "
        f"a category, or a gap. At the right the mean size; ↑: the value of a category that is farthest up. {SUMS}"
    )
    return Figure(figure, alt=_words(table, unit), data=table.drop(columns="class"), caption=_limited(table, caption))


def _strip(part: pd.DataFrame, row: int, low: float, high: float) -> pd.DataFrame:
    """Where the dots of a column stand and what they are coloured by; dots of about one value stand side by side."""
    part = part.sort_values("level", na_position="first", kind="stable")
    place = ((part["shap"] - low) / (high - low) * BINS).astype(int)
    turn, count = part.groupby(place).cumcount(), part.groupby(place)["shap"].transform("size")
    at = row + (turn - (count - 1) / 2) * np.minimum(STEP, 2 * ROOM / count)
    shade = np.select([part["level"] >= 2 / 3, part["level"] <= 1 / 3], [HIGH, LOW], "")
    return part.assign(at=at, shade=shade)


def _dots(ax: Any, drawn: pd.DataFrame, colour: str, length: float) -> None:
    """Many dots as one path of short strokes: each as a mark of its own would make the picture thrice as heavy."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    x, y = drawn["shap"].to_numpy(), drawn["at"].to_numpy()
    ends = np.stack([np.column_stack([x, y]), np.column_stack([x + length, y])], axis=1).reshape(-1, 2)
    path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(x)))
    path.should_simplify = False  # it would drop strokes that are this short
    ax.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=3, capstyle="round", zorder=3))


def _cells(data: pd.DataFrame, table: pd.DataFrame, unit: str) -> Figure:
    """Of several classes: the mean size for each, with an arrow where higher values push one way."""
    names = list(dict.fromkeys(data["class"]))[:CLASSES]
    kept = table[table["class"].isin(names)]
    shown = list(dict.fromkeys(table["feature"]))[:COLUMNS]
    sizes, ways = (
        kept.pivot(index="feature", columns="class", values=name).loc[shown, names]
        for name in ("mean size", "up where")
    )
    texts = [
        [f"{told(size)} {ARROWS.get(way, ' ')}" for size, way in zip(*row)]
        for row in zip(sizes.to_numpy(), ways.to_numpy())
    ]
    figure, ax = marks.canvas(marks.tall(len(shown), each=0.32, base=0.9))
    marks.cells(ax, sizes.to_numpy(), texts)
    ax.set_yticks(range(len(shown)), [marks.brief(name) for name in shown])
    ax.set_xticks(range(len(names)), [marks.brief(name, 16) for name in names])
    ax.xaxis.tick_top()
    count = len(data) // len(table)
    caption = (
        f"Mean size of the SHAP values of {count:,} holdout rows, as part of {unit}. ↑: higher values of the column "
        f"speak for the class, ↓: against it. {SUMS}"
    )
    return Figure(figure, alt=_words(table, unit), data=table, caption=_limited(table, caption))


def _words(table: pd.DataFrame, unit: str) -> str:
    """The two columns that move the answer farthest, how far, and which way."""
    sizes = table.groupby("feature", sort=False)["mean size"].mean().head(2)
    ways = {} if table["class"].nunique() > 1 else dict(zip(table["feature"], table["up where"], strict=True))
    said = {name: f" (up where it is {ways[name]})" if ways.get(name) else "" for name in sizes.index}
    mean = "on average over the classes" if table["class"].nunique() > 1 else "on average"
    first, *others = (f"{name}{said[name]}, by {told(size)} {mean}" for name, size in sizes.items())
    odds = f" (the odds by a factor of {np.exp(sizes.iloc[0]):.2g})" if unit.startswith("the log-odds") else ""
    more = f"; then {others[0]}" if others else ""
    return f"What moves {unit} most is {first}{odds}{more}."


def _limited(table: pd.DataFrame, caption: str) -> str:
    columns = table["feature"].nunique()
    return f"The first {COLUMNS} of {columns} columns. {caption}" if columns > COLUMNS else caption
