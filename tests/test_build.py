"""Builds as users run them: products, outdated stages, errors, interruption, runs by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from command_template import find_command
from notebook_cells import run_cells
from ploomber.exceptions import DAGRenderError
from ploomber_core.exceptions import BaseException as Reported
from small_project import BIN, SMALL, STAGES, SmallProject
from version_store import put_empty_store

from modelbook import config
from modelbook.build import executor
from modelbook.build.kernel_forking import FORK_SERVER_VARIABLES
from modelbook.dataset.bundled import load_rand_hie
from modelbook.errors import DataError, EngineError, ModelbookError, ParameterError, StoreError
from modelbook.registry import aliases, store
from modelbook.stage import build_token

pytestmark = pytest.mark.slow


@pytest.mark.every_python
class TestFirstBuild:
    def test_build_prints_progress_and_ends_with_verdicts_and_index(self, built_project):
        assert re.search(
            r"\[3/\d+ compare\] +\d:\d\d +1 of 3 · .*logistic regression",
            built_project.first_output,
        )
        assert str(built_project.root / "reports/index.html") in built_project.first_output
        for stage in STAGES:
            status = built_project.read_receipt(stage)["status"]
            assert re.search(rf"{config.stage_stem(stage)} +{status} ", built_project.first_output)

    def test_build_writes_every_product(self, built_project):
        for stage in STAGES:
            stem = config.stage_stem(stage)
            for name in (
                f"reports/tiny/{stem}.html",
                f"reports/tiny/{stem}.ipynb",
                f"models/tiny/{stage}.json",
                f"reports/tiny/logs/{stem}.log",
            ):
                assert (built_project.root / name).stat().st_size > 0, name
        assert (built_project.root / "reports/index.html").is_file()

    def test_build_writes_nothing_else(self, built_project):
        files = built_project.list_files()
        assert {Path(path).parts[0] for path in files - built_project.first_files} == {
            "data",
            "models",
            "reports",
        }
        assert not [path for path in files if path.endswith(".part")]

    def test_reports_make_no_requests_and_run_no_third_party_scripts(self, built_project):
        pages = [*(built_project.root / "reports").rglob("*.html")]
        modelbook_pages = [
            page for page in pages if "-evidently-" not in page.name
        ]  # test_monitoring opens Evidently's pages in a browser
        assert len(modelbook_pages) > len(STAGES)
        for page in modelbook_pages:
            text = page.read_text(encoding="utf-8")
            assert text.count("<script") == 1, page  # the script of every page
            assert not re.search(r"""(src|href)=["'](https?:)?//|url\(\s*["']?https?:""", text), (
                page
            )
            assert len(text) < 1_500_000

    def test_executed_notebooks_have_no_warnings(self, built_project):
        for path in (built_project.root / "reports/tiny").glob("*.ipynb"):
            outputs = [
                o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])
            ]
            assert not [o["text"] for o in outputs if o.get("name") == "stderr"], path

    def test_comparison_is_logged_as_one_run_per_candidate(self, built_project):
        parent = built_project.read_receipt("compare")["details"]["run_id"]
        client = store.create_client(built_project.root)
        [experiment] = [client.get_run(parent).info.experiment_id]
        query = f"tags.`mlflow.parentRunId` = '{parent}'"
        runs = client.search_runs([experiment], query)
        assert len(runs) == 3
        assert all(run.outputs.model_outputs and run.inputs.dataset_inputs for run in runs)

    def test_version_predicts_where_the_package_is_not_installed(self, built_project):
        version = aliases.find_version(built_project.root, "tiny", 1)
        assert version is not None
        script = (
            "import os, sys\n"
            "sys.path = [p for p in sys.path if not os.path.isfile(f'{p}/modelbook/__init__.py')]\n"
            "import mlflow, pandas as pd\n"
            "sys.modules.pop('modelbook', None)  # the template that an editable install leaves\n"
            "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
            "rows = pd.read_parquet('data/tiny/holdout.parquet').head(5)\n"
            "scores = model.predict(rows[model.metadata.get_input_schema().input_names()])\n"
            "assert list(scores.columns) == ['prediction', 'probability'] and scores.probability.between(0, 1).all()\n"
            "import modelbook\n"
            "assert modelbook.__file__.startswith(sys.argv[1]), modelbook.__file__\n"
            "try:\n"
            "    modelbook.champion('tiny')\n"
            "except ModuleNotFoundError as error:\n"
            "    assert 'import modelbook before' in str(error)\n"
        )
        result = built_project.run("python", "-c", script, str(version.artifact_folder.parent))
        assert result.returncode == 0, result.stderr

    def test_version_has_lineage_tags_and_artifacts(self, built_project):
        result = built_project.read_receipt("finalize")["details"]
        version = aliases.find_version(built_project.root, "tiny", result["version"])
        assert version is not None
        tags = version.tags
        assert tags["fingerprint"] == built_project.read_receipt("ingest")["details"]["fingerprint"]
        assert {"commit", "threshold", "roc_auc", "log_loss", "promoted_at"} <= tags.keys()
        assert {
            "model.pkl",
            "evaluated.pkl",
            "contract.yaml",
            "golden.parquet",
            "reference.parquet",
            "drift_reference.json",
            "metrics.json",
            "scorer",
        } == {path.name for path in version.artifact_folder.iterdir()}

    def test_holdout_is_disjoint_from_train(self, built_project):
        train, holdout = (
            pd.read_parquet(built_project.root / f"data/tiny/{name}.parquet")
            for name in ("train", "holdout")
        )
        assert not set(train["zper"]) & set(holdout["zper"])
        assert max(train["year"].max(), holdout["year"].max()) == 3
        assert sorted(
            pd.read_parquet(built_project.root / "data/tiny/batches.parquet")["year"].unique()
        ) == [4, 5]


