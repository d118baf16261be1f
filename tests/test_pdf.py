"""Reports on paper: found by stage, printed by a browser that is told apart, whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from pypdf import PdfReader

from modelbook.errors import ReportError
from modelbook.report import pdf

PRINTS = '#!/bin/sh\nfor word; do case $word in --print-to-pdf=*) printf "%%PDF-1.4" > "${word#*=}";; esac; done\n'
FAILS = PRINTS.replace("%%PDF-1.4", "half") + 'echo "no space left" >&2\nexit 3\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with two reports, and pages beside them that are none."""
    (tmp_path / "reports/book").mkdir(parents=True)
    for name in ("01_ingest", "02_explore", "02_explore-last-good", "06_monitor-evidently-4", "card-1"):
        (tmp_path / f"reports/book/{name}.html").write_text("<h1>page</h1>")
    return tmp_path


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in the browser's place."""

    def install(script: str) -> None:
        program = tmp_path / "browser"
        program.write_text(script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(pdf.NAMED, str(program))

    return install


def test_the_reports_of_a_book_in_the_order_of_its_stages(root):
    assert [page.name for page in pdf.pages(root, "book")] == ["01_ingest.html", "02_explore.html"]
    assert [page.name for page in pdf.pages(root, "book", ["explore"])] == ["02_explore.html"]


def test_a_stage_without_a_report_is_told(root):
    with pytest.raises(ReportError, match=r"no report of monitor in .*\n  expected: one of ingest, explore"):
        pdf.pages(root, "book", ["monitor"])
    with pytest.raises(ReportError, match=r"no report of any stage in .*none\n(.*\n)*  next:     build the book first"):
        pdf.pages(root, "none")


def test_a_pdf_stands_beside_its_page(root, browser):
    browser(PRINTS)
    done = list(pdf.write(pdf.pages(root, "book")))
    assert [target.name for _, target in done] == ["01_ingest.pdf", "02_explore.pdf"]
    assert all(target.read_bytes() == b"%PDF-1.4" for _, target in done)


def test_a_page_that_is_not_printed_leaves_the_pdf_that_was_there(root, browser):
    kept = root / "reports/book/01_ingest.pdf"
    kept.write_text("the last one")
    browser(FAILS)
    with pytest.raises(ReportError, match=r"01_ingest.html was not printed: .* ended with 3: no space left"):
        list(pdf.write(pdf.pages(root, "book")))
    assert kept.read_text() == "the last one"
    assert list((root / "reports/book").glob(".*")) == []


def test_without_a_browser_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv(pdf.NAMED, raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ReportError, match=r"no Chromium or Chrome(.*\n)*.*apt-get install chromium"):
        pdf.find()
    monkeypatch.setenv(pdf.NAMED, "/no/browser")
    with pytest.raises(ReportError, match="MODELBOOK_BROWSER names '/no/browser', which is no program"):
        pdf.find()


@pytest.mark.slow
def test_the_reports_of_a_built_book_are_printed_with_numbered_pages(built, tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    for name in ("pipeline.yaml", "env.yaml"):
        shutil.copy(built.root / name, root)
    shutil.copytree(built.root / "reports/tiny", root / "reports/tiny")
    told = built.run("modelbook", "pdf", "finalize", "monitor", MODELBOOK_ROOT=str(root))
    assert told.returncode == 0, told.stderr
    assert [line.split()[1] for line in told.stdout.splitlines()] == [
        "reports/tiny/04_finalize.pdf", "reports/tiny/06_monitor.pdf",
    ]  # fmt: skip
    printed = PdfReader(root / "reports/tiny/04_finalize.pdf")
    texts = [page.extract_text() for page in printed.pages]
    assert len(texts) > 3
    for number, text in enumerate(texts, 1):
        assert f"Page {number} of {len(texts)}" in text
        assert "Finalize · tiny" in text
    whole = "\n".join(texts)
    assert "How this page came about" in whole
    assert "The numbers" not in whole, "what is folded on the screen is not on paper"
    assert "Skip to the content" not in whole
