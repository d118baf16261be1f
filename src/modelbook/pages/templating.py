"""The Jinja environment of the pages: templates, filters, and atomic writing."""

from __future__ import annotations

import functools
import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook.atomic import atomic_write
from modelbook.redaction import redact
from modelbook.stage.verdict import LEVEL_SYMBOLS

if TYPE_CHECKING:
    import jinja2

TEMPLATE_FOLDER = Path(__file__).parent / "templates"


def write_page(path: Path, text: str) -> None:
    """Write a page atomically, with secrets redacted."""
    with atomic_write(path) as temp_path:
        temp_path.write_text(redact(text), encoding="utf-8")


def render_template(name: str, /, **context: Any) -> str:
    """Render a template with ``context``, autoescaped."""
    return create_environment().get_template(name).render(context)


@functools.cache  # templates are compiled once
def create_environment() -> jinja2.Environment:
    """Create the Jinja environment of the pages, with autoescape."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "moment": format_time,
        "duration": format_duration,
        "short": shorten_hash,
        "quoted": escape_css_string,
    }
    env.globals |= {"marks": LEVEL_SYMBOLS}
    return env


def format_time(value: Any) -> str:
    """Format a timestamp as day, hour and minute."""
    match = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?:[\d:.,]*)(.*)", str(value or ""))
    if not match:
        return str(value or "–")
    zone = "UTC" if match[3] in {"Z", "+00:00"} else match[3]
    return f"{match[1]} {match[2]} {zone}".strip()


def format_duration(value: Any) -> str:
    """Format seconds as a duration."""
    if not isinstance(value, int | float):
        return "–"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s"


def shorten_hash(value: Any) -> str:
    """Shorten a hash to its first twelve characters."""
    text = str(value or "").rpartition(":")[2]
    return re.sub(r"[0-9a-f]{13,}", lambda match: match[0][:12], text) or "–"


def escape_css_string(text: Any) -> str:
    """Escape a text for use as a quoted CSS string."""
    from markupsafe import Markup

    return Markup(
        re.sub(r"[^\w ·.,()-]", lambda match: f"\\{ord(match[0]):x} ", unescape(str(text)))
    )
