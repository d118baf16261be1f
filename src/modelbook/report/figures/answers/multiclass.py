"""Figures of answers that are one of several classes."""

from __future__ import annotations

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, Together, nothing
from modelbook.report.figures import finalize

ACROSS = 3


@style.styled
def settled(table: pd.DataFrame, threshold: None) -> Figure:
    """How often each class is answered out of fold, beside how often it is there.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``class, answered, there``.
    """
    data = marks.usable(table, ["class", "answered", "there"], ["class", "answered", "there"])
    if data is None:
        return nothing("Answers out of fold")
    figure, ax = marks.canvas(marks.tall(len(data), each=0.36))
    texts = [f"{row['answered']:.0%} for {row['there']:.0%}" for _, row in data.iterrows()]
    ax.scatter(data["there"], range(len(data)), s=42, color=style.REFERENCE, marker="D", zorder=3)
    marks.dots(ax, data["class"], data["answered"], low=data["answered"], high=data["there"], texts=texts)
    ax.set_xlim(0, None)
    marks.percent(ax)
    ax.set_xlabel("share of train rows")
    apart = (data["answered"] - data["there"]).abs().idxmax()
    worst = data.loc[apart]
    alt = f"Class {worst['class']} is answered for {worst['answered']:.0%} of the train rows and there in "
    alt += f"{worst['there']:.0%}, "
    caption = (
        "Dot: how often the class is answered by a fit that had not seen the row; diamond: how often it is there. The "
        "likeliest class is the answer: there is no threshold to choose, and costs have no say."
    )
    return Figure(figure, alt=f"{alt}furthest apart of all classes.", data=table, caption=caption)


def curves(found: tuple[pd.DataFrame, pd.DataFrame], table: pd.DataFrame) -> Together:
    """Each class's ROC curve, and below it its recall, precision and F1; ``table`` holds the metrics."""
    return Together(first(found[0], table), second(found[1], table))


@style.styled
def first(curves: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Each class's ROC curve against the rest, with its band: small multiples.

    Parameters
    ----------
    curves : pandas.DataFrame
        Columns ``class, area, fpr, tpr, low, high``.
    table : pandas.DataFrame
        The metrics.
    """
    data = marks.usable(curves, ["class", "area", "fpr", "tpr", "low", "high"], ["class", "fpr", "tpr"])
    if data is None:
        return nothing("ROC curves")
    parts = list(data.groupby("class", sort=False))
    figure, grid = marks.panels(len(parts), ACROSS, 2.5, 0.2, sharex=True, sharey=True)
    for ax, (name, part) in zip(grid.flat, parts, strict=False):
        ax.plot([0, 1], [0, 1], color=style.BASELINE, linestyle="--", linewidth=1)
        marks.band(ax, part["fpr"], part["low"], part["high"], style.ACCENT)
        ax.plot(part["fpr"], part["tpr"], color=style.ACCENT)
        ax.text(0.97, 0.06, f"area {part['area'].iloc[0]:.3f}", ha="right", color=style.ACCENT, fontweight="bold")
        ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        ax.set_title(marks.brief(name, 22))
    figure.supxlabel("share of the others called so", fontsize=9, color=style.MUTED)
    figure.supylabel("share of the class found", fontsize=9, color=style.MUTED)
    areas = data.groupby("class", sort=False)["area"].first().sort_values(kind="stable")
    alt = f"Against the rest, class {areas.index[-1]} is told best, with an area of {areas.iloc[-1]:.3f}, and class "
    alt += f"{areas.index[0]} least, with {areas.iloc[0]:.3f}."
    return Figure(
        figure, alt=alt, data=curves, caption="One class against the rest; the band is the bootstrap interval."
    )


@style.styled
def second(frame: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Recall, precision and F1 of each class.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``class, metric, value, low, high, rows``.
    """
    data = marks.usable(frame, ["class", "metric", "value", "low", "high", "rows"], ["class", "metric", "value"])
    if data is None:
        return nothing("Metrics of each class")
    parts, classes = list(data.groupby("metric", sort=False)), data.drop_duplicates("class").set_index("class")["rows"]
    labels = [f"{name} ({rows:,.0f})" for name, rows in classes.items()]
    figure, axes = marks.canvas(marks.tall(len(classes), each=0.34, base=1.0), cols=len(parts), squeeze=False)
    for place, (ax, (name, part)) in enumerate(zip(axes.flat, parts, strict=True)):
        whole = part.set_index("class").reindex(classes.index)  # a class without this metric keeps its row, empty
        marks.dots(ax, labels, whole["value"], low=whole["low"], high=whole["high"])
        ax.set_xlim(-0.02, 1.02)
        ax.set_title("F1" if name == "f1" else str(name))
        if place:
            ax.set_yticklabels([])
    found = data[data["metric"] == "recall"].set_index("class")["value"]
    alt = f"Of class {found.idxmax()} it finds {found.max():.0%}, of class {found.idxmin()} {found.min():.0%}."
    caption = (
        "At the left each class and its holdout rows. Recall: the share of the class that is found; precision: the "
        "share of such answers that is right; F1: both in one. A class that is never answered has no precision."
    )
    return Figure(figure, alt=alt, data=frame, caption=caption)


def calibration(bins: pd.DataFrame) -> Figure:
    """The probability of the answer, by tenths, against the share that was right."""
    return finalize.calibration(bins, ("probability of the answer", "share that was right"))


def mistakes(matrix: pd.DataFrame) -> Figure:
    """What was called what, as shares of the actual class."""
    return finalize.confusion(matrix)