class TestOutdatedStages:
    def test_unchanged_project_runs_no_stage(self, built_project):
        products_before = built_project.list_products()
        result = built_project.build()
        assert result.returncode == 0
        assert built_project.list_executed_stages(result) == []
        products_after = built_project.list_products()
        assert {
            name for name in products_before if products_before[name] != products_after.get(name)
        } <= {"reports/index.html", "reports/tiny/brief.html"}

    def test_up_to_date_check_runs_no_stage(self, built_project):
        products = built_project.list_products()
        result = built_project.run("modelbook", "build")
        assert result.returncode == 0
        assert all(text in result.stdout for text in ("Nothing to do", *STAGES))
        assert built_project.list_executed_stages(result) == []
        assert built_project.list_products() == products

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"seed": 1}, STAGES),
            ({"folds": 3}, ["compare", "finalize", "deploy", "monitor"]),
            ({"cost_fn": 2}, ["finalize", "deploy", "monitor"]),
            ({"non_inferiority_margin": 0.02}, ["deploy", "monitor"]),
            ({"max_metric_drop": 0.1}, ["monitor"]),
        ],
    )
    def test_changed_parameter_outdates_expected_stages(self, built_project, value, expected):
        assert built_project.list_outdated_stages(**value) == list(expected)

    def test_status_lists_stages_outdated_by_changed_module(self, built_project):
        with built_project.change_file(
            "src/modelbook/display/figures/explore.py",
            "from __future__",
            "# changed\nfrom __future__",
        ):
            listed = built_project.run("ploomber", "status", COLUMNS="200").stdout
        outdated = dict(re.findall(r"^(\w+) .*?  (False|Source code|Upstream)  ", listed, re.M))
        assert outdated == {**dict.fromkeys(STAGES, "False"), "explore": "Source code"}

    def test_corrupt_metadata_outdates_its_stage(self, built_project):
        with built_project.replace_file("models/tiny/.monitor.json.metadata", ""):
            assert built_project.list_outdated_stages() == ["monitor"]
        assert built_project.list_outdated_stages() == []

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("src/modelbook/display/figures/explore.py", {"explore"}),
            ("src/modelbook/monitoring/rules.py", {"monitor"}),
            ("src/modelbook/gate/criteria.py", {"deploy", "monitor"}),
            ("src/modelbook/training/leaderboard.py", {"compare", "finalize", "deploy", "monitor"}),
            ("src/modelbook/contract/column.py", set(STAGES)),
            ("contracts/rand-hie.yaml", set(STAGES)),
            ("src/modelbook/pages/index.py", set()),
        ],
    )
    def test_changed_module_or_contract_outdates_expected_stages(
        self, built_project, path, expected
    ):
        with built_project.replace_file(
            path, (built_project.root / path).read_text() + "\n# changed\n"
        ):
            assert set(built_project.list_outdated_stages()) == expected
        assert built_project.list_outdated_stages() == []

    def test_changed_notebook_outdates_stage_and_downstream(self, built_project):
        with built_project.change_file("notebooks/05_deploy.ipynb", '"# 05 · ', '"# 05: '):
            assert built_project.list_outdated_stages() == ["deploy", "monitor"]

    def test_missing_product_outdates_its_stage(self, built_project):
        with built_project.replace_file("reports/tiny/06_monitor.html", None):
            assert built_project.list_outdated_stages() == ["monitor"]


