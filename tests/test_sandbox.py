"""Sandboxes: products, writers, commands, isolation from the book."""

from __future__ import annotations

import os
import subprocess
import sys

import mlflow
import pytest
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from notebook_cells import run_cells
from typer.testing import CliRunner

from modelbook import stage
from modelbook.cli import app
from modelbook.errors import SandboxError
from modelbook.registry import removal, store, tracking, versions
from modelbook.stage import files, pipeline_spec, project, sandbox

CELL = "upstream = None\nproduct = None\nbook = 'tiny'\nsandbox = 'try'\n"


def open_stage(name: str, cell: str = CELL) -> stage.Stage:
    return stage.open(name, {"In": ["", cell]})


@pytest.fixture
def small_project(small_project):
    """A project whose book looks built."""
    for name, task in project.read_tasks(small_project.root, "tiny").items():
        for path in task["product"].values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        files.write(task["product"]["receipt"], {"details": {"of": name}})
    yield small_project
    sandbox.Sandbox(small_project.root, "tiny", "try").release()


def run(small_project, name: str) -> None:
    """Let a stage come to its verdict, with empty products."""
    this = open_stage(name)
    for key in this.product.keys() - {"nb", "report", "receipt"}:
        this.product[key].parent.mkdir(parents=True, exist_ok=True)
        this.product[key].touch()
        this.written_products.add(key)
    this.write_verdict("done", "good", ["Done."], [], next="Go on.", of="try")


class TestSandboxProducts:
    def test_stage_reads_sandbox_products_before_build_products(self, small_project):
        assert open_stage("compare").read_receipt("ingest") == {"of": "ingest"}
        run(small_project, "compare")
        this = open_stage("finalize")
        assert this.read_receipt("compare") == {"of": "try"}
        assert this.read_receipt("ingest") == {"of": "ingest"}
        assert (
            this.product["receipt"] == small_project.root / "models/tiny/sandbox/try/finalize.json"
        )
        assert this.model_name == "tiny.try"
        assert (this.mode, this.by_hand) == ("sandbox try", True)
        assert files.read(small_project.root / "models/tiny/compare.json")["details"] == {
            "of": "compare"
        }

    def test_banner_names_origin_of_each_product(self, small_project):
        run(small_project, "compare")
        banner = open_stage("finalize")._repr_html_().partition("<table")[0]
        assert "Sandbox try" in banner
        assert "ingest from the build" in banner
        assert "compare from this sandbox" in banner
        assert "modelbook sandbox delete try --book tiny" in banner
        assert (
            "By hand" in open_stage("explore", CELL.replace("sandbox = 'try'\n", ""))._repr_html_()
        )

    def test_outdated_upstream_stage_must_run_first(self, small_project):
        run(small_project, "ingest")
        with pytest.raises(SandboxError, match=r"compare[\s\S]*ingest[\s\S]*03_compare\.ipynb"):
            open_stage("finalize")
        run(small_project, "compare")
        assert open_stage("finalize").read_receipt("ingest") == {"of": "try"}

    def test_book_without_build_raises(self, small_project):
        (small_project.root / "models/tiny/ingest.json").unlink()
        with pytest.raises(SandboxError, match=r"'tiny' is not built\n.*\n.*ploomber build"):
            open_stage("ingest")
        assert not (small_project.root / "models/tiny/sandbox").exists()

    @pytest.mark.parametrize("name", ["'../x'", "''", "'Try'", "3"])
    def test_invalid_sandbox_name_raises(self, small_project, name):
        with pytest.raises(SandboxError, match=r"sandbox = "):
            open_stage("compare", CELL.replace("'try'", name))

    def test_papermill_parameter_sets_sandbox(self, small_project):
        cells = ["", CELL.replace("sandbox = 'try'\n", ""), "# Parameters\nsandbox = 'try'\n"]
        assert stage.open("compare", {"In": cells}).mode == "sandbox try"

    def test_build_refuses_notebook_with_sandbox(self, small_project):
        path = small_project.root / "notebooks/03_compare.ipynb"
        path.write_text(
            path.read_text().replace('"seed = 42', '"sandbox = \'try\'\\n", "seed = 42')
        )
        with pytest.raises(pipeline_spec.PipelineSpecError, match=r"03_compare.*sandbox"):
            pipeline_spec.check_pipeline(small_project.root)


class TestSandboxLock:
    @pytest.mark.long
    def test_second_kernel_is_refused_until_first_has_verdict(self, small_project):
        open_stage("compare")
        code = f"from modelbook import stage; stage.open('explore', {{'In': ['', {CELL!r}]}})"
        command = [sys.executable, "-c", code]
        second_kernel = subprocess.run(
            command, cwd=small_project.root, capture_output=True, text=True
        )
        assert "SandboxError" in second_kernel.stderr
        assert f"compare, process {os.getpid()}" in second_kernel.stderr
        run(small_project, "compare")
        accepted = subprocess.run(command, cwd=small_project.root, capture_output=True, text=True)
        assert accepted.returncode == 0, accepted.stderr

    def test_same_kernel_may_reopen_sandbox(self, small_project):
        open_stage("compare")
        assert open_stage("explore").sandbox == open_stage("compare").sandbox


