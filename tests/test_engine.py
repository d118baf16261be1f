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


def ignore_progress(*_: Any, **__: Any) -> None:
    pass


def raise_error(item: str) -> str:
    raise DataError(f"no {item}", next="give another")


@pytest.fixture
def long_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for schedulers as long as a busy machine takes."""
    monkeypatch.setattr("modelbook.engine.dask.CONNECT_TIMEOUT", STARTUP_TIMEOUT)


@pytest.fixture(scope="module")
def experiment(make_frame: Callable[..., pd.DataFrame], contract: Contract) -> Experiment:
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
def board(experiment: Experiment) -> pd.DataFrame:
    return build_leaderboard(
        compare_families(
            experiment,
            FAMILIES,
            1000,
            report_progress=ignore_progress,
            log_candidate=ignore_progress,
        ),
        "roc_auc",
    )


def check_leaderboard(candidates: list[Candidate], board: pd.DataFrame) -> None:
    """The same leaderboard but for seconds."""
    result = build_leaderboard(candidates, "roc_auc").drop(columns="fit_seconds")
    pd.testing.assert_frame_equal(result, board.drop(columns="fit_seconds"), rtol=1e-9)


def test_missing_engine_package_raises_with_install_command(monkeypatch):
    monkeypatch.setitem(engine.PACKAGES, "dask", "nowhere_to_be_found")
    with pytest.raises(EngineError, match=r"dask.*nowhere_to_be_found") as exc_info:
        engine.open_engine("dask", None, str)
    assert "make engines" in exc_info.value.next
    assert "modelbook[dask]" in exc_info.value.next


@pytest.mark.parametrize("name", ["dask", "spark", "ray"])
def test_unreachable_scheduler_raises_at_once(name):
    start_time = time.monotonic()
    with pytest.raises(EngineError, match=rf"{name}.*127\.0\.0\.1:1\b.*refused"):
        engine.open_engine(name, f"{name}://127.0.0.1:1", str)
    assert time.monotonic() - start_time < 30


def test_errors_of_the_function_are_raised_unchanged_and_engine_errors_wrapped():
    with (
        engine.open_engine("local", None, raise_error) as opened_engine,
        pytest.raises(DataError, match="no part-1"),
    ):
        opened_engine.get_result(opened_engine.submit("part-1"))
    with ThreadPoolExecutor(1) as pool:
        opened_engine = engine.Engine("dask", lambda: 1, pool.submit)
        with pytest.raises(DataError, match="no part-1"):
            opened_engine.get_result(
                pool.submit(worker.run_item, cloudpickle.dumps(raise_error), "part-1")
            )
        with pytest.raises(EngineError, match=r"dask.*ZeroDivisionError: .*by zero"):
            opened_engine.get_result(pool.submit(lambda: 1 // 0))


def test_unpickled_experiment_gives_same_scores(experiment, board):
    unpickled = cloudpickle.loads(cloudpickle.dumps(CrossValidationTask(experiment)))
    assert (
        len(unpickled.experiment.train_data)
        == len(experiment.features)
        < len(experiment.train_data)
    )
    result = unpickled(("dt", float("inf")))
    row = board.set_index("family").loc["dt"]
    assert result.mean["roc_auc"] == pytest.approx(row["roc_auc_mean"], rel=1e-9)


@pytest.fixture
def two_slots(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace Dask by two threads; returns the numbers of running items at each submission."""
    running_counts, running = [], set()

    @contextmanager
    def open_engine(
        name: str, scheduler: str | None, function: Any, *, workers: int | None
    ) -> Iterator[engine.Engine]:
        assert (name, scheduler) == ("dask", "tcp://host:8786")
        pickled_function = cloudpickle.dumps(function)
        with ThreadPoolExecutor(2) as pool:

            def submit(item: Any) -> Any:
                future = pool.submit(worker.run_item, pickled_function, item)
                running.add(future)
                running_counts.append(sum(not other_future.done() for other_future in running))
                return future

            yield engine.Engine(name, lambda: 2, submit)

    monkeypatch.setattr(engine, "open_engine", open_engine)
    return running_counts


def test_families_are_evaluated_concurrently_within_budget(experiment, board, two_slots, tmp_path):
    dask = {"engine_name": "dask", "scheduler": "tcp://host:8786"}
    log = make_candidate_logger(tmp_path / "so_far.parquet", ignore_progress)
    check_leaderboard(
        compare_families(
            experiment, FAMILIES, 1000, report_progress=ignore_progress, log_candidate=log, **dask
        ),
        board,
    )
    assert max(two_slots) == 2
    assert sorted(pd.read_parquet(tmp_path / "so_far.parquet")["family"]) == sorted(
        ["dummy", *FAMILIES]
    )
    candidates = compare_families(
        experiment,
        FAMILIES,
        1e-9,
        report_progress=ignore_progress,
        log_candidate=ignore_progress,
        **dask,
    )
    assert {candidate.status for candidate in candidates} == {"skipped"}


def search(experiment: Experiment, **kwargs: Any) -> SearchResult:
    """Tune the decision tree, locally or on an engine."""
    params = Finalize(strategy="tune", calibrate="none", n_trials=3)
    return search_model(experiment, params, ["dt"], "roc_auc", ignore_progress, **kwargs)


@pytest.fixture(scope="module")
def local_result(experiment: Experiment) -> SearchResult:
    return search(experiment)


