"""A stage's three parts agree, or a person is told what to write before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny import ROOT

from modelbook import config
from modelbook.errors import WiringError
from modelbook.stage import wiring

Tasks = dict[str, dict]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "pipeline.yaml", tmp_path)
    return tmp_path


def edit(project: Path, change: Callable[[Tasks], object]) -> None:
    """Change the tasks of pipeline.yaml, given by name."""
    path = project / "pipeline.yaml"
    described = yaml.safe_load(path.read_text())
    tasks = {task["name"]: task for task in described["tasks"]}
    change(tasks)
    path.write_text(yaml.safe_dump({**described, "tasks": [*tasks.values()]}, sort_keys=False))


def rewrite(project: Path, change: Callable[[dict], object], name: str = "02_explore.ipynb") -> None:
    """Change a notebook, given as its JSON."""
    path = project / "notebooks" / name
    notebook = json.loads(path.read_text())
    change(notebook)
    path.write_text(json.dumps(notebook))


def cell(notebook: dict, name: str) -> dict:
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def said(project: Path) -> list[str]:
    """The lines of what does not agree."""
    with pytest.raises(WiringError) as caught:
        wiring.check(project)
    first, *lines = caught.value.what.splitlines()
    assert first.endswith("in 1 place" if len(lines) == 1 else f"in {len(lines)} places")
    return [line.strip() for line in lines]


def test_the_projects_own_stages_agree(project):
    wiring.check(project)
    assert wiring.stages(project) == list(config.STAGES)
    for stage in config.STAGES:
        wiring.check_stage(project, stage)


def test_a_stage_may_be_left_out(project):
    edit(project, lambda tasks: tasks.pop("explore"))
    wiring.check(project)
    assert wiring.stages(project) == [name for name in config.STAGES if name != "explore"]
    with pytest.raises(WiringError, match=r"explore: pipeline.yaml has no task of that name; add one"):
        wiring.check_stage(project, "explore")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda tasks: tasks["explore"].update(name="explorer"),
            "explorer: config/stages.py has no class Explorer(Parameters); write it, or correct the name: did you mean",
        ),
        (lambda tasks: tasks["explore"].update(name="2nd"), "2nd: its name is '2nd'; a stage's name has small letters"),
        (lambda tasks: tasks["explore"].pop("name"), "a task: its name is None"),
        (
            lambda tasks: tasks["explore"].update(source="notebooks/explore.ipynb"),
            "explore: its source is notebooks/explore.ipynb, not notebooks/02_explore.ipynb; "
            "the number is the place of its class in config/stages.py, 2",
        ),
        (
            lambda tasks: tasks["explore"]["product"].pop("receipt"),
            "explore: its product receipt is missing; write `receipt: models/{{book}}/explore.json`",
        ),
        (
            lambda tasks: tasks["explore"]["product"].update(nb="x.ipynb"),
            "explore: its product nb is x.ipynb; write `nb: reports/{{book}}/02_explore.ipynb`",
        ),
        (
            lambda tasks: tasks["explore"]["product"].update(associations="data/{{book}}/associations.csv"),
            "explore: its product associations is data/{{book}}/associations.csv; write data/{{book}}/NAME, ending in",
        ),
        (
            lambda tasks: tasks["explore"]["product"].update(associations="associations.parquet"),
            "explore: its product associations is associations.parquet; write data/{{book}}/NAME",
        ),
        (
            lambda tasks: tasks["explore"]["params"].pop("leak_auc"),
            "explore: its params in pipeline.yaml lack leak_auc; add `leak_auc: 0.95`",
        ),
        (
            lambda tasks: tasks["explore"]["params"].update(leak_uac=0.9),
            "explore: its params in pipeline.yaml have leak_uac, which class Explore has not; did you mean 'leak_auc'?",
        ),
        (
            lambda tasks: tasks["explore"].update(upstream=["ingets"]),
            "explore: its upstream names 'ingets', which is no task of pipeline.yaml; did you mean 'ingest'?",
        ),
        (
            lambda tasks: tasks["explore"].update(upstream="ingest"),
            "explore: its upstream is 'ingest'; write a list: [ingest]",
        ),
        (
            lambda tasks: tasks["deploy"].update(upstream=["finalize", "monitor"]),
            "waits for itself (deploy → monitor → deploy)",
        ),
        (
            lambda tasks: tasks["explore"].pop("on_finish"),
            "explore: nothing writes its report; add `on_finish: modelbook.report.page.publish` to its task",
        ),
        (
            lambda tasks: tasks.update(again=dict(tasks["explore"])),
            "explore: stands 2 times in pipeline.yaml; keep one",
        ),
    ],
)
def test_a_task_that_does_not_agree(project, change, expected):
    edit(project, change)
    [line] = said(project)
    assert expected in line


def test_two_stages_that_write_one_product(project):
    edit(project, lambda tasks: tasks["monitor"]["product"].update(drift="data/{{book}}/associations.parquet"))
    assert said(project) == [
        f"{stage}: its product {name} is data/{{{{book}}}}/associations.parquet, which another stage writes; "
        "give it another name"
        for stage, name in (("explore", "associations"), ("monitor", "drift"))
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda nb: cell(nb, "parameters")["metadata"].clear(), "02_explore.ipynb has 0 cells tagged `parameters`"),
        (
            lambda nb: cell(nb, "imports")["metadata"].update(tags=["parameters"]),
            "02_explore.ipynb has 2 cells tagged `parameters`; tag the one that holds the parameters, and no other",
        ),
        (
            lambda nb: cell(nb, "parameters")["source"].append("\nmore = 1"),
            "02_explore.ipynb sets more, which class Explore has not; declare it there, or take it out (one of book,",
        ),
        (lambda nb: cell(nb, "parameters")["source"].pop(), "02_explore.ipynb lacks shift_smd; add `shift_smd = 0.25`"),
        (lambda nb: cell(nb, "parameters")["source"].pop(0), "02_explore.ipynb lacks upstream; add `upstream = None`"),
        (
            lambda nb: cell(nb, "parameters")["source"].append("\nmore ="),
            "the parameters cell of notebooks/02_explore.ipynb is no Python",
        ),
        (
            lambda nb: cell(nb, "open").update(source='this = stage.open("compare", globals())\nthis'),
            "opens 'compare'; write `this = stage.open(\"explore\", globals())` once",
        ),
        (lambda nb: cell(nb, "open").update(source=[]), "02_explore.ipynb opens no stage; write `this = stage.open("),
        (
            lambda nb: cell(nb, "open").update(metadata={"tags": ["injected-parameters"]}),
            "02_explore.ipynb holds a cell of parameters that a tool has put in; delete the cell tagged",
        ),
        (lambda nb: nb["metadata"].clear(), "02_explore.ipynb names no kernel; open it in JupyterLab, choose Python 3"),
        (lambda nb: nb.pop("cells"), "02_explore.ipynb is no notebook: 'cells'"),
    ],
)
def test_a_notebook_that_does_not_agree(project, change, expected):
    rewrite(project, change)
    [line] = said(project)
    assert line.startswith("explore: ")
    assert expected in line


def test_a_cell_that_cannot_be_parsed_is_left_to_the_check_of_the_code(project):
    rewrite(project, lambda nb: cell(nb, "open").update(source='%time this = stage.open("explore", globals())'))
    wiring.check(project)


def test_a_notebook_that_is_not_there(project):
    (project / "notebooks/02_explore.ipynb").unlink()
    assert said(project) == [
        "explore: there is no notebooks/02_explore.ipynb; copy the notebook of a stage that is like it"
    ]


def test_everything_is_told_at_once(project):
    edit(project, lambda tasks: tasks["explore"]["params"].pop("leak_auc"))
    edit(project, lambda tasks: tasks["compare"].update(upstream=["nowhere"]))
    rewrite(project, lambda nb: cell(nb, "parameters")["source"].pop())
    assert [line.split(":")[0] for line in said(project)] == ["explore", "explore", "compare"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("tasks: [", "pipeline.yaml is no YAML"), ("", "has no list of tasks"), ("tasks: [a]", "has no list of tasks")],
)
def test_a_pipeline_file_that_holds_no_tasks(project, text, expected):
    (project / "pipeline.yaml").write_text(text)
    with pytest.raises(WiringError, match=expected):
        wiring.check(project)


def test_a_stage_is_not_opened_with_parameters_that_a_tool_has_put_in(project):
    rewrite(project, lambda nb: nb["cells"].insert(3, {
        "cell_type": "code", "id": "x", "metadata": {"tags": ["injected-parameters"]}, "outputs": [],
        "source": ['product = {"nb": "/elsewhere"}'],
    }))  # fmt: skip
    wiring.check_stage(project, "compare")
    with pytest.raises(WiringError, match=r"explore: notebooks/02_explore.ipynb holds a cell of parameters"):
        wiring.check_stage(project, "explore")
    rewrite(project, lambda nb: nb["cells"].pop(3))
    wiring.check_stage(project, "explore")


def test_a_class_makes_a_stage_of_its_name_after_those_there_are():
    before = list(config.STAGES)
    try:

        class ErrorSlices(config.Parameters):
            """Parameters of a stage of this test."""

        assert list(config.STAGES) == [*before, "error_slices"]
        assert config.STAGES["error_slices"] is ErrorSlices
        assert config.stem("error_slices") == f"{len(before) + 1:02d}_error_slices"
    finally:
        config.STAGES.pop("error_slices", None)
