"""Structure of an HTML page for assistive technology: headings, links and tables."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

FOREIGN = "evidently"  # in the names of pages rendered by Evidently


class PageOutline(HTMLParser):
    """A page, element by element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.title, self.inside = path, "", ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.title += data if self.inside == "title" else ""

    def all(self, *names: str) -> list[dict[str, str]]:
        """Attributes of every element of these names."""
        return [attrs for tag, attrs in self.tags if tag in names]

    @property
    def ids(self) -> list[str]:
        """Every id, in order."""
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]

    @property
    def levels(self) -> list[int]:
        """The level of every heading, in order."""
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]


def pages(reports: Path) -> list[Path]:
    """All pages of Modelbook below a folder."""
    return [path for path in sorted(reports.rglob("*.html")) if FOREIGN not in path.name]


def one_page_per_kind(reports: Path) -> list[Path]:
    """The newest page of each kind, for slow checks."""
    newest = sorted(pages(reports), key=lambda path: path.stat().st_mtime)
    return list({_kind(path): path for path in newest}.values())


def _kind(path: Path) -> str:
    """Path without run numbers: archived stage reports are one kind."""
    name = re.sub(r"/runs/\d+(-)?(?(1)\d+)", r"/runs/N\1", path.as_posix())
    return re.sub(r"(/runs/N)/\d\d_\w+", r"\1/stage", name)


def dead_links(reports: Path) -> list[str]:
    """Links and anchors without a target in the folder."""
    top = reports.resolve()
    outlines = {path.resolve(): PageOutline(path) for path in pages(reports)}
    dead = []
    for path, outline in outlines.items():
        for href in (attrs["href"] for attrs in outline.all("a") if "href" in attrs):
            file, _, anchor = unquote(href).partition("#")
            target = (path.parent / file).resolve() if file else path
            led = re.match(r"https?:|mailto:", href) or (
                target.is_file() and target.is_relative_to(top)
            )
            if not led or (anchor and target in outlines and anchor not in outlines[target].ids):
                dead.append(f"{path.relative_to(top)}: {href}")
    return dead
