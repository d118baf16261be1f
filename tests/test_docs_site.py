"""Documentation site: index, reference, gallery, accessibility, offline use."""

from __future__ import annotations

import json
import pkgutil
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from html_outline import dead_links
from load_modules import load_module
from small_project import BIN, ROOT

from modelbook import gate

INDEX = ROOT / "docs/index.md"
LIGHT_DARK = ["light", "dark"]
AUDITED_PAGES = [
    "index.html",
    "gallery.html",
    "operations.html",
    "reference/index.html",
    "reference/dataset.html",
]


@pytest.fixture
def pages() -> ModuleType:
    return load_module(ROOT / "docs/site/pages.py")


def report(root: Path, book: str, stem: str, link: str = "") -> None:
    path = root / "reports" / book / f"{stem}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html><html lang="en"><title>{stem}</title><a href="../index.html">all</a>{link}</html>'
    )


class TestOrder:
    def test_every_page_is_in_the_index_once(self) -> None:
        pages = sorted(
            p.relative_to(INDEX.parent).as_posix() for p in INDEX.parent.rglob("*.md") if p != INDEX
        )
        assert (
            sorted(re.findall(r"^(?:-|\d+\.) \[[^]]+\]\(([^)]+\.md)\)", INDEX.read_text(), re.M))
            == pages
        )

    def test_tabs_are_the_lists_of_the_index(self, pages: ModuleType) -> None:
        text = "## Start\n- [One](one.md): a\n- [Two](deploy/two.md)\n\n## Stages\n1. [Three](three.md): b\n\n## Words\n"
        home, start, stages, gallery, reference = pages.nav(text)
        assert (home, start) == (
            {"Modelbook": "index.md"},
            {"Start": [{"One": "one.md"}, {"Two": "deploy/two.md"}]},
        )
        assert (stages, gallery) == ({"Stages": [{"Three": "three.md"}]}, {"Gallery": "gallery.md"})
        assert {"gate": "reference/gate.md"} in reference["Reference"]

    def test_list_content_is_indented_by_four_spaces(self) -> None:
        """GitHub accepts two or three spaces as well; MkDocs requires four."""
        for page in INDEX.parent.rglob("*.md"):
            text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
            assert not re.search(r"^ {1,3}(```|- |\d+\. )", text, re.M), page
            assert not re.search(r"\n\n {1,3}\S", text), page


def test_search_dialog_has_accessible_name(pages: ModuleType) -> None:
    html = pages.on_post_page('<div data-md-component="search" role="dialog">')
    assert html == '<div data-md-component="search" role="dialog" aria-label="Search">'


class TestReference:
    def test_reference_has_every_command_option_and_target(self, pages: ModuleType) -> None:
        result = pages.render_reference()
        for name in (
            "build",
            "check",
            "new",
            "score",
            "serve",
            "monitor",
            "retrain",
            "promote",
            "history",
            "keys add",
        ):
            assert f"\n### modelbook {name}\n" in result, name
        assert "| `--since " in result
        assert "| `make test` | install what tests need" in result
        assert result.index("## make") < result.index("## modelbook") < result.index("## Packages")

    def test_every_package_but_cli_has_reference_page(self, pages: ModuleType) -> None:
        result = pages.list_packages()
        modules = {module.name for module in pkgutil.iter_modules([str(ROOT / "src/modelbook")])}
        assert result.keys() == modules - {"cli"}
        assert result["gate"] == " ".join(str(gate.__doc__).split("\n\n")[0].split())

    def test_package_reference_lists_its_modules_and_own_members(self, pages: ModuleType) -> None:
        result = re.search(r"members: (\[.*\])", pages.render_package("engine"))
        assert result
        assert {"dask", "ray", "open_engine", "check_engine"} <= set(json.loads(result[1]))
        assert "EngineError" not in json.loads(result[1])  # documented with its module
        assert "members" not in pages.render_package("redaction")


