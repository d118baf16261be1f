"""modelbook take, and notebooks of a single book."""

from __future__ import annotations

import json
import subprocess

import pytest
from papermill.iorw import papermill_io
from typer.testing import CliRunner

from modelbook.build import dependencies, staleness
from modelbook.cli import app
from modelbook.errors import PipelineSpecError, StageError
from modelbook.stage import pipeline_spec, project

SHARED_NOTEBOOK, BOOK_NOTEBOOK = "notebooks/02_explore.ipynb", "notebooks/tiny/02_explore.ipynb"
CHART = "context.read('train')[['xage']].describe()"


@pytest.fixture
def small_project(small_project):
    """A project with a git repository."""
    for args in ("init -q", "add notebooks", "-c user.name=a -c user.email=a@b commit -qm all"):
        subprocess.run(["git", *args.split()], cwd=small_project.root, check=True)
    return small_project


def edit_notebook(
    small_project, path: str = SHARED_NOTEBOOK, line: str = "sandbox = 'try'", code: str = CHART
) -> None:
    """Add a line to the parameters cell and a cell at the end, with an output."""
    notebook = json.loads((small_project.root / SHARED_NOTEBOOK).read_text())
    [parameters] = [cell for cell in notebook["cells"] if cell["id"] == "parameters"]
    edited = "".join(parameters["source"]).replace("columns_shown = 8", "columns_shown = 3")
    if path == BOOK_NOTEBOOK:
        edited = edited.replace('book = "rand-hie"', 'book = "tiny"')
    parameters["source"] = [f"{edited}\n{line}"]
    output = {"output_type": "stream", "name": "stdout", "text": ["an output"]}
    custom = {"cell_type": "code", "id": "own", "metadata": {}, "execution_count": 1}
    notebook["cells"].append({**custom, "source": [code], "outputs": [output]})
    (small_project.root / path).parent.mkdir(exist_ok=True)
    (small_project.root / path).write_text(json.dumps(notebook))


def take(*args: str):
    return CliRunner().invoke(app, ["take", *args])


def read_file(small_project, path: str) -> str:
    return (small_project.root / path).read_text()


class TestTake:
    @pytest.mark.long
    def test_take_shows_diff_and_asks_for_confirmation(self, small_project):
        edit_notebook(small_project)
        before = read_file(small_project, SHARED_NOTEBOOK)
        result = take(SHARED_NOTEBOOK)
        assert result.exit_code == 1
        assert CHART in result.stdout
        assert "sandbox" not in result.stdout.partition("not taken")[0]
        assert "columns_shown = 3" in result.stdout
        assert read_file(small_project, SHARED_NOTEBOOK) == before

    @pytest.mark.long
    def test_take_writes_cells_without_outputs_sandbox_and_parameters(self, small_project):
        edit_notebook(small_project)
        assert take(SHARED_NOTEBOOK, "--yes").exit_code == 0
        assert CHART in read_file(small_project, SHARED_NOTEBOOK)
        assert "an output" not in read_file(small_project, SHARED_NOTEBOOK)
        pipeline_spec.check_pipeline(small_project.root, "tiny")
        diff = ["git", "diff", "--no-ext-diff", "--numstat", "--", SHARED_NOTEBOOK]
        numbers = subprocess.run(
            diff, cwd=small_project.root, capture_output=True, text=True
        ).stdout
        assert int(numbers.split()[1]) <= 1  # no other differences, except for a comma
        assert "nothing to do" in take(SHARED_NOTEBOOK, "--yes").stdout

    @pytest.mark.long
    def test_take_for_one_book_restores_shared_notebook(self, small_project):
        committed = read_file(small_project, SHARED_NOTEBOOK)
        edit_notebook(small_project)
        assert take(SHARED_NOTEBOOK, "--book", "tiny", "--yes").exit_code == 0
        assert CHART in read_file(small_project, BOOK_NOTEBOOK)
        assert 'book = \\"tiny\\"' in read_file(
            small_project, BOOK_NOTEBOOK
        )  # by hand, too, it is of this book
        assert read_file(small_project, SHARED_NOTEBOOK) == committed
        edit_notebook(small_project, BOOK_NOTEBOOK)  # in the folder of the book: no other gets it
        result = take(BOOK_NOTEBOOK, "--yes")
        assert result.exit_code == 0
        assert BOOK_NOTEBOOK in result.stdout
        pipeline_spec.check_pipeline(small_project.root, "tiny")
        assert read_file(small_project, SHARED_NOTEBOOK) == committed

    def test_the_notebook_of_another_book_is_refused(self, small_project):
        edit_notebook(small_project, BOOK_NOTEBOOK, line="")
        text = read_file(small_project, BOOK_NOTEBOOK).replace(
            'book = \\"tiny\\"', 'book = \\"rand-hie\\"'
        )
        (small_project.root / BOOK_NOTEBOOK).write_text(text)
        with pytest.raises(PipelineSpecError, match=rf"{BOOK_NOTEBOOK} has book = 'rand-hie'"):
            pipeline_spec.check_pipeline(small_project.root, "tiny")

    @pytest.mark.long
    def test_take_accepts_any_copy_of_a_notebook(self, small_project):
        edit_notebook(small_project, "elsewhere/mine.ipynb")
        assert take("elsewhere/mine.ipynb", "--book", "tiny", "--yes").exit_code == 0
        assert CHART in read_file(small_project, BOOK_NOTEBOOK)

    def test_take_with_unknown_parameter_raises(self, small_project):
        edit_notebook(small_project, line="columns = 4")
        result = take(SHARED_NOTEBOOK, "--yes")
        assert (result.exit_code, "sets columns" in result.stderr) == (1, True)

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cells": []}'])
    def test_take_of_foreign_notebook_raises(self, small_project, content):
        (small_project.root / "x.ipynb").write_text(content)
        result = take("x.ipynb", "--yes")
        assert (result.exit_code, "WorkbenchError: " in result.stderr) == (1, True)

    @pytest.mark.long
    def test_take_of_cell_without_outputs_key_raises_and_writes_nothing(self, small_project):
        before = read_file(small_project, SHARED_NOTEBOOK)
        edit_notebook(small_project, "mine.ipynb")
        notebook = json.loads(read_file(small_project, "mine.ipynb"))
        del notebook["cells"][-1]["outputs"]
        (small_project.root / "mine.ipynb").write_text(json.dumps(notebook))
        result = take("mine.ipynb", "--yes")
        assert result.exit_code == 1
        assert "WorkbenchError: nbstripout" in result.stderr
        assert read_file(small_project, SHARED_NOTEBOOK) == before


