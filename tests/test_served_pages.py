"""Service pages and API docs in a real browser: form, accessibility, no external requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from test_pages_browser import OVERFLOW, RULES
from version_store import RunningServer, VersionStore, fit_pipeline, run_server

pytestmark = [pytest.mark.slow, pytest.mark.requires("browser")]
SUBMIT = "form button"
LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"


@pytest.fixture(scope="module")
def server(make_frame, contract, tmp_path_factory) -> Iterator[RunningServer]:
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    with run_server(version_store.root) as running_server:
        yield running_server


@contextmanager
def open_page(
    browser: Browser, server: RunningServer, path: str, **options: object
) -> Iterator[Page]:
    """Open a page of the service; asserts at the end that it made no external requests and had no errors."""
    server_url, external_urls, errors = f"http://127.0.0.1:{server.port}", [], []
    context = browser.new_context(**options)  # type: ignore[arg-type]
    page = context.new_page()
    page.on(
        "response",
        lambda response: (
            None
            if response.url.startswith((server_url, "data:", "blob:"))
            else external_urls.append(response.url)
        ),
    )
    # Redoc requests its maker's logo, which the policy blocks.
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server_url + path)
    yield page
    context.close()
    assert external_urls == []
    assert [result for result in errors if LOGO not in result] == []


def test_form_predicts_with_reasons_and_rejects_invalid_value(browser, server):
    with open_page(browser, server, "/") as page:
        page.get_by_label("Size").fill("97")
        page.get_by_label("colour").select_option("2")
        page.locator(SUBMIT).click()
        expect(page.locator(".prediction strong")).to_have_text("1")
        expect(page.get_by_role("table").first).to_contain_text("Size")
        expect(page.get_by_label("Size")).to_have_value("97")
        page.get_by_label("Size").fill("tall")
        page.locator(SUBMIT).click()
        expect(page.get_by_role("alert")).to_contain_text(re.compile('Size.*"tall".*0.*100'))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_and_result_have_no_axe_violations(browser, server, scheme):
    with open_page(browser, server, "/", color_scheme=scheme, bypass_csp=True) as page:
        for result in ("", "97", "tall"):
            if result:
                page.get_by_label("Size").fill(result)
                page.locator(SUBMIT).click()
            match = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
            assert match.violations_count == 0, match.generate_report()


def test_page_does_not_overflow_on_a_phone(browser, server):
    with open_page(
        browser, server, "/", viewport={"width": 390, "height": 844}, device_scale_factor=2
    ) as page:
        page.locator(SUBMIT).click()
        assert page.evaluate(OVERFLOW) == []


def test_api_docs_show_served_model_and_send_requests(browser, server):
    with open_page(browser, server, "/docs") as page:
        page.locator('.opblock-post [data-path="/predict"]').click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table")).to_contain_text('"model_version": 1')
        expect(page.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text(
            "200"
        )


def test_redoc_shows_each_field_with_its_meaning(browser, server):
    with open_page(browser, server, "/redoc") as page:
        expect(page.get_by_text("decides nothing, has gaps").first).to_be_visible()
        paths = page.request.get(page.url.replace("redoc", "openapi.json")).json()["paths"]
        title = paths["/predict"]["post"]["summary"]
        expect(page.get_by_role("heading", name=title).first).to_be_visible()


EVIL = '"><img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture(scope="module")
def evil_server(make_frame, contract, tmp_path_factory) -> Iterator[RunningServer]:
    """A table whose contract has markup wherever it may have text, and as a column's name."""
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    columns = {
        name: column.model_copy(update={"meaning": EVIL, "label": EVIL})
        for name, column in contract.columns.items()
    }
    columns[EVIL] = columns["who"].model_copy(update={"role": "id"})
    texts = dict.fromkeys(("title", "question", "source"), EVIL)
    evil = contract.model_copy(update={**texts, "columns": columns})
    path = version_store.folder(1) / "contract.yaml"
    path.write_text(evil.to_yaml())
    version_store.update_digest(1)
    with run_server(version_store.root) as running_server:
        yield running_server


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_markup_in_contract_is_escaped(browser, evil_server, path):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{evil_server.port}{path}")
    page.get_by_text("onerror").first.wait_for()
    page.wait_for_timeout(500)
    assert page.title() == EVIL
    assert page.locator("img[src=x]").count() == 0
    context.close()
