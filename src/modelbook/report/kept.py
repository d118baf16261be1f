"""A page as it is kept with its run: its links lead on from there, its pictures can be held against another run's."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

TO_BOOK = "../.."  # from a run's folder to the book's
NOTE = (
    '<aside class="kept" aria-label="Which run">This page is kept with one run, as it was when that run ended. '
    '<a href="index.html">About this run</a></aside>'
)

_LINK = re.compile(r'(<a\b[^>]*?\bhref=")([^"]*)(")')
_ELSEWHERE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|/|#|$")  # an address, an anchor in the page itself, nothing
_START = re.compile(r'<body[^>]*>(\s*<a class="skip".*?</a>)?', re.DOTALL)  # the skip link stays the first link
_PICTURE = re.compile(r"data:image/(svg\+xml|png|jpeg);base64,(.*)", re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """A figure of a stage's page: where it stands, what it says, and the file that holds it."""

    stage: str
    section: str
    place: int  # among the pictures of its section, from 0
    alt: str
    width: str
    file: str

    @property
    def spot(self) -> tuple[str, str, int]:
        """What it has in common with its counterpart in another run."""
        return self.stage, self.section, self.place

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)


def links(html: str) -> list[str]:
    """Files that a page links to, seen from the page."""
    found = (unescape(match[2]).partition("#")[0] for match in _LINK.finditer(html))
    return list(dict.fromkeys(link for link in found if not _ELSEWHERE.match(link)))


def placed(html: str, beside: set[str], instead: Mapping[str, str]) -> str:
    """A page of the book's folder as it stands in a run's folder, two below.

    Parameters
    ----------
    html : str
        The page.
    beside : set of str
        Names of the files that are kept with the same run: links to them stay.
    instead : mapping
        Names of files that belong to other runs, and what is linked in their place. Any other link leads out of the
        run's folder, to where it led before.
    """

    def moved(match: re.Match[str]) -> str:
        target, hash_, anchor = unescape(match[2]).partition("#")
        if _ELSEWHERE.match(target) or target in beside:
            return match[0]
        other = instead.get(target)
        link = other or posixpath.normpath(f"{TO_BOOK}/{target}") + hash_ + anchor
        return match[1] + escape(link) + match[3]

    html = _LINK.sub(moved, html)
    return _START.sub(lambda start: f"{start[0]}\n{NOTE}", html, count=1)


def pictures(html: str) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Of each picture in a page: section, place, alt and width; its ending; its content in base64."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    for place, image in reader.found:
        match = _PICTURE.fullmatch(image.get("src", ""))
        if match:
            told = {**place, "alt": image.get("alt", ""), "width": image.get("width", "")}
            yield told, {"svg+xml": "svg"}.get(match[1], match[1]), match[2]


class _Reader(HTMLParser):
    """Notes each image with the heading that it stands under."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.section, self.place, self.heading = "", 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h2":
            self.section, self.place, self.heading = "", 0, True
        elif tag == "img":
            told = {"section": " ".join(self.section.split()), "place": self.place}
            self.found.append((told, {name: value or "" for name, value in attrs}))
            self.place += 1

    def handle_endtag(self, tag: str) -> None:
        self.heading = self.heading and tag != "h2"

    def handle_data(self, data: str) -> None:
        if self.heading:
            self.section += data
