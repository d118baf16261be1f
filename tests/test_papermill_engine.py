"""How often a build saves the notebook that it executes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill.engines
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from modelbook.build import papermill_engine


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of cells with an output in each saved state."""
    states: list[int] = []
    write = papermill.engines.write_ipynb

    def record(notebook: Any, path: str) -> None:
        states.append(sum(bool(cell.outputs) for cell in notebook.cells))
        write(notebook, path)

    monkeypatch.setattr(papermill.engines, "write_ipynb", record)
    return states


def execute(path: Path, monkeypatch: pytest.MonkeyPatch, *, fails_at: int = 99) -> Any:
    """Execute ten cells by the engine, without a kernel."""

    def execute_cells(_: type, manager: Any, *args: Any, **kwargs: Any) -> None:
        for index, cell in enumerate(manager.nb.cells):
            manager.cell_start(cell, index)
            if index == fails_at:
                raise RuntimeError("the kernel died")
            cell.outputs = [new_output("stream", text=str(index))]
            manager.cell_complete(cell, index)

    engine = papermill.engines.NBClientEngine
    monkeypatch.setattr(engine, "execute_managed_notebook", classmethod(execute_cells))
    notebook = new_notebook(cells=[new_code_cell("1") for _ in range(10)])
    notebook.metadata.papermill = {}
    return papermill.engines.papermill_engines.execute_notebook_with_engine(
        papermill_engine.register(), notebook, "python3", output_path=str(path), progress_bar=False
    )


def test_short_notebook_is_saved_before_and_after_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: list[int]
) -> None:
    execute(tmp_path / "out.ipynb", monkeypatch)
    assert saved == [0, 10]


def test_long_notebook_is_saved_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: list[int]
) -> None:
    monkeypatch.setattr(papermill_engine, "SAVE_INTERVAL", 0)
    execute(tmp_path / "out.ipynb", monkeypatch)
    assert set(saved) == set(range(11))


def test_outputs_before_a_failure_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="died"):
        execute(tmp_path / "out.ipynb", monkeypatch, fails_at=7)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert [bool(cell.outputs) for cell in cells] == [True] * 7 + [False] * 3
