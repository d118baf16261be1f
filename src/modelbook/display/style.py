"""The style of figures: a colour-blind-safe palette and font sizes, for light and dark pages."""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

# Pairs are (on light pages, on dark pages).
PALETTE = {
    "ink": ("#1f2933", "#e6eaef"),
    "muted": ("#5a6673", "#a8b2bd"),
    "rule": ("#d8dee4", "#3a444e"),
    "faint": ("#b4bfca", "#5b6773"),
    "accent": ("#0072b2", "#56b4e9"),
    "positive": ("#bf5300", "#f28e4b"),
    "paper": ("#ffffff", "#1a1f24"),
}
INK, MUTED, RULE, FAINT, ACCENT, POSITIVE, PAPER = (light for light, _ in PALETTE.values())
CURRENT = ACCENT  # the subject of the page
# Colours of what a series is compared with.
REFERENCE = NEGATIVE = BASELINE = MUTED

HOVER_PREFIX = "hover:"  # prefix of the ids of marks that have a tooltip
FIGURE_WIDTH = 7.6  # inches; the page shows a figure at its natural size
PIXELS_PER_INCH = 96
SMALL_FONT_SIZE = 8.5
WEB_FONTS = "DejaVu Sans,Verdana,sans-serif"  # fonts with the widths that matplotlib measured

RC_PARAMS: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": (
        f"cycler('color', ['{ACCENT}', '{POSITIVE}', '{MUTED}', '{FAINT}', '{INK}'])"
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # letters stay text, which can be found, selected and read aloud
    "svg.hashsalt": "modelbook",  # the same data gives the same bytes
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": SMALL_FONT_SIZE,
    "xtick.major.width": 0.8,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": SMALL_FONT_SIZE,
    "ytick.major.width": 0.8,
}

DrawFunction = TypeVar("DrawFunction", bound=Callable[..., Any])

# A chart of make_embeddable's with its key; nbconvert sorts attributes.
_CHART_PATTERN = re.compile(r'<svg[^>]* aria-labelledby="([0-9a-f]{8})-title".*?</svg>', re.DOTALL)
_HEX_PATTERN = re.compile("|".join(light for light, _ in PALETTE.values()))
_NAME_BY_COLOR = {light: name for name, (light, _) in PALETTE.items()}


def apply_style(draw: DrawFunction) -> DrawFunction:
    """Decorate a drawing function to run under this style, without changing global settings."""

    @functools.wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # libraries restyle figures when they are imported
            matplotlib.rcParams.update(RC_PARAMS)
            return draw(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def adapt_to_dark_mode(svg: str) -> str:
    """Replace an SVG's colours by CSS variables, so that it follows the page's colour scheme."""

    def to_css_variable(match: re.Match[str]) -> str:
        return f"var(--{_NAME_BY_COLOR[match.group()]},{match.group()})"

    body = re.sub(
        r'style="[^"]*"', lambda style: _HEX_PATTERN.sub(to_css_variable, style.group()), svg
    )
    dark = ";".join(f"--{name}:{dark}" for name, (_, dark) in PALETTE.items())
    rule = (
        f"<style>.chart text{{font-family:{WEB_FONTS}!important}}"
        f"@media screen and (prefers-color-scheme:dark){{.chart{{{dark}}}}}</style>"
    )
    start = body.index(">", body.index("<svg")) + 1
    return body[:start] + rule + body[start:]


def show_hover_texts(svg: str) -> str:
    """Write the texts of ``plotting.set_hover_text`` into the marks, as their titles."""
    return re.sub(rf'<g id="{HOVER_PREFIX}([^"]*)">', r"<g><title>\1</title>", svg)


def make_embeddable(
    svg: str, title: str, width: int, *, is_narrow: bool = False, has_narrow: bool = False
) -> str:
    """Prepare an SVG of matplotlib's for a page with others: with a title, and with unique ids.

    Parameters
    ----------
    title : str
        Description of the figure, for screen readers.
    width : int
        The natural width in pixels.
    is_narrow : bool
        Whether it is the drawing for narrow screens, which is hidden where there is no page.css.
    has_narrow : bool
        Whether another drawing takes its place on narrow screens, so that it need not scroll.
    """
    key = hashlib.sha256(svg.encode()).hexdigest()[:8]
    body = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used_ids = set(re.findall(r'(?:href="|url\()#([\w.:-]+)', body))
    body = re.sub(
        r' id="([^"]*)"',
        lambda match: f' id="{key}-{match[1]}"' if match[1] in used_ids else "",
        body,
    )
    body = re.sub(r'(href="|url\()#([\w.:-]+)', rf"\1#{key}-\2", body)
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    kinds = ["chart", *["narrow"] * is_narrow, *["wide"] * has_narrow]
    min_width = "" if is_narrow or has_narrow else f";min-width:{round(width * 0.72)}px"
    attributes = (
        f' class="{" ".join(kinds)}" role="img" aria-labelledby="{key}-title" width="{width}"'
        f' style="background:Canvas;display:{"none" if is_narrow else "block"};max-width:100%'
        f'{min_width}"'
    )
    start = body.index("<svg") + len("<svg")
    end = body.index(">", start) + 1
    name = f'<title id="{key}-title">{escape(title)}</title>'
    return body[:start] + attributes + body[start:end] + name + body[end:]


def make_svg_ids_unique(html: str) -> str:
    """Make the ids of a page's charts unique: equal charts have equal ids."""
    n_charts: Counter[str] = Counter()

    def rename_ids(match: re.Match[str]) -> str:
        key = match[1]
        n_charts[key] += 1
        if n_charts[key] == 1:
            return match[0]
        return re.sub(rf'(["#]){key}-', rf"\g<1>{key}-{n_charts[key]}-", match[0])

    return _CHART_PATTERN.sub(rename_ids, html)