class TestRebuild:
    @pytest.fixture(scope="class")
    def small_project(self, built_project, tmp_path_factory):
        return SmallProject.copy(built_project.first_build, tmp_path_factory.mktemp("again"))

    def test_outdated_stages_run_and_gate_compares_with_champion(self, small_project):
        leader = small_project.read_receipt("compare")["details"]["leader"]
        candidate = {"lr": "nb", "nb": "lr"}[leader]  # not the leader
        result = small_project.run("modelbook", "finalize", "--candidate", candidate)
        assert result.returncode == 0, result.stdout + result.stderr
        assert small_project.list_executed_stages(result) == ["finalize", "deploy", "monitor"]
        name = {"lr": "logistic regression", "nb": "naive Bayes"}[candidate]
        assert f"Version 2, {name}," in small_project.read_receipt("finalize")["sentences"][0]
        decision = small_project.read_receipt("deploy")
        criteria = {row["name"]: row["passed"] for row in decision["details"]["criteria"]}
        assert len(criteria) > 5  # more criteria apply if there is a champion
        assert decision["status"] == ("hold" if False in criteria.values() else "promote")
        assert decision["details"]["champion"] == (2 if decision["status"] == "promote" else 1)

    def test_current_champion_is_verified_again_and_not_compared_with_itself(self, small_project):
        parameters = small_project.read_receipt("finalize")["facts"]["parameters"]
        [candidate] = [row["value"] for row in parameters if row["name"] == "candidate"]
        result = small_project.build(
            "--env--non_inferiority_margin",
            "0.5",
            "--env--gate",
            "dry_run",
            MODELBOOK_CANDIDATE=candidate,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert small_project.list_executed_stages(result) == ["deploy", "monitor"]
        details = small_project.read_receipt("deploy")["details"]
        assert not details["moved"]
        assert details["golden_rows"] > 0
        # It is compared with the champion, but not with itself.
        is_champion = details["candidate"] == details["champion"]
        assert details["was_champion"] == is_champion
        assert ("paired rows" in {row["name"] for row in details["criteria"]}) != is_champion

    def test_single_stage_runs_without_upstream(self, small_project):
        result = small_project.build("--partially", "explore", "--skip-upstream", "--force")
        assert result.returncode == 0, result.stdout + result.stderr
        assert small_project.list_executed_stages(result) == ["explore"]

    def test_notebook_run_by_ploomber_belongs_to_a_build(self, small_project):
        modified_before = small_project.list_products()["models/tiny/explore.json"]
        result = small_project.run("ploomber", "task", "explore", "--force")
        assert result.returncode == 0, result.stdout + result.stderr
        assert small_project.list_products()["models/tiny/explore.json"] > modified_before
        assert not small_project.read_receipt("explore")["facts"]["by_hand"]
        assert not build_token.is_build(small_project.root)

    @pytest.mark.parametrize(("args", "runs_in_ploomber"), [(["--debug"], True), ([], False)])
    def test_only_debug_build_runs_notebooks_within_ploomber(
        self, small_project, monkeypatch, args, runs_in_ploomber
    ):
        issued_tokens = []
        monkeypatch.chdir(small_project.root)
        monkeypatch.setattr("sys.argv", ["ploomber", "build", "--partially", "explore", *args])
        monkeypatch.setattr(executor, "_issue_build_token", issued_tokens.append)
        executor.BuildExecutor()
        assert issued_tokens == [small_project.root] * runs_in_ploomber


class TestInvalidBuild:
    """Each error is raised before a kernel starts, and nothing is overwritten."""

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--env--folds", "99"], r"folds = 99 \(command line\): .*\b20\b"),
            (["--env--foldz", "3"], "--env--foldz"),
        ],
    )
    def test_invalid_build_fails_and_changes_nothing(self, built_project, args, message):
        products = built_project.list_products()
        result = built_project.build(*args)
        assert result.returncode in (1, 2)
        assert re.search(message, result.stderr + result.stdout)
        assert "Traceback" not in result.stderr
        assert built_project.list_executed_stages(result) == []
        assert built_project.list_products() == products

    @pytest.mark.parametrize(
        ("values", "error_class", "message"),
        [
            ({"folds": "five"}, ParameterError, "folds = 'five'"),
            ({"families": "lr lightgbmm"}, ParameterError, "'lightgbmm'.*'lightgbm'"),
            ({"table": "nowhere.csv"}, DataError, "nowhere.csv"),
            ({"amount_column": "spending"}, ParameterError, "'spending'"),
            ({"contract": "contracts/none.yaml"}, ModelbookError, "contracts/none.yaml"),
        ],
    )
    def test_invalid_parameters_and_inputs_raise(self, built_project, values, error_class, message):
        with built_project.load_dag(**values) as dag, pytest.raises(error_class, match=message):
            executor.check_build(dag, built_project.root)

    def test_unknown_target_stage_raises(self, built_project, monkeypatch):
        monkeypatch.chdir(built_project.root)
        monkeypatch.setattr("sys.argv", ["ploomber", "build", "--partially", "explor"])
        with pytest.raises(Reported, match=r"(?s)'explor'.*'explore'"):
            executor.BuildExecutor()

    def test_store_of_newer_mlflow_raises(self, built_project, tmp_path, monkeypatch):
        database_path = shutil.copy(built_project.root / "models/mlflow.db", tmp_path)
        with sqlite3.connect(database_path) as database:
            database.execute("update alembic_version set version_num='ffffffffffff'")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database_path}")
        with built_project.load_dag() as dag, pytest.raises(StoreError, match="ffffffffffff"):
            executor.check_build(dag, built_project.root)

    @pytest.mark.parametrize(
        ("engine", "error_class", "message"),
        [
            ("dask", EngineError, r"tcp://127\.0\.0\.1:1\b.*111"),
            ("local", ParameterError, r"tcp://127\.0\.0\.1:1\b"),
        ],
    )
    def test_missing_engine_raises(self, built_project, monkeypatch, engine, error_class, message):
        monkeypatch.setenv("MODELBOOK_ENGINE", engine)
        monkeypatch.setenv("MODELBOOK_SCHEDULER", "tcp://127.0.0.1:1")
        with (
            built_project.load_dag(folds=3) as dag,
            pytest.raises(error_class, match=message),
        ):  # compare is outdated
            executor.check_build(dag, built_project.root)

    def test_unwritable_products_folder_raises(self, built_project):
        (built_project.root / "reports/other").write_text("a file where a folder should be")
        try:
            with (
                built_project.load_dag(book="other") as dag,
                pytest.raises(ModelbookError, match="reports/other"),
            ):
                executor.check_build(dag, built_project.root)
        finally:
            (built_project.root / "reports/other").unlink()

    def test_undefined_name_in_notebook_raises(self, built_project):
        with (
            built_project.change_file(
                "notebooks/06_monitor.ipynb", "versions.get_version(", "wersions.get_version("
            ),
            pytest.raises(DAGRenderError, match="undefined name 'wersions'"),
            built_project.load_dag(),
        ):
            pass