class TestGallery:
    @pytest.fixture
    def root(self, pages: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setattr(pages, "ROOT", tmp_path)
        return tmp_path

    def test_gallery_without_build_shows_pictures_and_build_command(self, pages, root) -> None:
        result = pages.render_gallery()
        assert result.index("`make run`") < result.index("`make docs`")
        assert re.search(r"\[!\[[^]]+\]\(pictures/deploy\.png\)\]\(deploy\.md\)", result)

    def test_gallery_with_build_links_reports_and_shows_verdicts(self, pages, root) -> None:
        report(
            root,
            "rand-hie",
            "01_ingest",
            '<a href="card-1.html">card</a><a href="../other/01_ingest.html">b</a>',
        )
        report(root, "rand-hie", "card-1")
        report(root, "other", "01_ingest")
        (root / "models/rand-hie").mkdir(parents=True)
        (root / "models/rand-hie/ingest.json").write_text(
            '{"status": "accepted", "sentences": ["All rows."]}'
        )
        result = pages.render_gallery()
        assert "(reports/rand-hie/01_ingest.html)" in result
        assert "**accepted**: All rows." in result
        assert "](explore.md)" in result  # without a report
        output = {path.relative_to(root / "reports").as_posix() for path in pages.list_reports()}
        assert output == {"rand-hie/01_ingest.html", "rand-hie/card-1.html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Site of a project with reports of the bundled book and of another book."""
    root = tmp_path_factory.mktemp("docs-site")
    shutil.copytree(ROOT / "docs", root / "docs")
    for name in ("mkdocs.yml", "Makefile"):
        shutil.copy(ROOT / name, root)
    (root / "src").symlink_to(ROOT / "src")
    for book in ("rand-hie", "secret"):
        report(root, book, "01_ingest")
    result = subprocess.run(
        [BIN / "mkdocs", "-q", "build"],
        cwd=root,
        capture_output=True,
        text=True,
        env={"NO_MKDOCS_2_WARNING": "1"},
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    return root / "site-docs"


@pytest.mark.slow
def test_site_has_no_dead_links_and_no_other_book(site: Path) -> None:
    (site / "404.html").unlink()  # its links are seen from a host's root
    assert dead_links(site) == []
    assert [path.name for path in (site / "reports").iterdir() if path.is_dir()] == ["rand-hie"]
    assert "gallery.html" in (site / "reports/index.html").read_text()
    assert not list(site.rglob("*.py"))
    assert re.search(
        r"<pre><span></span><code>17 6 \* ", (site / "operations.html").read_text()
    )  # within a list, too


@pytest.fixture(scope="module")
def site_url(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def open_page(browser, site_url: str) -> Iterator[Callable]:
    """Open a page; fail at the end if it made external requests or wrote errors to the console."""
    contexts, external_requests, console_errors = [], [], []

    def open_new_page(name: str, **options: object):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((site_url, "data:"))
                else external_requests.append(request.url)
            ),
        )
        page.on(
            "console",
            lambda line: (
                console_errors.append(line.text) if line.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: console_errors.append(str(error)))
        page.goto(site_url + name, wait_until="networkidle")
        return page

    yield open_new_page
    for context in contexts:
        context.close()
    assert (external_requests, console_errors) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", LIGHT_DARK)
def test_site_has_no_axe_violations_and_no_external_requests(open_page, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from test_pages_browser import COLOURS, RULES

    match = []
    rules = COLOURS if scheme == "dark" else RULES  # the schemes differ only in colours
    for name in AUDITED_PAGES:
        result = Axe().run(
            open_page(name, color_scheme=scheme),
            options={"runOnly": rules, "resultTypes": ["violations"]},
        )
        grave = [
            item
            for item in result.response["violations"]
            if item["impact"] in ("serious", "critical")
        ]
        match += [
            f"{name}: {item['id']}: {node['html'][:150]}"
            for item in grave
            for node in item["nodes"][:3]
        ]
    assert match == [], "\n".join(match)


@pytest.mark.slow
def test_site_does_not_overflow_on_a_phone(open_page) -> None:
    for name in AUDITED_PAGES:
        page = open_page(name, viewport={"width": 390, "height": 844})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name


@pytest.mark.slow
def test_search_works_offline(open_page) -> None:
    page = open_page("index.html", viewport={"width": 1280, "height": 900})
    page.locator("input[name=query]").press_sequentially("fingerprint")
    page.locator(".md-search-result__item").nth(2).wait_for(state="attached", timeout=60_000)
    assert "matching documents" in page.locator(".md-search-result__meta").inner_text()
