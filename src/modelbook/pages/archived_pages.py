"""Archived report pages of a run: links are rewritten, figures extracted for comparisons."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

from modelbook.pages import templating

BOOK_FOLDER = "../.."  # from a run's folder to the book's

_LINK_PATTERN = re.compile(r'(<a\b[^>]*?\bhref=")([^"]*)(")')
_EXTERNAL_PATTERN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|/|#|$")  # a URL, an anchor, or nothing
# The skip link must stay the first link.
_BODY_START_PATTERN = re.compile(r'<body[^>]*>(\s*<a class="skip".*?</a>)?', re.DOTALL)
_DATA_IMAGE_PATTERN = re.compile(r"data:image/(svg\+xml|png|jpeg);base64,(.*)", re.DOTALL)


@dataclass(frozen=True)
class ArchivedFigure:
    """A figure of a stage's report: its position, its alternative text, and its file."""

    stage: str
    section: str
    position: int  # among the figures of its section, from 0
    alt: str
    width: str
    file_name: str

    @property
    def key(self) -> tuple[str, str, int]:
        """The key by which figures of two runs are matched."""
        return self.stage, self.section, self.position

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that can be written as JSON."""
        return asdict(self)


def find_links(html: str) -> list[str]:
    """Return the files that a page links to, relative to the page."""
    targets = (unescape(match[2]).partition("#")[0] for match in _LINK_PATTERN.finditer(html))
    return list(dict.fromkeys(link for link in targets if not _EXTERNAL_PATTERN.match(link)))


def archive(
    html: str, archived_files: set[str], replacements: Mapping[str, str], run: int | None = None
) -> str:
    """Return a report for a run's folder, two levels below: with its links rewritten, and a notice.

    Parameters
    ----------
    html : str
        The page.
    archived_files : set of str
        Names of the files archived with the same run; links to them are unchanged.
    replacements : mapping
        Link targets that may belong to another run, and what to link instead. All other links
        are prefixed so that they lead where they led before.
    run : int, optional
        The run that made the report, which the notice names.
    """
    notice = templating.render_template("archive_notice.html.j2", run=run)

    def rewrite(match: re.Match[str]) -> str:
        target, hash_, anchor = unescape(match[2]).partition("#")
        if _EXTERNAL_PATTERN.match(target) or target in archived_files:
            return match[0]
        replacement = replacements.get(target)
        link = replacement or posixpath.normpath(f"{BOOK_FOLDER}/{target}") + hash_ + anchor
        return match[1] + escape(link) + match[3]

    html = _LINK_PATTERN.sub(rewrite, html)
    return _BODY_START_PATTERN.sub(lambda body_start: f"{body_start[0]}\n{notice}", html, count=1)


def extract_figures(html: str) -> Iterator[tuple[dict[str, Any], str, bytes]]:
    """Yield each figure of a page: its attributes, its file extension, its content."""
    parser = _FigureParser()
    parser.feed(html)
    parser.close()
    for location, image in parser.figures:
        attributes = {**location, "alt": image.get("alt", ""), "width": image.get("width", "")}
        if "svg" in image:
            yield attributes, "svg", image["svg"].encode()
        elif match := _DATA_IMAGE_PATTERN.fullmatch(image.get("src", "")):
            try:
                content = base64.b64decode(match[2])
            except binascii.Error:
                continue
            yield attributes, {"svg+xml": "svg"}.get(match[1], match[1]), content


class _FigureParser(HTMLParser):
    """Collects each picture with the heading above it: images, and charts within the page."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.section, self.position, self.in_heading = "", 0, False
        self.chart: list[str] = []  # the open chart's text so far
        self.title: list[str] | None = None  # the open title of a chart

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "h2":
            self.section, self.position, self.in_heading = "", 0, True
        elif tag == "a":  # the link to the heading itself
            self.in_heading = False
        elif tag == "svg" and "chart" in (kinds := values.get("class", "").split()):
            if "narrow" in kinds:  # it takes the place of the wide one: two runs stand side by side
                self.figures[-1][1].update(width=values.get("width", ""))
                values["style"] = values.get("style", "").replace("display:none", "display:block")
            else:
                self._add({"width": values.get("width", "")})
            self.chart.append(f'<svg xmlns="{SVG_NAMESPACE}" xmlns:xlink="{XLINK_NAMESPACE}"')
            self.chart.append(_write_attributes(values) + ">")
        elif self.chart:
            self.chart.append(f"<{_make_svg_name(tag)}{_write_attributes(values)}>")
            is_name = tag == "title" and "alt" not in self.figures[-1][1]
            self.title = [] if is_name else self.title  # those of marks follow
        elif tag == "img":
            self._add(values)

    def handle_endtag(self, tag: str) -> None:
        self.in_heading = self.in_heading and tag != "h2"
        if not self.chart:
            return
        self.chart.append(f"</{_make_svg_name(tag)}>")
        image = self.figures[-1][1]
        if tag == "title" and self.title is not None:
            image["alt"] = "".join(self.title)
            self.title = None
        elif tag == "svg":
            image["svg"] = "".join(self.chart)
            self.chart = []

    def handle_data(self, data: str) -> None:
        if self.in_heading:
            self.section += data
        if self.chart:
            self.chart.append(escape(data, quote=False))
        if self.title is not None:
            self.title.append(data)

    def _add(self, image: dict[str, str]) -> None:
        location = {"section": " ".join(self.section.split()), "position": self.position}
        self.figures.append((location, image))
        self.position += 1


SVG_NAMESPACE, XLINK_NAMESPACE = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# HTMLParser lowers the case of names, in XML case matters.
_SVG_NAMES = {name.lower(): name for name in ("viewBox", "clipPath", "clipPathUnits")}
_NAMESPACES = {"xmlns", "xmlns:xlink"}


def _make_svg_name(name: str) -> str:
    return _SVG_NAMES.get(name, name)


def _write_attributes(values: Mapping[str, str]) -> str:
    return "".join(
        f' {_make_svg_name(name)}="{escape(value)}"'
        for name, value in values.items()
        if name not in _NAMESPACES
    )
