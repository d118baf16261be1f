"""Figures of multiclass predictions."""

from __future__ import annotations

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import DisplayGroup, Figure
from modelbook.display.figures import finalize
from modelbook.formatting import format_share

GRID_COLUMNS = 3


@plotting.with_drawable_rows("Out-of-fold predictions", ["class", "predicted", "actual"])
def plot_out_of_fold_results(data: pd.DataFrame, threshold: None) -> Figure:
    """Predicted against actual share of each class, out of fold.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``class, predicted, actual``.
    """
    figure, ax = plotting.subplots(plotting.compute_height(len(data), row_height=0.36))
    texts = [
        " vs ".join(format_share(row[name]) for name in ("predicted", "actual"))
        for _, row in data.iterrows()
    ]
    ax.scatter(data["actual"], range(len(data)), s=42, color=style.REFERENCE, marker="D", zorder=3)
    plotting.draw_dots(
        ax,
        data["class"],
        data.assign(low=data["predicted"], high=data["actual"]),
        "predicted",
        row_texts=texts,
    )
    ax.set_xlim(0, None)
    plotting.set_percent_format(ax)
    ax.set_xlabel("share of training rows")
    worst_index = (data["predicted"] - data["actual"]).abs().idxmax()
    worst_class = data.loc[worst_index]
    predicted, actual = map(format_share, worst_class[["predicted", "actual"]])
    alt = (
        f"Class {worst_class['class']} is predicted for {predicted} of the training rows and is "
        f"the actual class of {actual}, the largest difference of all classes."
    )
    caption = (
        "Dot: predicted share of the class, out of fold; diamond: actual share. The most probable "
        "class is predicted: there is no threshold to choose."
    )
    return Figure(figure, alt=alt, caption=caption)


def plot_diagnostics(
    frames: tuple[pd.DataFrame, pd.DataFrame], metrics: pd.DataFrame
) -> DisplayGroup:
    """One-vs-rest ROC curves, then recall, precision and F1 by class; without ``metrics``."""
    return DisplayGroup(plot_roc_curves(frames[0]), plot_class_metrics(frames[1]))


@plotting.with_drawable_rows(
    "ROC curves", ["class", "fpr", "tpr"], optional=["area", "low", "high"]
)
def plot_roc_curves(data: pd.DataFrame) -> Figure:
    """One-vs-rest ROC curves with bootstrap bands, as small multiples.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``class, area, fpr, tpr, low, high``.
    """
    class_groups = list(data.groupby("class", sort=False))
    figure, grid = plotting.subplot_grid(
        len(class_groups), GRID_COLUMNS, 2.5, 0.2, sharex=True, sharey=True
    )
    for ax, (name, class_rows) in zip(grid.flat, class_groups, strict=False):
        finalize.draw_roc_curve(ax, class_rows, class_rows["area"].iloc[0])
        ax.set_title(plotting.truncate(name, 22))
    figure.supxlabel("false positive rate", fontsize=9, color=style.MUTED)
    figure.supylabel("true positive rate (recall)", fontsize=9, color=style.MUTED)
    areas = data.groupby("class", sort=False)["area"].first().sort_values(kind="stable")
    alt = (
        f"One against the rest, class {areas.index[-1]} is separated best, with an area of "
        f"{areas.iloc[-1]:.3f}, and class {areas.index[0]} least, with {areas.iloc[0]:.3f}."
    )
    return Figure(
        figure, alt=alt, caption="One class against the rest; band: 95% bootstrap interval."
    )


@plotting.with_drawable_rows(
    "Metrics of each class", ["class", "metric", "value"], optional=["low", "high", "rows"]
)
def plot_class_metrics(data: pd.DataFrame) -> Figure:
    """Recall, precision and F1 by class.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``class, metric, value, low, high, rows``.
    """
    metric_groups = list(data.groupby("metric", sort=False))
    classes = data.drop_duplicates("class").set_index("class")["rows"]
    labels = [f"{name} ({rows:,.0f})" for name, rows in classes.items()]
    figure, axes = plotting.subplots(
        plotting.compute_height(len(classes), row_height=0.34, base_height=1.0),
        ncols=len(metric_groups),
        squeeze=False,
    )
    for position, (ax, (name, metric_rows)) in enumerate(
        zip(axes.flat, metric_groups, strict=True)
    ):
        # An empty row if the class lacks the metric.
        aligned_rows = metric_rows.set_index("class").reindex(classes.index)
        plotting.draw_dots(ax, labels, aligned_rows, "value")
        ax.set_xlim(-0.02, 1.02)
        ax.set_title("F1" if name == "f1" else str(name))
        if position:
            ax.tick_params(labelleft=False)
    recall = data[data["metric"] == "recall"].set_index("class")["value"]
    alt = (
        f"Recall is highest for class {recall.idxmax()} ({format_share(recall.max())}) and lowest "
        f"for class {recall.idxmin()} ({format_share(recall.min())})."
    )
    caption = (
        "Classes have their number of holdout rows. Recall: share of the class that is found; "
        "precision: share of predictions of the class that are correct; F1: their harmonic mean. "
        "A class that is never predicted has no precision."
    )
    return Figure(figure, alt=alt, caption=caption)


def plot_calibration(bins: pd.DataFrame) -> Figure:
    """Reliability curve of the predicted class: its probability against the share correct."""
    return finalize.plot_calibration(bins, ("probability of the predicted class", "share correct"))


def plot_error_distribution(matrix: pd.DataFrame) -> Figure:
    """Confusion matrix, as shares of the actual class."""
    return finalize.plot_confusion_matrix(matrix)
