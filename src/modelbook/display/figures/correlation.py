"""The figure of redundant features."""

from __future__ import annotations

import numpy as np
import pandas as pd

from modelbook.dataset.correlation import MIN_REDUNDANT
from modelbook.display import plotting
from modelbook.display.components import Figure

MAX_COLUMNS = 12  # columns in the figure


@plotting.with_drawable_rows(
    "Redundant columns", ["feature_a", "feature_b", "value"], optional=["measure"]
)
def plot_correlation_heatmap(data: pd.DataFrame) -> Figure:
    """Heat map of the pairwise association of the most redundant columns.

    Parameters
    ----------
    data : pandas.DataFrame
        Columns ``feature_a, feature_b, measure, value``, closest pair first.
    """
    names = list(dict.fromkeys(data[["feature_a", "feature_b"]].to_numpy().ravel()))[:MAX_COLUMNS]
    values = _select_lower_triangle(data, names)
    figure, ax = plotting.subplots(
        plotting.compute_height(len(names) - 1, row_height=0.34, base_height=1.5)
    )
    cells = values[1:, :-1]
    plotting.draw_heatmap(ax, cells, _format_cells(cells), (names[1:], names[:-1]))
    plotting.label_heatmap_axes(ax, names[1:], names[:-1], column_chars=22, rotation=40, ha="right")
    closest_pair = data.iloc[0]
    n_redundant = int((data["value"].abs() >= MIN_REDUNDANT).sum())
    alt = (
        f"The most associated pair is {closest_pair['feature_a']} and {closest_pair['feature_b']}, "
        f"with {closest_pair['value']:.2f} ({closest_pair['measure']}); "
    )
    return Figure(
        figure,
        alt=f"{alt}{n_redundant} of {len(data):,} pairs reach {MIN_REDUNDANT:g}.",
        caption=f"The {len(names)} columns of the most associated pairs. 1: same order or same "
        "groups; 0: no association; below 0: one falls as the other rises.",
    )


def _select_lower_triangle(data: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return the values below the diagonal, in the order of the names; the rest is NaN."""
    position = {name: index for index, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    for row in data.itertuples():
        if row.feature_a in position and row.feature_b in position:
            low, high = sorted((position[row.feature_a], position[row.feature_b]))
            values[high, low] = row.value
    return values


def _format_cells(values: np.ndarray) -> list[list[str]]:
    # + 0: no minus zero.
    return [["" if np.isnan(v) else f"{round(v, 2) + 0.0:.2f}" for v in row] for row in values]
