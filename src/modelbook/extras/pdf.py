"""Print reports to PDF with an installed Chromium or Chrome."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelbook.atomic import atomic_write
from modelbook.errors import ReportError

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)  # fmt: skip
BROWSER_VARIABLE = "MODELBOOK_BROWSER"
TIMEOUT_SECONDS = 120  # timeout of one page; a heavy one takes two or three
BROWSER_OPTIONS = (
    "--headless", "--disable-gpu", "--disable-extensions", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--no-default-browser-check", "--hide-scrollbars", "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
)  # fmt: skip


def find_browser() -> str:
    """Return the path of a browser: ``MODELBOOK_BROWSER``, or the first that is installed.

    Raises
    ------
    ReportError
        When there is none.
    """
    configured = os.environ.get(BROWSER_VARIABLE)
    for name in [configured] if configured else BROWSERS:
        path = shutil.which(name)
        if path:
            return path
    raise ReportError(
        f"{BROWSER_VARIABLE} names {configured!r}, which is not a program"
        if configured
        else "no Chromium or Chrome was found",
        expected="chromium, google-chrome or microsoft-edge, version 131 or later",
        next="install one (Debian, Ubuntu: apt-get install chromium), or name one by "
        f"{BROWSER_VARIABLE}=/path/to/it",
    )


def find_report_pages(root: Path, book: str, stages: Sequence[str] = ()) -> list[Path]:
    """Return the report pages of a book, in stage order; optionally only of some stages.

    Raises
    ------
    ReportError
        If a requested stage has no page, or the book has none.
    """
    folder = root / "reports" / book
    matches = [
        (re.fullmatch(r"\d\d_(\w+)", path.stem), path) for path in sorted(folder.glob("*.html"))
    ]
    pages_by_stage = {match[1]: path for match, path in matches if match}
    missing = [name for name in stages if name not in pages_by_stage]
    if missing or not pages_by_stage:
        raise ReportError(
            f"there is no report of {', '.join(missing) or 'any stage'} in {folder}",
            expected=f"one of {', '.join(pages_by_stage)}"
            if pages_by_stage
            else "a book that has been built",
            next="build the book first"
            if not pages_by_stage
            else "name a stage that has a report, or build it first",
        )
    return [page for name, page in pages_by_stage.items() if not stages or name in stages]


def print_pages(report_pages: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Print pages to PDF files next to them, atomically; yield each page and its PDF.

    Raises
    ------
    ReportError
        If there is no browser, or it fails to print a page.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for page in report_pages:
            target = page.with_suffix(".pdf")
            with atomic_write(target) as draft:
                _print_page(browser, page, draft, Path(profile))
            yield page, target


def _print_page(browser: str, page: Path, draft: Path, profile: Path) -> None:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    root_options = ["--no-sandbox"] if is_root else []  # required for root
    command = [
        browser,
        *BROWSER_OPTIONS,
        *root_options,
        f"--user-data-dir={profile}",
        f"--print-to-pdf={draft}",
        page.resolve().as_uri(),
    ]
    try:
        completed = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _make_print_error(page, f"{browser} did not end within {TIMEOUT_SECONDS} s") from None
    if not draft.is_file() or draft.read_bytes()[:5] != b"%PDF-":
        last_line = next(
            (line for line in reversed(completed.stderr.splitlines()) if line.strip()),
            "no error message",
        )
        raise _make_print_error(page, f"{browser} ended with {completed.returncode}: {last_line}")


def _make_print_error(page: Path, reason: str) -> ReportError:
    return ReportError(
        f"{page.name} was not printed: {reason}",
        expected="a PDF",
        next="open the page in a browser and print it there, or name another browser in "
        f"{BROWSER_VARIABLE}",
    )
