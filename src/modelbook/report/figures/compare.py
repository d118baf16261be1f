"""Figures of the compare stage."""

from __future__ import annotations

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.tasks.names import LOWER_IS_BETTER, label, told

BASELINE = "dummy"


@style.styled
def leaderboard(frame: pd.DataFrame, metric: str) -> Figure:
    """Every candidate's mean over the folds with one standard deviation, best first.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``candidate, status, <metric>_mean, <metric>_sd, fit_seconds``;
        `status` is "ok", "failed" or "skipped", and the candidate "dummy" is the baseline.
    metric : str
        The metric that ranks.
    """
    mean, sd = f"{metric}_mean", f"{metric}_sd"
    data = marks.usable(frame, ["candidate", "status", mean, sd, "fit_seconds"], ["candidate", mean])
    if data is None:
        return nothing("Leaderboard")
    name = label(metric)
    data = data.sort_values(mean, ascending=metric in LOWER_IS_BETTER, kind="stable").reset_index(drop=True)
    spread = data[sd].fillna(0)
    figure, ax = marks.canvas(marks.tall(len(data)))
    colours = [style.ACCENT, *[style.MUTED] * (len(data) - 1)]
    marks.dots(
        ax,
        data["candidate"],
        data[mean],
        low=data[mean] - spread,
        high=data[mean] + spread,
        colour=colours,
        texts=[_beside(row, mean) for _, row in data.iterrows()],
    )
    base = data.loc[data["candidate"] == BASELINE, mean]
    if len(base):
        marks.line(ax, float(base.iloc[0]), f"baseline {told(base.iloc[0])}")
    ax.set_xlim(*marks.padded(data[mean] - spread, data[mean] + spread))
    ax.set_xlabel(f"{name}, mean over the folds, ± 1 standard deviation")
    return Figure(figure, alt=_words(data, base, mean, name), data=frame, caption=_caption(frame, len(data)))


@style.styled
def learning(curve: pd.DataFrame, metric: str, said: str) -> Figure:
    """The leader's metric by the number of rows it was fitted on, mean and one standard deviation over the folds.

    Parameters
    ----------
    curve : pandas.DataFrame
        Columns ``share, fold, rows, value``.
    metric : str
        The metric of the values.
    said : str
        What the curve says, in a sentence.
    """
    data = marks.usable(curve, ["share", "rows", "value"], ["share", "rows", "value"])
    if data is None:
        return nothing("Learning curve")
    by = data.groupby("share")
    mean, sd = by["value"].mean(), by["value"].std(ddof=0).fillna(0)
    points = pd.DataFrame({"rows": by["rows"].mean().round(), "mean": mean, "sd": sd, "folds": by.size()}).reset_index()
    figure, ax = marks.canvas(3.1)
    marks.band(ax, points["rows"], mean.to_numpy() - sd.to_numpy(), mean.to_numpy() + sd.to_numpy(), style.ACCENT)
    ax.plot(points["rows"], points["mean"], color=style.ACCENT, marker="o")
    for row in points.itertuples():
        marks.label(ax, (row.rows, row.mean), told(row.mean), by=(0, 11), ha="center")
    ax.set_xscale("log", base=2)
    ax.set_xticks(points["rows"], [f"{rows:,.0f}" for rows in points["rows"]])
    ax.set_ylim(*marks.padded(mean - sd, mean + sd))
    ax.set_xlabel("rows that the leader was fitted on; each point doubles them")
    ax.set_ylabel(label(metric))
    ends = f"{label(metric)} goes from {told(mean.iloc[0])} to {told(mean.iloc[-1])}"
    caption = "Mean over the folds; the band is one standard deviation. Entities are kept whole."
    return Figure(figure, alt=f"{said} {ends}.", data=points, caption=caption, found=said)


def _beside(row: pd.Series, mean: str) -> str:
    seconds = "" if pd.isna(row["fit_seconds"]) else f"  {row['fit_seconds']:.1f} s"
    return f"{told(row[mean])}{seconds}"


def _words(data: pd.DataFrame, base: pd.Series, mean: str, name: str) -> str:
    best = data.iloc[0]
    words = f"The lead has {best['candidate']}, with a mean {name} of {told(best[mean])}"
    if len(data) > 1:
        second = data.iloc[1]
        words += f", {told(abs(best[mean] - second[mean]))} ahead of {second['candidate']}"
    if len(base):
        words += f"; the baseline has {told(base.iloc[0])}"
    return f"{words}."


def _caption(frame: pd.DataFrame, shown: int) -> str:
    words = "Best first; at the right the mean and the seconds that all its folds took."
    missing = len(frame) - shown
    return f"{words} {missing} of {len(frame)} did not finish and are not drawn." if missing else words
