"""The templates of the pages: what fills them, how values are written in them, and a page written whole."""

from __future__ import annotations

import functools
import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.redaction import redact
from modelbook.report.verdict import MARKS
from modelbook.whole import complete

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent / "templates"


def write(path: Path, text: str) -> None:
    """Write a page whole or not at all, with no secret in it."""
    with complete(path) as part:
        part.write_text(redact(text), encoding="utf-8")


def fill(name: str, /, **view: Any) -> str:
    """The text of a template with everything of ``view`` in its place, escaped."""
    return environment().get_template(name).render(view)


@functools.cache  # templates are compiled once
def environment() -> jinja2.Environment:
    """The templates of the pages, which escape whatever they are given."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"moment": moment, "duration": duration, "short": short, "quoted": quoted}
    env.globals |= {"marks": MARKS}
    return env


def moment(value: Any) -> str:
    """A time stamp as people write it: day, hour and minute."""
    found = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?:[\d:.,]*)(.*)", str(value or ""))
    if not found:
        return str(value or "–")
    zone = "UTC" if found[3] in {"Z", "+00:00"} else found[3]
    return f"{found[1]} {found[2]} {zone}".strip()


def duration(value: Any) -> str:
    """Seconds as people say them."""
    if not isinstance(value, int | float):
        return "–"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s"


def short(value: Any) -> str:
    """A hash by its first twelve characters, which are enough to tell two apart."""
    text = str(value or "").rpartition(":")[2]
    return re.sub(r"[0-9a-f]{13,}", lambda digits: digits[0][:12], text) or "–"


def quoted(text: Any) -> str:
    """A text of the page as it stands between quotes in its style sheet, where nothing of it can end the quotes."""
    from markupsafe import Markup

    return Markup(re.sub(r"[^\w ·.,()-]", lambda sign: f"\\{ord(sign[0]):x} ", unescape(str(text))))
