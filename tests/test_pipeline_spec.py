"""Consistency of pipeline.yaml, notebooks and stage classes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_project import ROOT

from modelbook import config
from modelbook.errors import PipelineSpecError
from modelbook.stage import pipeline_spec

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


def rewrite(
    project: Path, change: Callable[[dict], object], name: str = "02_explore.ipynb"
) -> None:
    """Change a notebook, given as its JSON."""
    path = project / "notebooks" / name
    notebook = json.loads(path.read_text())
    change(notebook)
    path.write_text(json.dumps(notebook))


def cell(notebook: dict, name: str) -> dict:
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def problem_lines(project: Path) -> list[str]:
    """Lines of the error message about mismatches."""
    with pytest.raises(PipelineSpecError) as exc_info:
        pipeline_spec.check_pipeline(project)
    first, *lines = exc_info.value.problem.splitlines()
    assert re.search(rf"\b{len(lines)} place", first)
    return [line.strip() for line in lines]


def test_project_stages_are_consistent(project):
    pipeline_spec.check_pipeline(project)
    assert pipeline_spec.list_stages(project) == list(config.STAGES)
    for stage in config.STAGES:
        pipeline_spec.check_stage(project, stage)


def test_stage_can_be_left_out(project):
    edit(project, lambda tasks: tasks.pop("explore"))
    pipeline_spec.check_pipeline(project)
    assert pipeline_spec.list_stages(project) == [
        name for name in config.STAGES if name != "explore"
    ]
    with pytest.raises(PipelineSpecError, match=r"explore: .*pipeline\.yaml"):
        pipeline_spec.check_stage(project, "explore")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda tasks: tasks["explore"].update(name="explorer"),
            r"^explorer: config/stages\.py .*Explorer\(Parameters\).*'explore'",
        ),
        (lambda tasks: tasks["explore"].update(name="2nd"), "^2nd: .*'2nd'"),
        (lambda tasks: tasks["explore"].pop("name"), "None"),
        (
            lambda tasks: tasks["explore"].update(source="notebooks/explore.ipynb"),
            r"^explore: .*notebooks/explore\.ipynb.*notebooks/02_explore\.ipynb",
        ),
        (
            lambda tasks: tasks["explore"]["product"].pop("receipt"),
            r"^explore: .*receipt.*`receipt: models/\{\{book\}\}/explore\.json`",
        ),
        (
            lambda tasks: tasks["explore"]["product"].update(nb="x.ipynb"),
            r"^explore: .*x\.ipynb.*`nb: reports/\{\{book\}\}/02_explore\.ipynb`",
        ),
        (
            lambda tasks: tasks["explore"]["product"].update(
                associations="data/{{book}}/associations.csv"
            ),
            r"^explore: .*data/\{\{book\}\}/associations\.csv.*parquet",
        ),
        (
            lambda tasks: tasks["explore"]["product"].update(associations="associations.parquet"),
            r"^explore: .*associations\.parquet.*data/\{\{book\}\}/",
        ),
        (
            lambda tasks: tasks["explore"]["params"].pop("leak_threshold"),
            r"^explore: .*`leak_threshold: 0\.9`",
        ),
        (
            lambda tasks: tasks["explore"]["params"].update(leak_auc=0.9),  # the name in 1.0.0
            "^explore: .*leak_auc.*Explore.*'leak_threshold' now.*modelbook upgrade",
        ),
        (
            lambda tasks: tasks["explore"]["params"].update(leak_treshold=0.9),
            "^explore: .*leak_treshold.*Explore.*'leak_threshold'",
        ),
        (
            lambda tasks: tasks["explore"].update(upstream=["ingets"]),
            "^explore: .*'ingets'.*'ingest'",
        ),
        (
            lambda tasks: tasks["explore"].update(upstream="ingest"),
            r"^explore: .*'ingest'.*\[ingest\]",
        ),
        (
            lambda tasks: tasks["deploy"].update(upstream=["finalize", "monitor"]),
            "deploy → monitor → deploy",
        ),
        (lambda tasks: tasks["explore"].pop("on_finish"), r"^explore: .*`on_finish: [\w.]+`"),
        (lambda tasks: tasks.update(again=dict(tasks["explore"])), r"^explore: .*\b2 times\b"),
    ],
)
def test_inconsistent_task_is_reported(project, change, expected):
    edit(project, change)
    [line] = problem_lines(project)
    assert re.search(expected, line)


def test_duplicate_product_is_reported_for_both_stages(project):
    edit(
        project,
        lambda tasks: tasks["monitor"]["product"].update(
            drift="data/{{book}}/associations.parquet"
        ),
    )
    first, second = problem_lines(project)
    assert re.match(r"explore: .*\bassociations\b.*data/\{\{book\}\}/associations\.parquet", first)
    assert re.match(r"monitor: .*\bdrift\b.*data/\{\{book\}\}/associations\.parquet", second)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda nb: cell(nb, "parameters")["metadata"].clear(),
            r"02_explore\.ipynb.*\b0\b.*`parameters`",
        ),
        (
            lambda nb: cell(nb, "imports")["metadata"].update(tags=["parameters"]),
            r"02_explore\.ipynb.*\b2\b.*`parameters`",
        ),
        (
            lambda nb: cell(nb, "parameters")["source"].append("\nmore = 1"),
            r"02_explore\.ipynb.*\bmore\b.*Explore",
        ),
        (
            lambda nb: cell(nb, "parameters")["source"].pop(),
            r"02_explore\.ipynb.*`shift_smd = 0\.25`",
        ),
        (
            lambda nb: cell(nb, "parameters")["source"].pop(0),
            r"02_explore\.ipynb.*`upstream = None`",
        ),
        (
            lambda nb: cell(nb, "parameters")["source"].append("\nmore ="),
            r"parameters.*02_explore\.ipynb.*Python",
        ),
        (
            lambda nb: cell(nb, "open").update(
                source='this = stage.open("compare", globals())\nthis'
            ),
            r"'compare'.*\.open\(\"explore\", globals\(\)\)`",
        ),
        (lambda nb: cell(nb, "open").update(source=[]), r"02_explore\.ipynb.*`\w+ = \w+\.open\("),
        (
            lambda nb: cell(nb, "open").update(metadata={"tags": ["injected-parameters"]}),
            r"02_explore\.ipynb.*injected-parameters",
        ),
        (lambda nb: nb["metadata"].clear(), r"02_explore\.ipynb.*kernel.*Python 3"),
        (lambda nb: nb.pop("cells"), r"02_explore\.ipynb.*'cells'"),
    ],
)
def test_inconsistent_notebook_is_reported(project, change, expected):
    rewrite(project, change)
    [line] = problem_lines(project)
    assert line.startswith("explore: ")
    assert re.search(expected, line)


def test_unparsable_cell_is_left_to_the_syntax_check(project):
    rewrite(
        project,
        lambda nb: cell(nb, "open").update(source='%time this = stage.open("compare", globals())'),
    )
    pipeline_spec.check_pipeline(project)  # `compare` would be a mistake in a cell that can be read
    rewrite(
        project,
        lambda nb: cell(nb, "open").update(source='this = stage.open("compare", globals())'),
    )
    assert len(problem_lines(project)) == 1


def test_missing_notebook_is_reported(project):
    (project / "notebooks/02_explore.ipynb").unlink()
    [line] = problem_lines(project)
    assert line.startswith("explore: ")
    assert "notebooks/02_explore.ipynb" in line


def test_all_problems_are_reported_together(project):
    edit(project, lambda tasks: tasks["explore"]["params"].pop("leak_threshold"))
    edit(project, lambda tasks: tasks["compare"].update(upstream=["nowhere"]))
    rewrite(project, lambda nb: cell(nb, "parameters")["source"].pop())
    assert [line.split(":")[0] for line in problem_lines(project)] == [
        "explore",
        "explore",
        "compare",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tasks: [", r"pipeline\.yaml.*YAML"),
        ("", r"pipeline\.yaml.*tasks"),
        ("tasks: [a]", r"pipeline\.yaml.*tasks"),
    ],
)
def test_pipeline_file_without_tasks_raises(project, text, expected):
    (project / "pipeline.yaml").write_text(text)
    with pytest.raises(PipelineSpecError, match=expected):
        pipeline_spec.check_pipeline(project)


def test_injected_parameters_in_source_notebook_raise(project):
    rewrite(project, lambda nb: nb["cells"].insert(3, {
        "cell_type": "code", "id": "x", "metadata": {"tags": ["injected-parameters"]}, "outputs": [],
        "source": ['product = {"nb": "/elsewhere"}'],
    }))  # fmt: skip
    pipeline_spec.check_stage(project, "compare")
    with pytest.raises(
        PipelineSpecError, match=r"explore: .*02_explore\.ipynb.*injected-parameters"
    ):
        pipeline_spec.check_stage(project, "explore")
    rewrite(project, lambda nb: nb["cells"].pop(3))
    pipeline_spec.check_stage(project, "explore")


def test_stage_class_registers_stage_after_existing_ones():
    before = list(config.STAGES)
    try:

        class ErrorSlices(config.Parameters):
            """Parameters of a stage of this test."""

        assert list(config.STAGES) == [*before, "error_slices"]
        assert config.STAGES["error_slices"] is ErrorSlices
        assert config.stage_stem("error_slices") == f"{len(before) + 1:02d}_error_slices"
    finally:
        config.STAGES.pop("error_slices", None)
