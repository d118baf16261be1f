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
def tiny(tiny):
    """A project in git whose explore notebook was worked in."""
    for words in ("init -q", "add notebooks", "-c user.name=a -c user.email=a@b commit -qm all"):
        subprocess.run(["git", *words.split()], cwd=tiny.root, check=True)
    return tiny


def work_in(tiny, path: str = SHARED, line: str = "sandbox = 'try'", more: str = CHART) -> None:
    """Add a line to the parameters cell and a cell at the end, with an output."""
    notebook = json.loads((tiny.root / SHARED).read_text())
    [parameters] = [cell for cell in notebook["cells"] if cell["id"] == "parameters"]
    edited = "".join(parameters["source"]).replace("columns_shown = 8", "columns_shown = 3")
    if path == OWN:
        edited = edited.replace('book = "rand-hie"', 'book = "tiny"')
    parameters["source"] = [f"{edited}\n{line}"]
    output = {"output_type": "stream", "name": "stdout", "text": ["an output"]}
    custom = {"cell_type": "code", "id": "own", "metadata": {}, "execution_count": 1}
    notebook["cells"].append({**custom, "source": [more], "outputs": [output]})
    (tiny.root / path).parent.mkdir(exist_ok=True)
    (tiny.root / path).write_text(json.dumps(notebook))


def take(*args: str):
    return CliRunner().invoke(app, ["take", *args])


def read(tiny, path: str) -> str:
    return (tiny.root / path).read_text()


class TestTake:
    def test_take_shows_diff_and_asks_for_confirmation(self, tiny):
        work_in(tiny)
        before = read(tiny, SHARED)
        result = take(SHARED)
        assert result.exit_code == 1
        assert CHART in result.stdout
        assert "sandbox" not in result.stdout.partition("not taken")[0]
        assert "columns_shown = 3" in result.stdout
        assert read(tiny, SHARED) == before

    @pytest.mark.long
    def test_take_writes_cells_without_outputs_sandbox_and_parameters(self, tiny):
        work_in(tiny)
        assert take(SHARED, "--yes").exit_code == 0
        assert CHART in read(tiny, SHARED)
        assert "an output" not in read(tiny, SHARED)
        pipeline_spec.check_pipeline(tiny.root, "tiny")
        diff = ["git", "diff", "--no-ext-diff", "--numstat", "--", SHARED]
        numbers = subprocess.run(diff, cwd=tiny.root, capture_output=True, text=True).stdout
        assert int(numbers.split()[1]) <= 1  # nothing else differs: a comma at most
        assert "nothing to do" in take(SHARED, "--yes").stdout

    @pytest.mark.long
    def test_take_for_one_book_restores_shared_notebook(self, tiny):
        committed = read(tiny, SHARED)
        work_in(tiny)
        assert take(SHARED, "--book", "tiny", "--yes").exit_code == 0
        assert CHART in read(tiny, OWN)
        assert 'book = \\"tiny\\"' in read(tiny, OWN)  # by hand, too, it is of this book
        assert read(tiny, SHARED) == committed
        work_in(tiny, OWN)  # in the folder of the book: no other gets it
        result = take(OWN, "--yes")
        assert result.exit_code == 0
        assert OWN in result.stdout
        pipeline_spec.check_pipeline(tiny.root, "tiny")
        assert read(tiny, SHARED) == committed

    def test_the_notebook_of_another_book_is_refused(self, tiny):
        work_in(tiny, OWN, line="")
        text = read(tiny, OWN).replace('book = \\"tiny\\"', 'book = \\"rand-hie\\"')
        (tiny.root / OWN).write_text(text)
        with pytest.raises(PipelineSpecError, match=rf"{OWN} has book = 'rand-hie'"):
            pipeline_spec.check_pipeline(tiny.root, "tiny")

    def test_take_accepts_any_copy_of_a_notebook(self, tiny):
        work_in(tiny, "elsewhere/mine.ipynb")
        assert take("elsewhere/mine.ipynb", "--book", "tiny", "--yes").exit_code == 0
        assert CHART in read(tiny, OWN)

    def test_take_with_unknown_parameter_raises(self, tiny):
        work_in(tiny, line="columns = 4")
        result = take(SHARED, "--yes")
        assert (result.exit_code, "sets columns" in result.stderr) == (1, True)

    @pytest.mark.parametrize("content", ["{", "{}", '{"cells": []}'])
    def test_take_of_foreign_notebook_raises(self, tiny, content):
        (tiny.root / "x.ipynb").write_text(content)
        result = take("x.ipynb", "--yes")
        assert (result.exit_code, "WorkbenchError: " in result.stderr) == (1, True)

    def test_take_of_cell_without_outputs_key_raises_and_writes_nothing(self, tiny):
        before = read(tiny, SHARED)
        work_in(tiny, "mine.ipynb")
        notebook = json.loads(read(tiny, "mine.ipynb"))
        del notebook["cells"][-1]["outputs"]
        (tiny.root / "mine.ipynb").write_text(json.dumps(notebook))
        result = take("mine.ipynb", "--yes")
        assert result.exit_code == 1
        assert "WorkbenchError: nbstripout" in result.stderr
        assert read(tiny, SHARED) == before


class TestBookNotebook:
    def test_book_notebook_replaces_stage_notebook_for_its_book(self, tiny):
        custom = tiny.root / OWN
        params = {"book": "tiny"}
        before = dependencies.compute_digest("explore", tiny.root, params)
        work_in(tiny, OWN, line="", more="from modelbook import gate")
        assert project.notebook_path(tiny.root, "tiny", "explore") == custom
        assert project.notebook_path(tiny.root, "other", "explore") == tiny.root / SHARED
        assert project.notebook_path(tiny.root, "tiny", "compare").parent.name == "notebooks"
        assert dependencies.compute_digest("explore", tiny.root, params) != before
        other = dependencies.compute_digest("explore", tiny.root, {"book": "other"})
        assert other == before

    def test_papermill_does_not_overwrite_book_notebook(self, tiny):
        work_in(tiny, OWN)
        with pytest.raises(StageError, match="02_explore"):
            papermill_io.write("{}", str(tiny.root / OWN))
        papermill_io.write("{}", str(tiny.root / "notebooks/tiny/scratch.ipynb"))

    def test_book_notebook_with_other_parameters_raises(self, tiny):
        work_in(tiny, OWN, line="wings = 2")
        with pytest.raises(PipelineSpecError, match=rf"{OWN} sets wings"):
            pipeline_spec.check_pipeline(tiny.root, "tiny")
        pipeline_spec.check_pipeline(tiny.root, "other")

    @pytest.mark.slow
    def test_builds_run_and_track_book_notebook(self, copy_of):
        work_in(copy_of, OWN, line="")
        built = copy_of.build("--partially", "explore")
        assert copy_of.ran(built) == ["explore"], built.stdout + built.stderr
        assert "xage" in (copy_of.root / "reports/tiny/02_explore.html").read_text()
        assert copy_of.ran(copy_of.build("--partially", "explore")) == []
        assert staleness.is_up_to_date(copy_of.root, copy_of.root / "env.yaml")
        (copy_of.root / OWN).unlink()
        assert copy_of.ran(copy_of.build("--partially", "explore")) == ["explore"]
