"""The figure of features that say the same."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing

SHOWN = 12  # columns in the picture


@style.styled
def correlations(frame: pd.DataFrame, close: float = 0.8) -> Figure:
    """The columns of the closest pairs against each other, a cell a pair.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``one, other, measure, value``, closest pair first.
    close : float
        Value from which a pair counts as saying the same.
    """
    data = marks.usable(frame, ["one", "other", "measure", "value"], ["one", "other", "value"])
    if data is None:
        return nothing("Columns that go together")
    names = list(dict.fromkeys(data[["one", "other"]].to_numpy().ravel()))[:SHOWN]
    values = _matrix(data, names)
    figure, ax = marks.canvas(marks.tall(len(names) - 1, each=0.34, base=1.5))
    marks.cells(ax, values[1:, :-1], _texts(values[1:, :-1]))
    ax.set_yticks(range(len(names) - 1), [marks.brief(name) for name in names[1:]])
    ax.set_xticks(range(len(names) - 1), [marks.brief(name, 22) for name in names[:-1]], rotation=40, ha="right")
    top, same = data.iloc[0], int((data["value"].abs() >= close).sum())
    alt = f"The closest pair is {top['one']} and {top['other']}, with {top['value']:.2f} ({top['measure']}); "
    return Figure(
        figure,
        alt=f"{alt}{same} of {len(data):,} pairs reach {close:g}.",
        data=frame,
        caption=f"The {len(names)} columns of the closest pairs. 1: the same order or the same groups; 0: nothing in "
        "common; below 0: one falls where the other rises.",
    )


def _matrix(data: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Values below the diagonal, in the order of the names; the rest is empty."""
    place = {name: k for k, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    for row in data.itertuples():
        if row.one in place and row.other in place:
            low, high = sorted((place[row.one], place[row.other]))
            values[high, low] = row.value
    return values


def _texts(values: np.ndarray) -> list[list[str]]:
    return [["" if np.isnan(v) else f"{round(v, 2) + 0.0:.2f}" for v in row] for row in values]  # + 0: no minus zero
