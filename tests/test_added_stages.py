"""Adding a stage and a chart with the code blocks of docs/notebooks.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_project import ROOT, SmallProject

PAGE = (ROOT / "docs/notebooks.md").read_text(encoding="utf-8")


def find_section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)[1]


def find_code_blocks(title: str, language: str) -> list[str]:
    """The blocks of one language below a heading of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", find_section(title), re.S | re.M)


def list_executed_stages(build: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"^\[\d/\d (\w+)\]", build.stdout, re.M))


def add_model(config: Path) -> None:
    model, _ = find_code_blocks("Add a stage", "py")
    with config.open("a", encoding="utf-8") as file:
        file.write(f"\n\n{model}")


@pytest.fixture(scope="module")
def edited_project(built_project, tmp_path_factory) -> SmallProject:
    """A built project that these tests may change."""
    return SmallProject.copy(built_project.first_build, tmp_path_factory.mktemp("adding"))


@pytest.fixture(scope="module")
def build_result(edited_project) -> subprocess.CompletedProcess[str]:
    """Result of the build after adding the stage as documented."""
    add_model(edited_project.root / "src/modelbook/config/stages.py")
    [task] = find_code_blocks("Add a stage", "yaml")
    with (edited_project.root / "pipeline.yaml").open("a", encoding="utf-8") as file:
        file.write("\n" + task)
    _, cells = find_code_blocks("Add a stage", "py")
    (edited_project.root / "rivals.py").write_text(cells, encoding="utf-8")
    [command] = re.findall(r"`(jupytext [^`]+)`", find_section("Add a stage"))
    converted = edited_project.run(*shlex.split(command))
    assert converted.returncode == 0, converted.stderr
    return edited_project.build()


@pytest.mark.slow
class TestAddedStage:
    def test_build_after_adding_stage_runs_only_new_stage(self, build_result):
        assert build_result.returncode == 0, build_result.stdout + build_result.stderr
        assert list_executed_stages(build_result) == {"rivals"}

    def test_added_stage_has_products_and_is_listed_in_index(self, edited_project, build_result):
        receipt = edited_project.read_receipt("rivals")
        assert receipt["status"] == "clear lead"
        assert re.findall(r"\d[\d.]*\d|\d", receipt["sentences"][0]) == ["0", "1", "0.01"]
        assert (edited_project.root / "data/tiny/rivals.parquet").is_file()
        page = (edited_project.root / "reports/tiny/07_rivals.html").read_text(encoding="utf-8")
        assert re.search(r"<title[^>]*>The 2 families lie within 0\.", page)
        assert '<a href="07_rivals.html" aria-current="page">' in page
        index = (edited_project.root / "reports/index.html").read_text(encoding="utf-8")
        assert '7 <a href="tiny/07_rivals.html">rivals</a>' in index
        assert "7 of 7 " in index

    def test_second_build_after_adding_stage_runs_nothing(self, edited_project, build_result):
        for command in (["ploomber", "build"], ["modelbook", "build"]):
            result = edited_project.run(*command)
            assert result.returncode == 0, result.stderr
            assert list_executed_stages(result) == set()

    def test_parameter_of_added_stage_is_validated(self, edited_project, build_result):
        result = edited_project.run("ploomber", "build", MODELBOOK_WITHIN="0.7")
        assert result.returncode == 1
        assert re.search(r"within = '0.7'.*\b0\.5\b", result.stderr)
        assert list_executed_stages(result) == set()

    def test_added_stage_runs_by_papermill_alone(self, edited_project, build_result, tmp_path):
        parameters = [
            "papermill",
            "notebooks/07_rivals.ipynb",
            str(tmp_path / "out.ipynb"),
            "-p",
            "book",
            "tiny",
        ]
        result = edited_project.run(*parameters, "-p", "within", "0.5", "--no-progress-bar")
        assert result.returncode == 0, result.stderr[-2000:]
        assert (
            json.loads((edited_project.root / "models/tiny/by-hand/rivals.json").read_text())[
                "status"
            ]
            == "rivals"
        )
        assert edited_project.read_receipt("rivals")["status"] == "clear lead"

    def test_invalid_stage_definition_fails_before_any_stage_runs(
        self, edited_project, build_result
    ):
        with edited_project.change_file("pipeline.yaml", ", within: 0.01}", "}"):
            result = edited_project.build()
        assert result.returncode == 1
        assert re.search(r"rivals: .*pipeline\.yaml.*`within: 0\.01`", result.stderr)
        assert "Traceback" not in result.stderr
        assert list_executed_stages(result) == set()

    def test_stage_can_be_removed(self, edited_project, build_result):
        spec = yaml.safe_load((edited_project.root / "pipeline.yaml").read_text())
        remaining_tasks = [task for task in spec["tasks"] if task["name"] != "explore"]
        with edited_project.change_file(
            "pipeline.yaml",
            (edited_project.root / "pipeline.yaml").read_text(),
            yaml.safe_dump({**spec, "tasks": remaining_tasks}),
        ):
            result = edited_project.build()
            assert result.returncode == 0, result.stderr
            assert list_executed_stages(result) == set()
            assert "6 of 6 " in (edited_project.root / "reports/index.html").read_text(
                encoding="utf-8"
            )
            result = edited_project.run("modelbook", "build")
            assert (result.returncode, list_executed_stages(result)) == (0, set())
            result = edited_project.run(
                "papermill", "notebooks/02_explore.ipynb", "out.ipynb", "-p", "book", "tiny"
            )
            assert result.returncode == 1
            assert re.search(r"explore: .*pipeline\.yaml", result.stderr)


