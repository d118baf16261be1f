"""Figures of the monitor stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.tasks.names import told


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
