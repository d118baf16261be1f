"""The Jinja environment of the pages: templates, filters, and atomic writing."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbook import formatting
from modelbook.atomic import write_text
from modelbook.display import style
from modelbook.evaluation import cumulative_gains
from modelbook.redaction import redact
from modelbook.stage.verdict import LEVEL_SYMBOLS
from modelbook.tasks import savings
from modelbook.tasks.metric_format import (
    format_difference,
    format_passed,
    metric_label,
    slice_metric_label,
)

if TYPE_CHECKING:
    import jinja2

TEMPLATE_FOLDER = Path(__file__).parent / "templates"


def write_page(path: Path, text: str) -> None:
    """Write a page atomically, with secrets redacted."""
    write_text(path, redact(text))


def write_template(path: Path, name: str, /, **context: Any) -> None:
    """Render a template and write it as a page."""
    write_page(path, style.make_svg_ids_unique(render_template(name, **context)))


def render_template(name: str, /, **context: Any) -> str:
    """Render a template with ``context``, autoescaped."""
    return create_environment().get_template(name).render(context)


@functools.cache  # templates are compiled once
def create_environment() -> jinja2.Environment:
    """Create the Jinja environment of the pages, with autoescape."""
    import jinja2

    from modelbook.template_cache import TemplateCache

    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDER),
        bytecode_cache=TemplateCache(),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "key_number": formatting.format_key_number,
        "project_policies": savings.project_policies,
        "compare_without_limit": savings.compare_without_limit,
        "list_savings": savings.list_savings,
        "amount": formatting.format_amount,
        "bounds": formatting.join_bounds,
        "estimate": formatting.format_estimate,
        "percent": formatting.format_share,
        "one_decimal": lambda number: f"{number:.1f}",
        "quantity": formatting.format_quantity,
        "list_shown_gains": cumulative_gains.list_shown_gains,
        "business_value_json": dump_business_value,
        "cell": formatting.format_cell,
        "counted": formatting.format_count,
        "key_number_context": formatting.describe_key_number,
        "difference": formatting.format_difference,
        "duration": formatting.format_duration,
        "metric": formatting.format_metric,
        "metric_label": metric_label,
        "slice_metric_label": slice_metric_label,
        "time": formatting.format_time,
        "names": formatting.join_names,
        "passed_text": format_passed,
        "number": formatting.format_number,
        "plural": formatting.pluralize,
        "css_string": escape_css_string,
        "sentence": to_sentence,
        "sentence_start": formatting.capitalize_first,
        "short_hash": shorten_hash,
        "metric_difference": format_difference,
    }
    env.filters["ci"] = formatting.make_ci_filter(env.filters)
    script = (TEMPLATE_FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    env.globals |= {
        "level_symbols": LEVEL_SYMBOLS,
        "page_script": script,
        "script_digest": f"sha256-{digest}",  # the only script that a page may run
    }
    return env


def dump_business_value(values: dict[str, Any]) -> str:
    """Return the figures of ``measure_value`` that the page's script uses, as JSON."""
    names = ("gains", "rate", "period_rows", "capacity", "capacity_is_set", "at_capacity")
    others = {"unit": values["unit"] or savings.DEFAULT_UNIT, "limit": values.get("limit")}
    return json.dumps({name: values[name] for name in names} | others, separators=(",", ":"))


def to_sentence(text: str) -> str:
    """Format a text as a sentence, with a capital and one full stop."""
    return f"{formatting.capitalize_first(text).rstrip('.')}."


def shorten_hash(value: Any) -> str:
    """Shorten a hash to its first twelve characters; of code with changes after it, say so."""
    text = str(value or "").rpartition(":")[2].replace("+", " with uncommitted changes")
    return re.sub(r"[0-9a-f]{13,}", lambda match: match[0][:12], text) or "–"


def escape_css_string(text: Any) -> str:
    """Escape a text for use as a quoted CSS string."""
    from markupsafe import Markup

    return Markup(
        re.sub(r"[^\w ·.,()-]", lambda match: f"\\{ord(match[0]):x} ", unescape(str(text)))
    )
