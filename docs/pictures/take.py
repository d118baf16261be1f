"""Photograph the pages of a project's reports for docs/reports.md, beside this file.

    python docs/pictures/take.py PROJECT BOOK

What the project does not have (a failed stage, a second run) keeps the picture that it has.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from modelbook import config
from modelbook.extras import pdf
from modelbook.pages import failure_report

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1000, 1250  # pixels of the page that a picture shows
COLOURS = 64  # enough for pages of text and charts, and a fifth of the bytes


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    reports, book = Path(sys.argv[1]).resolve() / "reports", sys.argv[2]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=pdf.find_browser(), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        for name, page in pages(reports, book).items():
            tab.goto(page.as_uri())
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB").quantize(COLOURS)
            picture.save(HERE / f"{name}.png", optimize=True)
            print(f"{name}.png  {(HERE / f'{name}.png').stat().st_size / 1000:.0f} kB")


def pages(reports: Path, book: str) -> dict[str, Path]:
    """The page behind each picture, as far as there is one."""
    named = {name: reports / book / f"{config.stage_stem(name)}.html" for name in config.STAGES}
    named = {
        "failed" if failure_report.is_failure_report(page) else name: page
        for name, page in named.items() if page.is_file()
    }  # fmt: skip
    cards = sorted(reports.glob(f"{book}/card-*.html"))
    pairs = sorted(reports.glob(f"{book}/runs/*-*.html"))
    newest = {name: found[-1] for name, found in (("card", cards), ("compared", pairs)) if found}
    return {"index": reports / "index.html", **named, **newest}


if __name__ == "__main__":
    main()
