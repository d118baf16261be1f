"""Conventions of the six stage notebooks, and no outputs in git."""

from __future__ import annotations

import ast
import json
import re
import subprocess

import pytest
from small_project import ROOT, STAGES

from modelbook import config
from modelbook.workbench import git_filter

NOTEBOOKS = {stage: ROOT / "notebooks" / f"{config.stage_stem(stage)}.ipynb" for stage in STAGES}
NAMED = {  # libraries that each notebook names
    "ingest": {"pd", "head"},
    "explore": {"pd", "head", "isna", "duplicated"},
    "compare": {"mlflow", "search_runs", "experiment", "setup_options"},
    "finalize": {"mlflow", "log_model", "experiment", "pipeline"},
    "deploy": {"mlflow", "MlflowClient", "search_model_versions"},
    "monitor": {"evidently", "Report", "DataDriftPreset", "DataSummaryPreset"},
}
ORDER = ["parameters", "imports", "open", "read", "checks", "verdict"]


def cells(stage: str, cell_type: str | None = None) -> list[dict]:
    result = json.loads(NOTEBOOKS[stage].read_text(encoding="utf-8"))["cells"]
    return [cell for cell in result if cell_type in (None, cell["cell_type"])]


def read_committed(stage: str) -> str:
    """Read a notebook from git: the file may contain outputs of a manual run."""
    path = NOTEBOOKS[stage].relative_to(ROOT)
    result = subprocess.run(
        ["git", "show", f":./{path}"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert result.returncode == 0, f"git does not know {path}; git add {path}"
    return result.stdout


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_each_stage_has_exactly_one_notebook():
    assert sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(
        p.name for p in NOTEBOOKS.values()
    )


def test_git_contains_no_notebook_outputs():
    result = git_filter.check_notebooks(ROOT)
    assert result.ok, f"{result.state}; {result.fix}"


@pytest.mark.parametrize("stage", STAGES)
class TestStageNotebook:
    def test_notebook_has_no_outputs_and_execution_counts(self, stage):
        code = [
            cell
            for cell in json.loads(read_committed(stage))["cells"]
            if cell["cell_type"] == "code"
        ]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)

    def test_cell_ids_are_readable_and_unique(self, stage):
        ids = [cell["id"] for cell in cells(stage)]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)

    def test_cells_are_in_standard_order(self, stage):
        ids = [cell["id"] for cell in cells(stage)]
        places = [ids.index(name) for name in ORDER]
        assert places == sorted(places)
        assert ids[0] == "title"
        assert ids[-1] == "next"

    def test_notebook_opens_with_a_question(self, stage):
        assert re.match(r"# \d\d · \w+\n\n> .+\?$", source(cells(stage)[0]))
        about = source(cells(stage)[1])
        assert [line.split("**")[1] for line in about.splitlines()] == [
            "Reads",
            "Writes",
            "Decides",
        ]

    def test_notebook_has_at_most_24_code_cells(self, stage):
        code = [source(cell) for cell in cells(stage, "code")]
        assert len(code) <= 26
        lists = ("parameters", "imports")
        lengths = {
            cell["id"]: source(cell).count("\n") + 1
            for cell in cells(stage, "code")
            if cell["id"] not in lists
        }
        assert {name: length for name, length in lengths.items() if length > 20} == {}
        assert len(cells(stage, "markdown")) >= len(code)

    def test_names_the_stack(self, stage):
        names = set(re.findall(r"\w+", "\n".join(source(cell) for cell in cells(stage, "code"))))
        assert NAMED[stage] <= names

    def test_notebook_has_no_definitions_or_prints(self, stage):
        tree = ast.parse("\n".join(source(cell) for cell in cells(stage, "code")))
        banned = (
            ast.FunctionDef,
            ast.ClassDef,
            ast.AsyncFunctionDef,
            ast.Lambda,
            ast.For,
            ast.While,
            ast.Try,
        )
        assert not [node for node in ast.walk(tree) if isinstance(node, banned)]
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "print"]

    def test_imports_are_in_one_cell(self, stage):
        importing = [
            cell["id"]
            for cell in cells(stage, "code")
            if re.search(r"^(from|import) ", source(cell), re.M)
        ]
        assert importing == ["imports"]

    def test_parameters_match_model_and_defaults(self, stage):
        tagged = [
            cell
            for cell in cells(stage, "code")
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        assert [cell["id"] for cell in tagged] == ["parameters"]
        lines = source(tagged[0]).splitlines()
        assert all(re.match(r"\w+ = .+  # .+", line) for line in lines)
        inputs = {
            line.split(" = ")[0]: ast.literal_eval(line.split(" = ", 1)[1].split("  #")[0])
            for line in lines
        }
        assert inputs.pop("upstream") is None
        assert inputs.pop("product") is None
        assert inputs == config.STAGES[stage]().model_dump()

    @pytest.mark.long
    def test_notebook_is_unchanged_by_git_filter(self, stage):
        # otherwise saving without an edit would be a change
        assert git_filter.strip_outputs(read_committed(stage).encode()).decode() == read_committed(
            stage
        )
