"""modelbook site: published files, links, targets."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from html_outline import dead_links
from text_facts import missing_facts, raises_stating

from modelbook.errors import ReportError
from modelbook.extras import static_site

REACHABLE_FILES = [
    "book/01_ingest.html", "book/01_ingest.ipynb", "book/01_ingest.pdf", "book/runs/1/index.html",
    "book/runs/figures/a.svg", "index.html",
]  # fmt: skip


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Reports of one book: three pages that lead on, and files that no page links to."""
    reports = tmp_path / "reports"
    files = {
        "index.html": '<a href="book/01_ingest.html#main">a</a><a href="//example.org/">b</a><a href="no.html">c</a>',
        "book/01_ingest.html": '<a href="../index.html">a</a><a href="01_ingest.ipynb">b</a><a href="runs/1/">c</a>'
        '<a href="runs/1/index.html">d</a><a href="../../secret.txt">e</a><img src="data:,">',
        "book/runs/1/index.html": '<img src="../figures/a.svg" alt="a">',
        "book/runs/figures/a.svg": "<svg/>",
        "book/01_ingest.ipynb": "{}",
        "book/01_ingest.pdf": "%PDF-",
        "book/logs/01_ingest.log": "{}",
        "book/by-hand/01_ingest.ipynb": "{}",
        "book/.01_ingest.html.metadata": "{}",
    }
    for name, text in files.items():
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        (reports / name).write_text(text)
    (tmp_path / "secret.txt").write_text("not for the site")
    return reports


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_folder_contains_only_files_reachable_from_index(reports, tmp_path):
    assert static_site.publish(reports, tmp_path / "out") == REACHABLE_FILES
    assert names(tmp_path / "out") == sorted([*REACHABLE_FILES, static_site.MARKER_FILE])


def test_zip_contains_the_same_files(reports, tmp_path):
    static_site.publish(reports, tmp_path / "new/out.zip")
    with zipfile.ZipFile(tmp_path / "new/out.zip") as archive:
        assert sorted(archive.namelist()) == sorted([*REACHABLE_FILES, static_site.MARKER_FILE])
        assert archive.testzip() is None
    static_site.publish(reports, tmp_path / "new/out.zip")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.zip"]


def test_outdated_pdf_is_omitted(reports, tmp_path):
    os.utime(reports / "book/01_ingest.pdf", (0, 0))
    assert "book/01_ingest.pdf" not in static_site.publish(reports, tmp_path / "out")


def test_publishing_again_removes_old_files_and_keeps_others(reports, tmp_path):
    out = tmp_path / "out"
    static_site.publish(reports, out)
    (out / "CNAME").write_text("reports.example.org")
    (reports / "book/01_ingest.html").write_text("<p>changed</p>")
    os.utime(reports / "book/01_ingest.html", (0, 0))
    static_site.publish(reports, out)
    assert names(out) == [
        "CNAME",
        "book/01_ingest.html",
        "book/01_ingest.pdf",
        "index.html",
        static_site.MARKER_FILE,
    ]
    assert (out / "book/01_ingest.html").read_text() == "<p>changed</p>"


def test_empty_git_folder_is_accepted(reports, tmp_path):
    (tmp_path / "out/.git").mkdir(parents=True)
    assert static_site.publish(reports, tmp_path / "out") == REACHABLE_FILES


@pytest.mark.parametrize("name", ["out", "out.zip", "out/index.html"])
def test_target_that_is_not_a_site_is_unchanged(reports, tmp_path, name):
    existing = tmp_path / ("out/thesis.txt" if name == "out" else name)
    existing.parent.mkdir(exist_ok=True)
    existing.write_text("years of work")
    with raises_stating(ReportError, tmp_path / name) as exc_info:
        static_site.publish(reports, tmp_path / name)
    assert exc_info.value.expected
    assert existing.read_text() == "years of work"
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".part")] == []


@pytest.mark.parametrize("target", [".", "reports", "reports/site"])
def test_target_within_reports_is_refused(reports, tmp_path, target):
    with raises_stating(ReportError, (tmp_path / target).resolve()):
        static_site.publish(reports, tmp_path / target)
    assert list(tmp_path.rglob(static_site.MARKER_FILE)) == []


def test_missing_reports_raise_with_build_command(tmp_path):
    with raises_stating(ReportError, tmp_path / "index.html") as exc_info:
        static_site.publish(tmp_path, tmp_path / "out")
    assert missing_facts(exc_info.value.next, "make run") == []


@pytest.mark.slow
def test_links_of_published_book_resolve(built_project, tmp_path):
    result = built_project.run("modelbook", "site", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path / 'out' / 'index.html'}" in result.stdout
    assert dead_links(tmp_path / "out") == []
    assert len(names(tmp_path / "out")) > 12
