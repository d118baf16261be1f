"""Figures of the finalize stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.report.numbers import write
from modelbook.tasks.names import LOWER_IS_BETTER, label, told

SQUARE = (4.4, 5.2)  # height, width


@style.styled
def curves(roc: pd.DataFrame, recall: pd.DataFrame, area: float, base_rate: float) -> Figure:
    """The ROC curve, and precision against recall, on the holdout, with their bands.

    Parameters
    ----------
    roc, recall : pandas.DataFrame
        Columns ``fpr, tpr, low, high``, and ``recall, precision, low, high``.
    area : float
        The ROC AUC; that of the drawn points is a little less.
    base_rate : float
        Share of the positive class.
    """
    left = marks.usable(roc, ["fpr", "tpr", "low", "high"], ["fpr", "tpr"])
    right = marks.usable(recall, ["recall", "precision", "low", "high"], ["recall", "precision"])
    if left is None or right is None:
        return nothing("ROC and precision-recall curves")
    figure, (one, other) = marks.canvas(3.7, cols=2)
    found = _roc(one, left.sort_values(["fpr", "tpr"], kind="stable"), area)
    half = _precision_recall(other, right.sort_values("recall", kind="stable"), base_rate)
    alt = (
        f"The area under the ROC curve is {area:.3f}; at 10% false alarms it finds {found:.0%} of the positives. Where "
        f"half of the positives are found, {half:.1%} of the calls are right; guessing gives {base_rate:.1%}."
    )
    sides = {"ROC": left[["fpr", "tpr", "low", "high"]], "precision": right[["recall", "precision", "low", "high"]]}
    names = ["curve", "across", "up", "low", "high"]
    data = pd.concat([side.iloc[::5].assign(curve=name).iloc[:, [4, 0, 1, 2, 3]].set_axis(names, axis=1)
                      for name, side in sides.items()], ignore_index=True)  # fmt: skip
    caption = "Left the ROC curve, right precision against recall. The bands are bootstrap intervals of the curves."
    return Figure(figure, alt=alt, data=data, caption=caption)


def _roc(ax: Any, data: pd.DataFrame, area: float) -> float:
    """Draws the curve; answers with the share of positives that it finds at a tenth of false alarms."""
    ax.plot([0, 1], [0, 1], color=style.BASELINE, linestyle="--", linewidth=1)
    marks.band(ax, data["fpr"], data["low"], data["high"], style.ACCENT)
    ax.plot(data["fpr"], data["tpr"], color=style.ACCENT)
    ax.text(0.97, 0.06, f"area {area:.3f}", ha="right", color=style.ACCENT, fontweight="bold")
    marks.label(ax, (0.5, 0.5), "guessing", by=(6, -6), color=style.MUTED)
    _unit(ax, "share of negatives called positive", "share of positives found")
    return float(np.interp(0.1, data["fpr"], data["tpr"]))


def _precision_recall(ax: Any, data: pd.DataFrame, base_rate: float) -> float:
    """Draws the curve; answers with its precision where half of the positives are found."""
    ax.axhline(base_rate, color=style.BASELINE, linestyle="--", linewidth=1)
    marks.label(ax, (0, base_rate), f"guessing {base_rate:.1%}", by=(4, -8), color=style.MUTED)
    marks.band(ax, data["recall"], data["low"], data["high"], style.ACCENT)
    ax.plot(data["recall"], data["precision"], color=style.ACCENT)
    half = float(np.interp(0.5, data["recall"], data["precision"]))
    ax.scatter([0.5], [half], s=36, color=style.ACCENT, zorder=3)
    marks.label(ax, (0.5, half), f"{half:.0%} at half of them found", by=(6, 8))
    _unit(ax, "recall: share of positives found", "precision: share of calls that are right")
    return half


@style.styled
def calibration(
    bins: pd.DataFrame, axes: tuple[str, str] = ("predicted probability", "observed share"), *, share: bool = True
) -> Figure:
    """What was predicted, by tenths, against what turned out on average.

    Parameters
    ----------
    bins : pandas.DataFrame
        Columns ``predicted, observed, low, high, n``.
    axes : pair of str
        Names of the two.
    share : bool
        Whether both are shares, drawn from 0.
    """
    data = marks.usable(bins, ["predicted", "observed", "low", "high", "n"], ["predicted", "observed"])
    if data is None:
        return nothing("Calibration")
    figure, ax = marks.canvas(*SQUARE)
    low, top = marks.padded(data["predicted"], data["observed"], data["low"].dropna(), data["high"].dropna())
    low = 0 if share else low
    ax.plot([low, top], [low, top], color=style.BASELINE, linestyle="--", linewidth=1)
    marks.label(ax, (top, top), "exact", by=(-4, 8), color=style.MUTED, ha="right")
    known = data.dropna(subset=["low", "high"])
    ax.vlines(known["predicted"], known["low"], known["high"], color=style.ACCENT, alpha=0.45, linewidth=2.2)
    ax.plot(data["predicted"], data["observed"], color=style.ACCENT, linewidth=1, alpha=0.6)
    ax.scatter(data["predicted"], data["observed"], s=38, color=style.ACCENT, zorder=3)
    ax.set(xlim=(low, top), ylim=(low, top), aspect="equal")
    ax.set(xlabel=axes[0], ylabel=axes[1])
    if top >= 1000:
        marks.thousands(ax.xaxis)
        marks.thousands(ax.yaxis)
    gaps = (data["observed"] - data["predicted"]).abs()
    weights = data["n"].fillna(1).clip(lower=1e-9)
    mean, worst = float(np.average(gaps, weights=weights)), data.loc[gaps.idxmax()]
    alt = (
        f"Predictions are {told(mean)} off on average; furthest where {told(worst['predicted'])} is predicted "
        f"and {told(worst['observed'])} observed."
    )
    return Figure(figure, alt=alt, data=bins, caption="Each dot is a bin of predictions, with its interval.")


@style.styled
def threshold_cost(frame: pd.DataFrame, chosen: float) -> Figure:
    """What each threshold would cost, and where the chosen one stands.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``threshold, cost``, and ``no, yes``: what it would cost to answer so to all.
    chosen : float
        The threshold that is used.
    """
    data = marks.usable(frame, ["threshold", "cost", "no", "yes"], ["threshold", "cost"])
    if data is None:
        return nothing("Cost of each threshold")
    data = data.sort_values("threshold", kind="stable").reset_index(drop=True)
    figure, ax = marks.canvas(3.1)
    cost, best = float(np.interp(chosen, data["threshold"], data["cost"])), data.loc[data["cost"].idxmin()]
    ax.plot(data["threshold"], data["cost"], color=style.ACCENT)
    ax.scatter([chosen], [cost], s=48, color=style.ACCENT, zorder=3)
    marks.line(ax, chosen, f"chosen {chosen:.3g}, cost {cost:,.4g}", colour=style.INK)
    ax.set_ylim(*marks.padded(data["cost"]))
    ax.set(xlabel="threshold", ylabel="cost a row")
    alt = (
        f"The chosen threshold {chosen:.3g} costs {cost:,.4g}; the least on this curve is "
        f"{best['cost']:,.4g}, at {best['threshold']:.3g}."
    )
    alike = f"To answer no to all would cost {data['no'].iloc[0]:,.4g}, yes to all {data['yes'].iloc[0]:,.4g}."
    return Figure(figure, alt=f"{alt} {alike}", data=frame, caption=f"Out of fold; lower is better. {alike}")


@style.styled
def confusion(matrix: pd.DataFrame) -> Figure:
    """What was called what: rows are what is true, columns what was predicted."""
    if matrix is None or matrix.empty or matrix.isna().to_numpy().all():
        return nothing("Confusion matrix")
    counts = matrix.to_numpy(dtype=float)
    shares = counts / np.where(counts.sum(axis=1, keepdims=True) > 0, counts.sum(axis=1, keepdims=True), 1)
    texts = [
        [f"{n:,.0f}\n{share:.1%} of row" for n, share in zip(*pair, strict=True)]
        for pair in zip(counts, shares, strict=True)
    ]
    figure, ax = marks.canvas(1.5 + 0.6 * len(counts), min(2.6 + 1.3 * len(counts), style.WIDTH))
    marks.cells(ax, shares, texts)
    ax.set_xticks(range(matrix.shape[1]), [str(name) for name in matrix.columns])
    ax.set_yticks(range(matrix.shape[0]), [str(name) for name in matrix.index])
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0)
    ax.set(xlabel="predicted", ylabel="actual")
    right = float(np.trace(counts) / max(counts.sum(), 1))
    alt = f"{right:.1%} of {counts.sum():,.0f} rows were called right"
    if counts.shape == (2, 2):
        alt += f"; {counts[1, 1]:,.0f} of {counts[1].sum():,.0f} positives were found, "
        alt += f"with {counts[0, 1]:,.0f} false alarms"
    return Figure(figure, alt=f"{alt}.", data=matrix, caption="Darker is a larger share of its row.")


@style.styled
def importance(frame: pd.DataFrame, unit: str = "importance") -> Figure:
    """How much the model leans on each feature.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``feature, mean, sd``.
    unit : str
        What the importance is.
    """
    data = marks.usable(frame, ["feature", "mean", "sd"], ["feature", "mean"])
    if data is None:
        return nothing("Importance of the features")
    data = data.sort_values("mean", ascending=False, kind="stable").reset_index(drop=True)
    shown, spread = data.head(25), data["sd"].head(25).fillna(0)
    figure, ax = marks.canvas(marks.tall(len(shown)))
    marks.dots(
        ax,
        shown["feature"],
        shown["mean"],
        low=shown["mean"] - spread,
        high=shown["mean"] + spread,
        texts=[write(v, 4 if shown["mean"].max() < 0.1 else 3) if abs(v) < 10 else told(v) for v in shown["mean"]],
    )
    ax.axvline(0, color=style.MUTED, linewidth=1)
    marks.thousands(ax.xaxis)
    ax.set_xlabel(f"{unit}, ± 1 standard deviation")
    best = data.iloc[0]
    alt = f"The model leans most on {best['feature']}, with an importance of {_short(best['mean'])}"
    if len(data) > 1:
        alt += f", then on {data.iloc[1]['feature']}, with {_short(data.iloc[1]['mean'])}"
    note = f"The first {len(shown)} of {len(data)} features." if len(data) > len(shown) else ""
    return Figure(figure, alt=f"{alt}.", data=frame, caption=note)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10 else told(value)  # a share keeps its digits, a sum of money its commas


@style.styled
def slices(frame: pd.DataFrame, overall: float, metric: str = "roc_auc") -> Figure:
    """How good the model is within each part of the holdout.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``slice, value, n, low, high`` and the metric's.
    overall : float
        The metric on the whole holdout.
    """
    data = marks.usable(frame, ["slice", "value", "n", metric, "low", "high"], ["slice", metric])
    if data is None:
        return nothing("Parts of the holdout")
    shown = data.head(marks.MOST_ROWS)
    figure, ax = marks.canvas(marks.tall(len(shown)))
    names = [f"{row['slice']} = {row['value']}" for _, row in shown.iterrows()]
    name, lower = label(metric), metric in LOWER_IS_BETTER
    ends = shown["low"].fillna(-np.inf) if lower else -shown["high"].fillna(np.inf)
    colours = [style.POSITIVE if end > (overall if lower else -overall) else style.ACCENT for end in ends]
    texts = [told(row[metric]) + _of(row["n"]) for _, row in shown.iterrows()]
    marks.dots(ax, names, shown[metric], low=shown["low"], high=shown["high"], colour=colours, texts=texts)
    marks.line(ax, overall, f"all {told(overall)}")
    marks.thousands(ax.xaxis)
    ax.set_xlabel(f"{name}, with its interval")
    worst = data.loc[data[metric].idxmax() if lower else data[metric].idxmin()]
    alt = (
        f"{name} is {'highest' if lower else 'lowest'}, {told(worst[metric])}, where {worst['slice']} is "
        f"{worst['value']}; on all rows it is {told(overall)}."
    )
    side = "above" if lower else "below"
    caption = f"Orange: the whole interval is {side} the value on all rows. At the right: {name} and rows."
    return Figure(figure, alt=alt, data=frame, caption=caption)


def _of(rows: float) -> str:
    return "" if pd.isna(rows) else f"  of {rows:,.0f}"


def _unit(ax: Any, x: str, y: str) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal", xlabel=x, ylabel=y)