def drop_column(column):
    return lambda table: table.drop(columns=column)


def insert_text_in_row_3(table):
    return table.assign(income=table["income"].astype(object).where(table.index != 3, "much"))


class TestBrokenTable:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (drop_column("expensive"), "'expensive'"),
            (lambda table: table.assign(expensive=0), r"\(0\)"),
            (lambda table: table.iloc[:0], r"bad\.csv"),
            (insert_text_in_row_3, r"row 3: income = 'much'"),
            (lambda table: table.assign(site=9), r"site = .*9.*1, 2, 3, 4, 5, 6"),
            (lambda table: table.assign(xage=-1.0), r"row 0: xage = -1.0: .*\b0\b.*\b66\b"),
            (lambda table: pd.concat([table, table.tail(1)]), r"\(zper, year\)"),
        ],
        ids=["no target", "one class", "no rows", "a word", "a category", "a range", "a key twice"],
    )
    def test_ingest_refuses_invalid_table(self, small_project, change, message):
        change(load_rand_hie()).to_csv(small_project.root / "bad.csv", index=False)
        values = {name: SMALL[name] for name in ("book", "sample")}
        with pytest.raises(DataError, match=message):
            run_cells(small_project.root, "ingest", {**values, "table": "bad.csv"})
        assert not [*small_project.root.rglob("*.parquet")]

    def test_build_stops_at_failed_ingest_and_keeps_products(self, project_copy):
        load_rand_hie().assign(xage=-1.0).to_csv(project_copy.root / "bad.csv", index=False)
        before = project_copy.list_products()
        result = project_copy.build("--env--table", "bad.csv")
        assert result.returncode == 1
        assert re.search(r"FAILED\n.*(.|\n)*row 0: xage = -1.0", result.stdout), result.stdout
        assert project_copy.list_executed_stages(result) == ["ingest"]
        after = project_copy.list_products()
        tables = [name for name in before if name.startswith("data/")]
        assert len(tables) > 3
        assert [after[name] for name in tables] == [before[name] for name in tables]


