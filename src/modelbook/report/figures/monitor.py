"""Figures of the monitor stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.tasks.names import HEADLINES, label, told

MOST_NAMED = 6  # windows whose names fit under an axis
SHARE = "share of importance that has drifted"


@style.styled
def drift(frame: pd.DataFrame) -> Figure:
    """How far each column drifted in each batch, as a multiple of its threshold.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``batch, column, score, threshold, drifted, importance``.
    """
    names = ["batch", "column", "score", "threshold", "drifted", "importance"]
    data = marks.usable(frame, names, ["batch", "column", "score", "threshold"])
    if data is not None:
        data = data[data["threshold"] > 0]
    if data is None or data.empty:
        return nothing("Drift")
    data = data.assign(ratio=data["score"] / data["threshold"], drifted=_drifted(data))
    ratios, flags = (
        data.pivot_table(index="column", columns="batch", values=name, aggfunc="max") for name in ("ratio", "drifted")
    )
    order = data.groupby("column")[["drifted", "ratio"]].max()
    order = order.sort_values(["drifted", "ratio"], ascending=False, kind="stable")
    shown = ratios.loc[order.index[: marks.MOST_ROWS]]
    over = flags.loc[shown.index].to_numpy(dtype=float) == 1
    figure, ax = marks.canvas(marks.tall(len(shown), each=0.28))
    values = shown.to_numpy(dtype=float)
    # Tints end at three times the threshold: one runaway column would leave the rest white.
    tints = np.where(over, np.clip(values, 1, 3), np.minimum(values, 1) * 0.2)
    marks.cells(ax, tints, _times(values, over), colour=style.POSITIVE)
    ax.set_yticks(range(len(shown)), [marks.brief(name) for name in shown.index])
    ax.set_xticks(range(shown.shape[1]), [f"batch {marks.brief(b, 14)}" for b in shown.columns])
    return Figure(
        figure,
        alt=_drift_words(data, order),
        data=frame,
        caption="Drift score as a multiple of the column's threshold; a dot marks what drifted. Worst first.",
    )


def _drifted(data: pd.DataFrame) -> pd.Series[float]:
    """What the test said; a score says it alone only where no test did, since for p-values less is more."""
    above = data["score"] >= data["threshold"]
    return data["drifted"].where(data["drifted"].notna(), above).astype(float)


def _times(values: np.ndarray, over: np.ndarray) -> list[list[str]]:
    pairs = [zip(row, flags, strict=True) for row, flags in zip(values, over, strict=True)]
    return [["–" if np.isnan(v) else f"{v:.2f}×{' ●' if flag else ''}" for v, flag in row] for row in pairs]


def _drift_words(data: pd.DataFrame, order: pd.DataFrame) -> str:
    count, name = int(order["drifted"].sum()), order.index[0]
    worst = data[data["column"] == name].sort_values(["drifted", "ratio"]).iloc[-1]
    return (
        f"{count} of {len(order)} columns drifted in some batch; furthest is {name} in batch {worst['batch']}, "
        f"at {worst['ratio']:.2f} times its threshold."
    )


@style.styled
def performance(frame: pd.DataFrame) -> Figure:
    """Each metric in each batch, held against its value when the model was made.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``batch, metric, value, low, high, reference``.
    """
    names = ["batch", "metric", "value", "low", "high", "reference"]
    data = marks.usable(frame, names, ["batch", "metric", "value"])
    if data is None:
        return nothing("Performance")
    groups = list(data.groupby("metric", sort=False))
    sizes = [len(part) for _, part in groups]
    height = sum(marks.tall(size, each=0.3, base=0.9) for size in sizes)
    figure, axes = marks.canvas(height, rows=len(groups), cols=1, squeeze=False, height_ratios=[s + 1 for s in sizes])
    for ax, (metric, part) in zip(axes.flat, groups, strict=True):
        _panel(ax, str(metric), part)
    return Figure(
        figure,
        alt=_words(data),
        found=_found(data),
        data=frame,
        caption=("Orange: the whole interval is away from the reference, which is the value on the holdout."),
    )


def _panel(ax: Any, metric: str, part: pd.DataFrame) -> None:
    low, high = part["low"], part["high"]
    away = (part["reference"] < low) | (part["reference"] > high)
    marks.dots(
        ax,
        [f"batch {batch}" for batch in part["batch"]],
        part["value"],
        low=low,
        high=high,
        colour=[style.POSITIVE if is_away else style.CURRENT for is_away in away],
        texts=[told(value) for value in part["value"]],
    )
    reference = part["reference"].dropna()
    if len(reference):
        marks.line(ax, float(reference.iloc[0]), f"reference {told(reference.iloc[0])}", colour=style.REFERENCE)
    ax.set_xlim(*marks.padded(part["value"], low.dropna(), high.dropna(), reference))
    ax.set_title(metric, pad=14)


def _words(data: pd.DataFrame) -> str:
    parts = []
    for metric, part in data.groupby("metric", sort=False):
        last = part.iloc[-1]
        against = "" if pd.isna(last["reference"]) else f" against {told(last['reference'])} in the reference"
        parts.append(f"{metric} is {told(last['value'])} in batch {last['batch']}{against}")
    return f"{'; '.join(parts)}."


def _found(data: pd.DataFrame) -> str:
    """The first metric in the last batch, and how many of all are away from the reference there."""
    last = data[data["batch"] == data["batch"].iloc[-1]]
    away = int(((last["low"] > last["reference"]) | (last["high"] < last["reference"])).sum())
    return (
        f"{_words(last.head(1)).removesuffix('.')}; of {len(last)} metrics, {away} are away from the reference there."
    )


@style.styled
def history(frame: pd.DataFrame) -> Figure:
    """How the headline and the drift went from window to window of a version.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``batch, measure, value, low, high, reference``, oldest window first.
    """
    data = marks.usable(frame, ["batch", "measure", "value", "low", "high", "reference"], ["batch", "measure", "value"])
    if data is None:
        return nothing("History")
    places = {batch: place for place, batch in enumerate(dict.fromkeys(data["batch"]))}
    parts = {name: data[data["measure"].isin([name, f"expected_{name}"])] for name in (*HEADLINES, "drifted_share")}
    drawn = {name: part.assign(place=part["batch"].map(places)) for name, part in parts.items() if len(part)}
    if not drawn:
        return nothing("History")
    figure, axes = marks.canvas(1.2 + 1.7 * len(drawn), rows=len(drawn), cols=1, squeeze=False)
    for ax, (name, part) in zip(axes.flat, drawn.items(), strict=True):
        _course(ax, name, part)
        ax.set_xlim(-0.4, len(places) - 0.6)
        step = -(-len(places) // MOST_NAMED)
        ax.set_xticks(range(0, len(places), step), [marks.brief(name, 20) for name in list(places)[::step]])
    return Figure(
        figure,
        alt=_course_words(drawn, len(places)),
        data=pd.concat(list(drawn.values())).drop(columns="place").sort_index(),
        caption="Dots: what came, with 95 % intervals; crosses: what was expected before; dashes: the holdout.",
    )


def _course(ax: Any, name: str, part: pd.DataFrame) -> None:
    came, expected = part[part["measure"] == name], part[part["measure"] != name]
    ax.plot(came["place"], came["value"], color=style.CURRENT, marker="o", linewidth=1.4)
    ax.vlines(came["place"], came["low"], came["high"], color=style.CURRENT, alpha=0.45, linewidth=2.2)
    ax.scatter(expected["place"], expected["value"], marker="x", color=style.MUTED, zorder=3)
    if len(reference := part["reference"].dropna()):
        ax.axhline(float(reference.iloc[-1]), color=style.REFERENCE, linestyle="--", linewidth=1.1)
    ax.set_ylim(*marks.padded(part["value"], part["low"].dropna(), part["high"].dropna(), reference))
    ax.set_title(SHARE if name == "drifted_share" else label(name))


def _course_words(drawn: dict[str, pd.DataFrame], count: int) -> str:
    said = []
    for name, part in drawn.items():
        came = part[part["measure"] == name]
        if len(came):
            first, last = came.iloc[0], came.iloc[-1]
            what = SHARE if name == "drifted_share" else label(name)
            said.append(f"{what} {told(first['value'])} in the first and {told(last['value'])} in the last")
    return f"{count} windows so far: {'; '.join(said) or 'no outcomes yet'}."
