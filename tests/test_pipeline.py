"""The build, as a user runs it: what it leaves, what it skips, what it says when something is wrong."""

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
from tiny import BIN, STAGES, Tiny

from modelbook import config

pytestmark = pytest.mark.slow


class TestFirstBuild:
    def test_says_what_it_does_and_ends_with_index_and_verdicts(self, built):
        said = built.told.stdout
        assert re.search(r"\[3/\d+ compare\] +\d:\d\d +1 of 3 · cross-validating logistic regression", said)
        assert str(built.root / "reports/index.html") in said
        for stage in STAGES:
            word = built.receipt(stage)["word"]
            assert re.search(rf"{config.stem(stage)} +{word} ", said)

    def test_leaves_every_product(self, built):
        for stage in STAGES:
            stem = config.stem(stage)
            for name in (
                f"reports/tiny/{stem}.html",
                f"reports/tiny/{stem}.ipynb",
                f"models/tiny/{stage}.json",
                f"reports/tiny/logs/{stem}.log",
            ):
                assert (built.root / name).stat().st_size > 0, name
        assert (built.root / "reports/index.html").is_file()

    def test_touches_nothing_else(self, built):
        after = {path for path in built.root.rglob("*") if "__pycache__" not in path.parts}
        new = {path.relative_to(built.root).parts[0] for path in after - built.before}
        assert new == {"data", "models", "reports"}
        assert not [path for path in after if path.suffix == ".part"]

    def test_reports_load_nothing_from_a_network_and_run_no_script(self, built):
        pages = [*(built.root / "reports").rglob("*.html")]
        ours = [page for page in pages if "-evidently-" not in page.name]  # test_monitoring opens those in a browser
        assert len(ours) > len(STAGES)
        for page in ours:
            text = page.read_text(encoding="utf-8")
            assert "<script" not in text, page
            assert not re.search(r"""(src|href)=["'](https?:)?//|url\(\s*["']?https?:""", text), page
            assert len(text) < 1_500_000

    def test_executed_notebooks_ran_without_warnings(self, built):
        for path in (built.root / "reports/tiny").glob("*.ipynb"):
            outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
            assert not [o["text"] for o in outputs if o.get("name") == "stderr"], path

    def test_comparison_is_logged_candidate_by_candidate(self, built):
        with sqlite3.connect(built.root / "models/mlflow.db") as store:
            parent = built.receipt("compare")["details"]["run_id"]
            children = store.execute(
                "select count(*) from tags where key='mlflow.parentRunId' and value=?", [parent]
            ).fetchone()
        assert children == (3,)

    def test_registered_version_answers_in_another_process(self, built):
        script = (
            "import mlflow, pandas as pd\n"
            "mlflow.set_tracking_uri('sqlite:///models/mlflow.db')\n"
            "model = mlflow.pyfunc.load_model('models:/tiny@champion')\n"
            "rows = pd.read_parquet('data/tiny/holdout.parquet').head(5)\n"
            "told = model.predict(rows[model.metadata.get_input_schema().input_names()])\n"
            "assert list(told.columns) == ['prediction', 'probability'] and told.probability.between(0, 1).all()\n"
        )
        told = built.run("python", "-c", script)
        assert told.returncode == 0, told.stderr

    def test_version_holds_what_it_was_made_of(self, built):
        done = built.receipt("finalize")["details"]
        with sqlite3.connect(built.root / "models/mlflow.db") as store:
            tags = dict(
                store.execute("select key, value from model_version_tags where version=?", [done["version"]]).fetchall()
            )
            [place] = store.execute(
                "select storage_location from model_versions where name='tiny' and version=?", [done["version"]]
            ).fetchone()
        assert tags["fingerprint"] == built.receipt("ingest")["details"]["fingerprint"]
        assert {"commit", "threshold", "roc_auc", "log_loss", "promoted_at"} <= tags.keys()
        assert {
            "model.pkl",
            "evaluated.pkl",
            "contract.yaml",
            "golden.parquet",
            "reference.parquet",
            "metrics.json",
            "scorer",
        } == {path.name for path in (Path(place.removeprefix("file://")) / "artifacts").iterdir()}

    def test_holdout_is_untouched_by_train(self, built):
        train, holdout = (pd.read_parquet(built.root / f"data/tiny/{name}.parquet") for name in ("train", "holdout"))
        assert not set(train["zper"]) & set(holdout["zper"])
        assert max(train["year"].max(), holdout["year"].max()) == 3
        assert sorted(pd.read_parquet(built.root / "data/tiny/batches.parquet")["year"].unique()) == [4, 5]


