"""Archived pages of runs: completeness, shared files, links, notices and retention."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil

import pytest
from html_outline import pages
from small_project import ROOT, STAGES
from test_run_history import ALL_RAN, modelbook, write_receipts, write_run
from text_facts import missing_facts

from modelbook.build import executor, failure_pages, staleness
from modelbook.errors import BuildError
from modelbook.pages import failure_report, run_archive
from modelbook.runs import history

UP_TO_DATE = dict.fromkeys(STAGES, "kept")
STEMS = [f"{number:02d}_{stage}" for number, stage in enumerate(STAGES, 1)]


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    (tmp_path / "env.yaml").write_text(
        (ROOT / "env.yaml").read_text().replace("book: rand-hie ", "book: tiny ")
    )
    write_receipts(tmp_path)
    for stem in STEMS:
        write_stage_page(tmp_path, stem)
    (tmp_path / "reports/index.html").write_text("<html>")
    return tmp_path


def write_stage_page(root, stem, figure_content="", links=(), mark=""):
    """Leave a stage's page with two figures, and its notebook."""
    bar = "".join(
        f'<a href="{to}">x</a>'
        for to in ["../index.html", *(f"{other_stem}.html" for other_stem in STEMS), *links]
    )
    pictures = "".join(
        figure(f"{stem} {number} {figure_content if number == 2 else ''}") for number in (1, 2)
    )
    folder = root / "reports/tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.html").write_text(
        f'<html><body>{bar}\n<header class="head"></header>{mark}<a href="{stem}.ipynb">nb</a><h2>What is it?</h2>{pictures}</body></html>'
    )
    (folder / f"{stem}.ipynb").write_text(json.dumps({"cells": [], "of": stem + figure_content}))


def figure(text):
    source = base64.b64encode(text.encode()).decode()
    return f'<img alt="It says {text}" width="700" src="data:image/svg+xml;base64,{source}">'


def fail(root, stage):
    """Leave the page of a failure as a build does: in place of the report, which is put aside."""
    stem = STEMS[STAGES.index(stage)]
    good = root / f"reports/tiny/{stem}.html"
    shutil.copy(good, failure_report.get_last_good_path(good))
    write_stage_page(
        root, stem, "failed", links=[f"{stem}-last-good.html"], mark=failure_report.FAILURE_MARKER
    )


def run(root, states=ALL_RAN, keep_runs=20, **kwargs):
    """Keep a run as a build does; returns its folder."""
    number = write_run(root, states, **kwargs)
    run_archive.update_run_pages(root, "tiny", keep_runs)
    return root / f"reports/tiny/runs/{number}"


def dead_links(root):
    """Links and pictures below the runs that lead to no file."""
    result = set()
    for page in pages(root / "reports/tiny/runs"):
        for target in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
            if not target.startswith("data:") and not (page.parent / target).exists():
                result.add((page.name, target))
    return result


def archive_notice(page):
    """The number of the run that the notice of an archived page names."""
    [notice] = re.findall(r'<aside class="kept".*?</aside>', page.read_text())
    return re.search(r"\brun (\d+)\b", notice)[1]


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


