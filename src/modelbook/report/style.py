"""How figures look: one palette safe for colour-blind readers, one set of sizes, light and dark alike."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

# Each colour means one thing in every figure. Pairs are (on light paper, on dark paper).
TOKENS = {
    "ink": ("#1f2933", "#e6eaef"),
    "muted": ("#5a6673", "#a8b2bd"),
    "rule": ("#d8dee4", "#3a444e"),
    "faint": ("#b4bfca", "#5b6773"),
    "accent": ("#0072b2", "#56b4e9"),
    "positive": ("#d55e00", "#f28e4b"),
    "paper": ("#ffffff", "#1a1f24"),
}
INK, MUTED, RULE, FAINT, ACCENT, POSITIVE, PAPER = (light for light, _ in TOKENS.values())
CURRENT, CANDIDATE = ACCENT, ACCENT  # what the page is about
REFERENCE, NEGATIVE, BASELINE = MUTED, MUTED, MUTED  # what it is held against

WIDTH = 7.6  # inches; the page shows a figure at its natural size
SMALL = 8.5

RC: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": f"cycler('color', ['{ACCENT}', '{POSITIVE}', '{MUTED}', '{FAINT}', '{INK}'])",
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
    "svg.fonttype": "path",  # letters as outlines: no font is needed to read them
    "svg.hashsalt": "modelbook",  # the same data gives the same bytes
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": SMALL,
    "xtick.major.width": 0.8,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": SMALL,
    "ytick.major.width": 0.8,
}

Function = TypeVar("Function", bound=Callable[..., Any])

_HEX = re.compile("|".join(light for light, _ in TOKENS.values()))
_NAMES = {light: name for name, (light, _) in TOKENS.items()}


def styled(draw: Function) -> Function:
    """Draw under the house style, and leave matplotlib's own settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        import matplotlib

        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def adaptive(svg: str) -> str:
    """The same picture with its colours as variables, so that it follows the page into the dark."""

    def variable(match: re.Match[str]) -> str:
        return f"var(--{_NAMES[match.group()]},{match.group()})"

    body = re.sub(r'style="[^"]*"', lambda style: _HEX.sub(variable, style.group()), svg)
    dark = ";".join(f"--{name}:{dark}" for name, (_, dark) in TOKENS.items())
    rule = f"<style>@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    start = body.index(">", body.index("<svg")) + 1
    return body[:start] + rule + body[start:]