class TestCommands:
    def invoke(self, *args: str):
        return CliRunner().invoke(app, ["sandbox", *args])

    def test_sandboxes_are_listed_and_deleted(self, small_project):
        run(small_project, "ingest")
        run(small_project, "compare")
        assert "try      ingest compare" in self.invoke("list").stdout
        assert self.invoke("delete", "try").exit_code == 0
        assert list(small_project.root.rglob("sandbox/*")) == []
        assert "no sandbox" in self.invoke("list").stdout
        wrong = self.invoke("drop", "try")  # the name of 1.0.0
        assert (wrong.exit_code, "has no sandbox 'try'" in wrong.stderr) == (1, True)

    @pytest.mark.long
    def test_delete_removes_versions_and_runs_but_keeps_evaluation_count(self, small_project):
        store.ensure_store(small_project.root)
        run(small_project, "ingest")
        for _ in range(2):  # the name can be used again
            with tracking.StageRun(small_project.root, "tiny.try", "finalize", {"holdout": "f00"}):
                pass
            store.create_client(small_project.root).create_registered_model("tiny.try")
            run(small_project, "ingest")
            assert self.invoke("delete", "try").exit_code == 0
        assert store.create_client(small_project.root).search_registered_models() == []
        assert tracking.count_holdout_evaluations(small_project.root, "f00") == 2

    @pytest.mark.long
    def test_delete_removes_files_of_configured_folder(self, small_project, monkeypatch, tmp_path):
        root, folder = small_project.root, tmp_path / "other"
        monkeypatch.setenv("MODELBOOK_STORE_ARTIFACTS", folder.as_uri())
        with tracking.StageRun(root, "tiny.try", "finalize", {}) as mlflow_run:
            store.create_client(root).log_text(mlflow_run.run_id, "a model", "model.txt")
        assert len(list(folder.rglob("model.txt"))) == 1
        removal.remove_versions_and_runs(sandbox.Sandbox(root, "tiny", "try"))
        assert list(folder.iterdir()) == []

    @pytest.mark.long
    def test_delete_that_the_store_refuses_can_be_repeated(self, small_project, monkeypatch):
        def refuse(*_: str) -> None:
            raise mlflow.MlflowException("not yours", PERMISSION_DENIED)

        run(small_project, "ingest")
        store.ensure_store(small_project.root)
        client = store.create_client(small_project.root)
        client.create_registered_model("tiny.try")
        with monkeypatch.context() as patch:
            patch.setattr(type(client), "delete_registered_model", refuse)
            refused = self.invoke("delete", "try")
        assert (refused.exit_code, "not yours" in refused.stderr) == (1, True)
        assert self.invoke("delete", "try").exit_code == 0
        assert client.search_registered_models() == []


def list_products(project) -> dict[str, int]:
    """Products of the book, without internal files of MLflow and its clients."""
    return {
        path: time
        for path, time in project.list_products().items()
        if "sandbox/" not in path
        and not path.startswith(("models/mlflow.db", "models/artifacts", "models/aliases"))
    }


@pytest.mark.slow
def test_sandbox_runs_compare_to_monitor_without_changing_book(project_copy, monkeypatch):
    root = project_copy.root
    monkeypatch.chdir(root)
    before, champion = list_products(project_copy), versions.get_champion(root, "tiny").number
    values = {"book": "tiny", "sandbox": "try"}
    quick = {"learning_budget": 0, "log_candidate_models": False}
    run_cells(root, "compare", {**values, **quick, "families": ["dt"]})
    quick = {"strategy": "tune", "n_trials": 1, "calibrate": "none", "resamples": 100}
    finalized, _ = run_cells(root, "finalize", {**values, **quick})
    version = files.read(finalized.product["receipt"])["details"]
    assert (version["model"], version["version"]) == ("tiny.try", 1)
    assert versions.get_version(root, "tiny.try", 1).tags["model"] == "decision tree"
    deployed, _ = run_cells(root, "deploy", {**values, "gate": "enforce"})
    outcome = files.read(deployed.product["receipt"])["details"]
    assert (outcome["moved"], outcome["champion"], outcome["monitored"]) == (False, champion, 1)
    monitored, _ = run_cells(root, "monitor", {**values, "interactive_rows": 0})
    assert files.read(monitored.product["receipt"])["details"]["version"] == 1
    assert list_products(project_copy) == before
    assert versions.get_champion(root, "tiny").number == champion
