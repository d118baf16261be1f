"""What the pages cost a reader: the size of each, and how long the index takes until something is seen.

Sizes are those of the files; the time is the first contentful paint, which Chromium tells.

    python benchmarks/pages.py                    the project's own reports
    python benchmarks/pages.py PATH/TO/PROJECT    another's
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from modelbook.extras import pdf

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"page": 1.5, "first paint": 1.0}  # MB, seconds
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SOURCE = "evidently"  # pages that are not ours, linked beside them


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", type=Path, default=ROOT, help="a project that has been built"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often; medians are told (default: 5)"
    )
    options = parser.parse_args()
    reports = options.project.resolve() / "reports"
    if not (reports / "index.html").is_file():
        sys.exit(f"there is no {reports / 'index.html'}: build a book first")
    for page in [reports / "index.html", *sorted(reports.glob("*/*.html"))]:
        goal = "" if SOURCE in page.name else f"   target at most {TARGETS['page']:g} MB"
        print(
            f"{page.relative_to(reports).as_posix():<40} {page.stat().st_size / 1e6:7.3f} MB{goal}",
            flush=True,
        )
    past = [page.stat().st_size for page in reports.glob("*/runs/**/*.html")]
    if past:
        print(f"{f'{len(past)} pages of past runs, heaviest':<40} {max(past) / 1e6:7.3f} MB")
    times = first_paints(reports / "index.html", options.rounds)
    result = f"median {statistics.median(times):.2f} s   {min(times):.2f} to {max(times):.2f}"
    print(
        f"{'first paint of the index':<40} {result}   target at most {TARGETS['first paint']:g} s"
    )


def first_paints(page: Path, rounds: int) -> list[float]:
    """Seconds from the start of the navigation to the first content, each time in a browser that was just started."""
    times = []
    with sync_playwright() as playwright:
        for _ in range(rounds):
            browser = playwright.chromium.launch(
                executable_path=pdf.find_browser(), args=["--no-sandbox"]
            )
            tab = browser.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_function(PAINT)
            times.append(tab.evaluate(PAINT) / 1000)
            browser.close()
    return times


if __name__ == "__main__":
    main()
