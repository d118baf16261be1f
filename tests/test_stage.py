"""Stage runtime: parameters, products, dependencies, progress, errors; no kernel starts."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pycaret
import pytest
import yaml
from nbclient.exceptions import DeadKernelError
from notebook_cells import inside_build
from papermill.exceptions import PapermillExecutionError
from small_project import ROOT, STAGES, record_build
from text_facts import missing_facts, raises_stating

from modelbook import config, stage
from modelbook.build import dependencies, kernels, runner, staleness
from modelbook.build.log_follower import explain_failure
from modelbook.errors import ParameterError, PipelineSpecError, StageError
from modelbook.source_imports import PACKAGE_FOLDER
from modelbook.stage import build_token, files, progress, project

PARAMETERS = "upstream = None\nproduct = None\nbook = 'tiny'\n"


def namespace(extra: str = "", **values):
    cell = PARAMETERS + extra
    inputs: dict = {}
    exec(cell, inputs)
    return {**inputs, "In": ["", cell], **values}


class TestOpen:
    @pytest.mark.long
    def test_run_by_hand_writes_to_by_hand_folder(self, small_project):
        this = stage.open("ingest", namespace())
        assert this.by_hand
        assert this.product["train"] == small_project.root / "data/tiny/by-hand/train.parquet"
        assert this.model_name == "tiny-by-hand"
        assert "By hand" in this._repr_html_()

    @pytest.mark.long
    def test_build_uses_paths_of_pipeline(self, small_project):
        wired = {
            "product": {"train": str(small_project.root / "data/tiny/train.parquet")},
            "upstream": {},
        }
        with inside_build(small_project.root):
            this = stage.open("ingest", namespace(**wired))
        assert not this.by_hand
        assert this.model_name == "tiny"
        assert this.product["train"] == small_project.root / "data/tiny/train.parquet"

    @pytest.mark.long
    @pytest.mark.parametrize("token", ["", "0" * 32])
    def test_executed_notebook_is_by_hand_after_the_build(self, small_project, monkeypatch, token):
        wired = {
            "product": {"train": str(small_project.root / "data/tiny/train.parquet")},
            "upstream": {},
        }
        cell = f"# Parameters\n{''.join(f'{name} = {value!r}' for name, value in wired.items())}"
        monkeypatch.setenv(build_token.VARIABLE, token)
        with build_token.issue_token(small_project.root):  # another build runs meanwhile
            inputs = namespace(**wired)
            inputs["In"].append(cell)
            this = stage.open("ingest", inputs)
        assert this.by_hand
        assert this.product["train"] == small_project.root / "data/tiny/by-hand/train.parquet"

    @pytest.mark.long
    def test_build_token_expires_with_its_build(self, small_project, monkeypatch):
        with build_token.issue_token(small_project.root) as token:
            monkeypatch.setenv(build_token.VARIABLE, token)
            assert build_token.is_build(small_project.root)
        assert not build_token.is_build(small_project.root)
        with build_token.issue_token(small_project.root):
            assert not build_token.is_build(small_project.root)

    @pytest.mark.long
    def test_unknown_parameter_raises_with_nearest_name(self, small_project):
        with pytest.raises(ParameterError, match=r"'sede' .*1.*'seed'"):
            stage.open("ingest", namespace("sede = 1\n"))

    @pytest.mark.long
    def test_unknown_papermill_parameter_raises(self, small_project):
        inputs = namespace(sampel=0.5)
        inputs["In"].append("# Parameters\nsampel = 0.5\n")
        with pytest.raises(ParameterError, match=r"'sampel'.*'sample'"):
            stage.open("ingest", inputs)

    def test_variables_of_later_cells_are_not_parameters(self, small_project):
        inputs = namespace(fingerprint="abc", rows=3)
        inputs["In"] += ["fingerprint = 'abc'", "rows = 3"]
        assert stage.open("ingest", inputs).params.seed == 42

    def test_edited_value_takes_effect(self, small_project):
        assert stage.open("ingest", namespace("seed = 7\n")).params.seed == 7

    def test_edit_takes_effect_without_reopening_stage(self, small_project):
        inputs = namespace("seed = 7\n")
        this = stage.open("ingest", inputs)
        inputs["In"] += ["rows = 1", PARAMETERS + "seed = 8\n"]
        assert (this.params.seed, this.origins["seed"]) == (8, "parameters cell")
        inputs["In"].append(PARAMETERS + "seed = -1\n")
        with pytest.raises(ParameterError, match="seed"):
            this.params  # noqa: B018

    @pytest.mark.parametrize("line", ["book = 'birds'", "sandbox = 'try'"])
    def test_changed_book_or_sandbox_requires_reopening(self, small_project, line):
        (small_project.root / "env.birds.yaml").write_text(
            (small_project.root / "env.yaml").read_text().replace("book: tiny", "book: birds")
        )
        inputs = namespace()
        this = stage.open("ingest", inputs)
        inputs["In"].append(f"{PARAMETERS}{line}\n")
        with pytest.raises(StageError, match=r"'tiny'[\s\S]*stage\.open"):
            this.params  # noqa: B018

    def test_computed_value_of_same_name_is_not_an_edit(self, small_project):
        inputs = namespace("seed = 3 + 4\n")
        stage.open("ingest", inputs)
        inputs["In"].append("seed = [9, 9]")
        inputs["seed"] = [9, 9]
        assert stage.open("ingest", inputs).params.seed == 7

    def test_missing_upstream_product_names_stage_to_run(self, small_project):
        with pytest.raises(StageError, match=r"models/tiny/ingest\.json.*\n.*--partially ingest"):
            stage.open("explore", namespace())

    def test_deploy_by_hand_never_enforces(self, small_project):
        receipt = small_project.root / "models/tiny/finalize.json"
        files.write(receipt, {"details": {}})
        this = stage.open("deploy", namespace("gate = 'enforce'\n"))
        assert this.params.gate == "dry_run"

    def test_unknown_stage_raises(self):
        with pytest.raises(ParameterError, match="no stage 'explode'"):
            stage.open("explode", {})

    def test_parameters_are_shown_with_origin(self, small_project):
        result = stage.open("ingest", namespace("seed = 7\n"))._repr_html_()
        rows = re.findall(r"<tr>(.*?)</tr>", result)
        cells = [re.findall(r">([^<>]+)<", row)[:3] for row in rows]
        assert ["seed", "7", "parameters cell"] in cells
        assert ["table", "rand-hie", "env file env.yaml"] in cells


class TestProducts:
    def test_verdict_without_all_products_raises(self, small_project):
        this = stage.open("ingest", namespace())
        this.write(train=pd.DataFrame({"a": [1]}))
        with pytest.raises(StageError, match="batches, contract, holdout"):
            this.write_verdict("accepted", "good", ["Fine."], [], next="Go on.")

    def test_unknown_product_raises(self, small_project):
        with pytest.raises(StageError, match="no product 'trian'"):
            stage.open("ingest", namespace()).write(trian=pd.DataFrame())

    def test_receipt_contains_run_facts(self, small_project, contract):
        this = stage.open("ingest", namespace())
        frame = pd.DataFrame({"a": [1]})
        this.write(train=frame, holdout=frame, batches=frame, contract=contract)
        this.write_verdict("accepted", "good", ["Fine."], [], next="Go on.", fingerprint="f00")
        receipt = files.read(small_project.root / "models/tiny/by-hand/ingest.json")
        assert receipt["facts"]["fingerprint"] == "f00"
        assert receipt["facts"]["versions"]["pycaret"] == pycaret.__version__
        assert {row["name"] for row in receipt["facts"]["parameters"]} == set(
            config.Ingest.model_fields
        )

    @pytest.mark.parametrize("name", ["a.parquet", "a.json", "a.yaml"])
    def test_written_product_is_read_unchanged(self, tmp_path, contract, name):
        content = {".parquet": pd.DataFrame({"a": [1, None]}), ".yaml": contract}.get(
            Path(name).suffix, {"a": [1, "ä"]}
        )
        files.write(tmp_path / name, content)
        result = files.read(tmp_path / name)
        assert result.equals(content) if isinstance(content, pd.DataFrame) else result == content

    def test_failed_write_keeps_existing_file(self, tmp_path):
        files.write(tmp_path / "a.json", {"old": 1})
        with pytest.raises(TypeError):
            files.write(tmp_path / "a.json", {"new": object()})
        assert files.read(tmp_path / "a.json") == {"old": 1}
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

    def test_unknown_file_type_raises(self, tmp_path):
        with pytest.raises(StageError, match=r"'a.xls'.*\n.*\.parquet, \.json"):
            files.write(tmp_path / "a.xls", {})


class TestProject:
    def test_root_is_found_from_subfolder(self, small_project, monkeypatch):
        monkeypatch.chdir(small_project.root / "notebooks")
        assert project.find_root() == small_project.root

    def test_given_root_without_pipeline_raises(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MODELBOOK_ROOT", str(tmp_path))
        with pytest.raises(StageError, match=r"no pipeline.yaml in .*\n.*\n.*MODELBOOK_ROOT"):
            project.find_root()

    def test_env_file_is_found_by_book(self, small_project):
        (small_project.root / "env.other.yaml").write_text("book: other\n")
        assert project.find_env_file(small_project.root, "other").name == "env.other.yaml"
        assert project.find_env_file(small_project.root).name == "env.yaml"
        with pytest.raises(StageError, match=r"names the book 'none'\n.*tiny, other|other, tiny"):
            project.find_env_file(small_project.root, "none")

    def test_missing_stage_in_pipeline_is_named(self, small_project):
        parameters = project.read_stage_parameters(small_project.root, "tiny", "monitor")
        assert parameters["book"] == "tiny"
        with raises_stating(PipelineSpecError, "'watch'", "monitor"):
            project.read_stage_parameters(small_project.root, "tiny", "watch")

    def test_parameters_are_read_from_pipeline_and_env_file(self, small_project):
        inputs = project.read_parameters(small_project.root, small_project.root / "env.yaml")
        assert inputs["compare"]["folds"] == 2
        assert inputs["monitor"]["min_rows"] == config.Monitor().min_rows

    def test_commit_outside_git_is_none(self, tmp_path):
        assert project.get_commit(tmp_path) == "none"


class TestPipelineFile:
    described = yaml.safe_load((ROOT / "pipeline.yaml").read_text())

    def test_each_stage_has_notebook_task_and_parameter_model(self):
        assert [task["name"] for task in self.described["tasks"]] == STAGES == list(config.STAGES)
        for task in self.described["tasks"]:
            assert task["source"] == f"notebooks/{config.stage_stem(task['name'])}.ipynb"
            assert set(task["params"]) == set(config.STAGES[task["name"]].model_fields)

    def test_pipeline_values_are_the_defaults(self):
        for task in self.described["tasks"]:
            defaults = config.STAGES[task["name"]]()
            stated = {
                name: value for name, value in task["params"].items() if "{{" not in str(value)
            }
            assert stated == {name: getattr(defaults, name) for name in stated}

    @pytest.mark.parametrize("name", ["env.yaml", "env.sample.yaml"])
    def test_env_files_are_valid_for_every_stage(self, name):
        values = yaml.safe_load((ROOT / name).read_text())
        for task, inputs in project.read_parameters(ROOT, ROOT / name).items():
            accepted = config.validate(task, inputs).model_dump()
            text_values = {
                name: " ".join(value) for name, value in accepted.items() if isinstance(value, list)
            }
            assert {**accepted, **text_values} == inputs
            assert inputs["book"] == values["book"]

    def test_env_yaml_contains_defaults(self):
        inputs = project.read_parameters(ROOT, ROOT / "env.yaml")
        differing = {
            name
            for task, values in inputs.items()
            for name, value in config.validate(task, values)
            if value != getattr(config.STAGES[task](), name)
        }
        assert differing == {"capacity", "amount_column"}  # parameters of the bundled book's value

    def test_products_are_named_after_stage_stem(self):
        for task in self.described["tasks"]:
            stem = config.stage_stem(task["name"])
            assert task["product"]["nb"] == f"reports/{{{{book}}}}/{stem}.ipynb"
            assert task["product"]["report"] == f"reports/{{{{book}}}}/{stem}.html"
            assert task["product"]["receipt"] == f"models/{{{{book}}}}/{task['name']}.json"


class TestDependencies:
    def reached(self, name):
        return {
            p.relative_to(PACKAGE_FOLDER).as_posix()
            for p in dependencies.find_modules(ROOT / f"notebooks/{config.stage_stem(name)}.ipynb")
        }

    @pytest.mark.long
    def test_indirectly_imported_modules_are_dependencies(self):
        assert {
            "contract/contract.py",
            "errors.py",
            "training/experiment.py",
            "training/__init__.py",
        } <= self.reached("compare")

    def test_unreached_modules_are_not_dependencies(self):
        assert "monitoring/drift.py" not in self.reached("compare")
        assert "display/figures/explore.py" not in self.reached("compare")
        assert "gate/decision.py" not in self.reached("monitor")

    def test_modules_run_by_name_are_dependencies(self):
        assert "registry/pyfunc_model.py" in self.reached("finalize")
        assert "registry/golden_check.py" in self.reached("deploy")

    def test_table_and_contract_affect_digest_of_ingest_only(self, small_project):
        table = small_project.root / "table.csv"
        table.write_text("a\n1\n")
        params = {"table": "table.csv", "contract": "contracts/rand-hie.yaml"}
        ingest, explore = (
            dependencies.compute_digest(name, small_project.root, params)
            for name in ("ingest", "explore")
        )
        table.write_text("a\n2\n")
        assert dependencies.compute_digest("ingest", small_project.root, params) != ingest
        after = dependencies.compute_digest("ingest", small_project.root, params)
        with (small_project.root / "contracts/rand-hie.yaml").open("a") as file:
            file.write("# reviewed\n")
        assert dependencies.compute_digest("ingest", small_project.root, params) != after
        assert dependencies.compute_digest("explore", small_project.root, params) == explore

    def test_project_without_build_is_not_up_to_date(self, small_project):
        assert not staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")

    @pytest.mark.long
    def test_build_is_up_to_date_until_an_input_changes(self, small_project):
        record_build(small_project.root)
        assert staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")
        values = (small_project.root / "env.yaml").read_text()
        (small_project.root / "env.yaml").write_text(values.replace("seed: 42", "seed: 43"))
        assert not staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")
        (small_project.root / "env.yaml").write_text(values)
        assert staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")
        build_state = staleness.read_build_state(small_project.root, "tiny")
        staleness.forget_stage(small_project.root, "tiny", "explore")
        assert set(build_state) - set(staleness.read_build_state(small_project.root, "tiny")) == {
            "explore"
        }
        assert not staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")
        files.write(small_project.root / "models/tiny/built.json", build_state)
        assert staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")
        (small_project.root / "reports/tiny/06_monitor.html").unlink()
        assert not staleness.is_up_to_date(small_project.root, small_project.root / "env.yaml")

    @pytest.mark.long
    def test_notebook_edited_during_build_is_outdated(self, small_project, monkeypatch):
        root = small_project.root
        record_build(root)
        env_file = root / "env.yaml"
        assert staleness.is_up_to_date(root, env_file)
        parameters = project.read_parameters(root, env_file)
        path = root / "notebooks/02_explore.ipynb"

        def edit_notebook(*_: object) -> tuple[None, None]:
            notebook = json.loads(path.read_text())
            notebook["cells"][-1]["source"] = ["# edited"]
            path.write_text(json.dumps(notebook))
            return None, None

        for name in ("KernelPool", "LogFollower"):
            monkeypatch.setattr(runner, name, MagicMock())
        for name, value in {
            "run_task": edit_notebook,
            "was_aborted": lambda _: False,
            "update_metadata": lambda *_: None,
        }.items():
            monkeypatch.setattr(runner.ploomber, name, value)
        params = {"explore": config.validate("explore", parameters["explore"])}
        task = SimpleNamespace(upstream={}, product={"nb": "explore.ipynb"})
        logs = {"explore": root / "explore.log"}
        result = runner.StageRunner(root, {"explore": task}, params, logs, 1, {}).run()
        assert not result.failure_messages
        reasons = staleness.find_outdated(root, env_file)
        assert "notebook" in reasons["explore"]

    @pytest.mark.long
    def test_reasons_tell_outdated_stages_from_those_that_have_run_since(self, small_project):
        record_build(small_project.root)
        receipt = small_project.root / "models/tiny/ingest.json"
        seconds = receipt.stat().st_mtime + 60
        os.utime(receipt, (seconds, seconds))
        state = staleness.read_build_state(small_project.root, "tiny")
        state["ingest"]["products"]["models/tiny/ingest.json"] = receipt.stat().st_mtime_ns
        files.write(small_project.root / "models/tiny/built.json", state)
        env_file = small_project.root / "env.yaml"
        reasons = staleness.find_outdated(small_project.root, env_file)
        assert "ingest" not in reasons
        assert missing_facts(reasons["explore"], "ingest", "run since") == []
        assert missing_facts(reasons["deploy"], "finalize", "outdated") == []


class TestProgress:
    def test_progress_is_written_to_build_log(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv(progress.LOG_VARIABLE, str(tmp_path / "a.log"))
        progress.log_progress("fitting", 1, 3)
        entry = json.loads((tmp_path / "a.log").read_text())
        assert (entry["text"], entry["done"], entry["total"]) == ("fitting", 1, 3)
        assert capsys.readouterr().err == ""

    def test_progress_by_hand_is_printed(self, monkeypatch, capsys):
        monkeypatch.delenv(progress.LOG_VARIABLE, raising=False)
        progress.log_progress("fitting", 1, 3)
        progress.log_progress("fitting", 1, 3, "fold 2 of 5")
        progress.log_progress("registering")
        first, *steps = capsys.readouterr().out.split("\r")[1:]
        assert first.split("  ")[0] == "1 of 3 · fitting"
        assert [step.rstrip() for step in steps] == [
            "1 of 3 · fitting · fold 2 of 5",
            "registering",
        ]
        assert [step.endswith("\n") for step in steps] == [False, True]
        assert len(steps[1].rstrip("\n")) >= len(steps[0])  # overwrites the previous text


class TestExplainFailure:
    def test_failure_names_cell_and_error(self):
        trace = ["\x1b[0;36mCell \x1b[0;32mIn[4], line 2\x1b[0m", "..."]
        cell = PapermillExecutionError(
            5, 4, "fine = 1\nboom()", "NameError", "name 'boom' is not defined", trace
        )
        wrapped = RuntimeError("Error building task")
        wrapped.__cause__ = cell
        result = explain_failure(wrapped, "")
        assert result.startswith("NameError: name 'boom' is not defined\n  in cell 4:")
        assert result.endswith("\n    fine = 1\n  > boom()")

    def test_memory_error_in_cell_is_explained(self):
        cell = PapermillExecutionError(5, 4, "x = [0] * 10**12", "MemoryError", "", ["..."])
        assert explain_failure(cell, "").startswith("out of memory, MemoryError: ")

    def test_lost_database_connection_is_explained(self):
        message = (
            "(psycopg.errors.AdminShutdown) terminating connection due to administrator command"
        )
        cell = PapermillExecutionError(5, 4, "log()", "MlflowException", message, ["..."])
        assert re.search(r"\n +next: .*PostgreSQL.*", explain_failure(cell, ""))
        wrong = PapermillExecutionError(
            5, 4, "log()", "MlflowException", "(psycopg.errors.UniqueViolation)", ["..."]
        )
        assert "next:" not in explain_failure(wrong, "")

    def test_dead_kernel_is_not_explained_as_code_error(self):
        result = explain_failure(
            DeadKernelError("Kernel died"), "it crashed with SIGSEGV, in a library's native code"
        )
        assert re.match(r".*kernel.*SIGSEGV.*\n +next: ", result)


def test_prestarted_kernel_runs_import_cell_only(tmp_path):
    shutil.copy(ROOT / "notebooks/03_compare.ipynb", tmp_path)
    code = kernels.extract_import_code(tmp_path / "03_compare.ipynb")
    assert "from modelbook import stage" in code
    assert "stage.open" not in code


def test_full_disk_does_not_hide_cause_of_failure(small_project, monkeypatch):
    staleness.record_failure(small_project.root, "tiny", "compare", "it is late")
    assert staleness.list_failures(small_project.root)["tiny"] == {"compare": "it is late"}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    staleness.record_failure(small_project.root, "tiny", "finalize", "the database or disk is full")
    with pytest.raises(
        OSError, match="No space left"
    ):  # but what runs next must be outdated, or not begin
        staleness.forget_stage(small_project.root, "tiny", "finalize")