class TestBookNotebook:
    @pytest.mark.long
    def test_book_notebook_replaces_stage_notebook_for_its_book(self, small_project):
        custom = small_project.root / BOOK_NOTEBOOK
        params = {"book": "tiny"}
        before = dependencies.compute_digest("explore", small_project.root, params)
        edit_notebook(small_project, BOOK_NOTEBOOK, line="", code="from modelbook import gate")
        assert project.get_notebook_path(small_project.root, "tiny", "explore") == custom
        assert (
            project.get_notebook_path(small_project.root, "other", "explore")
            == small_project.root / SHARED_NOTEBOOK
        )
        assert (
            project.get_notebook_path(small_project.root, "tiny", "compare").parent.name
            == "notebooks"
        )
        assert dependencies.compute_digest("explore", small_project.root, params) != before
        other_digest = dependencies.compute_digest("explore", small_project.root, {"book": "other"})
        assert other_digest == before

    def test_papermill_does_not_overwrite_book_notebook(self, small_project):
        edit_notebook(small_project, BOOK_NOTEBOOK)
        with pytest.raises(StageError, match="02_explore"):
            papermill_io.write("{}", str(small_project.root / BOOK_NOTEBOOK))
        papermill_io.write("{}", str(small_project.root / "notebooks/tiny/scratch.ipynb"))

    @pytest.mark.long
    def test_book_notebook_with_other_parameters_raises(self, small_project):
        edit_notebook(small_project, BOOK_NOTEBOOK, line="wings = 2")
        with pytest.raises(PipelineSpecError, match=rf"{BOOK_NOTEBOOK} sets wings"):
            pipeline_spec.check_pipeline(small_project.root, "tiny")
        pipeline_spec.check_pipeline(small_project.root, "other")

    @pytest.mark.slow
    def test_builds_run_and_track_book_notebook(self, project_copy):
        edit_notebook(project_copy, BOOK_NOTEBOOK, line="")
        result = project_copy.build("--partially", "explore")
        assert project_copy.list_executed_stages(result) == ["explore"], (
            result.stdout + result.stderr
        )
        assert "xage" in (project_copy.root / "reports/tiny/02_explore.html").read_text()
        assert project_copy.list_executed_stages(project_copy.build("--partially", "explore")) == []
        assert staleness.is_up_to_date(project_copy.root, project_copy.root / "env.yaml")
        (project_copy.root / BOOK_NOTEBOOK).unlink()
        assert project_copy.list_executed_stages(project_copy.build("--partially", "explore")) == [
            "explore"
        ]