class TestArchiveRun:
    def test_run_archives_pages_and_notebooks(self, project):
        folder = run(project)
        assert names(folder, "[0-9]*") == sorted(
            [f"{stem}.{end}" for stem in STEMS for end in ("html", "ipynb")]
        )
        assert '<aside class="kept"' in (folder / "01_ingest.html").read_text()
        write_stage_page(project, "01_ingest", "other")
        assert "other" not in (folder / "01_ingest.ipynb").read_text()
        assert dead_links(project) == set()

    def test_unchanged_files_are_hard_links_to_earlier_run(self, project):
        first = run(project)
        write_stage_page(project, "02_explore", "new")
        second = run(project, {**UP_TO_DATE, "explore": "ran"})
        shared_files = [
            name for name in names(first, "[0-9]*") if os.path.samefile(first / name, second / name)
        ]
        assert set(names(first, "[0-9]*")) - set(shared_files) == {
            "02_explore.html",
            "02_explore.ipynb",
        }
        assert len(names(first.parent / "figures")) == 2 * len(STEMS) + 1  # one figure changed
        numbers = [archive_notice(second / f"{stem}.html") for stem in STEMS]
        assert numbers == ["1", "2", "1", "1", "1", "1"]  # the run that made the page

    def test_unchanged_evidently_report_is_shared_between_runs(self, project):
        reports = []
        for content in ("a", "a", "b"):
            report = project / "reports/tiny/06_monitor-evidently-4.html"
            report.unlink(missing_ok=True)  # as monitor does before it writes
            report.write_text(content)
            write_stage_page(project, "06_monitor", links=[report.name])
            reports.append(run(project) / report.name)
        assert os.path.samefile(reports[0], reports[1])
        assert os.path.samefile(reports[2], report)
        assert [path.read_text() for path in reports] == ["a", "a", "b"]

    def test_files_are_copied_where_hard_links_are_unsupported(self, project, monkeypatch):
        def refuse(*_):
            raise OSError("no hard links here")

        run(project)
        monkeypatch.setattr(os, "link", refuse)
        second = run(project)
        assert (second / "01_ingest.ipynb").read_bytes() == (
            project / "reports/tiny/01_ingest.ipynb"
        ).read_bytes()

    def test_stage_that_did_not_run_has_no_page_and_links_lead_to_its_run(self, project):
        folder = run(project, {"ingest": "ran", "explore": "not run"}, outcome="stopped")
        assert names(folder, "[0-9]*") == ["01_ingest.html", "01_ingest.ipynb"]
        assert 'href="index.html">x' in (folder / "01_ingest.html").read_text()
        assert dead_links(project) == set()

    def test_failed_stage_archives_failure_page_and_last_good_report(self, project):
        run(project)
        fail(project, "compare")
        states = {
            **dict.fromkeys(STAGES, "not run"),
            "ingest": "kept",
            "compare": "failed: no family was left",
        }
        folder = run(project, states, outcome="failed")
        assert names(folder, "03*") == [
            "03_compare-last-good.html",
            "03_compare.html",
            "03_compare.ipynb",
        ]
        assert failure_report.is_failure_report(folder / "03_compare.html")
        assert archive_notice(folder / "03_compare.html") == "2"
        assert archive_notice(folder / "03_compare-last-good.html") == "1"
        assert dead_links(project) == set()
        assert '<a href="03_compare.html">compare</a>' in (folder / "index.html").read_text()

    def test_failure_without_page_does_not_archive_older_report(self, project):
        folder = run(project, {"ingest": "kept", "compare": "failed: no disk"}, outcome="failed")
        assert names(folder, "03*") == []

    def test_other_files_of_stage_are_archived_when_linked(self, project):
        for name in ("06_monitor-batch-5.html", "06_monitor-old.html", "card-3.html"):
            (project / f"reports/tiny/{name}").write_text("<html>")
        write_stage_page(
            project,
            "06_monitor",
            links=["06_monitor-batch-5.html", "06_monitor-gone.html", "card-3.html"],
        )
        folder = run(project)
        assert names(folder, "06*") == [
            "06_monitor-batch-5.html",
            "06_monitor.html",
            "06_monitor.ipynb",
        ]
        assert 'href="../../card-3.html"' in (folder / "06_monitor.html").read_text()

    def test_run_without_pages_has_index(self, project):
        for path in (project / "reports/tiny").glob("0*"):
            path.unlink()
        folder = run(project)
        assert "The reports of this run are not available" in (folder / "index.html").read_text()
        assert dead_links(project) == set()


class TestBlockedStages:
    def test_pages_of_blocked_stages_have_notice_until_failure_is_fixed(self, project):
        run(project)
        folder = project / "reports/tiny"
        reports = {stem: (folder / f"{stem}.html").read_text() for stem in STEMS}
        built_at = (folder / "04_finalize.html").stat().st_mtime_ns
        staleness.record_failure(project, "tiny", "compare", "no family was left")
        for _ in range(2):  # once each, however often a build fails
            failure_pages.mark_blocked_pages(project, "tiny")
            for stem in STEMS:
                html = (folder / f"{stem}.html").read_text()
                notices = re.findall(r'<aside class="notice".*?</aside>', html)
                assert len(notices) == (stem in ("04_finalize", "05_deploy", "06_monitor"))
                for notice in notices:
                    assert missing_facts(notice, "run 1", 'href="03_compare.html"') == []
        # By its time a build knows whether a product has changed.
        assert (folder / "04_finalize.html").stat().st_mtime_ns == built_at
        staleness.forget_stage(project, "tiny", "compare")
        failure_pages.mark_blocked_pages(project, "tiny")
        assert {stem: (folder / f"{stem}.html").read_text() for stem in STEMS} == reports

    def test_stage_that_never_ran_has_page_naming_failed_stage(self, project):
        page = project / "reports/tiny/05_deploy.html"
        page.unlink()
        staleness.record_failure(project, "tiny", "compare", "no family was left")
        failure_pages.mark_blocked_pages(project, "tiny")
        assert missing_facts(page.read_text(), "deploy", 'href="03_compare.html"') == []
        assert names(run(project, {**UP_TO_DATE, "deploy": "not run"}), "05*") == []
        staleness.forget_stage(project, "tiny", "compare")
        failure_pages.mark_blocked_pages(project, "tiny")
        assert not page.exists()


