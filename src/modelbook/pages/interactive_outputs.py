"""Interactive outputs in a static page: an image, or a note on what is omitted."""

from __future__ import annotations

import base64
import re
from html import escape
from typing import Any

from modelbook.pages.sanitizer import sanitize_html

PLOTLY_TYPE = "application/vnd.plotly.v1+json"
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"
IMAGE_TYPES = ("image/svg+xml", "image/png", "image/jpeg")
INTERACTIVE_TYPE = re.compile(r"application/(javascript|vnd\..*json.*)")
IMAGE_CAPTION = "Image of an interactive figure, which the executed notebook has."


def make_static(data: dict[str, Any]) -> dict[str, Any]:
    """Return an output's data without parts that need JavaScript.

    A Plotly figure becomes an image. Where nothing visible would remain, a sentence names what
    is omitted; code that only loads a library has no output.
    """
    if PLOTLY_TYPE in data:
        return {"text/html": _draw_plotly(data[PLOTLY_TYPE])}
    if WIDGET_TYPE in data:
        name = "".join(data.get("text/plain", "")).partition("(")[0] or "widget"
        return _describe_omission(f"the widget {name}, which needs a running kernel")
    html = "".join(data.get("text/html", ""))
    images = {name: data[name] for name in IMAGE_TYPES if name in data}
    if html and _is_visible(sanitize_html(html)):
        return data
    if html and not images:
        has_elements = re.search(r"<(div|iframe|canvas|object)\b", html)
        return _describe_omission("an output that needs JavaScript") if has_elements else {}
    interactive = [name for name in data if INTERACTIVE_TYPE.fullmatch(name)]
    if interactive and not images:
        return _describe_omission(f"an output of the type {interactive[0]}, which needs JavaScript")
    return {name: value for name, value in data.items() if name != "text/html"}


def _draw_plotly(figure: dict[str, Any]) -> str:
    title = figure.get("layout", {}).get("title", {})
    text = (title.get("text") if isinstance(title, dict) else title) or "without a title"
    name = f"Plotly figure: {re.sub('<[^>]+>', ' ', text)}"
    try:
        import kaleido  # not through Plotly: its release 5 supports only older ones

        image = kaleido.calc_fig_sync(figure, opts={"format": "svg"})
    except Exception as error:  # kaleido is missing, or there is no browser
        return _describe_omission(f"{name} ({type(error).__name__}: {error})")["text/html"]
    source = base64.b64encode(image).decode()
    return (
        '<figure class="figure"><div class="scroll" tabindex="0" role="group" aria-label="Figure">'
        f'<img class="png" alt="{escape(name)}" src="data:image/svg+xml;base64,{source}"></div>'
        f"<figcaption>{IMAGE_CAPTION}</figcaption></figure>"
    )


def _describe_omission(output: str) -> dict[str, Any]:
    return {"text/html": f'<p class="nothing">Omitted: {escape(output)}.</p>'}


def _is_visible(html: str) -> bool:
    """Whether sanitized HTML shows anything: text, an image or a table."""
    body = re.sub(r"<style\b.*?</style>", "", html, flags=re.DOTALL | re.IGNORECASE)
    has_image = re.search(r"<(img|svg|table|hr)\b", body, re.IGNORECASE)
    return bool(has_image or re.sub(r"<[^>]*>|&nbsp;|\s", "", body))