def check_search_result(
    result_of_engine: SearchResult, local_result: SearchResult, experiment: Experiment
) -> None:
    """Check trials and mean of the defaults, and that scores are those of the chosen pipeline."""
    assert result_of_engine.trials["trial"].tolist() == ["defaults", "1", "2", "3"]
    assert set(result_of_engine.trials["state"]) <= {"completed", "pruned"}
    assert result_of_engine.trials["mean"][0] == pytest.approx(
        local_result.trials["mean"][0], rel=1e-9
    )
    np.testing.assert_allclose(
        result_of_engine.out_of_fold_scores,
        experiment.predict_out_of_fold(result_of_engine.pipeline).score,
    )


def test_trials_are_evaluated_concurrently(experiment, local_result, two_slots):
    check_search_result(
        search(experiment, engine_name="dask", scheduler="tcp://host:8786"),
        local_result,
        experiment,
    )
    assert (
        max(two_slots[3:]) == 2
    )  # the defaults' three folds all at once, then a fold each of two settings


def test_forked_workers_give_identical_scores(experiment, board, monkeypatch):
    monkeypatch.setenv("MODELBOOK_WORKERS", "2")
    candidates = compare_families(
        experiment, FAMILIES, 1000, report_progress=ignore_progress, log_candidate=ignore_progress
    )
    parallel = build_leaderboard(candidates, "roc_auc").drop(columns="fit_seconds")
    pd.testing.assert_frame_equal(parallel, board.drop(columns="fit_seconds"), check_exact=True)


def test_exception_of_forked_worker_is_raised(monkeypatch):
    monkeypatch.setenv("MODELBOOK_WORKERS", "2")

    def refuse_odd(item: int) -> tuple[int, int]:
        if item % 2:
            raise ParameterError(f"{item} is odd", expected="an even number")
        return item, os.getpid()

    with engine.open_engine("local", None, refuse_odd, workers=None) as opened_engine:
        assert opened_engine.slots() == 2
        value, process = opened_engine.get_result(opened_engine.submit(4))
        with pytest.raises(ParameterError, match="3 is odd"):
            opened_engine.get_result(opened_engine.submit(3))
    assert (value, process != os.getpid()) == (4, True)


def test_death_of_forked_worker_is_reported(monkeypatch):
    monkeypatch.setenv("MODELBOOK_WORKERS", "2")
    with engine.open_engine("local", None, os._exit, workers=None) as opened_engine:
        for _ in range(2):
            with pytest.raises(EngineError) as exc_info:
                opened_engine.get_result(opened_engine.submit(1))
            assert "MODELBOOK_WORKERS" in exc_info.value.next


def test_invalid_number_of_workers_raises(monkeypatch):
    monkeypatch.setenv("MODELBOOK_WORKERS", "two")
    with pytest.raises(ParameterError, match=r"MODELBOOK_WORKERS.*'two'"):
        engine.open_engine("local", None, str, workers=None)


def test_scheduler_without_engine_raises(experiment):
    with pytest.raises(ParameterError, match=r"scheduler.*'tcp://host:8786'.*engine.*local"):
        compare_families(
            experiment,
            FAMILIES,
            1,
            report_progress=ignore_progress,
            log_candidate=ignore_progress,
            scheduler="tcp://host:8786",
        )


@pytest.mark.slow
def test_dask_leaderboard_is_equal_despite_killed_worker(long_timeout, experiment, board):
    evaluated: list[Candidate] = []
    with start_cluster(2) as cluster:

        def log(candidate: Candidate) -> None:
            if not evaluated:
                cluster.workers[0].kill()
            evaluated.append(candidate)

        result = compare_families(
            experiment,
            FAMILIES,
            1000,
            report_progress=ignore_progress,
            log_candidate=log,
            engine_name="dask",
            scheduler=cluster.address,
        )
        assert cluster.workers[0].wait(10) == -9
    assert evaluated == result
    check_leaderboard(result, board)


@pytest.mark.slow
def test_dask_tuning_is_equal_despite_killed_worker(long_timeout, experiment, local_result):
    with start_cluster(2) as cluster:

        def count_steps(step: str) -> None:
            if "trial 1 of 3, fold 2" in step:
                cluster.workers[0].kill()

        dask = {"engine_name": "dask", "scheduler": cluster.address}
        result = search_model(
            experiment,
            Finalize(strategy="tune", calibrate="none", n_trials=3),
            ["dt"],
            "roc_auc",
            count_steps,
            **dask,
        )
        assert cluster.workers[0].wait(10) == -9
    check_search_result(result, local_result, experiment)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "scheduler"), [SPARK, pytest.param("ray", "none", id="ray")])
def test_spark_and_ray_give_equal_leaderboard_and_tuning(
    experiment, board, local_result, name, scheduler
):
    engine_options = {"engine_name": name, "scheduler": scheduler}
    candidates = retry_startup(
        lambda: compare_families(
            experiment,
            FAMILIES,
            1000,
            report_progress=ignore_progress,
            log_candidate=ignore_progress,
            **engine_options,
        )
    )
    result = retry_startup(lambda: search(experiment, **engine_options))
    check_leaderboard(candidates, board)
    check_search_result(result, local_result, experiment)


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
    versions = {
        package["metadata"]["name"].lower(): package["metadata"]["version"] for package in installed
    }
    constraints = (ROOT / "requirements/engines.txt").read_text()
    assert f"\ndistributed=={versions['distributed']}\n" in constraints
    assert "modelbook" in versions
    assert "pyspark" not in versions
