"""Sanitize HTML from notebook outputs: no scripts, no network requests."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

# Elements dropped with their content, and void elements, which have none.
FORBIDDEN_TAGS = {
    "script",
    "iframe",
    "object",
    "template",
    "noscript",
    "form",
    "audio",
    "video",
    "frameset",
}
FORBIDDEN_VOID_TAGS = {"link", "meta", "base", "embed", "input", "source", "track", "frame"}
LOADING_ATTRIBUTES = {
    "src",
    "srcset",
    "poster",
    "background",
    "data",
    "action",
    "formaction",
    "srcdoc",
    "ping",
}

_LOADING_CSS_PATTERN = re.compile(
    r"@import[^;]*;?|url\(\s*['\"]?(?!\s*(?:data:|#))[^)]*\)", re.IGNORECASE
)


def sanitize_html(html: str) -> str:
    """Return the HTML without scripts and without anything that loads from the network.

    Headers of a pandas table get their scope, and the empty one above its index becomes a cell.
    """
    sanitizer = _Sanitizer()
    sanitizer.feed(html)
    sanitizer.close()
    return "".join(sanitizer.fragments).replace('<th scope="col"></th>', "<td></td>")


class _Sanitizer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.fragments: list[str] = []
        self.open_forbidden_tags: list[str] = []  # currently open
        self.in_style = self.in_head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in FORBIDDEN_TAGS:
            self.open_forbidden_tags.append(tag)
        elif tag not in FORBIDDEN_VOID_TAGS and not self.open_forbidden_tags:
            self.in_style = tag == "style"
            self.in_head = self.in_head or tag == "thead"
            if tag == "th" and "scope" not in dict(attrs):
                attrs = [*attrs, ("scope", "col" if self.in_head else "row")]
            attributes = "".join(_sanitize_attribute(tag, *pair) for pair in attrs)
            if tag == "img" and " src=" not in attributes:
                self.fragments.append(
                    f"<em>(image omitted: {escape(dict(attrs).get('alt') or 'no name')})</em>"
                )
            else:
                self.fragments.append(f"<{tag}{attributes}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in FORBIDDEN_TAGS:  # <script/> opens no element
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open_forbidden_tags:
            del self.open_forbidden_tags[self.open_forbidden_tags.index(tag) :]
        elif tag not in FORBIDDEN_TAGS | FORBIDDEN_VOID_TAGS and not self.open_forbidden_tags:
            self.in_style = False
            self.in_head = self.in_head and tag != "thead"
            self.fragments.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.open_forbidden_tags:
            self.fragments.append(_LOADING_CSS_PATTERN.sub("", data) if self.in_style else data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")


def _sanitize_attribute(tag: str, name: str, value: str | None) -> str:
    name = name.lower()
    value = value or ""
    url = re.sub(r"[\s\x00-\x1f]", "", value).lower()
    if name.startswith("on") or (name in LOADING_ATTRIBUTES and not url.startswith("data:")):
        return ""
    if name in {"href", "xlink:href"} and not _is_allowed_target(tag, url):
        return ""
    return f' {name}="{escape(_LOADING_CSS_PATTERN.sub("", value) if name == "style" else value)}"'


def _is_allowed_target(tag: str, url: str) -> bool:
    """Whether a URL is allowed: links may be external, since only a click loads them."""
    if url.startswith("#"):
        return True
    if tag == "a":
        return not url.startswith(("javascript:", "data:", "vbscript:"))
    return url.startswith("data:image/")
