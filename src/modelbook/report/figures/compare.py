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
