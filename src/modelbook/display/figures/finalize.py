"""Figures of the finalize stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.formatting import format_count, format_share, format_value
from modelbook.tasks.intervals import find_weaker_slices
from modelbook.tasks.metric_format import (
    LOWER_IS_BETTER,
    format_metric,
    metric_label,
    slice_metric_label,
)

SQUARE_SIZE = (4.4, 5.2)  # height, width


@style.apply_style
def plot_roc_and_precision_recall(
    roc: pd.DataFrame, precision_recall: pd.DataFrame, roc_auc: float, base_rate: float
) -> Figure:
    """ROC and precision-recall curves on the holdout, with bootstrap bands.

    Parameters
    ----------
    roc, precision_recall : pandas.DataFrame
        Columns ``fpr, tpr, low, high``, and ``recall, precision, low, high``.
    roc_auc : float
        The exact ROC AUC; the area under the drawn points is slightly smaller.
    base_rate : float
        Share of the positive class.
    """
    roc_points = plotting.select_drawable_rows(roc, ["fpr", "tpr", "low", "high"], ["fpr", "tpr"])
    pr_points = plotting.select_drawable_rows(
        precision_recall, ["recall", "precision", "low", "high"], ["recall", "precision"]
    )
    if roc_points is None or pr_points is None:
        return empty_figure("ROC and precision-recall curves")
    figure, (roc_ax, pr_ax) = plotting.subplots(3.7, ncols=2)
    tpr_at_low_fpr = _draw_roc(
        roc_ax, roc_points.sort_values(["fpr", "tpr"], kind="stable"), roc_auc
    )
    precision_at_half_recall = _draw_precision_recall(
        pr_ax, pr_points.sort_values("recall", kind="stable"), base_rate
    )
    alt = (
        f"The area under the ROC curve is {roc_auc:.3f}; at a false positive rate of 10% the "
        f"recall is {format_share(tpr_at_low_fpr)}. At a recall of 50% the precision is "
        f"{format_share(precision_at_half_recall, 1)}; chance: {format_share(base_rate, 1)}."
    )
    curves = {
        "ROC": roc_points[["fpr", "tpr", "low", "high"]],
        "precision": pr_points[["recall", "precision", "low", "high"]],
    }
    column_names = ["curve", "x", "y", "low", "high"]
    tables = [
        points.iloc[::5].set_axis(column_names[1:], axis=1).assign(curve=name)[column_names]
        for name, points in curves.items()
    ]
    data = pd.concat(tables, ignore_index=True)
    caption = (
        "ROC curve, then precision-recall curve, of unweighted holdout rows. Bands: 95% bootstrap "
        "intervals."
    )
    return Figure(figure, alt=alt, data=data, caption=caption)


def _draw_roc(ax: Any, data: pd.DataFrame, roc_auc: float) -> float:
    """Draw the curve and return the true positive rate at a false positive rate of 10%."""
    draw_roc_curve(ax, data, roc_auc)
    plotting.annotate_point(ax, (0.5, 0.5), "chance", offset=(6, -6), color=style.MUTED)
    ax.set(xlabel="false positive rate", ylabel="true positive rate (recall)")
    return float(np.interp(0.1, data["fpr"], data["tpr"]))


def draw_roc_curve(ax: Any, data: pd.DataFrame, roc_auc: float) -> None:
    """Draw a ROC curve with its band, the diagonal of chance, and the area under the curve."""
    ax.plot([0, 1], [0, 1], color=style.BASELINE, linestyle="--", linewidth=1)
    plotting.draw_band(ax, data["fpr"], data["low"], data["high"], style.ACCENT)
    ax.plot(data["fpr"], data["tpr"], color=style.ACCENT)
    hover_text = "false positive rate {:.0%}: recall {:.0%}"
    plotting.add_hover_curve(ax, data["fpr"], data["tpr"], hover_text)
    plotting.write_in_corner(ax, f"area {roc_auc:.3f}")
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")


def _draw_precision_recall(ax: Any, data: pd.DataFrame, base_rate: float) -> float:
    """Draw the curve and return the precision at a recall of 50%."""
    ax.axhline(base_rate, color=style.BASELINE, linestyle="--", linewidth=1)
    plotting.annotate_point(
        ax,
        (0, base_rate),
        f"chance {format_share(base_rate, 1)}",
        offset=(4, -8),
        color=style.MUTED,
    )
    plotting.draw_band(ax, data["recall"], data["low"], data["high"], style.ACCENT)
    ax.plot(data["recall"], data["precision"], color=style.ACCENT)
    hover_text = "recall {:.0%}: precision {:.0%}"
    plotting.add_hover_curve(ax, data["recall"], data["precision"], hover_text)
    precision_at_half_recall = float(np.interp(0.5, data["recall"], data["precision"]))
    ax.scatter([0.5], [precision_at_half_recall], s=36, color=style.ACCENT, zorder=3)
    plotting.annotate_point(
        ax,
        (0.5, precision_at_half_recall),
        f"{format_share(precision_at_half_recall)} at 50% recall",
        offset=(6, 8),
    )
    ax.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        aspect="equal",
        xlabel="recall: share of positives found",
        ylabel="precision: share of flagged rows that are positive",
    )
    return precision_at_half_recall


@plotting.with_drawable_rows(
    "Calibration", ["predicted", "observed"], optional=["low", "high", "n"]
)
def plot_calibration(
    data: pd.DataFrame,
    axis_labels: tuple[str, str] = ("predicted probability", "observed share"),
    *,
    is_probability: bool = True,
) -> Figure:
    """Reliability curve: mean prediction against mean outcome, by bin.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``predicted, observed, low, high, n``.
    axis_labels : pair of str
        Labels of the x and the y axis.
    is_probability : bool
        Whether both are probabilities, drawn from 0.
    """
    figure, ax = plotting.subplots(*SQUARE_SIZE)
    columns = (data[name] for name in ("predicted", "observed", "low", "high"))
    low, high = plotting.compute_padded_limits(*columns)
    plotting.draw_identity_line(ax, 0 if is_probability else low, high, "perfect calibration")
    bars = data.dropna(subset=["low", "high"])
    ax.vlines(
        bars["predicted"], bars["low"], bars["high"], color=style.ACCENT, alpha=0.45, linewidth=2.2
    )
    ax.plot(data["predicted"], data["observed"], color=style.ACCENT, linewidth=1, alpha=0.6)
    ax.scatter(data["predicted"], data["observed"], s=38, color=style.ACCENT, zorder=3)
    predicted, observed = (data[name].map(format_metric) for name in ("predicted", "observed"))
    texts = "predicted " + predicted + ": observed " + observed
    plotting.add_hover_strips(ax, data["predicted"], texts.tolist())
    ax.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
    if high >= 1000:
        plotting.set_thousands_format(ax.xaxis, ax.yaxis)
    errors = (data["observed"] - data["predicted"]).abs()
    weights = data["n"].fillna(1).clip(lower=1e-9)
    mean_error = float(np.average(errors, weights=weights))
    worst_bin = data.loc[errors.idxmax()]
    name = "expected calibration error (ECE)" if is_probability else "mean calibration error"
    alt = (
        f"The {name} is {format_metric(mean_error)}; the largest "
        f"deviation is where {format_metric(worst_bin['predicted'])} is predicted "
        f"and {format_metric(worst_bin['observed'])} observed."
    )
    return Figure(figure, alt=alt, caption="Each dot is a bin of predictions, with its 95% CI.")


@plotting.with_drawable_rows(
    "Cost of each threshold", ["threshold", "cost", "cost_none", "cost_all"]
)
def plot_threshold_cost(data: pd.DataFrame, threshold: float) -> Figure:
    """Expected cost by threshold, with the chosen threshold marked.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``threshold, cost``, and ``cost_none, cost_all``: the cost of flagging none or all.
    threshold : float
        The chosen threshold.
    """
    data = data.sort_values("threshold", kind="stable").reset_index(drop=True)
    figure, ax = plotting.subplots(3.1)
    cost = float(np.interp(threshold, data["threshold"], data["cost"]))
    best = data.loc[data["cost"].idxmin()]
    ax.plot(data["threshold"], data["cost"], color=style.ACCENT)
    ax.scatter([threshold], [cost], s=48, color=style.ACCENT, zorder=3)
    hover_text = "threshold {:.3g}: cost {:,.4g}"
    plotting.add_hover_curve(ax, data["threshold"], data["cost"], hover_text)
    plotting.draw_reference_line(
        ax, threshold, f"chosen {threshold:.3g}, cost {cost:,.4g}", color=style.INK
    )
    ax.set_ylim(*plotting.compute_padded_limits(data["cost"]))
    ax.set(xlabel="threshold", ylabel="expected cost per row")
    chosen, lowest = f"{cost:,.4g}", f"{best['cost']:,.4g}"
    alt = f"The chosen threshold {threshold:.3g} costs {chosen} per row" + (
        ", the minimum of this curve."
        if chosen == lowest
        else f"; the minimum of this curve is {lowest}, at {best['threshold']:.3g}."
    )
    cost_none, cost_all = data["cost_none"].iloc[0], data["cost_all"].iloc[0]
    constant_costs = f"Flagging nobody costs {cost_none:,.4g}, everybody {cost_all:,.4g}."
    return Figure(
        figure,
        alt=f"{alt} {constant_costs}",
        caption=f"Out-of-fold predictions; lower is better. {constant_costs}",
        data=data.rename(
            columns={
                "cost_none": "cost of flagging nobody",
                "cost_all": "cost of flagging everybody",
            }
        ),
    )


@plotting.with_drawable_rows(
    "Gains by the share of flagged rows",
    ["share", "recall"],
    optional=["recall_low", "recall_high"],
)
def plot_gains(
    data: pd.DataFrame,
    at_capacity: Mapping[str, float],
    positive: str = "positive",
    *,
    is_weighted: bool = False,
) -> Figure:
    """Recall by the share of rows that are flagged.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``share, recall, recall_low, recall_high``.
    at_capacity : mapping
        ``share`` of the rows that can be flagged, and the ``recall`` there, which may lie between
        the shares of ``data``.
    positive : str
        Name of the positive class.
    is_weighted : bool
        Whether the rows are weighted to the missing rate of recent ones.
    """
    figure, ax = plotting.subplots(3.4)
    plotting.draw_band(ax, data["share"], data["recall_low"], data["recall_high"], style.ACCENT)
    ax.plot(data["share"], data["recall"], color=style.ACCENT)
    ax.plot([0, 1], [0, 1], color=style.BASELINE, linewidth=1, linestyle="--")
    hover_text = "{:.0%} of the rows flagged: recall {:.0%}"
    plotting.add_hover_curve(ax, data["share"], data["recall"], hover_text)
    capacity, recall = at_capacity["share"], at_capacity["recall"]
    ax.scatter([capacity], [recall], s=48, color=style.ACCENT, zorder=3)
    text = f"{format_share(capacity)} flagged: recall {format_share(recall)}"
    plotting.write_in_corner(ax, text)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of rows flagged", ylabel="recall")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.yaxis.set_major_formatter("{x:.0%}")
    alt = (
        f"Flagging the {format_share(capacity, 1)} of the rows with the highest scores identifies "
        f"{format_share(recall)} of the “{positive}” rows, a lift of "
        f"{recall / capacity if capacity else 0:.1f}."
    )
    rows = "Holdout rows weighted to the missing rate of recent ones. " if is_weighted else ""
    caption = (
        f"{rows}Band: 95% CI by entity. Dashed: a random order of the rows. Lift: the recall as a "
        "multiple of that of a random order."
    )
    displayed_rows = data.iloc[4::5] if len(data) >= 5 else data
    return Figure(figure, alt=alt, caption=caption, data=displayed_rows)


@style.apply_style
def plot_confusion_matrix(matrix: pd.DataFrame) -> Figure:
    """Confusion matrix: rows are actual classes, columns predicted classes."""
    if matrix is None or matrix.empty or matrix.isna().to_numpy().all():
        return empty_figure("Confusion matrix")
    counts = matrix.to_numpy(dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [
        [f"{n:,.0f}\n{format_share(share, 1)} of actual" for n, share in zip(*pair, strict=True)]
        for pair in zip(counts, shares, strict=True)
    ]
    figure, ax = plotting.subplots(
        1.5 + 0.6 * len(counts), min(2.6 + 1.3 * len(counts), style.FIGURE_WIDTH)
    )
    names = (
        [f"actual {name}" for name in matrix.index],
        [f"predicted {name}" for name in matrix.columns],
    )
    plotting.draw_heatmap(ax, shares, texts, names)
    ax.set_xticks(range(matrix.shape[1]), [str(name) for name in matrix.columns])
    ax.set_yticks(range(matrix.shape[0]), [str(name) for name in matrix.index])
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0)
    ax.set(xlabel="predicted", ylabel="actual")
    n_rows = max(counts.sum(), 1)
    class_sizes = counts.sum(axis=1)
    caption = "Darker is a larger share of the actual class."
    is_binary = counts.shape == (2, 2)
    alt = (
        f"{'At the threshold, ignoring any capacity, accuracy' if is_binary else 'Accuracy'} is "
        f"{format_share(np.trace(counts) / n_rows, 1)} of {counts.sum():,.0f} rows "
        f"(predicting “{matrix.index[class_sizes.argmax()]}” for each row: "
        f"{format_share(class_sizes.max() / n_rows, 1)})"
    )
    if is_binary:
        alt += (
            f"; {counts[1, 1]:,.0f} of {class_sizes[1]:,.0f} “{matrix.index[1]}” rows were "
            f"identified, with {counts[0, 1]:,.0f} false positives"
        )
        caption += " The threshold minimises the expected cost, not the number of errors."
    return Figure(figure, alt=f"{alt}.", data=matrix, caption=caption)


@plotting.with_drawable_rows("Search over time", ["seconds", "trials", "best", "ensemble"])
def plot_search_curve(data: pd.DataFrame, metric: str) -> Figure:
    """The out-of-fold loss after each round of the search, by the seconds it had taken.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``seconds, trials, best`` (the best trial alone) and ``ensemble``.
    metric : str
        Name of the loss.
    """
    figure, ax = plotting.subplots(3.1)
    for column, color in (("best", style.MUTED), ("ensemble", style.ACCENT)):
        ax.plot(data["seconds"], data[column], color=color, marker="o", label=column)
    rounds = data.to_dict("records")
    texts = [
        f"{row['seconds']:.0f} s, {format_count(int(row['trials']), 'trial')}: ensemble "
        f"{format_metric(row['ensemble'])}, the best trial {format_metric(row['best'])}"
        for row in rounds
    ]
    plotting.add_hover_strips(ax, data["seconds"], texts)
    last = rounds[-1]
    ax.set_ylim(*plotting.compute_padded_limits(data["ensemble"], data["best"]))
    ax.set_xlabel("seconds of the search, at the end of each round")
    ax.set_ylabel(f"out-of-fold {metric_label(metric)}")
    ax.legend()
    alt = (
        f"After {last['seconds']:.0f} s and {format_count(int(last['trials']), 'trial')} on all "
        f"folds the ensemble has {metric_label(metric)} {format_metric(last['ensemble'])}, the "
        f"best trial {format_metric(last['best'])}."
    )
    caption = "Lower is better. Trials: those that were evaluated on all folds."
    table = data.rename(columns={"best": "best trial"})
    return Figure(figure, alt=alt, data=table, caption=caption)


@plotting.with_drawable_rows("Importance of the features", ["feature", "mean"], optional=["sd"])
def plot_feature_importance(data: pd.DataFrame, unit: str = "importance") -> Figure:
    """Permutation importance of the features.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``feature, mean, sd``.
    unit : str
        Unit of the importance.
    """
    data = data.sort_values("mean", ascending=False, kind="stable").reset_index(drop=True)
    displayed_rows = data.head(25)
    sds = data["sd"].head(25).fillna(0)
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows)))
    displayed_rows = displayed_rows.assign(
        low=displayed_rows["mean"] - sds, high=displayed_rows["mean"] + sds
    )
    decimals = 4 if displayed_rows["mean"].max() < 0.1 else 3
    texts = [
        format_value(value, decimals) if abs(value) < 10 else format_metric(value)
        for value in displayed_rows["mean"]
    ]
    plotting.draw_dots(ax, displayed_rows["feature"], displayed_rows, "mean", row_texts=texts)
    ax.axvline(0, color=style.MUTED, linewidth=1)
    plotting.set_thousands_format(ax.xaxis)
    ax.set_xlabel(f"{unit}, ± 1 standard deviation")
    best = data.iloc[0]
    alt = (
        f"The most important feature is {best['feature']}, with an importance of "
        f"{_format_importance(best['mean'])}"
    )
    if len(data) > 1:
        alt += (
            f", followed by {data.iloc[1]['feature']}, with "
            f"{_format_importance(data.iloc[1]['mean'])}"
        )
    caption = (
        f"The first {len(displayed_rows)} of {len(data)} features."
        if len(data) > len(displayed_rows)
        else ""
    )
    return Figure(figure, alt=f"{alt}.", caption=caption)


def _format_importance(value: float) -> str:
    # Small values keep significant digits, amounts get commas.
    return f"{value:.3g}" if abs(value) < 10 else format_metric(value)


@style.apply_style
def plot_metric_by_slice(frame: pd.DataFrame, overall: float, metric: str = "roc_auc") -> Figure:
    """A metric by slice of the holdout.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``slice, value, n, low, high``, one named after the metric, and optionally
        ``group``, the name of the slice.
    overall : float
        The metric on the whole holdout.
    """
    groups = frame["slice"].astype(str) + ": " + frame["value"].astype(str)
    data = plotting.select_drawable_rows(
        frame.assign(group=frame.get("group", groups)),
        ["slice", "value", "group", "n", metric, "low", "high"],
        ["slice", metric],
    )
    if data is None:
        return empty_figure("Slices of the holdout")
    weaker = find_weaker_slices(data, metric, overall)
    displayed_rows = data.head(plotting.MAX_ROWS)
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_rows)))
    names = list(displayed_rows["group"])
    label = metric_label(metric)
    lower_is_better = metric in LOWER_IS_BETTER
    colors = [
        style.POSITIVE if is_weaker else style.ACCENT
        for is_weaker in weaker["is_weaker"].head(len(displayed_rows))
    ]
    texts = [
        format_metric(row[metric]) + _format_row_count(row["n"])
        for _, row in displayed_rows.iterrows()
    ]
    plotting.draw_dots(ax, names, displayed_rows, metric, color=colors, row_texts=texts)
    plotting.draw_reference_line(ax, overall, f"all {format_metric(overall)}")
    plotting.set_thousands_format(ax.xaxis)
    ax.set_xlabel(f"{label}, with 95% CI")
    worst = data.loc[data[metric].idxmax() if lower_is_better else data[metric].idxmin()]
    alt = (
        f"{label} is {'highest' if lower_is_better else 'lowest'}, {format_metric(worst[metric])}, "
        f"in the slice {worst['group']}; on all rows it is {format_metric(overall)}."
    )
    direction = "above" if lower_is_better else "below"
    n_intervals = weaker["n_intervals"].iloc[0]
    widening = f", widened for {n_intervals} slices," if n_intervals > 1 else ""
    caption = (
        f"Orange: the whole interval{widening} is {direction} the value on all rows. Right: "
        f"{label} and number of rows."
        + plotting.note_selection(len(displayed_rows), len(data), "slices", "the first ")
    )
    headings = {"slice": "column", "value": "slice", "n": "rows"}
    table = frame.drop(columns="group", errors="ignore").rename(
        columns=lambda name: headings.get(name, slice_metric_label(name))
    )
    return Figure(figure, alt=alt, data=table, caption=caption)


def _format_row_count(rows: float) -> str:
    return "" if pd.isna(rows) else f"  of {rows:,.0f}"
