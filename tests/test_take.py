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

SHARED, OWN = "notebooks/02_explore.ipynb", "notebooks/tiny/02_explore.ipynb"
CHART = "context.read('train')[['xage']].describe()"


@pytest.fixture
def small_project(small_project):
    """A project in git whose explore notebook was worked in."""
    for words in ("init -q", "add notebooks", "-c user.name=a -c user.email=a@b commit -qm all"):
        subprocess.run(["git", *words.split()], cwd=small_project.root, check=True)
    return small_project


def work_in(
    small_project, path: str = SHARED, line: str = "sandbox = 'try'", more: str = CHART
) -> None:
    """Add a line to the parameters cell and a cell at the end, with an output."""
    notebook = json.loads((small_project.root / SHARED).read_text())
    [parameters] = [cell for cell in notebook["cells"] if cell["id"] == "parameters"]
    edited = "".join(parameters["source"]).replace("columns_shown = 8", "columns_shown = 3")
    if path == OWN:
        edited = edited.replace('book = "rand-hie"', 'book = "tiny"')
    parameters["source"] = [f"{edited}\n{line}"]
    output = {"output_type": "stream", "name": "stdout", "text": ["an output"]}
    custom = {"cell_type": "code", "id": "own", "metadata": {}, "execution_count": 1}
    notebook["cells"].append({**custom, "source": [more], "outputs": [output]})
    (small_project.root / path).parent.mkdir(exist_ok=True)
    (small_project.root / path).write_text(json.dumps(notebook))


def take(*args: str):
    return CliRunner().invoke(app, ["take", *args])


def read(small_project, path: str) -> str:
    return (small_project.root / path).read_text()


class TestTake:
    def test_take_shows_diff_and_asks_for_confirmation(self, small_project):
        work_in(small_project)
        before = read(small_project, SHARED)
        result = take(SHARED)
        assert result.exit_code == 1
        assert CHART in result.stdout
        assert "sandbox" not in result.stdout.partition("not taken")[0]
        assert "columns_shown = 3" in result.stdout
        assert read(small_project, SHARED) == before

    @pytest.mark.long
    def test_take_writes_cells_without_outputs_sandbox_and_parameters(self, small_project):
        work_in(small_project)
        assert take(SHARED, "--yes").exit_code == 0
        assert CHART in read(small_project, SHARED)
        assert "an output" not in read(small_project, SHARED)
        pipeline_spec.check_pipeline(small_project.root, "tiny")
        diff = ["git", "diff", "--no-ext-diff", "--numstat", "--", SHARED]
        numbers = subprocess.run(
            diff, cwd=small_project.root, capture_output=True, text=True
        ).stdout
        assert int(numbers.split()[1]) <= 1  # nothing else differs: a comma at most
        assert "nothing to do" in take(SHARED, "--yes").stdout

    @pytest.mark.long
    def test_take_for_one_book_restores_shared_notebook(self, small_project):
        committed = read(small_project, SHARED)
        work_in(small_project)
        assert take(SHARED, "--book", "tiny", "--yes").exit_code == 0
        assert CHART in read(small_project, OWN)
        assert 'book = \\"tiny\\"' in read(small_project, OWN)  # by hand, too, it is of this book
        assert read(small_project, SHARED) == committed
        work_in(small_project, OWN)  # in the folder of the book: no other gets it
        result = take(OWN, "--yes")
        assert result.exit_code == 0
        assert OWN in result.stdout
        pipeline_spec.check_pipeline(small_project.root, "tiny")
        assert read(small_project, SHARED) == committed

    def test_the_notebook_of_another_book_is_refused(self, small_project):
        work_in(small_project, OWN, line="")
        text = read(small_project, OWN).replace('book = \\"tiny\\"', 'book = \\"rand-hie\\"')
        (small_project.root / OWN).write_text(text)
        with pytest.raises(PipelineSpecError, match=rf"{OWN} has book = 'rand-hie'"):
            pipeline_spec.check_pipeline(small_project.root, "tiny")

    def test_take_accepts_any_copy_of_a_notebook(self, small_project):
        work_in(small_project, "elsewhere/mine.ipynb")
        assert take("elsewhere/mine.ipynb", "--book", "tiny", "--yes").exit_code == 0
        assert CHART in read(small_project, OWN)

    def test_take_with_unknown_parameter_raises(self, small_project):
        work_in(small_project, line="columns = 4")
        result = take(SHARED, "--yes")
        assert (result.exit_code, "sets columns" in result.stderr) == (1, True)

    @pytest.mark.parametrize("content", ["{", "{}", '{"cells": []}'])
    def test_take_of_foreign_notebook_raises(self, small_project, content):
        (small_project.root / "x.ipynb").write_text(content)
        result = take("x.ipynb", "--yes")
        assert (result.exit_code, "WorkbenchError: " in result.stderr) == (1, True)

    def test_take_of_cell_without_outputs_key_raises_and_writes_nothing(self, small_project):
        before = read(small_project, SHARED)
        work_in(small_project, "mine.ipynb")
        notebook = json.loads(read(small_project, "mine.ipynb"))
        del notebook["cells"][-1]["outputs"]
        (small_project.root / "mine.ipynb").write_text(json.dumps(notebook))
        result = take("mine.ipynb", "--yes")
        assert result.exit_code == 1
        assert "WorkbenchError: nbstripout" in result.stderr
        assert read(small_project, SHARED) == before


class TestBookNotebook:
    def test_book_notebook_replaces_stage_notebook_for_its_book(self, small_project):
        custom = small_project.root / OWN
        params = {"book": "tiny"}
        before = dependencies.compute_digest("explore", small_project.root, params)
        work_in(small_project, OWN, line="", more="from modelbook import gate")
        assert project.notebook_path(small_project.root, "tiny", "explore") == custom
        assert (
            project.notebook_path(small_project.root, "other", "explore")
            == small_project.root / SHARED
        )
        assert (
            project.notebook_path(small_project.root, "tiny", "compare").parent.name == "notebooks"
        )
        assert dependencies.compute_digest("explore", small_project.root, params) != before
        other = dependencies.compute_digest("explore", small_project.root, {"book": "other"})
        assert other == before

    def test_papermill_does_not_overwrite_book_notebook(self, small_project):
        work_in(small_project, OWN)
        with pytest.raises(StageError, match="02_explore"):
            papermill_io.write("{}", str(small_project.root / OWN))
        papermill_io.write("{}", str(small_project.root / "notebooks/tiny/scratch.ipynb"))

    def test_book_notebook_with_other_parameters_raises(self, small_project):
        work_in(small_project, OWN, line="wings = 2")
        with pytest.raises(PipelineSpecError, match=rf"{OWN} sets wings"):
            pipeline_spec.check_pipeline(small_project.root, "tiny")
        pipeline_spec.check_pipeline(small_project.root, "other")

    @pytest.mark.slow
    def test_builds_run_and_track_book_notebook(self, project_copy):
        work_in(project_copy, OWN, line="")
        result = project_copy.build("--partially", "explore")
        assert project_copy.list_executed_stages(result) == ["explore"], (
            result.stdout + result.stderr
        )
        assert "xage" in (project_copy.root / "reports/tiny/02_explore.html").read_text()
        assert project_copy.list_executed_stages(project_copy.build("--partially", "explore")) == []
        assert staleness.is_up_to_date(project_copy.root, project_copy.root / "env.yaml")
        (project_copy.root / OWN).unlink()
        assert project_copy.list_executed_stages(project_copy.build("--partially", "explore")) == [
            "explore"
        ]
