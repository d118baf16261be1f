"""The pipeline as a picture: a box for each stage with its state, and arrows for what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from modelbook.report.verdict import MARKS

WIDE, TALL = 140, 50  # of a box, in pixels
BETWEEN, BESIDE, LANE = 38, 14, 12  # from layer to layer, from box to box of a layer, from one way around to the next
ARROW = (
    '<svg class="defs" width="0" height="0" aria-hidden="true"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" '
    'refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs></svg>'
)


@dataclass(frozen=True)
class Box:
    """A stage in the picture: its state in a word, the state's level (good, watch, bad or none), and its page."""

    stage: str
    word: str
    level: str = "none"
    link: str = ""


def picture(book: str, boxes: Sequence[Box], upstream: Mapping[str, Sequence[str]]) -> str:
    """The stages and what each reads, as two SVG pictures: the page's style shows the one that has room."""
    reads = {box.stage: [up for up in upstream.get(box.stage, ()) if up in {b.stage for b in boxes}] for box in boxes}
    grid = _grid(reads)
    told = escape(f"Pipeline of {book}: {'; '.join(_said(box, reads[box.stage]) for box in boxes)}.")
    return "".join(_drawn(kind, told, boxes, reads, grid) for kind in ("lying", "standing"))


def _said(box: Box, reads: Sequence[str]) -> str:
    return f"{box.stage}, {box.word}" + (f", reads {' and '.join(reads)}" if reads else "")


def _grid(reads: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Layer and row of each stage: a stage lies behind all that it reads; those that nobody reads make room."""
    layers: dict[str, int] = {}
    for name in reads:  # a stage that is listed before what it reads counts as reading what stands before it
        layers[name] = max((layers[up] + 1 for up in reads[name] if up in layers), default=0)
    read = {up for ups in reads.values() for up in ups}
    grid: dict[str, tuple[int, int]] = {}
    for layer in range(max(layers.values(), default=-1) + 1):
        here = sorted((name for name in layers if layers[name] == layer), key=lambda name: name not in read)
        grid |= {name: (layer, row) for row, name in enumerate(here)}
    return grid


def _drawn(
    kind: str, told: str, boxes: Sequence[Box], reads: Mapping[str, Sequence[str]], grid: Mapping[str, tuple[int, int]]
) -> str:
    lying = kind == "lying"
    # Along the arrows and across them: the standing picture is the lying one with the two exchanged.
    along, across = (WIDE, TALL) if lying else (TALL, WIDE)
    steps = [(up, name) for name, ups in reads.items() for up in ups]
    around = sorted({span for up, name in steps if (span := grid[name][0] - grid[up][0]) > 1})
    before = LANE * len(around) + 2 if around else 1
    layers, rows = (max((cell[i] for cell in grid.values()), default=0) + 1 for i in (0, 1))
    length = layers * (along + BETWEEN) - BETWEEN + 2
    breadth = before + rows * (across + BESIDE) - BESIDE + 1

    def place(a: float, c: float) -> tuple[float, float]:
        return (a, c) if lying else (c, a)

    def corner(name: str) -> tuple[float, float]:
        layer, row = grid[name]
        return 1 + layer * (along + BETWEEN), before + row * (across + BESIDE)

    lines = []
    for up, name in steps:
        span = grid[name][0] - grid[up][0]
        lane = LANE * (around.index(span) + 1) if span > 1 else 0
        points = _way(corner(up), corner(name), along, across, lane)
        lines.append("M" + "L".join(f"{x:g} {y:g}" for x, y in (place(*point) for point in points)))
    shown = "".join(_box(box, *place(*corner(box.stage))) for box in boxes)
    width, height = place(length, breadth)
    ways = "".join(f'<path d="{line}"/>' for line in lines)
    return (
        f'<svg class="flow {kind}" role="group" aria-label="{told}" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}"><g class="ways">{ways}</g>{shown}</svg>'
    )


def _way(
    start: tuple[float, float], end: tuple[float, float], along: float, across: float, lane: float
) -> Iterator[tuple[float, float]]:
    """The corners of an arrow from box to box; by a lane around the boxes that lie between."""
    if lane:
        yield start[0] + along / 2, start[1]
        yield start[0] + along / 2, start[1] - lane
        yield end[0] + along / 2, start[1] - lane
        yield end[0] + along / 2, end[1] - 1
        return
    turn = start[0] + along + BETWEEN / 2
    yield start[0] + along, start[1] + across / 2
    if start[1] != end[1]:
        yield turn, start[1] + across / 2
        yield turn, end[1] + across / 2
    yield end[0] - 1, end[1] + across / 2


def _box(box: Box, x: float, y: float) -> str:
    mark = f"{MARKS[box.level]} " if box.level in MARKS else ""
    drawn = [
        f'<rect x="{x:g}" y="{y:g}" width="{WIDE}" height="{TALL}" rx="7"/>',
        f'<text x="{x + 12:g}" y="{y + 21:g}" class="name">{escape(box.stage)}</text>',
        f'<text x="{x + 12:g}" y="{y + 38:g}">{mark}{escape(box.word)}</text>',
    ]
    inner = f'<g class="{box.level}">{"".join(drawn)}</g>'
    return f'<a href="{escape(box.link)}">{inner}</a>' if box.link else inner
