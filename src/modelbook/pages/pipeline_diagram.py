"""The pipeline as an SVG diagram: a box per stage with its status, arrows from upstream stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from modelbook.stage.verdict import LEVEL_SYMBOLS

BOX_WIDTH, BOX_HEIGHT = 150, 50  # pixels
# Between layers, between boxes of a layer, between lanes around a layer.
LAYER_GAP, BOX_GAP, LANE_WIDTH = (38, 14, 12)
ARROW_MARKER = (
    '<svg class="defs" width="0" height="0" aria-hidden="true"><defs><marker id="arrow" '
    'viewBox="0 0 8 8" refX="7" '
    'refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 '
    '8z"/></marker></defs></svg>'
)


@dataclass(frozen=True)
class StageBox:
    """A stage in the diagram: its status, the level (good, warning, bad or none), and its page."""

    stage: str
    status: str
    level: str = "none"
    link: str = ""


def draw_pipeline(
    book: str, boxes: Sequence[StageBox], upstream_stages: Mapping[str, Sequence[str]]
) -> str:
    """Draw the pipeline as two SVGs, horizontal and vertical; CSS shows the one that fits."""
    names = {box.stage for box in boxes}
    upstream = {
        box.stage: [name for name in upstream_stages.get(box.stage, ()) if name in names]
        for box in boxes
    }
    grid = _layout_grid(upstream)
    description = escape(
        f"Pipeline of {book}: "
        f"{'; '.join(_describe_box(box, upstream[box.stage]) for box in boxes)}."
    )
    return "".join(
        _draw_svg(orientation, description, boxes, upstream, grid)
        for orientation in ("horizontal", "vertical")
    )


def _describe_box(box: StageBox, upstream: Sequence[str]) -> str:
    return f"{box.stage}, {box.status}" + (f", reads {' and '.join(upstream)}" if upstream else "")


def _layout_grid(upstream: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Return layer and row of each stage.

    A stage's layer is after those of its upstream stages; in a layer, stages without downstream
    stages are last.
    """
    layers: dict[str, int] = {}
    for name, upstream_names in upstream.items():  # upstream stages listed later are ignored
        upstream_layers = [layers[source] for source in upstream_names if source in layers]
        layers[name] = max(upstream_layers, default=-1) + 1
    sources = set().union(*upstream.values())
    grid: dict[str, tuple[int, int]] = {}
    rows: Counter[int] = Counter()
    for name in sorted(layers, key=lambda name: name not in sources):
        grid[name] = layers[name], rows[layers[name]]
        rows[layers[name]] += 1
    return grid


def _draw_svg(
    orientation: str,
    description: str,
    boxes: Sequence[StageBox],
    upstream: Mapping[str, Sequence[str]],
    grid: Mapping[str, tuple[int, int]],
) -> str:
    is_horizontal = orientation == "horizontal"
    # Sizes along and across the arrows: the vertical diagram is the transposed horizontal one.
    along, across = (BOX_WIDTH, BOX_HEIGHT) if is_horizontal else (BOX_HEIGHT, BOX_WIDTH)
    spans = {
        (source, name): grid[name][0] - grid[source][0]
        for name, upstream_names in upstream.items()
        for source in upstream_names
    }
    long_spans = sorted({span for span in spans.values() if span > 1})
    lane_space = LANE_WIDTH * len(long_spans) + 2 if long_spans else 1
    layers, rows = (max((cell[axis] for cell in grid.values()), default=0) + 1 for axis in (0, 1))
    length = layers * (along + LAYER_GAP) - LAYER_GAP + 2
    breadth = lane_space + rows * (across + BOX_GAP) - BOX_GAP + 1

    def to_xy(a: float, c: float) -> tuple[float, float]:
        return (a, c) if is_horizontal else (c, a)

    def corner(name: str) -> tuple[float, float]:
        layer, row = grid[name]
        return 1 + layer * (along + LAYER_GAP), lane_space + row * (across + BOX_GAP)

    lines = []
    for (source, name), span in spans.items():
        lane = LANE_WIDTH * (long_spans.index(span) + 1) if span > 1 else 0
        points = _compute_arrow_points(corner(source), corner(name), along, across, lane)
        lines.append("M" + "L".join(f"{x:g} {y:g}" for x, y in (to_xy(*point) for point in points)))
    boxes_html = "".join(_draw_box(box, *to_xy(*corner(box.stage))) for box in boxes)
    width, height = to_xy(length, breadth)
    paths = "".join(f'<path d="{line}"/>' for line in lines)
    return (
        f'<svg class="flow {orientation}" role="group" aria-label="{description}" '
        f'width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}"><g class="arrows">{paths}</g>{boxes_html}</svg>'
    )


def _compute_arrow_points(
    start: tuple[float, float], end: tuple[float, float], along: float, across: float, lane: float
) -> Iterator[tuple[float, float]]:
    """Yield the corners of an arrow from box to box, by a lane around any boxes in between."""
    if lane:
        yield start[0] + along / 2, start[1]
        yield start[0] + along / 2, start[1] - lane
        yield end[0] + along / 2, start[1] - lane
        yield end[0] + along / 2, end[1] - 1
        return
    turn_x = start[0] + along + LAYER_GAP / 2
    yield start[0] + along, start[1] + across / 2
    if start[1] != end[1]:
        yield turn_x, start[1] + across / 2
        yield turn_x, end[1] + across / 2
    yield end[0] - 1, end[1] + across / 2


def _draw_box(box: StageBox, x: float, y: float) -> str:
    mark = f"{LEVEL_SYMBOLS[box.level]} " if box.level in LEVEL_SYMBOLS else ""
    elements = [
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>',
        f'<text x="{x + 12:g}" y="{y + 21:g}" class="name">{escape(box.stage)}</text>',
        f'<text x="{x + 12:g}" y="{y + 38:g}">{mark}{escape(box.status)}</text>',
    ]
    group = f'<g class="{box.level}">{"".join(elements)}</g>'
    return f'<a href="{escape(box.link)}">{group}</a>' if box.link else group