def wait_for(path: Path, text: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.is_file() and text in path.read_text(errors="replace"):
            return
        time.sleep(0.2)
    raise AssertionError(f"{text!r} not in {path} after {seconds} s")


def wait_for_children(process: subprocess.Popen, count: int) -> list[psutil.Process]:
    """Wait until a process has at least ``count`` descendants; returns them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        children = psutil.Process(process.pid).children(recursive=True)
        if len(children) >= count:
            return children
        time.sleep(0.1)
    raise AssertionError(f"{process.args} has started fewer than {count} processes")


class TestInterruptedBuild:
    @pytest.fixture(scope="class")
    def running_build(self, tmp_path_factory):
        small_project = SmallProject(put_empty_store(tmp_path_factory.mktemp("killed")))
        output = (small_project.root / "output.txt").open("w")
        process = subprocess.Popen(
            [find_command("ploomber"), "build", "--env--families", "lr rf et gbc ada mlp"],
            cwd=small_project.root,
            env=small_project.environ,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        wait_for(small_project.root / "output.txt", "cross-validating logistic", 180)
        return small_project, process

    def test_concurrent_build_is_refused(self, running_build):
        small_project, process = running_build
        assert process.poll() is None
        second = small_project.build()
        assert second.returncode == 1
        assert re.search(r"BuildError: .*running", second.stderr)
        assert small_project.list_executed_stages(second) == []

    def test_killed_build_leaves_no_partial_products_and_resumes(self, running_build):
        small_project, process = running_build
        processes = small_project.list_processes()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(processes, 10)
        assert not (small_project.root / "models/tiny/compare.json").exists()
        assert not list(small_project.root.rglob("*.part"))
        result = small_project.build()
        assert result.returncode == 0, result.stdout + result.stderr
        assert (
            {"compare", "finalize", "deploy", "monitor"}
            <= set(small_project.list_executed_stages(result))
            <= set(STAGES) - {"ingest"}
        )
        client = store.create_client(small_project.root)
        experiment = client.get_experiment_by_name("tiny").experiment_id
        runs = client.search_runs([experiment], "tags.stage = 'compare'")
        assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]

    def test_same_seed_gives_identical_numbers(self, running_build, built_project):
        small_project, _ = running_build
        first = SmallProject.copy(built_project.first_build, small_project.root.with_name("first"))
        for stage in (
            "ingest",
            "explore",
            "finalize",
            "deploy",
            "monitor",
        ):  # the summary of compare contains durations
            receipt, first_receipt = (
                project.read_receipt(stage) for project in (small_project, first)
            )
            assert {key: receipt[key] for key in ("status", "numbers")} == {
                key: first_receipt[key] for key in ("status", "numbers")
            }
        metrics = [
            project.read_receipt("finalize")["details"]["metrics"]
            for project in (small_project, first)
        ]
        assert metrics[0] == metrics[1]

    @pytest.mark.parametrize(
        ("command", "number"),
        [
            ("ploomber", signal.SIGINT),
            ("modelbook", signal.SIGTERM),
        ],  # modelbook build executes ploomber
    )
    def test_ctrl_c_ends_build_and_kernels_promptly(self, running_build, command, number):
        small_project, _ = running_build
        log = (small_project.root / "output.txt").open("w")
        environ = {
            name: value
            for name, value in small_project.environ.items()
            if name not in FORK_SERVER_VARIABLES
        }
        process = subprocess.Popen(
            [str(BIN / command), "build", "--force"],
            cwd=small_project.root,
            env=environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        wait_for(small_project.root / "output.txt", f"[1/{len(STAGES)} ingest]", 120)
        kernels = wait_for_children(
            process, 3
        )  # fork server, kernel of ingest, kernel of the next stage
        process.send_signal(number)
        assert process.wait(timeout=20) == 1
        _, alive = psutil.wait_procs(kernels, timeout=10)
        assert alive == []
        log = (small_project.root / "output.txt").read_text()
        assert "stopped" in log
        assert "Traceback" not in log


class TestByHand:
    """Manual runs of stages read the build's products and write to the by-hand folders."""

    @pytest.fixture
    def assert_unchanged_products(self, built_project):
        """Assert after the test that no product of the book has changed."""

        def products():
            elsewhere = ("models/mlflow.", "models/artifacts", "models/aliases")
            return {
                name: modified_at
                for name, modified_at in built_project.list_products().items()
                if "by-hand" not in name and not name.startswith(elsewhere)
            }

        products_before, champion = (
            products(),
            aliases.read_aliases(built_project.root, "tiny")["champion"].number,
        )
        yield
        assert products() == products_before
        assert aliases.read_aliases(built_project.root, "tiny")["champion"].number == champion
        shutil.rmtree(built_project.root / "data/tiny/by-hand", ignore_errors=True)

    @staticmethod
    def values(stage):
        fields = config.STAGES[stage].model_fields
        values = {**SMALL, "learning_budget": 0, "log_candidate_models": False}
        return {name: value for name, value in values.items() if name in fields}

    @pytest.mark.parametrize("stage", STAGES)
    def test_notebook_runs_cell_by_cell_by_hand(
        self, built_project, assert_unchanged_products, stage, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MODELBOOK_ROOT", str(built_project.root))
        run_cells(built_project.root, stage, self.values(stage))
        assert (built_project.root / f"models/tiny/by-hand/{stage}.json").is_file()

    def test_notebook_runs_by_papermill_alone(
        self, built_project, assert_unchanged_products, tmp_path
    ):
        out = tmp_path / "out.ipynb"
        args = [
            arg
            for name, value in self.values("explore").items()
            for arg in ("-p", name, str(value))
        ]
        source = built_project.root / "notebooks/02_explore.ipynb"
        result = subprocess.run(
            [find_command("papermill"), str(source), str(out), "--no-progress-bar", *args],
            cwd=tmp_path,
            env={**built_project.environ, "MODELBOOK_ROOT": str(built_project.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        receipt = json.loads((built_project.root / "models/tiny/by-hand/explore.json").read_text())
        assert receipt["facts"]["by_hand"]
        assert "Verdict" in out.read_text()
