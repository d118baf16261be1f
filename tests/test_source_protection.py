"""Papermill does not overwrite a stage's source notebook."""

from __future__ import annotations

import shutil

import nbformat
import papermill
import pytest
from small_project import ROOT

from modelbook.errors import StageError

NAME = "02_explore.ipynb"


@pytest.fixture
def project(tmp_path):
    """A project with a trivial notebook."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    cell = nbformat.v4.new_code_cell("print(6 * 7)")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "notebooks" / NAME
    )
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        (".", f"notebooks/{NAME}"),
        (".", f"./notebooks/{NAME}"),
        ("notebooks", NAME),
        ("data", f"../notebooks/{NAME}"),
    ],
)
def test_papermill_refuses_to_overwrite_source_notebook(project, monkeypatch, folder, path):
    (project / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(project / folder)
    before = (project / "notebooks" / NAME).read_bytes()
    with pytest.raises(StageError, match=rf"{NAME}.*\n.*notebooks/") as result:
        papermill.execute_notebook(path, path, progress_bar=False, prepare_only=True)
    output = result.value.next.split()[-1]
    assert (project / folder / output).resolve() == project / "reports/02_explore-alone.ipynb"
    assert (project / "notebooks" / NAME).read_bytes() == before


def test_papermill_refuses_absolute_path_of_source_notebook(project):
    path = str(project / "notebooks" / NAME)
    with pytest.raises(StageError, match="is a stage's source"):
        papermill.execute_notebook(path, path, progress_bar=False, prepare_only=True)


def test_papermill_writes_to_other_paths(project):
    source, out = project / "notebooks" / NAME, project / "notebooks" / "draft.ipynb"
    papermill.execute_notebook(str(source), str(out), progress_bar=False, prepare_only=True)
    assert out.is_file()
