"""Figures of the monitor stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelbook.display import plotting, style
from modelbook.display.components import Figure, empty_figure
from modelbook.formatting import format_count, format_share
from modelbook.tasks.metric_format import (
    HEADLINE_METRICS,
    LOWER_IS_BETTER,
    format_metric,
    metric_label,
)

ZERO_IS_BEST = ("calibration_in_the_large", "overconfidence")
UNCHANGED_IS_BEST = ("selection_rate",)
MAX_TICK_LABELS = 6  # batch names that fit below an axis
DRIFT_COLUMN_NAMES = {  # columns of ``monitoring.drift`` that are displayed
    "batch": "batch",
    "column": "column",
    "relative_drift": "times threshold",
    "score": "distance",
    "chance": "critical distance",
    "ks_p": "KS p",
    "new": "unseen values",
    "missing_reference": "missing, matched holdout",
    "missing_batch": "missing, batch",
    "drifted": "drifted",
    "importance": "importance",
}
DRIFTED_SHARE_LABEL = "importance-weighted share of drifted columns"
REFERENCE_LABEL = {"reference": "matched holdout"}


@style.apply_style
def plot_drift_scores(frame: pd.DataFrame) -> Figure:
    """Drift of each column in each batch, as a multiple of its threshold.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``batch, column, relative_drift``. The figure's data are the columns of
        ``DRIFT_COLUMN_NAMES`` that it has.
    """
    columns = ["batch", "column", "relative_drift"]
    data = plotting.select_drawable_rows(frame, columns, columns)
    if data is None:
        return empty_figure("Drift")
    ratios = data.pivot_table(
        index="column", columns="batch", values="relative_drift", aggfunc="max"
    )
    largest_ratios = ratios.max(axis=1).sort_values(ascending=False, kind="stable")
    # The newest batch is first, because a narrow screen shows the first columns.
    newest_first = [*dict.fromkeys(data["batch"])][::-1]
    displayed_ratios = ratios.loc[largest_ratios.index[: plotting.MAX_ROWS], newest_first]
    figure, ax = plotting.subplots(plotting.compute_height(len(displayed_ratios), row_height=0.28))
    values = displayed_ratios.to_numpy(dtype=float)
    # Tints end at three times the threshold: a single outlier would leave the rest white.
    tints = np.where(values >= 1, np.clip(values, 1, 3), values * 0.2)
    names = list(displayed_ratios.index), [f"batch {name}" for name in displayed_ratios.columns]
    texts = [[_format_ratio(value) for value in row] for row in values]
    plotting.draw_heatmap(ax, tints, texts, names, color=style.POSITIVE)
    plotting.label_heatmap_axes(ax, *names, column_chars=20)
    return Figure(
        figure,
        alt=_write_drift_alt_text(data, largest_ratios),
        data=frame.rename(columns=DRIFT_COLUMN_NAMES).filter(list(DRIFT_COLUMN_NAMES.values())),
        caption=(
            "Drift score or change of the missing rate, whichever is more, as a multiple of its "
            "threshold; a dot marks drifted columns. Strongest and newest first. Evidently's "
            "report has the same numbers."
            + plotting.note_selection(len(displayed_ratios), len(ratios), "columns", "the first ")
        ),
    )


def _format_ratio(ratio: float) -> str:
    return "–" if np.isnan(ratio) else f"{ratio:.2f}×{' ●' if ratio >= 1 else ''}"


def _write_drift_alt_text(data: pd.DataFrame, largest_ratios: pd.Series) -> str:
    n_drifted = int((largest_ratios >= 1).sum())
    name = largest_ratios.index[0]
    worst = data[data["column"] == name].sort_values("relative_drift").iloc[-1]
    return (
        f"{n_drifted} of {format_count(len(largest_ratios), 'column')} drifted in at least one "
        f"batch; the largest drift is that of {name} in batch {worst['batch']}, "
        f"at {worst['relative_drift']:.2f} times its threshold."
    )


@plotting.with_drawable_rows(
    "Performance",
    ["batch", "metric", "value"],
    optional=["low", "high", "reference", "mostly_known_entities"],
)
def plot_metrics_by_batch(data: pd.DataFrame, threshold_text: str = "") -> Figure:
    """Each metric in each batch, against its value on the matched holdout.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``batch, metric, value, low, high, reference``; ``mostly_known_entities``, whether
        most rows of the batch are of entities that the model was fitted on.
    threshold_text : str
        The threshold of the metrics that depend on it, for the caption.
    """
    groups = list(data.groupby("metric", sort=False))
    sizes = [len(metric_rows) for _, metric_rows in groups]
    height = sum(plotting.compute_height(size, row_height=0.3, base_height=0.9) for size in sizes)
    figure, axes = plotting.subplots(
        height,
        nrows=len(groups),
        ncols=1,
        squeeze=False,
        height_ratios=[n_rows + 1 for n_rows in sizes],
    )
    for ax, (metric, metric_rows) in zip(axes.flat, groups, strict=True):
        _draw_panel(ax, str(metric), metric_rows)
    return Figure(
        figure,
        alt=_write_performance_alt_text(data),
        summary=_summarize_performance(data),
        data=data.rename(columns=REFERENCE_LABEL),
        caption=(
            "Dashed: the matched holdout. Orange: worse than it, and the 95% CI excludes it. "
            f"{threshold_text}"
        ).strip(),
    )


def _is_worse(metric: str, metric_rows: pd.DataFrame) -> pd.Series:
    """Whether each value is worse than its reference, and its interval excludes the reference.

    Any change of the selection rate counts. The interval of a metric that is best at 0 must exclude
    0, too.
    """
    is_above, is_below = _is_above(metric_rows), _is_below(metric_rows)
    if metric in map(metric_label, UNCHANGED_IS_BEST):
        return is_above | is_below
    if metric in map(metric_label, ZERO_IS_BEST):
        is_further = metric_rows["value"].abs() > metric_rows["reference"].abs()
        excludes_zero = (metric_rows["low"] > 0) | (metric_rows["high"] < 0)
        return (is_above | is_below) & is_further & excludes_zero
    return is_above if metric in map(metric_label, LOWER_IS_BETTER) else is_below


def _is_better(metric: str, metric_rows: pd.DataFrame) -> pd.Series:
    """Whether each value is better than its reference, and its interval excludes the reference."""
    if metric in map(metric_label, (*ZERO_IS_BEST, *UNCHANGED_IS_BEST)):
        return pd.Series(False, metric_rows.index)
    is_lower_better = metric in map(metric_label, LOWER_IS_BETTER)
    return _is_below(metric_rows) if is_lower_better else _is_above(metric_rows)


def _is_above(metric_rows: pd.DataFrame) -> pd.Series:
    return metric_rows["reference"] < metric_rows["low"]


def _is_below(metric_rows: pd.DataFrame) -> pd.Series:
    return metric_rows["reference"] > metric_rows["high"]


def _draw_panel(ax: Any, metric: str, metric_rows: pd.DataFrame) -> None:
    is_worse = _is_worse(metric, metric_rows)
    labels = [f"batch {batch}" for batch in metric_rows["batch"]]
    colours = [style.POSITIVE if worse else style.CURRENT for worse in is_worse]
    reference = metric_rows["reference"].dropna()
    has_one_reference = (
        len(reference) == len(metric_rows) and reference.map(format_metric).nunique() == 1
    )
    texts = [
        f"{format_metric(value)}{'' if has_one_reference else _describe_reference(row_reference)}"
        for value, row_reference in zip(metric_rows["value"], metric_rows["reference"], strict=True)
    ]
    plotting.draw_dots(ax, labels, metric_rows, "value", color=colours, row_texts=texts)
    if has_one_reference:
        value = float(reference.iloc[0])
        plotting.draw_reference_line(
            ax, value, f"matched holdout {format_metric(value)}", color=style.REFERENCE
        )
    else:
        positions = np.flatnonzero(metric_rows["reference"].notna())
        ax.vlines(
            reference,
            positions - 0.4,
            positions + 0.4,
            color=style.REFERENCE,
            linestyle="--",
            linewidth=1.1,
        )
    columns = (metric_rows[name] for name in ("value", "low", "high", "reference"))
    ax.set_xlim(*plotting.compute_padded_limits(*columns))
    ax.set_title(metric, pad=14)


def _describe_reference(reference: float) -> str:
    return "" if pd.isna(reference) else f", matched {format_metric(reference)}"


def _write_performance_alt_text(data: pd.DataFrame) -> str:
    texts = []
    for metric, metric_rows in data.groupby("metric", sort=False):
        last_row = metric_rows.iloc[-1]
        reference_text = (
            ""
            if pd.isna(last_row["reference"])
            else f" against {format_metric(last_row['reference'])} in the matched holdout"
        )
        texts.append(
            f"{metric} is {format_metric(last_row['value'])} in batch "
            f"{last_row['batch']}{reference_text}"
        )
    return f"{'; '.join(texts)}."


def _summarize_performance(data: pd.DataFrame) -> str:
    """Summarize the last batch: its first metric, and which differ from the matched holdout."""
    last_batch = data[data["batch"] == data["batch"].iloc[-1]]
    groups = {str(metric): rows for metric, rows in last_batch.groupby("metric", sort=False)}
    better_text, worse_text = (
        ", ".join(metric for metric, rows in groups.items() if compare(metric, rows).any())
        or "none"
        for compare in (_is_better, _is_worse)
    )
    text = _write_performance_alt_text(last_batch.head(1))
    if last_batch["mostly_known_entities"].eq(True).any():
        return (
            f"{text} Most rows of the batch are of entities that the model was fitted on: better "
            "values are not comparable with the holdout, whose entities were unseen. "
            f"Significantly worse: {worse_text}."
        )
    return (
        f"{text} Significantly better than the matched holdout: {better_text}; worse: {worse_text}."
    )


@plotting.with_drawable_rows(
    "History", ["batch", "metric", "value"], optional=["low", "high", "reference"]
)
def plot_metric_history(data: pd.DataFrame, alert_share: float | None = None) -> Figure:
    """Headline metric and drifted share of a version over its windows.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``batch, metric, value, low, high, reference``, oldest window first.
    alert_share : float, optional
        The importance-weighted share of drifted columns at which the verdict is watch.
    """
    positions = {batch: position for position, batch in enumerate(dict.fromkeys(data["batch"]))}
    rows_by_metric = {
        name: data[data["metric"].isin([name, f"expected_{name}"])]
        for name in (*HEADLINE_METRICS, "drifted_share")
    }
    panels = {
        name: metric_rows.assign(position=metric_rows["batch"].map(positions))
        for name, metric_rows in rows_by_metric.items()
        if len(metric_rows)
    }
    if not panels:
        return empty_figure("History")
    figure, axes = plotting.subplots(
        1.2 + 1.7 * len(panels), nrows=len(panels), ncols=1, squeeze=False
    )
    for ax, (name, metric_rows) in zip(axes.flat, panels.items(), strict=True):
        _draw_history(ax, name, metric_rows)
        if name == "drifted_share" and alert_share is not None:
            ax.axhline(alert_share, color=style.POSITIVE, linestyle=":", linewidth=1.4)
            ax.set_ylim(0, max(ax.get_ylim()[1], 1.15 * alert_share))
        ax.set_xlim(-0.4, len(positions) - 0.6)
        step = -(-len(positions) // MAX_TICK_LABELS)
        ax.set_xticks(
            range(0, len(positions), step),
            [plotting.truncate(name, 20) for name in list(positions)[::step]],
        )
    has_alert_line = alert_share is not None and "drifted_share" in panels
    return Figure(
        figure,
        alt=_write_history_alt_text(panels, len(positions)),
        data=_label_history(pd.concat(list(panels.values())).drop(columns="position").sort_index()),
        caption=(
            "Dots: observed values with 95% CI; crosses: estimates before outcomes; dashes: "
            f"matched holdout{'; dotted line: alert threshold' if has_alert_line else ''}."
        ),
    )


def _label_history(history: pd.DataFrame) -> pd.DataFrame:
    """Return the history with display names of its metrics and of the reference."""
    labels = {f"expected_{name}": f"estimated {metric_label(name)}" for name in HEADLINE_METRICS}
    metrics = [labels.get(name) or _label_metric(name) for name in history["metric"]]
    return history.assign(metric=metrics).rename(columns=REFERENCE_LABEL)


def _label_metric(name: str) -> str:
    return DRIFTED_SHARE_LABEL if name == "drifted_share" else metric_label(name)


def _draw_history(ax: Any, name: str, metric_rows: pd.DataFrame) -> None:
    observed = metric_rows[metric_rows["metric"] == name]
    estimated = metric_rows[metric_rows["metric"] != name]
    ax.plot(observed["position"], observed["value"], color=style.CURRENT, marker="o", linewidth=1.4)
    ax.vlines(
        observed["position"],
        observed["low"],
        observed["high"],
        color=style.CURRENT,
        alpha=0.45,
        linewidth=2.2,
    )
    ax.scatter(estimated["position"], estimated["value"], marker="x", color=style.MUTED, zorder=3)
    texts = {
        position: f"batch {rows['batch'].iloc[0]}: "
        + ", ".join(
            f"{'observed' if metric == name else 'estimated'} {format_metric(value)}"
            for metric, value in zip(rows["metric"], rows["value"], strict=True)
        )
        for position, rows in metric_rows.groupby("position")
    }
    plotting.add_hover_strips(ax, list(texts), list(texts.values()))
    reference = metric_rows["reference"].dropna()
    positions = metric_rows.loc[reference.index, "position"]
    ax.hlines(
        reference,
        positions - 0.4,
        positions + 0.4,
        color=style.REFERENCE,
        linestyle="--",
        linewidth=1.1,
    )
    columns = (metric_rows[name] for name in ("value", "low", "high", "reference"))
    low, high = plotting.compute_padded_limits(*columns)
    ax.set_ylim(0 if name == "drifted_share" else low, high)
    ax.set_title(_label_metric(name))


def _write_history_alt_text(panels: dict[str, pd.DataFrame], n_windows: int) -> str:
    texts = []
    for name, metric_rows in panels.items():
        observed = metric_rows[metric_rows["metric"] == name]
        if len(observed):
            format_value = format_share if name == "drifted_share" else format_metric
            ends = observed.iloc[[0, -1]] if len(observed) > 1 else observed
            values = [
                f"{format_value(value)} in batch {batch}"
                for batch, value in zip(ends["batch"], ends["value"], strict=True)
            ]
            texts.append(f"{_label_metric(name)} {' and '.join(values)}")
    return f"{format_count(n_windows, 'window')}: {'; '.join(texts) or 'no outcomes yet'}."
