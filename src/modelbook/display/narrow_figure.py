"""Redraw a figure for narrow screens: panels below each other, labels above their marks.

Scaled to a phone, the text of a figure would be half as large as the page's.
"""

from __future__ import annotations

import pickle
import textwrap
from typing import TYPE_CHECKING, Any

from modelbook.display import plotting, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

NARROW_WIDTH = 3.4  # inches: 326 pixels, the width of the page's text on a phone of 360 pixels
LABEL_HEIGHT = 0.15  # inches that a row gets for the label above its mark
LABEL_OFFSET, BAR_LABEL_OFFSET = 0.36, 0.5  # height of a label above its mark, in rows
HEATMAP_LABEL_CHARS = 20  # characters a line; a second line takes SECOND_LINE_HEIGHT inches
SECOND_LINE_HEIGHT = 0.08
MAX_PANEL_HEIGHT = 1.6  # inches, of one of several panels
WRAP_CHARS = 40  # characters a line of a text as wide as the figure
INCHES_PER_CHAR = 0.075  # width of a character of small text


@style.apply_style
def redraw_for_narrow_screen(figure: MplFigure) -> MplFigure | None:
    """Return a copy of a figure that is drawn for a narrow screen.

    None if it is narrow already, or if it cannot be redrawn: without a layout engine, or with
    objects that cannot be copied.
    """
    if figure.get_figwidth() <= NARROW_WIDTH or figure.get_layout_engine() is None:
        return None
    try:
        narrow: MplFigure = pickle.loads(pickle.dumps(figure))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    panels = [ax for ax in narrow.axes if ax.get_visible()]
    height = _stack_panels(narrow, panels)
    for ax in panels:
        kind = ax.get_label()
        if kind == plotting.ROW_AXES_LABEL:
            height += _move_labels_above_rows(ax)
        elif kind == plotting.HEATMAP_AXES_LABEL:
            height += _fit_heatmap(ax)
        _wrap_texts(ax)
    if all(ax.get_aspect() != "auto" for ax in panels):
        height = min(height, NARROW_WIDTH * len(panels))
    narrow.set_size_inches(NARROW_WIDTH, height)
    return narrow


def _stack_panels(figure: MplFigure, panels: list[Axes]) -> float:
    """Put all panels into one column, and return the height that they need."""
    from matplotlib.gridspec import GridSpec

    specs = [spec for ax in panels if (spec := ax.get_subplotspec()) is not None]
    old_grids = {id(spec.get_gridspec()): spec.get_gridspec() for spec in specs}
    old = next(iter(old_grids.values()), None)
    if old is None or len(old_grids) > 1 or len(specs) < len(panels) or old.ncols == 1:
        return figure.get_figheight()
    grid = GridSpec(len(panels), 1, figure=figure)
    for position, ax in enumerate(panels):
        ax.set_subplotspec(grid[position])
        ax.tick_params(labelbottom=True, labelleft=True)
    for ax in figure.axes:
        if ax not in panels:
            ax.remove()
    height = figure.get_figheight() / old.nrows
    if len(panels) > 2 and not any(
        ax.get_label() for ax in panels
    ):  # panels of rows cannot be lower
        height = min(height, MAX_PANEL_HEIGHT)
    return len(panels) * height


def _move_labels_above_rows(ax: Axes) -> float:
    """Write the label of each row, and the text at its right, above its mark.

    Returns the height in inches that this adds.
    """
    labels = [label.get_text() for label in ax.get_yticklabels()]
    offset = BAR_LABEL_OFFSET if ax.patches else LABEL_OFFSET
    options: dict[str, Any] = {
        "va": "center",
        "zorder": 4,
        "bbox": {"facecolor": style.PAPER, "alpha": 0.8, "pad": 0.6, "linewidth": 0},
    }
    for text in ax.texts:
        if text.get_gid() == plotting.ROW_TEXT_GID:
            text.set(x=1, y=text.get_position()[1] - offset, ha="right", **options)
    font: dict[str, Any] = {"fontsize": style.SMALL_FONT_SIZE, "color": style.INK}
    for row, label in enumerate(labels):
        ax.text(0, row - offset, label, transform=ax.get_yaxis_transform(), **font, **options)
    ax.tick_params(axis="y", labelleft=False)
    ax.set_ylim(len(labels) - 0.4, -offset - 0.4)
    return LABEL_HEIGHT * len(labels)


def _fit_heatmap(ax: Axes) -> float:
    """Wrap the names of the rows; hide the texts of all cells if the longest does not fit.

    Returns the height in inches that the names add.
    """
    names = [
        textwrap.wrap(label.get_text(), HEATMAP_LABEL_CHARS, max_lines=2, placeholder="…")
        for label in ax.get_yticklabels()
    ]
    ax.set_yticks(ax.get_yticks(), ["\n".join(lines) for lines in names])
    n_columns = round(abs(ax.get_xlim()[1] - ax.get_xlim()[0]))
    longest_name = max((len(line) for lines in names for line in lines), default=0)
    cell_lines = [line for text in ax.texts for line in text.get_text().split("\n")]
    longest_text = max(map(len, cell_lines), default=0)
    cells_width = NARROW_WIDTH - INCHES_PER_CHAR * longest_name
    if longest_text * INCHES_PER_CHAR > cells_width / max(n_columns, 1):
        for text in ax.texts:
            text.set_visible(False)
    return SECOND_LINE_HEIGHT * sum(len(lines) > 1 for lines in names)


def _wrap_texts(ax: Axes) -> None:
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_text(textwrap.fill(text.get_text(), WRAP_CHARS))
