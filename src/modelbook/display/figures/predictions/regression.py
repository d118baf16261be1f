"""Figures of regression predictions against actual values."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import DisplayGroup, Figure
from modelbook.display.figures import finalize
from modelbook.formatting import format_share
from modelbook.tasks.metric_format import format_metric
from modelbook.tasks.regression import MAX_POINTS

SCATTER_SIZE = (4.6, 5.6)  # height, width


@plotting.with_drawable_rows("Out-of-fold errors", ["quantile", "absolute_error"])
def plot_out_of_fold_results(data: pd.DataFrame, threshold: None) -> Figure:
    """Quantiles of the absolute error of out-of-fold predictions.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``quantile, absolute_error``: at most this error for this share of the rows.
    """
    figure, ax = plotting.subplots(3.1)
    ax.plot(data["quantile"], data["absolute_error"], color=style.ACCENT)
    texts = [
        f"{format_share(share)} of the rows: within {format_metric(error)}"
        for share, error in zip(data["quantile"], data["absolute_error"], strict=True)
    ]
    plotting.add_hover_strips(ax, data["quantile"], texts)
    median_error, p90_error = (
        float(error) for error in np.interp((0.5, 0.9), data["quantile"], data["absolute_error"])
    )
    for share, name, error in ((0.5, "half", median_error), (0.9, "nine in ten", p90_error)):
        ax.scatter([share], [error], s=42, color=style.ACCENT, zorder=3)
        plotting.annotate_point(
            ax, (share, error), f"{name} within {format_metric(error)}", offset=(-6, 9), ha="right"
        )
    plotting.set_percent_format(ax)
    plotting.set_thousands_format(ax.yaxis)
    ax.set(
        xlabel="share of training rows, smallest error first",
        ylabel="absolute error at most",
        ylim=(0, None),
    )
    alt = (
        f"Half of the out-of-fold predictions are within {format_metric(median_error)} of the "
        f"actual value, 90% within {format_metric(p90_error)}."
    )
    caption = (
        "Curve: the absolute error that this share of the training rows does not exceed, out of "
        "fold. A regression has no threshold to choose."
    )
    return Figure(figure, alt=alt, caption=caption)


def plot_diagnostics(
    frames: tuple[pd.DataFrame, pd.DataFrame], metrics: pd.DataFrame
) -> DisplayGroup:
    """Predicted against actual, then errors by prediction; ``metrics`` is the metrics table."""
    return DisplayGroup(
        plot_predicted_vs_actual(frames[0], metrics), plot_errors_by_prediction(frames[1])
    )


@plotting.with_drawable_rows("Predicted against actual", ["predicted", "actual"])
def plot_predicted_vs_actual(data: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Scatter plot of predicted against actual values.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``predicted, actual``: a sample of the holdout.
    metrics : pandas.DataFrame
        The metrics.
    """
    figure, ax = plotting.subplots(*SCATTER_SIZE)
    limits = plotting.compute_padded_limits(data["predicted"], data["actual"], margin=0.04)
    plotting.draw_identity_line(ax, *limits, "perfect prediction")
    ax.scatter(data["predicted"], data["actual"], s=11, color=style.ACCENT, alpha=0.5, linewidths=0)
    ax.set(xlabel="predicted", ylabel="actual")
    plotting.set_thousands_format(ax.xaxis, ax.yaxis)
    r2 = metrics.loc[metrics["metric"] == "r2", "value"].iloc[0]
    errors = (data["predicted"] - data["actual"]).abs()
    alt = (
        f"{len(data):,} rows, predicted against actual: R² is {r2:.2f} on all rows, and half of "
        f"the rows shown are within {format_metric(errors.median())} of the line."
    )
    caption = (
        f"{len(data):,} rows; of more than {MAX_POINTS}, as many are drawn at random. On the line "
        "the prediction is exact."
    )
    return Figure(figure, alt=alt, caption=caption)


@plotting.with_drawable_rows(
    "Errors by prediction", ["predicted", "median"], optional=["q05", "q25", "q75", "q95"]
)
def plot_errors_by_prediction(data: pd.DataFrame) -> Figure:
    """Quantiles of the errors by decile of the prediction.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``predicted, median, q05, q25, q75, q95, rows``: of predicted minus actual.
    """
    figure, ax = plotting.subplots(3.4)
    ax.axhline(0, color=style.BASELINE, linestyle="--", linewidth=1)
    ax.vlines(data["predicted"], data["q05"], data["q95"], color=style.FAINT, linewidth=1.6)
    ax.vlines(
        data["predicted"], data["q25"], data["q75"], color=style.ACCENT, alpha=0.45, linewidth=6
    )
    ax.scatter(data["predicted"], data["median"], s=34, color=style.ACCENT, zorder=3)
    ax.set(xlabel="prediction, by decile", ylabel="predicted minus actual")
    plotting.set_thousands_format(ax.xaxis, ax.yaxis)
    widest = data.loc[(data["q95"] - data["q05"]).idxmax()]
    alt = (
        f"Errors spread most where about {format_metric(widest['predicted'])} is predicted: nine "
        f"in ten lie between {format_metric(widest['q05'])} and {format_metric(widest['q95'])}."
    )
    caption = (
        "Dot: median error; bar: middle 50%; line: middle 90%. Above 0 the prediction was too high."
    )
    return Figure(figure, alt=alt, caption=caption)


def plot_calibration(bins: pd.DataFrame) -> Figure:
    """Reliability curve: mean predicted against mean actual, by bin."""
    return finalize.plot_calibration(bins, ("mean predicted", "mean actual"), is_probability=False)


@plotting.with_drawable_rows("Errors", ["low", "high", "rows"])
def plot_error_distribution(data: pd.DataFrame) -> Figure:
    """Histogram of the errors, predicted minus actual.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``low, high, rows`` of each bin; 0 is the edge of a bin.
    """
    figure, ax = plotting.subplots(2.9)
    edges = [*data["low"], data["high"].iloc[-1]]
    ax.stairs(data["rows"], edges, color=style.ACCENT, linewidth=1.4)
    ax.stairs(data["rows"], edges, color=style.ACCENT, alpha=0.15, fill=True)
    plotting.draw_reference_line(ax, 0.0, "no error")
    ax.set(xlabel="predicted minus actual", ylabel="rows")
    plotting.set_thousands_format(ax.xaxis)
    n_rows = data["rows"].sum()
    modal_bin = data.loc[data["rows"].idxmax()]
    share_too_low = data.loc[data["high"] <= 0, "rows"].sum() / n_rows
    alt = (
        f"The most frequent errors lie between {format_metric(modal_bin['low'])} and "
        f"{format_metric(modal_bin['high'])} ({format_share(modal_bin['rows'] / n_rows)} of the "
        f"rows); {format_share(share_too_low)} of the predictions were too low."
    )
    caption = (
        "Right of the line the prediction was too high, left of it too low; the outer bins "
        "include all larger errors."
    )
    return Figure(figure, alt=alt, caption=caption)
