"""All pages in a real browser: accessibility, offline, size, phone, without JavaScript."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from html_outline import PageOutline, dead_links, one_page_per_kind, pages
from playwright.sync_api import Browser, Page
from pypdf import PdfReader
from small_project import SmallProject

from modelbook import config
from modelbook.ab import analysis, split_traffic, summary
from modelbook.pages import ab_report as page_of_ab
from modelbook.pages import failure_report

pytestmark = [pytest.mark.slow, pytest.mark.requires("browser")]

HEAVIEST = 1_500_000  # bytes of a page
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = {"type": "rule", "values": ["color-contrast"]}
UNFOLD = "() => document.querySelectorAll('details').forEach(part => { part.open = true })"
OVERFLOW = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.parentElement.closest('.scroll'))
    .map(e => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`)"""
HIDDEN_CONTROLS = """() => [...document.querySelectorAll('.scripted')]
    .filter(e => !e.checkVisibility({visibilityProperty: true}) || !e.getBoundingClientRect().height)
    .map(e => e.outerHTML.slice(0, 80))"""
REMOVED_CONTROLS = "() => document.querySelectorAll('.scripted').forEach(e => e.remove())"
PAINTED = "() => [...document.images].filter(image => !image.complete || !image.naturalWidth).length === 0"
Opened = Callable[..., tuple[Page, list[str], list[str]]]


