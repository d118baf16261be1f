"""Figures of the compare stage."""

from __future__ import annotations

import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.tasks.metric_format import LOWER_IS_BETTER, format_metric, metric_label

BASELINE_FAMILY = "dummy"


@style.apply_style
def plot_leaderboard(frame: pd.DataFrame, metric: str) -> Figure:
    """Every candidate's mean over the folds with one standard deviation, best first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``candidate, family, status, <metric>_mean, <metric>_sd, fit_seconds``;
        `status` is "ok", "failed" or "skipped", and the family "dummy" is the baseline.
    metric : str
        The metric that ranks the candidates.
    """
    mean, sd = f"{metric}_mean", f"{metric}_sd"
    data = plotting.select_drawable_rows(
        frame, ["candidate", "family", "status", mean, sd, "fit_seconds"], ["candidate", mean]
    )
    if data is None:
        return empty_figure("Leaderboard")
    name = metric_label(metric)
    data = data.sort_values(mean, ascending=metric in LOWER_IS_BETTER, kind="stable").reset_index(
        drop=True
    )
    sds = data[sd].fillna(0)
    data = data.assign(low=data[mean] - sds, high=data[mean] + sds)
    is_baseline = data["family"] == BASELINE_FAMILY
    baseline_mean = data.loc[is_baseline, mean]
    # The axis fits the models: from the baseline on, their differences would be a few pixels.
    models = data if is_baseline.all() else data[~is_baseline]
    low, high = plotting.compute_padded_limits(models["low"], models["high"])
    is_off_axis = len(baseline_mean) > 0 and not low <= baseline_mean.iloc[0] <= high
    plotted = models if is_off_axis else data
    figure, ax = plotting.subplots(plotting.compute_height(len(plotted)))
    colours = [style.ACCENT, *[style.MUTED] * (len(plotted) - 1)]
    texts = [_format_score_and_time(row, mean) for _, row in plotted.iterrows()]
    plotting.draw_dots(ax, plotted["candidate"], plotted, mean, color=colours, row_texts=texts)
    if len(baseline_mean) and not is_off_axis:
        plotting.draw_reference_line(
            ax, float(baseline_mean.iloc[0]), f"baseline {format_metric(baseline_mean.iloc[0])}"
        )
    ax.set_xlim(low, high)
    ax.set_xlabel(f"{name}, mean over the folds, ± 1 standard deviation")
    return Figure(
        figure,
        alt=_write_alt_text(data, baseline_mean, mean, name),
        data=frame.filter(["candidate", "status", mean, sd, "fit_seconds"]).rename(
            columns={mean: f"{name} mean", sd: f"{name} sd"}
        ),
        caption=_write_caption(frame, len(data))
        + (
            f" The baseline, {format_metric(baseline_mean.iloc[0])}, lies outside the axis."
            if is_off_axis
            else ""
        ),
    )


@plotting.with_drawable_rows("Learning curve", ["share", "rows", "value"])
def plot_learning_curve(data: pd.DataFrame, metric: str, summary: str) -> Figure:
    """The leader's metric by the number of training rows.

    Points are means over the folds, the band is one standard deviation.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``share, fold, rows, value``.
    metric : str
        Name of the metric.
    summary : str
        A sentence that summarizes the curve.
    """
    by_share = data.groupby("share")
    mean = by_share["value"].mean()
    sd = by_share["value"].std(ddof=0).fillna(0)
    points = pd.DataFrame(
        {"rows": by_share["rows"].mean().round(), "mean": mean, "sd": sd, "folds": by_share.size()}
    ).reset_index()
    figure, ax = plotting.subplots(3.1)
    plotting.draw_band(
        ax,
        points["rows"],
        mean.to_numpy() - sd.to_numpy(),
        mean.to_numpy() + sd.to_numpy(),
        style.ACCENT,
    )
    ax.plot(points["rows"], points["mean"], color=style.ACCENT, marker="o")
    for row in points.itertuples():
        plotting.annotate_point(
            ax, (row.rows, row.mean), format_metric(row.mean), offset=(0, 11), ha="center"
        )
    texts = [
        f"{row.rows:,.0f} rows: {metric_label(metric)} {format_metric(row.mean)} ± "
        f"{format_metric(row.sd)}"
        for row in points.itertuples()
    ]
    plotting.add_hover_strips(ax, points["rows"], texts)
    ax.set_xscale("log", base=2)
    ax.set_xticks(points["rows"], [f"{rows:,.0f}" for rows in points["rows"]])
    ax.set_ylim(*plotting.compute_padded_limits(mean - sd, mean + sd))
    ax.set_xlabel("training rows of the leader (log scale)")
    ax.set_ylabel(metric_label(metric))
    range_text = (
        f"{metric_label(metric)} goes from {format_metric(mean.iloc[0])} to "
        f"{format_metric(mean.iloc[-1])}"
    )
    caption = (
        "Mean over the folds; band: one standard deviation of the folds, which differ in "
        "difficulty. Whether more rows help is computed from the paired gain of each fold. "
        "Subsamples contain whole entities."
    )
    return Figure(
        figure, alt=f"{summary} {range_text}.", data=points, caption=caption, summary=summary
    )


def _format_score_and_time(row: pd.Series, mean: str) -> str:
    seconds = "" if pd.isna(row["fit_seconds"]) else f" · {row['fit_seconds']:.1f} s"
    return f"{format_metric(row[mean])}{seconds}"


def _write_alt_text(data: pd.DataFrame, baseline_mean: pd.Series, mean: str, name: str) -> str:
    best = data.iloc[0]
    text = f"{best['candidate']} leads, with a mean {name} of {format_metric(best[mean])}"
    if len(data) > 1:  # both values, because their rounded difference may contradict them
        second = data.iloc[1]
        text += f", followed by {second['candidate']} with {format_metric(second[mean])}"
    if len(baseline_mean):
        text += f"; the baseline has {format_metric(baseline_mean.iloc[0])}"
    return f"{text}."


def _write_caption(frame: pd.DataFrame, n_displayed: int) -> str:
    text = "Best first. Right: mean over the folds, and total fit time in seconds."
    if missing := len(frame) - n_displayed:
        text += f" Not drawn, because they did not finish: {missing} of {len(frame)}."
    return text