class TestWhatRunsAgain:
    def test_nothing_when_nothing_changed(self, built):
        before = built.products()
        told = built.build()
        assert told.returncode == 0
        assert "Nothing to do: every stage is up to date." in told.stdout
        after = built.products()
        assert {name for name in before if before[name] != after.get(name)} <= {"reports/index.html"}

    def test_nothing_by_the_quick_look_either(self, built):
        told = built.run("modelbook", "build")
        assert told.returncode == 0
        assert "Nothing to do: every stage is up to date." in told.stdout
        assert built.ran(told) == []

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"seed": 1}, [s for s in STAGES if s != "explore"] + ["explore"]),
            ({"folds": 3}, ["compare", "finalize", "deploy", "monitor"]),
            ({"cost_miss": 2}, ["finalize", "deploy", "monitor"]),
            ({"margin": 0.02}, ["deploy", "monitor"]),
            ({"loss": 0.1}, ["monitor"]),
        ],
    )
    def test_a_changed_parameter(self, built, value, expected):
        assert set(built.outdated(**value)) == set(expected)

    def test_status_tells_what_a_changed_module_outdates(self, built):
        with built.changed("src/modelbook/report/figures/explore.py", "from __future__", "# changed\nfrom __future__"):
            told = built.run("ploomber", "status", COLUMNS="200").stdout
        outdated = dict(re.findall(r"^(\w+) .*?  (False|Source code|Upstream)  ", told, re.M))
        assert outdated == {**dict.fromkeys(STAGES, "False"), "explore": "Source code"}

    def test_a_product_whose_metadata_a_full_disk_has_torn(self, built):
        kept = built.root / "models/tiny/.monitor.json.metadata"
        text = kept.read_text()
        kept.write_text("")
        assert built.outdated() == ["monitor"]
        kept.write_text(text)
        assert built.outdated() == []

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("src/modelbook/report/figures/explore.py", {"explore"}),
            ("src/modelbook/monitoring/verdict.py", {"monitor"}),
            ("src/modelbook/gate.py", {"deploy", "monitor"}),
            ("src/modelbook/training/leaderboard.py", {"compare", "finalize", "deploy", "monitor"}),
            ("src/modelbook/contract/column.py", set(STAGES)),
            ("contracts/rand-hie.yaml", set(STAGES)),
            ("src/modelbook/report/index.py", set()),
        ],
    )
    def test_a_changed_module_or_contract(self, built, path, expected):
        file = built.root / path
        kept = file.read_text()
        try:
            file.write_text(kept + "\n# changed\n")
            assert set(built.outdated()) == expected
        finally:
            file.write_text(kept)
        assert built.outdated() == []

    def test_a_changed_notebook(self, built):
        with built.changed("notebooks/05_deploy.ipynb", "Who stands before the gate?", "Who is at the gate?"):
            assert set(built.outdated()) == {"deploy", "monitor"}

    def test_a_lost_product(self, built):
        file = built.root / "reports/tiny/06_monitor.html"
        kept = file.read_bytes()
        file.unlink()
        assert built.outdated() == ["monitor"]
        file.write_bytes(kept)

    def test_what_is_outdated_is_run_and_the_gate_compares_with_the_champion(self, built):
        told = built.build("--env--strategy", "blend")
        assert told.returncode == 0, told.stdout + told.stderr
        assert built.ran(told) == ["finalize", "deploy", "monitor"]
        assert "logistic regression + naive Bayes" in built.receipt("finalize")["sentences"][0]
        decision = built.receipt("deploy")
        asked = {row["name"]: row["passed"] for row in decision["details"]["criteria"]}
        assert asked["another version than the champion"]
        assert asked["rows to compare on"]
        assert decision["word"] == ("hold" if False in asked.values() else "promote")
        assert decision["details"]["champion"] == (2 if decision["word"] == "promote" else 1)

    def test_a_version_that_is_champion_already_is_held_and_proven_again(self, built):
        told = built.build("--env--strategy", "blend", "--env--margin", "0.5", "--env--gate", "dry_run")
        assert told.returncode == 0, told.stdout + told.stderr
        assert built.ran(told) == ["deploy", "monitor"]
        assert not built.receipt("deploy")["details"]["moved"]
        assert built.receipt("deploy")["details"]["golden_rows"] > 0
        assert built.build().returncode == 0

    def test_one_stage_without_those_before_it(self, built):
        told = built.build("--partially", "explore", "--skip-upstream", "--force")
        assert told.returncode == 0, told.stdout + told.stderr
        assert built.ran(told) == ["explore"]