@pytest.fixture(scope="module")
def reports(built_project: SmallProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports that builds have left, and the page of a stage that failed; a copy, since other tests build, too."""
    reports = shutil.copytree(
        built_project.root / "reports", tmp_path_factory.mktemp("pages") / "reports"
    )
    fail(reports / "tiny", "compare")
    serve_two_versions(reports / "tiny")
    return reports


def serve_two_versions(folder: Path) -> None:
    """Let two versions have shared traffic."""
    count = pd.RangeIndex(400)
    rows = pd.DataFrame(
        {"at": count, "challenger": count % 2 == 0, "bucket": count, "loss": count % 7 / 7}
    ).assign(outcome=count % 3 == 0)
    plan = analysis.ABPlan(0.5, 100, 0)
    result = summary.summarize_ab(
        analysis.analyze_ab(rows, plan),
        split_traffic.SplitTraffic("tiny", 1, 2, "Brier score", rows),
    )
    page_of_ab.write(folder / "ab.html", result, analysis.compute_difference_history(rows, plan))


def fail(folder: Path, stage: str) -> None:
    """Write the failure page of a stage that failed in its second last figure."""
    stem = config.stage_stem(stage)
    notebook = nbformat.read(folder / f"{stem}.ipynb", as_version=4)
    cell = [cell for cell in notebook.cells if cell.cell_type == "code"][-4]
    lines = ["\x1b[31mTraceback\x1b[0m", "  File <x>, line 1", "DataError: no rows"]
    cell.outputs = [
        nbformat.v4.new_output("error", ename="DataError", evalue="no rows", traceback=lines)
    ]
    nbformat.write(notebook, folder / f"{stem}.ipynb")
    states = dict.fromkeys(config.STAGES, "ran") | {stage: "failed", "finalize": "not run"}
    failure_report.write(failure_report.StageFailure(
        stage, "tiny", "DataError: no rows", folder / f"{stem}.html", folder / f"{stem}.ipynb",
        folder / f"logs/{stem}.log", "ploomber build", states, ["finalize"], [*config.STAGES],
    ))  # fmt: skip


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Open a page from disk without network; returns the page, its requests and its errors."""
    contexts = []

    def open_(path: Path, **options: object) -> tuple[Page, list[str], list[str]]:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_offline(True)
        requests: list[str] = []
        result: list[str] = []
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on(
            "console",
            lambda line: result.append(line.text) if line.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: result.append(str(error)))
        page.goto(path.as_uri(), wait_until="load")
        return page, requests, result

    yield open_
    for context in contexts:
        context.close()


def test_pages_make_no_requests_and_log_no_console_messages(reports, opened):
    for path in [*one_page_per_kind(reports), *reports.rglob("*evidently*.html")]:
        page, requests, result = opened(path)
        elsewhere = [
            url
            for url in requests
            if not url.startswith(("data:", "blob:", reports.resolve().as_uri()))
        ]
        assert elsewhere == [], path
        assert result == [], path
        assert page.evaluate(PAINTED), f"{path} has pictures that are not drawn"


def run_axe(page: Page) -> Iterator[tuple[str, AxeResults]]:
    """What axe finds on a page that has been opened in the light scheme, and in the dark one, of which only the
    colours are others."""
    for scheme, rules in (("light", RULES), ("dark", COLOURS)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        kinds_of_results = ["violations", "incomplete"]
        yield scheme, Axe().run(page, options={"runOnly": rules, "resultTypes": kinds_of_results})


# What axe cannot decide, and others do: the contrast of marks and text in charts (test_report_pages.py),
# and of single characters, which have the colours of the text around them.
DECIDED_ELSEWHERE = {"imgNode", "bgOverlap", "shortTextContent", "nonBmp", "elmPartiallyObscured"}


def find_undecided(result: AxeResults) -> list[str]:
    """Results of axe that need a review: all except text in charts and single characters."""
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in result.response["incomplete"]
        for node in rule["nodes"]
        if not all(
            (check.get("data") or {}).get("messageKey") in DECIDED_ELSEWHERE
            for check in node["any"]
        )
    ]


def test_pages_have_no_axe_violations(reports, opened):
    match = []
    for path in one_page_per_kind(reports):
        page, _, _ = opened(path, color_scheme="light", reduced_motion="reduce", bypass_csp=True)
        page.evaluate(UNFOLD)
        for scheme, result in run_axe(page):
            if result.violations_count:
                match.append(f"{path.name}, {scheme}\n{result.generate_report()}")
            match += [f"{path.name}, {scheme}: {text}" for text in find_undecided(result)[:5]]
    assert match == [], "\n".join(match)


def test_pages_do_not_overflow_on_a_phone(reports, opened):
    for path in one_page_per_kind(reports):
        page, _, _ = opened(path, viewport={"width": 390, "height": 844}, device_scale_factor=2)
        page.evaluate(UNFOLD)
        assert page.evaluate(OVERFLOW) == [], path
    page, _, _ = opened(reports / "index.html")
    for width in range(320, 901, 20):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate(OVERFLOW) == [], width


SCROLLING_CHARTS = """() => [...document.querySelectorAll('.scroll:has(.chart, img)')]
    .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"""
TEXT_SIZES = """() => [...document.querySelectorAll('.chart text')].filter(e => e.checkVisibility())
    .map(e => parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b))"""


def test_charts_fit_on_a_phone_with_readable_text(reports, opened):
    texts = 0
    for path in one_page_per_kind(reports):
        page, _, _ = opened(path, viewport={"width": 390, "height": 844})
        page.evaluate(UNFOLD)
        assert page.evaluate(SCROLLING_CHARTS) == [], path
        sizes = page.evaluate(TEXT_SIZES)
        assert min(sizes, default=11) >= 11, path
        texts += len(sizes)
    assert texts > 100


def test_pages_have_same_text_without_javascript(reports, opened):
    for path in one_page_per_kind(reports):
        page, _, _ = opened(path)
        assert page.evaluate(HIDDEN_CONTROLS) == [], path
        page.evaluate(REMOVED_CONTROLS)  # they repeat the tables
        with_ = page.locator("body").inner_text()
        without = opened(path, java_script_enabled=False)[0].locator("body").inner_text()
        assert without == with_, path
        assert len(without) > 200, path


def test_slider_begins_at_capacity_and_writes_lines_for_env_file(reports, opened):
    page, _, _ = opened(reports / "tiny/04_finalize.html")

    def shown(name: str) -> str:
        return page.text_content(f'[data-worth="{name}"]').replace(",", "")

    def move(selector: str, value: int) -> None:
        page.locator(selector).fill(str(value))

    saving = page.locator(".worth tbody tr").first.locator("td").nth(3).text_content()
    assert saving.replace(",", "") in shown("saving")
    assert f"capacity: {shown('flagged')}" in shown("env")
    flagged = shown("flagged")
    move('[data-worth="share"]', 100)
    assert int(shown("flagged")) > int(flagged)
    assert shown("recall") == "100%"
    move('[data-cost="cost_fn"]', 77)
    assert shown("env").splitlines()[0] == "cost_fn: 77"


def test_pages_are_below_size_limit(reports):
    heavy = {
        path.name: path.stat().st_size for path in pages(reports) if path.stat().st_size > HEAVIEST
    }
    assert heavy == {}


def test_brief_prints_on_two_sheets_at_most(reports, opened, tmp_path):
    page, _, _ = opened(reports / "tiny/brief.html")
    page.pdf(path=tmp_path / "brief.pdf", format="A4", prefer_css_page_size=True)
    assert len(PdfReader(tmp_path / "brief.pdf").pages) <= 2


def test_links_resolve(reports):
    assert dead_links(reports) == []


def test_pages_have_accessible_structure(reports):
    for outline in map(PageOutline, pages(reports)):
        assert outline.all("html")[0].get("lang") == "en", outline.path
        assert outline.title.strip(), outline.path
        assert outline.levels.count(1) == 1, outline.path
        steps = zip(outline.levels, outline.levels[1:])
        assert all(below - above <= 1 for above, below in steps), (
            f"{outline.path}: {outline.levels}"
        )
        assert len(outline.all("main")) == 1, outline.path
        assert outline.all("header"), outline.path
        assert [image for image in outline.all("img") if not image.get("alt", "").strip()] == [], (
            outline.path
        )
        assert [
            head for head in outline.all("th") if head.get("scope") not in ("col", "row")
        ] == [], outline.path
        assert [link for link in outline.all("a") if "href" not in link] == [], outline.path
        assert len(outline.ids) == len(set(outline.ids)), f"{outline.path}: an id stands twice"
        assert outline.all("iframe", "form", "object") == [], outline.path
        assert outline.all("script") == [{}], (
            outline.path
        )  # Modelbook's script, allowed by its digest
