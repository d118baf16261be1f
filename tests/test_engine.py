"""Engines (local, Dask, Spark, Ray): equal results, errors, killed workers."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from dask_clusters import STARTUP_TIMEOUT, retry_startup, start_cluster
from small_project import ROOT

from modelbook import engine
from modelbook.config import Finalize
from modelbook.contract import Contract
from modelbook.engine import worker
from modelbook.errors import DataError, EngineError, ParameterError
from modelbook.training import preprocessing
from modelbook.training.candidate import Candidate
from modelbook.training.comparison import CrossValidationTask, compare_families
from modelbook.training.experiment import Experiment
from modelbook.training.leaderboard import build_leaderboard, make_candidate_logger
from modelbook.training.search import SearchResult, search_model

pytestmark = pytest.mark.long

FAMILIES = ["lr", "dt"]
SPARK = pytest.param("spark", "local[2,4]", id="spark", marks=pytest.mark.requires("java"))


def silent(*_: Any, **__: Any) -> None:
    pass


def refuses(item: str) -> str:
    raise DataError(f"no {item}", next="give another")


@pytest.fixture
def long_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for schedulers as long as a busy machine takes."""
    monkeypatch.setattr("modelbook.engine.dask.CONNECT_TIMEOUT", STARTUP_TIMEOUT)


