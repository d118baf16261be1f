"""Figures of the deploy stage."""

from __future__ import annotations

import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing


@style.styled
def difference(frame: pd.DataFrame, margin: float, rows: str = "") -> Figure:
    """Candidate minus champion on the same rows, with the interval and the margin that the gate allows.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``metric, difference, low, high``; above zero the candidate is better.
    margin : float
        How much worse the candidate may be; below zero, how much better it must be.
    rows : str
        Which rows these are, in a sentence.
    """
    data = marks.usable(frame, ["metric", "difference", "low", "high"], ["metric", "difference"])
    if data is None:
        return nothing("Candidate against champion")
    figure, ax = marks.canvas(marks.tall(len(data), each=0.4, base=1.0))
    texts = [marks.signed(value, 4) for value in data["difference"]]
    colours = [style.POSITIVE if low < -margin else style.ACCENT for low in data["low"].fillna(data["difference"])]
    marks.dots(
        ax,
        data["metric"],
        data["difference"],
        low=data["low"],
        high=data["high"],
        colour=colours,
        texts=texts,
    )
    marks.line(ax, 0.0, "the same", dashes="-")
    if margin:
        marks.line(ax, -margin, f"margin {_signed(margin)}")
    ax.set_xlim(*marks.padded(data["difference"], data["low"].dropna(), data["high"].dropna(), [0, -margin]))
    ax.set_xlabel("how much better the candidate is than the champion, with its interval")
    return Figure(
        figure,
        alt=_words(data, margin),
        data=frame,
        caption=f"{rows} Orange: the interval reaches below the margin of {_signed(margin)}, "
        "so harm cannot be ruled out.".strip(),
    )


def _signed(margin: float) -> str:
    return f"−{margin:g}" if margin >= 0 else f"+{-margin:g}"


def _words(data: pd.DataFrame, margin: float) -> str:
    parts = []
    for _, row in data.iterrows():
        interval = "" if pd.isna(row["low"]) or pd.isna(row["high"]) else f" ({row['low']:+.4f} to {row['high']:+.4f})"
        parts.append(f"{row['metric']} {row['difference']:+.4f}{interval}")
    return f"Candidate minus champion: {'; '.join(parts)}; the margin is {_signed(margin)}."
