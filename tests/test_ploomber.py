"""Assumptions about private and writable attributes of Ploomber, see build/ploomber.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.engines import papermill_engines
from ploomber.constants import TaskStatus
from ploomber.spec import DAGSpec

from modelbook.build import ploomber
from modelbook.build.papermill_engine import IntervalSavingEngine


def write_notebook(path: Path, code: str) -> Path:
    parameters = new_code_cell("upstream = None\nproduct = None", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(code)], metadata=kernel), path)
    return path


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two notebooks, the second of which reads the product of the first."""
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "first.ipynb", "1 + 1")
    write_notebook(tmp_path / "second.ipynb", "upstream['first']")
    tasks = [
        {"source": f"{name}.ipynb", "name": name, "product": {"nb": f"{name}.out.ipynb"},
         "upstream": needed}
        for name, needed in {"first": [], "second": ["first"]}.items()
    ]  # fmt: skip
    spec = {"meta": {"extract_upstream": False}, "tasks": tasks}
    return DAGSpec(spec).to_dag().render(show_progress=False)


def run(task: Any, monkeypatch: pytest.MonkeyPatch, manager: object) -> tuple[Any, Any]:
    """Run a task whose notebook is copied rather than executed, but with this kernel manager."""

    def execute(source: str, target: str, *, km: object, engine_name: str, **_: Any) -> None:
        assert km is manager
        assert issubclass(papermill_engines.get_engine(engine_name), IntervalSavingEngine)
        shutil.copy(source, target)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return ploomber.run_task(task, manager)


def test_build_calls_executor_and_writes_product_and_metadata(
    dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dag["first"]
    assert not ploomber.is_up_to_date(task)
    _, metadata = run(task, monkeypatch, object())
    assert ploomber.was_executed(task)
    assert ploomber.is_complete(task)
    [product] = ploomber.list_products(task)
    assert product.name == "first.out.ipynb"
    assert product.is_file()
    ploomber.update_metadata(task, metadata)
    assert task.product.metadata.to_dict() == metadata
    assert dag["second"].exec_status == TaskStatus.WaitingExecution
    dag.render(show_progress=False)
    assert ploomber.is_up_to_date(task)


def test_exec_status_can_be_set_and_propagates_downstream(dag: Any) -> None:
    first, second = dag["first"], dag["second"]
    first.exec_status = TaskStatus.Skipped
    ploomber.mark_outdated(second)
    assert second.exec_status == TaskStatus.WaitingExecution
    ploomber.mark_outdated(first)
    ploomber.mark_outdated(second)
    assert second.exec_status == TaskStatus.WaitingUpstream
    assert all(product._outdated_code_dependency() for product in first.product.products)
    ploomber.mark_failed(first)
    assert ploomber.was_aborted(second)
    assert not ploomber.is_complete(second)


def test_path_of_rendered_source_can_be_replaced(dag: Any, tmp_path: Path) -> None:
    ploomber.replace_notebook(dag["first"], write_notebook(tmp_path / "own.ipynb", "2 + 2"))
    for name in dag:
        ploomber.render_again(dag[name], force=False)
    assert "2 + 2" in str(dag["first"].source)
    assert ploomber.read_parameters(dag["second"]).keys() == {"product", "upstream"}