@pytest.fixture(scope="module")
def trial(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> Experiment:
    steps = preprocessing.make_steps(Path(), ["none"], 0.4)
    return Experiment(
        make_frame(seed=1),
        contract,
        folds=3,
        seed=1,
        max_rows=450,
        steps=steps,
        imbalance="undersample",
    )


@pytest.fixture(scope="module")
def board(trial: Experiment) -> pd.DataFrame:
    return build_leaderboard(
        compare_families(trial, FAMILIES, 1000, report_progress=silent, log_candidate=silent),
        "roc_auc",
    )


def equal_leaderboards(made: list[Candidate], board: pd.DataFrame) -> None:
    """The same leaderboard but for seconds."""
    result = build_leaderboard(made, "roc_auc").drop(columns="fit_seconds")
    pd.testing.assert_frame_equal(result, board.drop(columns="fit_seconds"), rtol=1e-9)


def test_missing_engine_package_raises_with_install_command(monkeypatch):
    monkeypatch.setitem(engine.PACKAGES, "dask", "nowhere_to_be_found")
    with pytest.raises(EngineError, match=r"dask.*nowhere_to_be_found") as exc_info:
        engine.open_engine("dask", None, str)
    assert "make engines" in exc_info.value.next
    assert "modelbook[dask]" in exc_info.value.next


@pytest.mark.parametrize("name", ["dask", "spark", "ray"])
def test_unreachable_scheduler_raises_at_once(name):
    began = time.monotonic()
    with pytest.raises(EngineError, match=rf"{name}.*127\.0\.0\.1:1\b.*refused"):
        engine.open_engine(name, f"{name}://127.0.0.1:1", str)
    assert time.monotonic() - began < 30


def test_work_errors_are_raised_unchanged_and_engine_errors_wrapped():
    with (
        engine.open_engine("local", None, refuses) as it,
        pytest.raises(DataError, match="no part-1"),
    ):
        it.get_result(it.submit("part-1"))
    with ThreadPoolExecutor(1) as pool:
        it = engine.Engine("dask", lambda: 1, pool.submit)
        with pytest.raises(DataError, match="no part-1"):
            it.get_result(pool.submit(worker.run_item, cloudpickle.dumps(refuses), "part-1"))
        with pytest.raises(EngineError, match=r"dask.*ZeroDivisionError: .*by zero"):
            it.get_result(pool.submit(lambda: 1 // 0))


def test_unpickled_experiment_gives_same_scores(trial, board):
    again = cloudpickle.loads(cloudpickle.dumps(CrossValidationTask(trial)))
    assert len(again.experiment.train_data) == len(trial.features) < len(trial.train_data)
    result = again(("dt", float("inf")))
    row = board.set_index("family").loc["dt"]
    assert result.mean["roc_auc"] == pytest.approx(row["roc_auc_mean"], rel=1e-9)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An engine of two slots in this process, by the name of Dask; how many items ran as each was begun."""
    most, running = [], set()

    @contextmanager
    def opened(
        name: str, scheduler: str | None, work: Any, *, workers: int | None
    ) -> Iterator[engine.Engine]:
        assert (name, scheduler) == ("dask", "tcp://host:8786")
        packed = cloudpickle.dumps(work)
        with ThreadPoolExecutor(2) as pool:

            def submit(item: Any) -> Any:
                future = pool.submit(worker.run_item, packed, item)
                running.add(future)
                most.append(sum(not entry.done() for entry in running))
                return future

            yield engine.Engine(name, lambda: 2, submit)

    monkeypatch.setattr(engine, "open_engine", opened)
    return most


def test_families_are_evaluated_concurrently_within_budget(trial, board, two, tmp_path):
    there = {"engine_name": "dask", "scheduler": "tcp://host:8786"}
    log = make_candidate_logger(tmp_path / "so_far.parquet", silent)
    equal_leaderboards(
        compare_families(trial, FAMILIES, 1000, report_progress=silent, log_candidate=log, **there),
        board,
    )
    assert max(two) == 2
    assert sorted(pd.read_parquet(tmp_path / "so_far.parquet")["family"]) == sorted(
        ["dummy", *FAMILIES]
    )
    spent = compare_families(
        trial, FAMILIES, 1e-9, report_progress=silent, log_candidate=silent, **there
    )
    assert {item.status for item in spent} == {"skipped"}


def searched(trial: Experiment, **kwargs: Any) -> SearchResult:
    """The decision tree tuned, here or elsewhere."""
    params = Finalize(strategy="tune", calibrate="none", tune_rounds=3)
    return search_model(trial, params, ["dt"], "roc_auc", silent, **kwargs)


@pytest.fixture(scope="module")
def here(trial: Experiment) -> SearchResult:
    return searched(trial)


def tried_alike(result_of_engine: SearchResult, here: SearchResult, trial: Experiment) -> None:
    """All rounds were begun, the defaults judged as here; and the answers are those of the pipeline that was taken."""
    assert result_of_engine.trials["setting"].tolist() == ["defaults", "1", "2", "3"]
    assert set(result_of_engine.trials["state"]) <= {"completed", "pruned"}
    assert result_of_engine.trials["mean"][0] == pytest.approx(here.trials["mean"][0], rel=1e-9)
    np.testing.assert_allclose(
        result_of_engine.out_of_fold_scores,
        trial.predict_out_of_fold(result_of_engine.pipeline).score,
    )


def test_settings_are_evaluated_concurrently(trial, here, two):
    tried_alike(searched(trial, engine_name="dask", scheduler="tcp://host:8786"), here, trial)
    assert (
        max(two[3:]) == 2
    )  # the defaults' three folds all at once, then a fold each of two settings


def test_forked_workers_give_identical_scores(trial, board, monkeypatch):
    monkeypatch.setenv("MODELBOOK_WORKERS", "2")
    candidates = compare_families(
        trial, FAMILIES, 1000, report_progress=silent, log_candidate=silent
    )
    parallel = build_leaderboard(candidates, "roc_auc").drop(columns="fit_seconds")
    pd.testing.assert_frame_equal(parallel, board.drop(columns="fit_seconds"), check_exact=True)


def test_exception_of_forked_worker_is_raised(monkeypatch):
    monkeypatch.setenv("MODELBOOK_WORKERS", "2")

    def refuse_odd(item: int) -> tuple[int, int]:
        if item % 2:
            raise ParameterError(f"{item} is odd", expected="an even number")
        return item, os.getpid()

    with engine.open_engine("local", None, refuse_odd, workers=None) as it:
        assert it.slots() == 2
        value, process = it.get_result(it.submit(4))
        with pytest.raises(ParameterError, match="3 is odd"):
            it.get_result(it.submit(3))
    assert (value, process != os.getpid()) == (4, True)


def test_scheduler_without_engine_raises(trial):
    with pytest.raises(ParameterError, match=r"scheduler.*'tcp://host:8786'.*engine.*local"):
        compare_families(
            trial,
            FAMILIES,
            1,
            report_progress=silent,
            log_candidate=silent,
            scheduler="tcp://host:8786",
        )


@pytest.mark.slow
def test_dask_leaderboard_is_equal_despite_killed_worker(long_timeout, trial, board):
    evaluated: list[Candidate] = []
    with start_cluster(2) as cluster:

        def log(candidate: Candidate) -> None:
            if not evaluated:
                cluster.workers[0].kill()
            evaluated.append(candidate)

        result = compare_families(
            trial,
            FAMILIES,
            1000,
            report_progress=silent,
            log_candidate=log,
            engine_name="dask",
            scheduler=cluster.address,
        )
        assert cluster.workers[0].wait(10) == -9
    assert evaluated == result
    equal_leaderboards(result, board)


@pytest.mark.slow
def test_dask_tuning_is_equal_despite_killed_worker(long_timeout, trial, here):
    with start_cluster(2) as cluster:

        def count_steps(step: str) -> None:
            if "setting 1 of 3, fold 2" in step:
                cluster.workers[0].kill()

        there = {"engine_name": "dask", "scheduler": cluster.address}
        result = search_model(
            trial,
            Finalize(strategy="tune", calibrate="none", tune_rounds=3),
            ["dt"],
            "roc_auc",
            count_steps,
            **there,
        )
        assert cluster.workers[0].wait(10) == -9
    tried_alike(result, here, trial)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "scheduler"), [SPARK, pytest.param("ray", "none", id="ray")])
def test_spark_and_ray_give_equal_leaderboard_and_tuning(trial, board, here, name, scheduler):
    there = {"engine_name": name, "scheduler": scheduler}
    candidates = retry_startup(
        lambda: compare_families(
            trial, FAMILIES, 1000, report_progress=silent, log_candidate=silent, **there
        )
    )
    result = retry_startup(lambda: searched(trial, **there))
    equal_leaderboards(candidates, board)
    tried_alike(result, here, trial)


@pytest.mark.integration
def test_engine_installs_alone_with_pip_as_documented(tmp_path: Path):
    text = (ROOT / "docs/deploy/scale.md").read_text()
    [command] = re.findall(r"^\S*(pip install .*\.\[dask\].*)$", text, re.M)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    pip = [tmp_path / "bare/bin/python", "-m", *shlex.split(command)]
    result = subprocess.run(
        [*pip, "--dry-run", "--quiet", "--report", tmp_path / "report.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    installed = json.loads((tmp_path / "report.json").read_text())["install"]
    versions = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in installed}
    constraints = (ROOT / "requirements/engines.txt").read_text()
    assert f"\ndistributed=={versions['distributed']}\n" in constraints
    assert "modelbook" in versions
    assert "pyspark" not in versions