@pytest.mark.slow
def test_documented_chart_block_is_added_to_report(edited_project):
    imports, cells = find_code_blocks("Add a chart", "py")
    text, code = re.findall(r"^# %%[^\n]*\n(.*?)(?=^# %%|\Z)", cells, re.S | re.M)
    path = edited_project.root / "notebooks/02_explore.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["id"] == "imports":
            cell["source"] = ["".join(cell["source"]), "\n", imports]
    index = next(n for n, cell in enumerate(notebook["cells"]) if cell["id"] == "leaks")
    text = re.sub(r"^# ?", "", text, flags=re.M)
    notebook["cells"][index:index] = [
        {"cell_type": "markdown", "id": "age", "metadata": {}, "source": [text]},
        {**notebook["cells"][index + 1], "id": "age-figure", "source": [code]},
    ]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    result = edited_project.build()
    assert result.returncode == 0, result.stdout + result.stderr
    assert list_executed_stages(result) == {"explore"}
    page = (edited_project.root / "reports/tiny/02_explore.html").read_text(encoding="utf-8")
    assert re.search(r"<title[^>]*>The share of yes by age lies between \d+% and \d+%\.", page)
    assert "Bands with few rows vary more." in page
    assert 'href="#How-does-the-target-change-with-age' in page


@pytest.mark.long
def test_parameters_of_other_stages_do_not_outdate_stage(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    config = tmp_path / "src/modelbook/config/stages.py"

    def compute_digests() -> dict[str, str]:
        script = (
            "import json, pathlib; from modelbook import config; from modelbook.build import dependencies\n"
            "root, given = pathlib.Path('.'), {'table': 'rand-hie', 'contract': 'none.yaml'}\n"
            "print(json.dumps({name: dependencies.compute_digest(name, root, given) for name in list(config.STAGES)[:6]}))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "src")}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        return json.loads(result.stdout)

    before = compute_digests()
    add_model(config)
    assert compute_digests() == before
    source = config.read_text(encoding="utf-8")
    config.write_text(
        source.replace("columns plotted against the target", "columns plotted"), encoding="utf-8"
    )
    assert {name for name, digest in compute_digests().items() if digest != before[name]} == {
        "explore"
    }
    config.write_text(source, encoding="utf-8")
    values = config.with_name("values.py")
    common = values.read_text(encoding="utf-8").replace(
        '"lr": "logistic regression"', '"lr": "logit"'
    )
    values.write_text(common, encoding="utf-8")
    assert {name for name, digest in compute_digests().items() if digest != before[name]} == set(
        before
    )
