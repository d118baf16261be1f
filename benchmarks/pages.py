"""Size of each report page, and first contentful paint of the index.

Sizes are those of the files; the paint time is reported by Chromium.

    python benchmarks/pages.py                    this project's reports
    python benchmarks/pages.py PATH/TO/PROJECT    another project's
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
PAINT_SCRIPT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
EVIDENTLY_MARKER = "evidently"  # in the names of linked pages that Evidently renders


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project", nargs="?", type=Path, default=ROOT, help="a project that has been built"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of rounds; medians are printed (default: 5)"
    )
    args = parser.parse_args()
    reports = args.project.resolve() / "reports"
    if not (reports / "index.html").is_file():
        sys.exit(f"there is no {reports / 'index.html'}: build a book first")
    for page in [reports / "index.html", *sorted(reports.glob("*/*.html"))]:
        target_text = (
            "" if EVIDENTLY_MARKER in page.name else f"   target at most {TARGETS['page']:g} MB"
        )
        print(
            f"{page.relative_to(reports).as_posix():<40} "
            f"{page.stat().st_size / 1e6:7.3f} MB{target_text}",
            flush=True,
        )
    archived_sizes = [page.stat().st_size for page in reports.glob("*/runs/**/*.html")]
    if archived_sizes:
        label = f"{len(archived_sizes)} pages of past runs, heaviest"
        print(f"{label:<40} {max(archived_sizes) / 1e6:7.3f} MB")
    times = measure_first_paint(reports / "index.html", args.rounds)
    result = f"median {statistics.median(times):.2f} s   {min(times):.2f} to {max(times):.2f}"
    print(
        f"{'first paint of the index':<40} {result}   target at most {TARGETS['first paint']:g} s"
    )


def measure_first_paint(page: Path, rounds: int) -> list[float]:
    """Seconds from the start of the navigation to the first contentful paint, in new browsers."""
    times = []
    with sync_playwright() as playwright:
        for _ in range(rounds):
            browser = playwright.chromium.launch(
                executable_path=pdf.find_browser(), args=["--no-sandbox"]
            )
            tab = browser.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_function(PAINT_SCRIPT)
            times.append(tab.evaluate(PAINT_SCRIPT) / 1000)
            browser.close()
    return times


if __name__ == "__main__":
    main()
