"""Failure page: error, cell, log, downstream stages, last good report."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from papermill.exceptions import PapermillExecutionError
from small_project import QUICK_COMPARISON, ROOT, SmallProject
from text_facts import missing_facts

from modelbook import disk
from modelbook.build import failure_pages
from modelbook.build.log_follower import explain_failure
from modelbook.errors import BuildError, ContractViolationError, DataError
from modelbook.pages import failure_report, notebook_errors, stage_report
from modelbook.stage.verdict import Verdict

TRACE = [
    "\x1b[0;31mDataError\x1b[0m  Traceback",
    "Cell \x1b[0;32mIn[3], line 1\x1b[0m\n----> 1 <b>raise</b>",
]
ERROR = DataError("the table has <3> rows", expected="at least 10", next="take another table")


def make_cell(
    source: str,
    error: Exception | None = None,
    started_at: str | None = "2024-05-06T07:08:09",
    **kwargs: Any,
) -> Any:
    name = type(error).__name__
    outputs = [new_output("error", ename=name, evalue=str(error), traceback=TRACE)] if error else []
    # Papermill finally marks all cells as completed, even those that did not run.
    metadata = {
        "papermill": {"status": "completed", "start_time": started_at},
        "tags": kwargs.pop("tags", []),
    }
    return new_code_cell(source, metadata=metadata, outputs=outputs, **kwargs)


def make_partial_notebook(*last: Any) -> Any:
    """A notebook as Papermill leaves it: with the cells that it and Ploomber have put in."""
    return new_notebook(cells=[
        new_markdown_cell("<span>An Exception</span>", metadata={"tags": ["papermill-error-cell-tag"]}),
        new_markdown_cell("# 03 · Compare\n\n> Which family is best?"),
        make_cell("seed = 1", tags=["parameters"]), make_cell("seed = 2", tags=["injected-parameters"]), make_cell("import os"),
        new_markdown_cell("## How `good` is each?\n\nIt says.\n\n    # no heading\n"), *last,
    ])  # fmt: skip


def make_failed_notebook() -> Any:
    return make_partial_notebook(
        make_cell("board = <scores>()", ERROR, id="leaderboard"),
        make_cell("never()", started_at=None),
    )


@pytest.fixture
def write_failure_page(tmp_path: Path) -> Any:
    """A function that writes the failure page of compare, from a partial notebook and an error text."""

    def write_page(
        notebook: Any = None,
        error_text: str = f"DataError: {ERROR}\n  in cell 4:\n    board()",
        **kwargs: Any,
    ) -> str:
        folder = tmp_path / "reports/tiny"
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        log = folder / "logs/03_compare.log"
        if not log.exists():
            entries = [{"at": time.time() - 83, "text": "starting the kernel", "done": None}]
            entries += [
                {"at": time.time(), "text": f"step <{i}>", "done": i, "total": 20}
                for i in range(20)
            ]
            log.write_text("\n".join(map(json.dumps, entries)) + "\nhalf a li")
        if notebook is not None:
            nbformat.write(notebook, folder / "03_compare.ipynb")
        states = {"ingest": "kept", "explore": "ran", "compare": "failed", "finalize": "not run"}
        result = {
            "states": {**states, "deploy": "not run"}, "downstream": ["finalize", "deploy"],
            "command": "ploomber build --env--folds 3",
            "provenance": {"commit": "c" * 10, "parameters": [
                {"name": "folds", "value": "3", "origin": "command line", "meaning": "folds, 2 to 20"},
            ]},
        }  # fmt: skip
        match = failure_report.StageFailure(
            "compare",
            "tiny",
            error_text,
            folder / "03_compare.html",
            folder / "03_compare.ipynb",
            log,
            **{**result, **kwargs},
        )
        return failure_report.write(match).read_text(encoding="utf-8")

    return write_page


def strip_tags(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))


class TestFailurePage:
    def test_page_shows_error_cell_and_next_step(self, write_failure_page):
        html = write_failure_page(make_failed_notebook())
        result = strip_tags(html)
        for part in (
            "1 min 23 s", "DataError: the table has &lt;3&gt; rows", "code cell 3 of 4", "“How good is each?”",
            "Finalize and deploy", "Expected at least 10", "take another table", "board = &lt;scores&gt;()",
            "leaderboard", "section “DataError”",
            "notebooks/03_compare.ipynb", "ploomber build --env--folds 3", "command line",
        ):  # fmt: skip
            assert part in result, part
        assert "\x1b" not in html
        assert "&lt;b&gt;raise" in html.split("<summary>The traceback</summary>")[1]
        assert 'class="badge bad"' in html
        assert "never()" not in html

    def test_page_and_terminal_number_cells_alike(self, write_failure_page, tmp_path):
        notebook = make_failed_notebook()
        code_cells = [make_cell for make_cell in notebook.cells if make_cell.cell_type == "code"]
        for count, executed in enumerate(code_cells, 1):
            executed["execution_count"] = count
        failed = code_cells[3]  # below the parameters, those that are injected, and an import
        failed.outputs[0].traceback = ["Cell In[4], line 1"]
        html = write_failure_page(notebook)
        error = PapermillExecutionError(
            5, 4, failed.source, "DataError", str(ERROR), failed.outputs[0].traceback
        )
        message = explain_failure(error, "", tmp_path / "reports/tiny/03_compare.ipynb")
        assert re.search(r"\n  in cell 3:\n  > board", message)
        assert "code cell 3 of 4" in strip_tags(html)
        assert "Cell In[3], line 1" in html

    @pytest.mark.parametrize(
        ("error", "next", "section"),
        [
            (OSError(28, "No space left on device"), disk.DISK_FULL_HINT, "section “DiskError”"),
            (
                RuntimeError("(psycopg.OperationalError) gone"),
                "check that PostgreSQL is running",
                "",
            ),
        ],
    )
    def test_error_without_hint_shows_hint_of_build(self, write_failure_page, error, next, section):
        error_text = (
            f"{type(error).__name__}: {error}\n  in cell 4:\n  > board()\n  next:     {next}"
        )
        result = strip_tags(
            write_failure_page(make_partial_notebook(make_cell("board()", error)), error_text)
        )
        assert next in result
        assert f"{next[0].upper()}{next[1:]}." in result
        assert section in result

    def test_page_shows_last_log_lines(self, write_failure_page):
        result = strip_tags(write_failure_page(make_failed_notebook()))
        assert "1:23 19 of 20 · step &lt;19&gt;" in result
        assert "step &lt;5&gt;" in result
        assert "step &lt;4&gt;" not in result
        assert "half a li" not in result

    def test_page_shows_status_of_each_stage(self, write_failure_page):
        result = strip_tags(write_failure_page(make_failed_notebook()))
        states = r"ingest ([a-z ]+?) explore ran compare failed finalize ([a-z ]+?) deploy ([a-z ]+?) monitor ([a-z ]+)"
        ingest, finalize, deploy, monitor = re.search(states, result).groups()
        assert finalize == deploy
        assert len({ingest, "ran", "failed", finalize, monitor[:20]}) == 5

    def test_page_runs_no_scripts_and_has_no_dead_links(self, write_failure_page, tmp_path):
        write_failure_page(make_failed_notebook())
        (tmp_path / "reports/tiny/01_ingest.html").write_text("")
        html = write_failure_page(make_failed_notebook())
        assert html.count("<script") == 1  # the one that every page has
        links = set(re.findall(r'href="([^"#][^"]*)"', html)) - {"data:,", "../index.html"}
        assert links == {"03_compare.html", "03_compare.ipynb", "01_ingest.html"}

    @pytest.mark.parametrize(
        ("error_text", "message"),
        [
            ("out of memory, MemoryError: \n  in cell 3:\n    x", "Take fewer rows (sample)"),
            (
                "the kernel died: it was killed (SIGKILL) because memory ran out (not an error…)",
                "“A dead kernel”",
            ),
            (
                "the kernel died: it crashed with SIGSEGV, in a library's native code",
                "run the notebook by hand",
            ),
            (
                "stage 'compare' took longer than 9 s and was stopped\n  next: give it more time",
                "Give it more time.",
            ),
            (
                f"BuildError: {BuildError('did not start, twice', next='modelbook doctor')}",
                "Modelbook doctor.",
            ),
        ],
    )
    def test_failure_outside_cells_shows_its_reason(self, write_failure_page, error_text, message):
        running = make_partial_notebook(
            make_cell("work()", id="work"), make_cell("later()", started_at=None)
        )
        result = strip_tags(
            write_failure_page(None if "start" in error_text else running, error_text)
        )
        assert message in result
        assert "not raised by a cell" in result
        dead = error_text.startswith(("the kernel died", "stage"))
        assert ("The cell below was running when it happened." in result) == dead
        assert ("work()" in result) == dead
        assert ("Run it by hand" in result) == ("start" not in error_text)

    def test_failure_after_last_cell_blames_no_cell(self, write_failure_page):
        html = write_failure_page(
            make_partial_notebook(make_cell("last()")),
            "ReportError: a figure has no alternative text",
        )
        assert "a figure has no alternative text" in html
        assert "last()" not in html
        assert "section “ReportError”" in html
        assert "<pre>a figure has no alternative text</pre>" in html

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"cells": 3}', '{"cells": [], "metadata": {}}']
    )
    def test_page_is_written_despite_corrupt_notebook(self, write_failure_page, tmp_path, content):
        write_failure_page()
        (tmp_path / "reports/tiny/03_compare.ipynb").write_text(content)
        assert "the table has &lt;3&gt; rows" in write_failure_page()

    def test_page_is_written_despite_missing_or_empty_log(self, write_failure_page, tmp_path):
        write_failure_page()
        (tmp_path / "reports/tiny/logs/03_compare.log").write_text("")
        assert "There is no log." in write_failure_page()
        shutil.rmtree(tmp_path / "reports/tiny/logs")
        (tmp_path / "reports/tiny/logs").mkdir()
        (tmp_path / "reports/tiny/logs/03_compare.log").write_text('{"at": "x"}\n3\n')
        assert "There is no log." in write_failure_page()

    def test_notebook_of_earlier_run_is_ignored(self, write_failure_page, tmp_path):
        write_failure_page(make_failed_notebook())
        old = time.time() - 3600
        notebook = tmp_path / "reports/tiny/03_compare.ipynb"
        os.utime(notebook, (old, old))
        html = write_failure_page(
            error_text="BuildError: the kernel of stage 'compare' did not start, twice: no"
        )
        assert "leaderboard" not in html
        assert 'href="03_compare.ipynb"' not in html
        assert "Which family is best?" in html


class TestLastGoodReport:
    def write_good_report(self, folder: Path, status: str = "clear leader") -> Path:
        conclusion = Verdict("compare", "tiny", status, "good", ["It leads."])
        cells = [
            new_code_cell(
                "verdict", outputs=[new_output("display_data", conclusion._repr_mimebundle_())]
            )
        ]
        source = folder / "reports/tiny/03_compare.ipynb"
        source.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells), source)
        stage_report.publish(
            {"nb": source, "report": source.with_suffix(".html")}, {"book": "tiny"}
        )
        return source.with_suffix(".html")

    def test_last_good_report_is_kept_with_notice(self, write_failure_page, tmp_path):
        report = self.write_good_report(tmp_path)
        html = write_failure_page(
            make_failed_notebook(),
            last_receipt={
                "status": "clear leader",
                "facts": {"started": "2024-05-06T07:08:09+00:00"},
            },
            last_run=3,
        )
        assert failure_report.is_failure_report(report)
        assert 'href="03_compare-last-good.html"' in html
        assert "run 3: clear leader , 2024-05-06 07:08 UTC" in strip_tags(html)
        last_good_page = failure_report.get_last_good_path(report).read_text(encoding="utf-8")
        assert "It leads." in last_good_page
        [notice] = re.findall(r'<aside class="notice".*?</aside>', last_good_page)
        facts = ("run 3", "2024-05-06 07:08 UTC", '<a href="03_compare.html">')
        assert missing_facts(notice, *facts) == []

    def test_second_failure_keeps_last_good_report(self, write_failure_page, tmp_path):
        report = self.write_good_report(tmp_path)
        write_failure_page(make_failed_notebook())
        last_good_page = failure_report.get_last_good_path(report).read_text(encoding="utf-8")
        write_failure_page(make_failed_notebook(), error_text="KeyError: 'x'")
        assert (
            failure_report.get_last_good_path(report).read_text(encoding="utf-8") == last_good_page
        )

    def test_last_good_report_is_removed_after_success(self, write_failure_page, tmp_path):
        self.write_good_report(tmp_path)
        write_failure_page(make_failed_notebook())
        report = self.write_good_report(tmp_path, "no lead")
        assert not failure_report.is_failure_report(report)
        assert not failure_report.get_last_good_path(report).exists()

    def test_stage_that_never_succeeded_has_no_last_good_report(self, write_failure_page, tmp_path):
        write_failure_page(make_failed_notebook())
        assert "This stage has not succeeded yet" in write_failure_page(make_failed_notebook())
        assert not list(tmp_path.rglob("*last-good*"))


class TestErrorMessage:
    def test_modelbook_error_is_split_into_parts(self):
        long = ContractViolationError(
            "breaks in 2 places\n    row 1\n    row 2", expected="none", next="mend it"
        )
        result = notebook_errors.parse_error_message(str(long))
        assert (result.problem, result.expected, result.next_step) == (
            "breaks in 2 places\n    row 1\n    row 2",
            "none",
            "mend it",
        )

    @pytest.mark.parametrize(
        "message", ["", "division by zero", "two\nlines", "next: nothing of ours"]
    )
    def test_message_of_other_error_is_not_split(self, message):
        assert notebook_errors.parse_error_message(message) == notebook_errors.ErrorMessage(message)


class TestRetryCommand:
    def test_retry_command_repeats_build_options_without_force(self, monkeypatch):
        monkeypatch.delenv("PLOOMBER_ENV_FILENAME", raising=False)
        monkeypatch.setattr("sys.argv", ["/x/bin/ploomber"])
        args = ["--force", "--env--families", "lr nb"]
        assert (
            failure_pages.make_retry_command(ROOT, "rand-hie", args)
            == "ploomber build --env--families 'lr nb'"
        )
        assert (
            failure_pages.make_retry_command(ROOT, "rand-hie-sample", [])
            == "PLOOMBER_ENV_FILENAME=env.sample.yaml ploomber build"
        )

    def test_all_downstream_stages_are_found(self):
        reads = {"deploy": ["compare"], "explore": ["ingest"], "compare": ["ingest"], "ingest": []}
        tasks = {name: {"upstream": upstream} for name, upstream in reads.items()}
        assert failure_pages.find_downstream("ingest", tasks) == ["explore", "compare", "deploy"]
        assert failure_pages.find_downstream("explore", tasks) == []

    def test_unwritable_page_is_reported_and_does_not_end_build(
        self, tmp_path, monkeypatch, capsys
    ):
        shutil.copy(ROOT / "pipeline.yaml", tmp_path)
        (tmp_path / "reports").write_text("a file where a folder should be")
        failure_pages.write_failure_pages(tmp_path, "tiny", {"compare": "KeyError: 'x'"}, {}, {})
        assert "compare" in capsys.readouterr().err


@pytest.mark.slow
def test_build_writes_failure_page_and_replaces_it_after_success(
    project_copy: SmallProject,
) -> None:
    small_project = project_copy
    small_project.set_pipeline_parameters(**QUICK_COMPARISON)
    call = "figures.plot_leaderboard(board, metric)"
    with small_project.change_file(
        "notebooks/03_compare.ipynb", call, "figures.plot_leaderboard(board, 1 / 0)"
    ):
        result = small_project.build()
    assert result.returncode == 1
    assert re.search(r"failed.*: compare \(", result.stderr.strip())
    match = re.search(
        r"FAILED\nZeroDivisionError: division by zero\n +in cell (\d+):\n  > .*1 / 0", result.stdout
    )
    make_partial_notebook = small_project.root / "reports/tiny/03_compare.ipynb"
    assert str(make_partial_notebook) in result.stdout
    assert "ZeroDivisionError" in make_partial_notebook.read_text()
    report = small_project.root / "reports/tiny/03_compare.html"
    html = report.read_text(encoding="utf-8")
    assert "ZeroDivisionError: division by zero." in strip_tags(html)
    assert f"code cell {match[1]} of " in strip_tags(html)
    assert "figures.plot_leaderboard(board, 1 / 0)" in strip_tags(html)
    assert "Finalize, deploy and monitor" in strip_tags(html)
    assert str(small_project.read_receipt("compare")["status"]) in html
    notice = '<aside class="notice"'
    pages = sorted((small_project.root / "reports/tiny").glob("0[1-6]_*[a-z].html"))
    marked = {page.stem for page in pages if notice in page.read_text(encoding="utf-8")}
    assert marked == {"03_compare-last-good", "04_finalize", "05_deploy", "06_monitor"}
    index = small_project.root / "reports/index.html"
    row = index.read_text(encoding="utf-8").split('<tr class="failed">')[1].split("</tr>")[0]
    for link in ("03_compare.html", "03_compare.ipynb", "03_compare-last-good.html"):
        assert f'href="tiny/{link}"' in row
    assert failure_report.get_last_good_path(report).is_file()
    result = small_project.build("--partially", "compare")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "compare" in small_project.list_executed_stages(result)
    assert not failure_report.is_failure_report(report)
    assert not failure_report.get_last_good_path(report).exists()
    assert not any(notice in page.read_text(encoding="utf-8") for page in pages if page.exists())
    told_now = index.read_text(encoding="utf-8")
    assert '<tr class="failed">' not in told_now
    assert "older than" in told_now  # finalize and the stages downstream
