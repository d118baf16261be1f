"""A report on paper: printed by the Chromium or Chrome that is installed, with the pages' own print rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelbook.errors import ReportError
from modelbook.whole import complete

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)  # fmt: skip
NAMED = "MODELBOOK_BROWSER"
SECONDS = 120  # for one page; a heavy one takes two or three
QUIET = (
    "--headless", "--disable-gpu", "--disable-extensions", "--disable-sync", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--no-default-browser-check", "--hide-scrollbars",
    "--no-pdf-header-footer", "--generate-pdf-document-outline",
)  # fmt: skip


def find() -> str:
    """Path of the browser that prints: ``MODELBOOK_BROWSER``, else the first that is installed.

    Raises
    ------
    ReportError
        When there is none.
    """
    named = os.environ.get(NAMED)
    for name in [named] if named else BROWSERS:
        path = shutil.which(name)
        if path:
            return path
    raise ReportError(
        f"{NAMED} names {named!r}, which is no program" if named else "there is no Chromium or Chrome to print with",
        expected="chromium, google-chrome or microsoft-edge, version 131 or later",
        next=f"install one (Debian, Ubuntu: apt-get install chromium), or name one by {NAMED}=/path/to/it",
    )


def pages(root: Path, book: str, stages: Sequence[str] = ()) -> list[Path]:
    """The report pages of a book, in the stages' order; those of some stages, where these are named.

    Raises
    ------
    ReportError
        When a stage that is named has no page, or the book has none.
    """
    folder = root / "reports" / book
    named = [(re.fullmatch(r"\d\d_(\w+)", path.stem), path) for path in sorted(folder.glob("*.html"))]
    there = {match[1]: path for match, path in named if match}
    missing = [name for name in stages if name not in there]
    if missing or not there:
        raise ReportError(
            f"there is no report of {', '.join(missing) or 'any stage'} in {folder}",
            expected=f"one of {', '.join(there)}" if there else "a book that has been built",
            next="build the book first" if not there else "name a stage that has a report, or build it first",
        )
    return [page for name, page in there.items() if not stages or name in stages]


def write(pages: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Print pages, each beside itself as ``.pdf``, whole or not at all; yields page and PDF as they are done.

    Parameters
    ----------
    pages : sequence of path
        Pages of ours.

    Raises
    ------
    ReportError
        When there is no browser, or it does not print a page.
    """
    browser = find()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for page in pages:
            target = page.with_suffix(".pdf")
            with complete(target) as draft:
                _print(browser, page, draft, Path(profile))
            yield page, target


def _print(browser: str, page: Path, draft: Path, profile: Path) -> None:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    free = ["--no-sandbox"] if is_root else []  # it does not start for root otherwise
    command = [browser, *QUIET, *free, f"--user-data-dir={profile}", f"--print-to-pdf={draft}", page.resolve().as_uri()]
    try:
        told = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise _failed(page, f"{browser} did not end within {SECONDS} s") from None
    if not draft.is_file() or draft.read_bytes()[:5] != b"%PDF-":
        last = next((line for line in reversed(told.stderr.splitlines()) if line.strip()), "it said nothing")
        raise _failed(page, f"{browser} ended with {told.returncode}: {last}")


def _failed(page: Path, why: str) -> ReportError:
    return ReportError(
        f"{page.name} was not printed: {why}",
        expected="a PDF",
        next=f"open the page in a browser and print it there, or name another browser in {NAMED}",
    )
