"""PDF reports: selection by stage, browser detection, atomic output."""

from __future__ import annotations

import html
import os
import re
import shutil
import stat
from pathlib import Path

import prerequisites
import pytest
from pypdf import PdfReader

from modelbook.errors import ReportError
from modelbook.extras import pdf

PRINTS = '#!/bin/sh\nfor word; do case $word in --print-to-pdf=*) printf "%%PDF-1.4" > "${word#*=}";; esac; done\n'
FAILS = PRINTS.replace("%%PDF-1.4", "half") + 'echo "no space left" >&2\nexit 3\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with two reports and other pages."""
    (tmp_path / "reports/book").mkdir(parents=True)
    for name in (
        "01_ingest",
        "02_explore",
        "02_explore-last-good",
        "06_monitor-evidently-4",
        "card-1",
    ):
        (tmp_path / f"reports/book/{name}.html").write_text("<h1>page</h1>")
    return tmp_path


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in the browser's place."""

    def install(script: str) -> None:
        program = tmp_path / "browser"
        program.write_text(script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(pdf.BROWSER_VARIABLE, str(program))

    return install


def test_reports_are_listed_in_stage_order(root):
    assert [page.name for page in pdf.find_report_pages(root, "book")] == [
        "01_ingest.html",
        "02_explore.html",
    ]
    assert [page.name for page in pdf.find_report_pages(root, "book", ["explore"])] == [
        "02_explore.html"
    ]


def test_stage_without_report_raises(root):
    with pytest.raises(ReportError, match=r"monitor.*\n.*ingest, explore"):
        pdf.find_report_pages(root, "book", ["monitor"])
    with pytest.raises(ReportError, match=r"reports/none\n(.*\n)*.*build"):
        pdf.find_report_pages(root, "none")


def test_pdf_is_written_next_to_its_page(root, browser):
    browser(PRINTS)
    result = list(pdf.print_pages(pdf.find_report_pages(root, "book")))
    assert [target.name for _, target in result] == ["01_ingest.pdf", "02_explore.pdf"]
    assert all(target.read_bytes() == b"%PDF-1.4" for _, target in result)


def test_failed_print_keeps_existing_pdf(root, browser):
    existing = root / "reports/book/01_ingest.pdf"
    existing.write_text("the last one")
    browser(FAILS)
    with pytest.raises(ReportError, match=r"01_ingest\.html.* 3\b.*no space left"):
        list(pdf.print_pages(pdf.find_report_pages(root, "book")))
    assert existing.read_text() == "the last one"
    assert list((root / "reports/book").glob(".*")) == []


def test_missing_browser_raises_with_install_command(monkeypatch):
    monkeypatch.delenv(pdf.BROWSER_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ReportError, match="apt-get install chromium"):
        pdf.find_browser()
    monkeypatch.setenv(pdf.BROWSER_VARIABLE, "/no/browser")
    with pytest.raises(ReportError, match=r"MODELBOOK_BROWSER.*'/no/browser'"):
        pdf.find_browser()


@pytest.mark.slow
@pytest.mark.requires("browser")
def test_reports_of_built_book_are_printed_with_page_numbers(built_project, tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    for name in ("pipeline.yaml", "env.yaml"):
        shutil.copy(built_project.root / name, root)
    shutil.copytree(built_project.root / "reports/tiny", root / "reports/tiny")
    result = built_project.run(
        "modelbook",
        "pdf",
        "finalize",
        "monitor",
        MODELBOOK_ROOT=str(root),
        MODELBOOK_BROWSER=str(prerequisites.browser()),
    )
    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()] == [
        "reports/tiny/04_finalize.pdf", "reports/tiny/06_monitor.pdf",
    ]  # fmt: skip
    printed = PdfReader(root / "reports/tiny/04_finalize.pdf")
    texts = [page.extract_text() for page in printed.pages]
    assert len(texts) > 3
    for number, text in enumerate(texts, 1):
        assert f"Page {number} of {len(texts)}" in text
        assert "Finalize · tiny" in text
    complete = "\n".join(texts)
    page = (root / "reports/tiny/04_finalize.html").read_text()
    headings = re.findall(r"<h2[^>]*>([^<]+)", page)
    hidden = re.findall(
        r'<details class="numbers"><summary[^>]*>([^<]+)|<a class="skip"[^>]*>([^<]+)', page
    )
    assert len(headings) > 5
    assert len(hidden) > 2
    joined_text = " ".join(complete.split())
    assert [heading for heading in headings if html.unescape(heading) not in joined_text] == []
    assert [
        hidden_text for hidden_text in set(map("".join, hidden)) if hidden_text in joined_text
    ] == [], "folded, or for the screen alone"