class TestWrong:
    """Each is told before a kernel starts, with nothing overwritten."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--env--folds", "99"], "folds = 99 (command line): Input should be less than or equal to 20"),
            (["--env--folds", "five"], "folds = 'five'"),
            (["--env--families", "lr lightgbmm"], "'lightgbmm' is no model family; did you mean 'lightgbm'?"),
            (["--env--table", "nowhere.csv"], "nowhere.csv"),
            (["--env--contract", "contracts/none.yaml"], "there is no contract at"),
            (["--env--foldz", "3"], "--env--foldz"),
        ],
    )
    def test_parameters_and_inputs(self, built, words, said):
        before = built.products()
        told = built.build(*words)
        assert told.returncode in (1, 2)
        assert said in told.stderr + told.stdout
        assert built.ran(told) == []
        assert built.products() == before

    def test_a_stage_to_build_to(self, built):
        told = built.build("--partially", "explor")
        assert told.returncode == 1
        assert "there is no stage 'explor' to build to\n  expected: did you mean 'explore'?" in told.stderr
        assert "Traceback" not in told.stderr

    def test_a_store_of_a_newer_mlflow(self, built):
        store = built.root / "models/mlflow.db"
        with sqlite3.connect(store) as connection:
            [known] = connection.execute("select version_num from alembic_version").fetchone()
            connection.execute("update alembic_version set version_num='ffffffffffff'")
        connection.close()
        told = built.build("--env--loss", "0.2")
        assert told.returncode == 1
        assert "schema revision 'ffffffffffff'" in told.stderr
        assert built.ran(told) == []
        with sqlite3.connect(store) as connection:
            connection.execute("update alembic_version set version_num=?", [known])
        connection.close()

    @pytest.mark.parametrize(
        ("engine", "scheduler", "said"),
        [
            ("dask", "tcp://127.0.0.1:1", "no scheduler of dask answers at tcp://127.0.0.1:1: [Errno 111]"),
            ("local", "tcp://127.0.0.1:1", "scheduler = 'tcp://127.0.0.1:1' is nobody's: engine = 'local'"),
        ],
    )
    def test_an_engine_that_is_not_there(self, built, engine, scheduler, said):
        told = built.build("--force", MODELBOOK_ENGINE=engine, MODELBOOK_SCHEDULER=scheduler)
        assert told.returncode == 1
        assert said in told.stderr
        assert built.ran(told) == []

    def test_a_products_folder_that_cannot_be_written(self, built):
        folder = built.root / "reports/other"
        folder.write_text("a file where a folder should be")
        told = built.build("--env--book", "other")
        folder.unlink()
        assert told.returncode == 1
        assert re.search(r"reports/other cannot be written\n +expected: a folder that this user may write", told.stderr)
        assert built.ran(told) == []

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda t: t.drop(columns="expensive"), r"no target column 'expensive'"),
            (lambda t: t.assign(expensive=0), r"one class only \(0\)"),
            (lambda t: t.iloc[:0], r"\.csv has no rows"),
            (
                lambda t: t.assign(income=t["income"].astype(object).where(t.index != 3, "much")),
                r"row 3: income = 'much'",
            ),
            (lambda t: t.assign(site=9), r"site = .*9.*one of 1, 2, 3, 4, 5, 6"),
            (lambda t: t.assign(xage=-1.0), r"row 0: xage = -1.0: must be number from 0 to 66"),
            (lambda t: pd.concat([t, t.tail(1)]), r"\(zper, year\) must not occur twice"),
        ],
    )
    def test_a_table_that_breaks_its_contract_stops_ingest(self, built, change, said):
        from modelbook.dataset.bundled import rand_hie

        change(rand_hie()).to_csv(built.root / "bad.csv", index=False)
        train = built.root / "data/tiny/train.parquet"
        before = train.stat().st_mtime_ns
        told = built.build("--partially", "ingest", "--env--table", "bad.csv")
        assert told.returncode == 1
        assert re.search(said, told.stdout), told.stdout
        assert "FAILED" in told.stdout
        assert train.stat().st_mtime_ns == before

    def test_a_failing_notebook(self, built):
        notebook = "notebooks/06_monitor.ipynb"
        with built.changed(notebook, "version = versions.version(this.root", "version = wersions.version(this.root"):
            told = built.build()
        # The name is undefined, which the check of the notebook's code sees before anything runs.
        assert told.returncode == 1
        assert "undefined name 'wersions'" in told.stderr
        with built.changed(notebook, "assert len(watched) == len(batches)", "assert len(watched) == len(batches) + 1"):
            told = built.build()
        assert told.returncode == 1
        assert re.search(
            r"FAILED\nAssertionError: a batch was not watched\n +in cell \d+:\n  > assert len\(watched\)", told.stdout
        )
        partial = built.root / "reports/tiny/06_monitor.ipynb"
        assert f"partly executed notebook: {partial}" in told.stdout
        assert "AssertionError" in partial.read_text()
        assert "failed" in (built.root / "reports/index.html").read_text()
        assert "the build failed at: monitor" in told.stderr
        assert built.build().returncode == 0


def wait_for(path: Path, text: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if path.is_file() and text in path.read_text(errors="replace"):
            return
        time.sleep(0.2)
    raise AssertionError(f"{text!r} not in {path} after {seconds} s")


class TestKilled:
    @pytest.fixture(scope="class")
    def started(self, tmp_path_factory):
        tiny = Tiny(tmp_path_factory.mktemp("killed"))
        said = (tiny.root / "said.txt").open("w")
        process = subprocess.Popen(
            [str(BIN / "ploomber"), "build", "--env--families", "lr rf et gbc ada mlp"],
            cwd=tiny.root,
            env=tiny.environ,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        wait_for(tiny.root / "said.txt", "cross-validating logistic", 180)
        return tiny, process

    def test_a_second_build_refuses_while_one_runs(self, started):
        tiny, process = started
        assert process.poll() is None
        told = tiny.build()
        assert told.returncode == 1
        assert "another build is running" in told.stderr

    def test_a_killed_build_leaves_nothing_half_written_and_goes_on(self, started):
        tiny, process = started
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tiny.root / "models/tiny/compare.json").exists()
        assert not list(tiny.root.rglob("*.part"))
        told = tiny.build()
        assert told.returncode == 0, told.stdout + told.stderr
        assert {"compare", "finalize", "deploy", "monitor"} <= set(tiny.ran(told)) <= set(STAGES) - {"ingest"}
        with sqlite3.connect(tiny.root / "models/mlflow.db") as store:
            states = store.execute(
                "select status, count(*) from runs join tags using(run_uuid) "
                "where key='stage' and tags.value='compare' group by status"
            ).fetchall()
        assert sorted(states) == [("FINISHED", 1), ("KILLED", 1)]

    def test_same_seed_same_data_same_metrics(self, started, built):
        tiny, _ = started
        mine, other = (project.receipt("finalize")["details"]["metrics"] for project in (tiny, built))
        assert mine == other

    @pytest.mark.parametrize(
        ("command", "number"),
        [("ploomber", signal.SIGINT), ("modelbook", signal.SIGINT), ("modelbook", signal.SIGTERM)],
    )
    def test_ctrl_c_ends_it_promptly_with_its_kernels(self, started, command, number):
        tiny, _ = started
        said = (tiny.root / "said.txt").open("w")
        process = subprocess.Popen(
            [str(BIN / command), "build", "--force"],
            cwd=tiny.root,
            env=tiny.environ,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        wait_for(tiny.root / "said.txt", f"[2/{len(STAGES)} explore]", 120)
        kernels = psutil.Process(process.pid).children(recursive=True)
        assert kernels
        process.send_signal(number)
        assert process.wait(timeout=20) == 1
        _, alive = psutil.wait_procs(kernels, timeout=10)
        assert alive == []
        said = (tiny.root / "said.txt").read_text()
        assert "stopped; the next build goes on from here" in said
        assert "Traceback" not in said


class TestByPapermillAlone:
    @pytest.mark.parametrize("stage", STAGES)
    def test_runs_from_anywhere_and_writes_to_its_own_place(self, built, stage, tmp_path):
        before = {name: when for name, when in built.products().items() if "by-hand" not in name}
        out = tmp_path / "out.ipynb"
        values = {
            "book": "tiny",
            "sample": "0.25",
            "families": "lr nb",
            "folds": "2",
            "tune_rounds": "1",
            "resamples": "100",
        }
        known = config.STAGES[stage].model_fields
        words = [word for name, value in values.items() if name in known for word in ("-p", name, value)]
        source = built.root / "notebooks" / f"{config.stem(stage)}.ipynb"
        told = subprocess.run(
            [str(BIN / "papermill"), str(source), str(out), "--no-progress-bar", *words],
            cwd=tmp_path,
            env={**built.environ, "MODELBOOK_ROOT": str(built.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr[-3000:]
        assert (built.root / f"models/tiny/by-hand/{stage}.json").is_file()
        after = {name: when for name, when in built.products().items() if "by-hand" not in name}
        ours = {name for name in before if before[name] != after.get(name)}
        assert {name for name in ours if not name.startswith(("models/mlflow.db", "models/artifacts"))} == set()
        shutil.rmtree(built.root / "data/tiny/by-hand", ignore_errors=True)