class TestRunPages:
    def test_any_two_runs_have_comparison_page_linked_from_index(self, project):
        for figure_content in ("a", "b", "c"):
            write_stage_page(project, "04_finalize", figure_content)
            run(project)
        runs = project / "reports/tiny/runs"
        assert names(runs, "*.html") == ["1-2.html", "1-3.html", "2-3.html", "index.html"]
        for number, pairs in ((1, ("1-2", "1-3")), (2, ("1-2", "2-3")), (3, ("1-3", "2-3"))):
            text = (runs / f"{number}/index.html").read_text()
            assert [f'href="../{pair}.html"' in text for pair in pairs] == [True, True]
        assert dead_links(project) == set()

    def test_build_does_not_rewrite_comparison_of_older_runs(self, project):
        for _ in range(2):
            run(project)
        page = project / "reports/tiny/runs/1-2.html"
        page.write_text("mine")
        run(project)
        assert page.read_text() == "mine"

    def test_oldest_runs_lose_pages_but_keep_record(self, project):
        for figure_content in ("a", "b", "c", "d"):
            write_stage_page(project, "04_finalize", figure_content)
            run(project, keep_runs=2)
        runs = project / "reports/tiny/runs"
        assert names(runs / "1") == sorted(
            ["index.html", "run.json", *(f"{stage}.json" for stage in STAGES)]
        )
        assert names(runs, "*.html") == ["3-4.html", "index.html"]
        text = (runs / "1/index.html").read_text()
        assert re.search(r"\b2 runs\b", text)
        assert "modelbook diff 1 last --html" in text
        figure_content = [
            base64.b64encode(f"04_finalize 2 {figure_content}".encode()).decode()
            for figure_content in "abcd"
        ]
        assert len(names(runs / "figures")) == 2 * len(STEMS) + 1
        assert [
            figure in (runs / "4/04_finalize.html").read_text() for figure in figure_content
        ] == [False, False, False, True]
        assert dead_links(project) == set()

    def test_manually_removed_runs_leave_no_dead_links(self, project):
        for _ in range(3):
            run(project)
        shutil.rmtree(project / "reports/tiny/runs/2")
        run(project)
        assert names(project / "reports/tiny/runs", "*-*.html") == [
            "1-3.html",
            "1-4.html",
            "3-4.html",
        ]
        assert dead_links(project) == set()

    def test_unarchived_and_corrupt_runs_are_listed(self, project):
        first, second = run(project), run(project)
        for path in [*first.glob("0*"), first / "figures.json", first / "index.html"]:
            path.unlink()
        (second / "run.json").write_text("{")
        third = run(project)
        assert "The reports of this run are not available" in (first / "index.html").read_text()
        assert "run.json" in (third.parent / "index.html").read_text()
        assert (third.parent / "1-3.html").exists()


class TestDiffCommand:
    @pytest.mark.long
    def test_diff_html_writes_permanent_comparison_page(self, project):
        for _ in range(3):
            run(project, keep_runs=1)
        result = modelbook(project, "diff", "2", "1", "--html")
        page = project / "reports/tiny/runs/2-1.html"
        assert (result.returncode, result.stdout.strip()) == (0, str(page))
        assert re.search(r"figures[^.]*\b2 and 1\b", page.read_text())
        run(project, keep_runs=1)
        assert page.exists()
        assert dead_links(project) == set()


class TestKeepRuns:
    @pytest.mark.parametrize("value", [0, -1, 2.5, "20", None, True])
    def test_invalid_keep_runs_raises(self, value):
        with pytest.raises(
            BuildError,
            match=r"keep_runs = .*\n  expected: an integer of at least 1\b.*\n  next: .*pipeline.yaml",
        ):
            executor._check_limits(2, {}, value)

    def test_keep_runs_is_set_in_pipeline_yaml(self):
        assert re.search(r"^  keep_runs: 20 ", (ROOT / "pipeline.yaml").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_build_archives_its_pages_and_links_to_them(built_project, tmp_path):
    shutil.copytree(built_project.root / "reports", tmp_path / "reports")
    shutil.copy(built_project.root / "env.yaml", tmp_path)
    newest = history.list_runs(tmp_path, "tiny")[0]
    folder = tmp_path / f"reports/tiny/runs/{newest.number}"
    for stem, stage in zip(STEMS, STAGES, strict=True):
        is_archived = stage in newest.stages and (
            newest.stages[stage].has_result or newest.stages[stage].state == "failed"
        )
        assert (folder / f"{stem}.html").exists() == is_archived, stage
    assert json.loads((folder / "figures.json").read_text())
    assert dead_links(tmp_path) == set()
    assert all(page.stat().st_size < 300_000 for page in folder.parent.glob("*-*.html"))
