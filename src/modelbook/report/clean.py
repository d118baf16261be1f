"""HTML without anything that runs or that asks the network: what a page may hold of other people's output."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

# Dropped with all they hold, and dropped alone because they hold nothing.
FORBIDDEN = {"script", "iframe", "object", "template", "noscript", "form", "audio", "video", "frameset"}
LONELY = {"link", "meta", "base", "embed", "input", "source", "track", "frame"}
LOADS = {"src", "srcset", "poster", "background", "data", "action", "formaction", "srcdoc", "ping"}

_LOADING_CSS = re.compile(r"@import[^;]*;?|url\(\s*['\"]?(?!\s*(?:data:|#))[^)]*\)", re.IGNORECASE)


def clean(html: str) -> str:
    """The same HTML, safe to stand in a page that runs nothing and loads nothing."""
    cleaner = _Cleaner()
    cleaner.feed(html)
    cleaner.close()
    return "".join(cleaner.parts)


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.inside: list[str] = []  # forbidden elements that are open
        self.style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in FORBIDDEN:
            self.inside.append(tag)
        elif tag not in LONELY and not self.inside:
            self.style = tag == "style"
            kept = "".join(_attribute(tag, *pair) for pair in attrs)
            if tag == "img" and " src=" not in kept:
                self.parts.append(f"<em>(picture left out: {escape(dict(attrs).get('alt') or 'no name')})</em>")
            else:
                self.parts.append(f"<{tag}{kept}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in FORBIDDEN:  # <script/> opens nothing that would have to be closed
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            del self.inside[self.inside.index(tag) :]
        elif tag not in FORBIDDEN | LONELY and not self.inside:
            self.style = False
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.parts.append(_LOADING_CSS.sub("", data) if self.style else data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")


def _attribute(tag: str, name: str, value: str | None) -> str:
    name, value = name.lower(), value or ""
    target = re.sub(r"[\s\x00-\x1f]", "", value).lower()
    if name.startswith("on") or (name in LOADS and not target.startswith("data:")):
        return ""
    if name in {"href", "xlink:href"} and not _may_point(tag, target):
        return ""
    return f' {name}="{escape(_LOADING_CSS.sub("", value) if name == "style" else value)}"'


def _may_point(tag: str, target: str) -> bool:
    """A link may lead away, since the reader follows it; everything else loads by itself."""
    if target.startswith("#"):
        return True
    if tag == "a":
        return not target.startswith(("javascript:", "data:", "vbscript:"))
    return target.startswith("data:image/")
