"""New projects, and upgrades that merge a newer template with the user's changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pandas as pd
import pytest
import yaml
from small_project import QUICK, SMALL, SmallProject
from text_facts import missing_facts, raises_stating

from modelbook.errors import ParameterError, RunHistoryError, WorkbenchError
from modelbook.extras import environment_comparison, project_template, yaml_merge
from modelbook.pages import templating
from modelbook.runs import history
from modelbook.runs.record import BuildRun, StageRecord
from modelbook.stage import project

NOTEBOOK = "notebooks/02_explore.ipynb"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A new project, committed to git."""
    folder = tmp_path / "claims"
    project_template.create_project(folder)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    name = ["-c", "user.name=anna", "-c", "user.email=anna@example.org"]
    for args in (["init", "-q"], ["add", "-A"], [*name, "commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


def change_cell(path: Path, index: int, text: str) -> None:
    notebook = json.loads(path.read_text())
    notebook["cells"][index]["source"] = [text]
    path.write_text(json.dumps(notebook, indent=1) + "\n")


def test_new_project_contains_all_build_inputs(root: Path) -> None:
    assert project.read_parameters(root, root / "env.yaml")["ingest"]["book"] == "rand-hie"
    assert len(list((root / "notebooks").glob("*.ipynb"))) == 6
    for name in ("Makefile", "README.md", "environment.yml", ".gitignore", "requirements/run.txt",
                 ".github/workflows/build.yml", "contracts/rand-hie.yaml"):  # fmt: skip
        assert (root / name).is_file(), name
    assert "@MODELBOOK@" not in (root / "Makefile").read_text()
    assert project_template.read_record(root)["files"] == sorted(project_template.read_template())
    with raises_stating(WorkbenchError, root):
        project_template.create_project(root)
    with raises_stating(WorkbenchError, root / "env.yaml"):
        project_template.create_project(root / "env.yaml")


def test_unchanged_template_needs_no_upgrade(root: Path) -> None:
    change_cell(root / NOTEBOOK, 0, "# My own title")
    assert project_template.plan_upgrade(root) == []


def test_notebooks_are_merged_by_cell(root: Path) -> None:
    base = root / project_template.BASE_FOLDER / NOTEBOOK
    change_cell(base, -1, "As the older template had it")  # the template has changed the last cell
    (root / NOTEBOOK).write_bytes(base.read_bytes())
    change_cell(root / NOTEBOOK, 0, "# My own title")
    [change] = project_template.plan_upgrade(root)
    cells = json.loads(change.after)["cells"]
    template = json.loads(project_template.read_template()[NOTEBOOK])["cells"]
    assert change.conflicts == []
    assert "".join(cells[0]["source"]) == "# My own title"
    assert "".join(cells[-1]["source"]) == "".join(template[-1]["source"])
    assert "+" in change.diff()


def test_env_files_keep_values_and_get_new_keys(root: Path) -> None:
    values = yaml.safe_load((root / "env.yaml").read_text())
    old = {
        key: value for key, value in values.items() if key not in ("folds", "cost_fn", "n_trials")
    }
    changed = {"seed": 7, "cost_miss": 9, "tune_rounds": 3}
    (root / "env.mine.yaml").write_text(yaml.safe_dump({**old, **changed}))
    with pytest.raises(ParameterError) as exc_info:
        project.read_parameters(root, root / "env.mine.yaml")
    assert "now: rename it in env.mine.yaml" in exc_info.value.next
    changes = project_template.plan_upgrade(root)
    assert [change.name for change in changes] == ["env.mine.yaml"]
    merged = yaml.safe_load(changes[0].after)
    assert merged == {**values, "seed": 7, "cost_fn": 9, "n_trials": 3}


def test_contract_is_merged_once_with_its_renamed_keys(root: Path) -> None:
    contract = root / "contracts/rand-hie.yaml"
    base = root / project_template.BASE_FOLDER / "contracts/rand-hie.yaml"
    base.write_text(f"# As the older template had it\n{base.read_text()}")
    contract.write_text(f"{base.read_text()}target_gaps: leave_out\n")
    [change] = project_template.plan_upgrade(root)
    assert change.name == "contracts/rand-hie.yaml"
    assert "older template" not in change.after
    assert change.after.endswith("missing_target: exclude\n")


def test_yaml_files_are_merged_by_key_with_comments_and_order(root: Path) -> None:
    base = root / project_template.BASE_FOLDER / "pipeline.yaml"
    template = base.read_text()
    original = template.replace(
        "leak_threshold: 0.9\n", "leak_threshold: 0.8\n", 1
    )  # the template has raised it
    original = original.replace("      columns_shown: 8\n", "      columns: 6\n")  # renamed it
    original = original.replace("ingest: 3600", "ingest: 60").replace(
        "keep_runs: 20", "keep_runs: 10"
    )
    base.write_text(original)
    edited = original.replace("jobs: 2  # stages", "jobs: 1  # MINE: stages").replace(
        "max_duplicate_share: 0.2", "max_duplicate_share: 0.5"
    )
    edited = edited.replace("ingest: 60", "ingest: 90")  # so have both
    edited += "  - name: extra\n    source: notebooks/07_extra.ipynb\n    product: {nb: reports/extra.ipynb}\n"
    (root / "pipeline.yaml").write_text(edited)
    [change] = project_template.plan_upgrade(root)
    assert [
        missing_facts(text, "executor.timeout.ingest", 90, 3600) for text in change.conflicts
    ] == [[]]
    merged = edited.replace("leak_threshold: 0.8\n", "leak_threshold: 0.9\n").replace(
        "      columns: 6\n", "      columns_shown: 8\n"
    )
    assert change.after == merged.replace("keep_runs: 10", "keep_runs: 20")


# Notebooks, parameters with their former names, one that the user set to another value, the number of
# stages in pipeline.yaml that have it, and a notebook that has it.
RENAMED = [
    (
        ("01_ingest", "02_explore"),
        {"leak_threshold": "leak_auc", "max_duplicate_share": "max_copied_share"},
        ("leak_threshold", 0.9, 0.8), 2, "02_explore",
    ),
    (  # words that are common elsewhere
        ("03_compare", "04_finalize", "06_monitor"),
        {"n_trials": "tune_rounds", "amount_column": "amount", "drift_threshold": "drift", "log_candidate_models": "candidate_models"},
        ("drift_threshold", 0.1, 0.3), 1, "06_monitor",
    ),
]  # fmt: skip


@pytest.mark.parametrize("separator", ["\u2028", "\x85"])
def test_keys_after_a_value_with_a_line_separator_are_renamed(separator: str) -> None:
    text = f"title: 'one{separator}two'\r\nold: 1\nolder: old\n"
    assert yaml_merge.rename_keys(text, {"old": "new"}) == text.replace("\nold:", "\nnew:")


@pytest.mark.parametrize(("stems", "former_names", "set_value", "n_stages", "stem"), RENAMED)
def test_renamed_parameters_keep_the_users_values(
    root: Path,
    stems: tuple[str, ...],
    former_names: dict[str, str],
    set_value: tuple[str, float, float],
    n_stages: int,
    stem: str,
) -> None:
    names = ("pipeline.yaml", *(f"notebooks/{stem}.ipynb" for stem in stems))
    template = {name: (root / name).read_text() for name in names}
    parameter, default, value = set_value
    former = former_names[parameter]
    for name in names:
        text = template[name]
        for new, old in former_names.items():
            text = text.replace(new, old)
        (root / project_template.BASE_FOLDER / name).write_text(text)
        for sign in (": ", " = "):
            text = text.replace(f"{former}{sign}{default}", f"{former}{sign}{value}")
        (root / name).write_text(text)
    changes = {change.name: change for change in project_template.plan_upgrade(root)}
    assert sorted(changes) == sorted(names)
    assert not any(change.conflicts for change in changes.values())
    for name in names:
        restored = changes[name].after
        for sign in (": ", " = "):
            restored = restored.replace(f"{parameter}{sign}{value}", f"{parameter}{sign}{default}")
        assert restored == template[name]
    assert changes["pipeline.yaml"].after.count(f"{parameter}: {value}") == n_stages
    assert f"{parameter} = {value}" in changes[f"notebooks/{stem}.ipynb"].after


def test_added_packages_stay_in_environment_file(root: Path) -> None:
    base = root / project_template.BASE_FOLDER / "environment.yml"
    template = base.read_text()
    base.write_text(template.replace("  - pip>=26\n", "").replace("python=3.13", "python=3.12"))
    edited = base.read_text().replace("dependencies:\n", "dependencies:\n  - jq  # mine\n")
    (root / "environment.yml").write_text(edited)
    [change] = project_template.plan_upgrade(root)
    assert change.conflicts == []
    expected = template.replace("dependencies:\n", "dependencies:\n  - jq  # mine\n")
    assert change.after == expected


def test_changes_on_both_sides_are_conflicts(root: Path) -> None:
    (root / project_template.BASE_FOLDER / "Makefile").write_text("one\n")
    (root / "Makefile").write_text("another\n")
    [change] = project_template.plan_upgrade(root)
    assert [missing_facts(text, "line 1") for text in change.conflicts] == [[]]
    assert "another" in change.after
    assert "help:" in change.after


def test_make_refuses_python_without_lock(root: Path) -> None:
    command = ["make", "run", "PYTHON=/bin/false"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert missing_facts(result.stdout, "3.11", "3.13", "make run PYTHON=") == []
    assert not (root / ".venv").exists()


def test_uncommitted_changes_are_refused(root: Path, tmp_path: Path) -> None:
    project_template.require_committed(root)
    (root / "env.yaml").write_text("book: other")
    with raises_stating(WorkbenchError, "env.yaml"):
        project_template.require_committed(root)
    with raises_stating(WorkbenchError, project_template.RECORD_FILE):
        project_template.plan_upgrade(tmp_path)


def board(scores: dict[str, float]) -> pd.DataFrame:
    rows = [{"family": name, "candidate": name.upper(), "auc_mean": mean, "auc_sd": 0.01}
            for name, mean in scores.items()]  # fmt: skip
    return pd.DataFrame(rows)


def test_leaderboards_are_compared_by_family(tmp_path: Path) -> None:
    before = board({"lr": 0.76, "nb": 0.7, "old": 0.6, "dt": float("nan")})
    after = board({"nb": 0.75, "lr": 0.762, "new": 0.7, "dt": 0.5})
    scores = environment_comparison.compare_leaderboards(before, after)
    assert {score.candidate: score.difference for score in scores} == {
        "LR": 0.002, "NB": 0.05, "OLD": None, "DT": None, "NEW": None,
    }  # fmt: skip
    assert {(score.metric, score.sd) for score in scores[:3]} == {("auc", 0.01)}
    runs = [
        BuildRun(number, stages={"compare": StageRecord("ran", digests={"folds": digest})})
        for number, digest in ((3, "f00d"), (4, "beef"))
    ]
    comparison = environment_comparison.EnvironmentComparison(
        tmp_path,
        tmp_path / "environment_comparison.html",
        (runs[0], runs[1]),
        "auc",
        ["LR", "LR"],
        scores,
        {},
    )
    assert comparison.largest_difference == scores[1]
    assert not comparison.has_same_folds
    text = templating.render_template(
        "environment_comparison.html.j2", book="tiny", comparison=comparison
    )
    assert missing_facts(text, "NB", 0.7, 0.75, 0.05, "5.0", "f00d", "beef") == []


def test_impossible_dry_run_is_refused_before_it_begins(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    supported = metadata("modelbook")["Requires-Python"]
    with raises_stating(WorkbenchError, "3.99", supported):
        environment_comparison.compare_environments(root, "rand-hie", python="3.99")
    old_python = write_program(tmp_path / "claims/python3.9", "echo 3.9.18")
    with raises_stating(WorkbenchError, "3.9.18", old_python, supported, "--python"):
        environment_comparison.compare_environments(root, "rand-hie", python=str(old_python))
    with raises_stating(WorkbenchError, tmp_path, "--environment"):
        environment_comparison.compare_environments(root, "rand-hie", environment=tmp_path)
    with raises_stating(RunHistoryError, "rand-hie", "build"):
        environment_comparison.compare_environments(root, "rand-hie", environment=Path(sys.prefix))
    (root / project_template.BASE_FOLDER / "Makefile").write_text("one\n")
    (root / "Makefile").write_text("another\n")
    with raises_stating(WorkbenchError, "Makefile"):
        environment_comparison.compare_environments(root, "rand-hie")
    assert [path.name for path in tmp_path.iterdir()] == ["claims"]


def test_a_dry_run_without_a_second_environment_leaves_no_copy(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(environment_comparison, "_find_leaderboard_run", lambda root, book: 1)
    runs = history.get_runs_folder(root, "rand-hie")
    (runs / "1").mkdir(parents=True)
    (runs / history.LAST_NUMBER_FILE).write_text("1\n")
    make_program = write_program(root / "programs/make", "echo $3 >>made; exit 7")
    monkeypatch.setenv("PATH", f"{make_program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(root)
    with raises_stating(WorkbenchError, "make", ".venv/run", "7", "UV_FIND_LINKS"):
        environment_comparison.compare_environments(root, "rand-hie")
    copy = Path((root / "made").read_text().strip())
    assert copy.parent == tmp_path
    assert not copy.exists()


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def list_files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def check_dry_run(new_project: SmallProject, **environ: str) -> None:
    """Check that the dry run compares with a built copy and does not change the project."""
    files = list_files(new_project.root)
    result = new_project.run(
        "modelbook", "upgrade", "--dry-run", "--environment", sys.prefix, **environ
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert list_files(new_project.root) == files
    page = Path(result.stdout.splitlines()[-1])
    folder = page.parents[2]
    try:
        assert folder != new_project.root
        name = "models/tiny/leaderboard.parquet"
        boards = [pd.read_parquet(root_folder / name) for root_folder in (new_project.root, folder)]
        pd.testing.assert_frame_equal(*(board.drop(columns="fit_seconds") for board in boards))
        receipts = [
            json.loads((root_folder / "models/tiny/compare.json").read_text())
            for root_folder in (new_project.root, folder)
        ]
        assert receipts[0]["details"]["run_id"] != receipts[1]["details"]["run_id"]
        digest = receipts[1]["facts"]["digests"]["folds"]
        versions = receipts[1]["facts"]["versions"]
        assert missing_facts(result.stdout, digest, *versions.values(), "roc_auc") == []
        text = page.read_text()
        assert missing_facts(text, digest, "ROC AUC", *versions, *boards[0]["candidate"]) == []
        assert not (folder / "models/tiny/finalize.json").exists()
        [link] = set(re.findall(r'href="(runs/[^"]+)"', text))
        assert (page.parent / link).is_file()
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_new_project_builds_and_serves(root: Path) -> None:
    values = yaml.safe_load((root / "env.yaml").read_text())
    (root / "env.yaml").write_text(yaml.safe_dump({**values, **SMALL, "families": "lr"}))
    new_project = SmallProject.__new__(SmallProject)
    new_project.root = root
    base, monitor = root / project_template.BASE_FOLDER, "notebooks/06_monitor.ipynb"
    cells = json.loads((base / monitor).read_text())["cells"]
    last_code_cell = max(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    change_cell(
        base / monitor, last_code_cell, "older = 1\n" + "".join(cells[last_code_cell]["source"])
    )
    (root / monitor).write_bytes((base / monitor).read_bytes())
    commit(root)
    quick = {**QUICK, "MODELBOOK_INTERACTIVE_ROWS": "0"}
    result = new_project.run("modelbook", "build", **quick)
    assert result.returncode == 0, result.stdout + result.stderr
    result = new_project.run("modelbook", "upgrade", "--yes", "--build", **quick)
    assert result.returncode == 0, result.stdout + result.stderr
    assert missing_facts(result.stdout, monitor, "same folds", "reports/tiny/runs") == []
    check_dry_run(new_project, **quick)
    with new_project.serve() as address:
        assert address.startswith("http")
